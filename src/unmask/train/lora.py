"""What is trained: all of a network, some of its layers, or low-rank updates beside frozen matrices.

The updates (LoRA, Hu et al. 2021) are merged into the matrices at the end.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from unmask.errors import UsageError
from unmask.model.layers import Linear
from unmask.tasks.base import Task
from unmask.train.settings import FinetuneSettings, LoraSettings


class LowRank(nn.Module):
    """A frozen linear layer and a trained update: base(x) + scale * B A x (equation 3).

    Args:
        base: the layer, (in) to (out); its weights stay as they are.
        settings: rank r, scale and dropout.
        generator: draws A; B begins at 0, so that nothing changes at first.
    """

    def __init__(self, base: Linear, settings: LoraSettings, generator: torch.Generator) -> None:
        super().__init__()
        self.base = base
        self.scale = settings.alpha / settings.rank
        self.dropout = settings.dropout
        edge = 1 / math.sqrt(base.in_features)
        drawn = torch.empty(settings.rank, base.in_features).uniform_(-edge, edge, generator=generator)
        self.a = nn.Parameter(drawn.to(base.weight.device))
        self.b = nn.Parameter(torch.zeros(base.out_features, settings.rank, device=base.weight.device))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in) to (..., out), in the format of the input."""
        narrow = F.linear(F.dropout(x, self.dropout, self.training), self.a.to(x.dtype))
        return self.base(x) + F.linear(narrow, (self.scale * self.b).to(x.dtype))

    @torch.no_grad()
    def merged(self) -> Linear:
        """The layer with the update added to its weights, which can be trained again."""
        self.base.weight += self.scale * (self.b @ self.a)
        return self.base.requires_grad_(True)


def choose_trained(task: Task, settings: FinetuneSettings) -> None:
    """Freeze what the settings leave out, or put low-rank updates beside it.

    Args:
        task: with the weights to start from.
        settings: of the run.

    Raises:
        UsageError: there are fewer layers than are to be frozen, or the settings name two ways.
    """
    frozen, whole, rank = settings.freeze_layers, settings.freeze_encoder, settings.lora.rank
    if (frozen is not None) + whole + (rank > 0) > 1:
        raise UsageError(
            "two-ways-to-freeze",
            "freeze_layers, freeze_encoder and lora.rank each say what is trained",
            place="settings",
            remedy="give one of them",
        )
    if rank:
        attach(task, settings.lora, seed=settings.seed)
    elif whole:
        task.encoder.requires_grad_(False)
    elif frozen is not None:
        layers = list(task.encoder.layers)
        if frozen > len(layers):
            raise UsageError(
                "too-few-layers",
                f"the network has {len(layers)} layers",
                place="freeze_layers",
                value=frozen,
                remedy="freeze fewer, or all of them: --freeze-encoder",
            )
        for part in (task.encoder.embeddings, *layers[:frozen]):
            part.requires_grad_(False)


def attach(task: Task, settings: LoraSettings, *, seed: int) -> None:
    """Freeze a task's encoder and put an update beside the chosen matrices of each layer; the head trains whole.

    Args:
        task: with the weights to start from.
        settings: of the updates.
        seed: decides their random half.
    """
    task.encoder.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for layer in task.encoder.layers:
        for name in settings.targets:
            setattr(layer, name, LowRank(getattr(layer, name), settings, generator))


def merge(task: Task) -> None:
    """Add all updates to their matrices, so that the task is an ordinary one again; nothing to do without updates."""
    for layer in task.encoder.layers:
        for name, part in list(layer.named_children()):
            if isinstance(part, LowRank):
                setattr(layer, name, part.merged())
    task.encoder.requires_grad_(True)
