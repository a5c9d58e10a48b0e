"""One network on several ranks: DDP (each holds all of it) or FSDP2 (each holds a share of every matrix)."""

import contextlib
from typing import Literal

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from unmask.data.batching import Batch
from unmask.tasks.base import Task
from unmask.train.distributed import Ranks

Strategy = Literal["ddp", "fsdp"]


class Parallel:
    """A task whose gradients are added up over the ranks, once for each optimizer step.

    Args:
        task: on its device, with the same weights on all ranks.
        ranks: of the run.
        strategy: `ddp` or `fsdp` (Zhao et al. 2023; `fully_shard`); of no effect on a single rank.
    """

    def __init__(self, task: Task, ranks: Ranks, strategy: Strategy = "ddp") -> None:
        self.task = task
        self.ranks = ranks
        self.is_sharded = ranks.world_size > 1 and strategy == "fsdp"
        self._network: nn.Module = task
        if self.is_sharded:
            for part in (*task.encoder.layers, task):
                # also the outermost part, whose weights would else stay whole after an evaluation
                fully_shard(part, reshard_after_forward=True)
        elif ranks.world_size > 1:
            self._network = DistributedDataParallel(task, gradient_as_bucket_view=True)

    def forward(self, batch: Batch) -> torch.Tensor:
        """The task's logits."""
        logits: torch.Tensor = self._network(batch)
        return logits

    def accumulate(self, *, is_last: bool) -> contextlib.AbstractContextManager[object]:
        """The context of one micro-batch, forward and backward; only the last one of a step exchanges gradients."""
        if isinstance(self._network, FSDPModule):
            self._network.set_requires_gradient_sync(is_last)
        elif isinstance(self._network, DistributedDataParallel) and not is_last:
            return self._network.no_sync()
        return contextlib.nullcontext()

    def whole_weights(self) -> dict[str, torch.Tensor]:
        """A copy of all weights on the host of rank 0, whole; empty on the other ranks of a sharded run."""
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        whole = get_model_state_dict(self.task, options=options)
        return {name: value.clone() for name, value in whole.items() if isinstance(value, torch.Tensor)}
