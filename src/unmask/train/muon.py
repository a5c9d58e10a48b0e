"""Muon: momentum made orthogonal, for hidden matrices (Jordan et al. 2024; the scale is of Liu et al. 2025)."""

from collections.abc import Iterable
from typing import Any

import torch

from unmask.train.parallel import spread, whole

# Coefficients of the quintic iteration; after five turns all singular values lie between about 0.7 and 1.2.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_TURNS = 5
_RMS_OF_ADAMW = 0.2


class Muon(torch.optim.Optimizer):
    """Update matrices by the orthogonal factor of their momentum.

    The update of an (r, c) matrix is scaled by 0.2 * sqrt(max(r, c)), so that its root mean square is that of AdamW's
    and learning rate and weight decay can be shared with it.

    Args:
        params: groups with `parts`, the number of matrices that lie one below the other in each parameter (3 for
            fused queries, keys and values); parameters are (parts * r, c) float32.
        lr: learning rate.
        momentum: decay rate of the running mean, used as Nesterov does.
        weight_decay: decoupled.
    """

    def __init__(
        self, params: Iterable[dict[str, Any]], *, lr: float, momentum: float = 0.95, weight_decay: float = 0.01
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "parts": 1})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step; parameters without a gradient stay."""
        for group in self.param_groups:
            members = [parameter for parameter in group["params"] if parameter.grad is not None]
            stacks: dict[tuple[int, ...], list[tuple[torch.Tensor, torch.Tensor]]] = {}
            for parameter in members:
                blended = self._blend(parameter, group["momentum"])
                matrices = blended.view(group["parts"], -1, blended.shape[-1])
                stacks.setdefault(tuple(matrices.shape[1:]), []).append((parameter, matrices))
            for shape, stack in stacks.items():
                updates = orthogonalize(torch.cat([matrices for _, matrices in stack]))
                scale = _RMS_OF_ADAMW * max(shape) ** 0.5 * group["lr"]
                for (parameter, _), update in zip(stack, torch.split(updates, group["parts"]), strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.sub_(spread(update.reshape(parameter.shape), parameter), alpha=scale)

    def _blend(self, parameter: torch.Tensor, momentum: float) -> torch.Tensor:
        """The momentum, looking one step ahead, as a whole tensor."""
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        gradient = parameter.grad
        assert gradient is not None, "only parameters with a gradient come here"
        state["momentum"].lerp_(gradient, 1 - momentum)
        blended = gradient.lerp(state["momentum"], momentum)
        return whole(blended)


def orthogonalize(matrices: torch.Tensor) -> torch.Tensor:
    """Replace the singular values of matrices by numbers near 1, by five turns of a quintic Newton-Schulz iteration.

    Args:
        matrices: (n, r, c) float32.

    Returns:
        (n, r, c) float32; the products run in bfloat16, which the iteration bears.
    """
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x = (matrices.mT if is_tall else matrices).bfloat16()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(_TURNS):
        gram = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    return (x.mT if is_tall else x).float()
