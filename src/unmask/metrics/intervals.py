"""How sure a score is: intervals by resampling the rows."""

from collections.abc import Callable

import numpy as np
import scipy  # its parts load at first use, half a second that only scoring needs


def bootstrap(values: np.ndarray, *, resamples: int = 1000, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean.

    Args:
        values: one number a row, (N,).
        resamples: drawn samples.
        level: share of the samples inside the interval.
        seed: of the draw, so that the same rows give the same interval.
    """
    if len(values) < 2:  # each sample would be the same one
        return float(np.mean(values)), float(np.mean(values))
    found = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=resamples, confidence_level=level, method="percentile", batch=16, rng=seed
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def bootstrap_rows(
    score: Callable[[np.ndarray], float], num_rows: int, *, resamples: int = 300, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of a score that only many rows together have, such as a correlation or an F1.

    Args:
        score: of some rows, which it gets as their numbers, (N,) int64; a row may stand in them several times.
        num_rows: of the set.
        resamples: drawn samples.
        level: share of the samples inside the interval.
        seed: of the draw.
    """
    random = np.random.default_rng(seed)
    found = [score(random.integers(0, num_rows, num_rows)) for _ in range(resamples)]
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
