"""Which parameter is updated how: AdamW or Muon, weight decay, and rates that fall from layer to layer."""

import re

import torch
from torch import nn

from unmask.train.muon import Muon
from unmask.train.settings import OptimSettings

_LAYER = re.compile(r"encoder\.layers\.(\d+)\.")


class Optimizers:
    """The optimizers of one network, as one.

    Args:
        network: its float32 parameters are updated, except those that are frozen (`requires_grad` is off).
        settings: kinds, rates and decay.
    """

    def __init__(self, network: nn.Module, settings: OptimSettings) -> None:
        self.settings = settings
        named = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
        top = 2 + max((int(found[1]) for name, _ in named if (found := _LAYER.match(name))), default=-1)
        groups: dict[tuple[bool, int, int, bool], list[nn.Parameter]] = {}
        for name, parameter in named:
            is_matrix = parameter.ndim > 1
            by_muon = settings.optimizer == "muon" and is_matrix and bool(_LAYER.match(name))
            parts = 3 if by_muon and name.endswith("qkv.weight") else 1
            key = (by_muon, parts, top - height(name, top), is_matrix or settings.decay_all)
            groups.setdefault(key, []).append(parameter)
        made = [self._group(key, members) for key, members in groups.items()]
        muon = [group for group, key in zip(made, groups, strict=True) if key[0]]
        adamw = [group for group, key in zip(made, groups, strict=True) if not key[0]]
        self.parts: list[torch.optim.Optimizer] = []
        if adamw:
            made_adamw = torch.optim.AdamW(adamw, settings.lr, settings.betas, settings.eps, fused=True)
            self.parts.append(made_adamw)
        if muon:
            self.parts.append(Muon(muon, lr=settings.lr, momentum=settings.momentum))
        self._owners = {one: part for part in self.parts for group in part.param_groups for one in group["params"]}

    def _group(self, key: tuple[bool, int, int, bool], members: list[nn.Parameter]) -> dict[str, object]:
        by_muon, parts, below, is_decayed = key
        settings = self.settings
        decay = settings.weight_decay * settings.layer_weight_decay**below if is_decayed else 0.0
        group = {"params": members, "weight_decay": decay, "lr_factor": settings.layer_lr_decay**below}
        return group | {"parts": parts} if by_muon else group

    def step(self, lr: float) -> None:
        """Update all parameters at this learning rate and forget their gradients."""
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = lr * group["lr_factor"]
            part.step()
        self.zero_grad()

    def make_state(self) -> None:
        """Make the moments of all parameters before the first step, to be filled from a checkpoint."""
        kept = [(parameter, parameter.grad) for parameter in self._owners]
        for parameter, _ in kept:
            parameter.grad = torch.zeros_like(parameter)
        self.step(0.0)
        for parameter, gradient in kept:
            parameter.grad = gradient

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for part in self.parts:
            part.zero_grad()

    def state(self, parameter: nn.Parameter) -> dict[str, torch.Tensor]:
        """The moments of one parameter; empty before its first step. Writing into it restores them."""
        return self._owners[parameter].state[parameter]


def height(name: str, top: int) -> int:
    """Height of a parameter: 0 for the embeddings, 1 and more for the layers, `top` for all that stands on them."""
    found = _LAYER.match(name)
    if found:
        return 1 + int(found[1])
    return 0 if name.startswith("encoder.") else top
