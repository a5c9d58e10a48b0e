"""One network on several ranks: DDP (each holds all of it) or FSDP2 (each holds a share of every matrix)."""

import contextlib
from types import ModuleType

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from unmask.data.batching import Batch
from unmask.tasks.base import Task
from unmask.train.distributed import Ranks


class Parallel:
    """A task whose gradients are added up over the ranks, once for each optimizer step.

    Args:
        task: on its device, with the same weights on all ranks.
        ranks: of the run; a single one takes the task as it is.
    """

    def __init__(self, task: Task, ranks: Ranks) -> None:
        self.task = task
        self.is_sharded = ranks.world_size > 1 and ranks.strategy == "fsdp"
        self._network: nn.Module = task
        if self.is_sharded:
            sharded().shard(task, task.encoder.layers)
        elif ranks.world_size > 1:
            self._network = DistributedDataParallel(task, gradient_as_bucket_view=True)

    def forward(self, batch: Batch) -> torch.Tensor:
        """The task's logits."""
        logits: torch.Tensor = self._network(batch)
        return logits

    def accumulate(self, *, is_last: bool) -> contextlib.AbstractContextManager[object]:
        """The context of one micro-batch, forward and backward; only the last one of a step exchanges gradients."""
        if self.is_sharded:
            sharded().exchange_gradients(self._network, is_on=is_last)
        elif isinstance(self._network, DistributedDataParallel) and not is_last:
            return self._network.no_sync()
        return contextlib.nullcontext()

    def whole_weights(self) -> dict[str, torch.Tensor]:
        """A copy of all weights on the host of rank 0, whole; empty on the other ranks of a sharded run."""
        if self.is_sharded:
            gathered: dict[str, torch.Tensor] = sharded().whole_weights(self.task)
            return gathered
        return {name: value.detach().cpu().clone() for name, value in self.task.state_dict().items()}


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """All of a tensor, gathered where it is spread over the ranks."""
    gathered: torch.Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return gathered


def spread(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """This rank's share of a tensor where `like` is spread over the ranks, else the tensor itself."""
    share: torch.Tensor = sharded().spread(tensor, like) if hasattr(like, "full_tensor") else tensor
    return share


def sharded() -> ModuleType:
    """The module `unmask.train.sharded`, imported when the first spread tensor asks for it."""
    from unmask.train import sharded as module

    return module
