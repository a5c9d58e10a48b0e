"""The optimizer and its learning rate (Liu et al. 2019, section 3.1 and tables 9 and 10)."""

import torch
from torch import nn

from unmask.train.settings import OptimSettings


def build_optimizer(network: nn.Module, settings: OptimSettings) -> torch.optim.AdamW:
    """AdamW in its fused form; biases and LayerNorms are not decayed unless `decay_all` is set.

    Args:
        network: its float32 parameters are updated.
        settings: betas, eps, weight decay; the learning rate is set at each step by the schedule.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    decayed = [parameter for parameter in parameters if settings.decay_all or parameter.ndim > 1]
    plain = [parameter for parameter in parameters if not (settings.decay_all or parameter.ndim > 1)]
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.eps,
        fused=True,
    )


def linear_schedule(step: int, *, max_steps: int, warmup_ratio: float) -> float:
    """Factor of the peak learning rate at optimizer step `step` (1 to `max_steps`): linear up, then linear to 0."""
    warmup_steps = round(max_steps * warmup_ratio)
    if step <= warmup_steps:
        return step / warmup_steps
    return max(0.0, (max_steps - step + 1) / (max_steps - warmup_steps))
