"""The learning rate over a run, as a factor of its peak; the run is measured in steps or in hours."""

import math

from unmask.train.settings import OptimSettings


def schedule(begin: float, end: float, settings: OptimSettings) -> float:
    """Factor of the peak learning rate for one optimizer step.

    Args:
        begin: share of the run that lies behind when the step begins, in [0, 1].
        end: the same when the step ends; warm-up counts by it, so that the first step is not lost.
        settings: shape, warm-up and what is left at the end.
    """
    warmup = settings.warmup_ratio
    if end <= warmup:
        return end / warmup
    rest = min(1.0, max(0.0, (begin - warmup) / max(1e-12, 1 - warmup)))
    return settings.final_lr_ratio + (1 - settings.final_lr_ratio) * _shape(rest, begin, settings)


def _shape(rest: float, begin: float, settings: OptimSettings) -> float:
    if settings.schedule == "linear":
        return 1 - rest
    if settings.schedule == "cosine":
        return (1 + math.cos(math.pi * rest)) / 2
    if settings.schedule == "constant":
        return 1.0
    # warm-up, stable, decay: the root falls fast at first (Haegele et al. 2024, section 3)
    falling = (begin - (1 - settings.decay_ratio)) / settings.decay_ratio
    return 1 - math.sqrt(min(1.0, max(0.0, falling)))
