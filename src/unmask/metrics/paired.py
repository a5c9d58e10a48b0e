"""Is one model better than another on the same rows? The paired bootstrap (Berg-Kirkpatrick et al. 2012, section 3)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Comparison:
    """Two scores of the same rows.

    Attributes:
        first: score of the first model.
        second: score of the second.
        difference: second - first.
        interval: 95 % bootstrap interval of the difference.
        p_value: share of resamples in which chance alone moves the difference as far as it was found, in any direction.
        rows: how many there were.
    """

    first: float
    second: float
    difference: float
    interval: tuple[float, float]
    p_value: float
    rows: int

    @property
    def is_significant(self) -> bool:
        """Whether chance makes such a difference in fewer than 5 of 100 cases."""
        return self.p_value < 0.05


def paired_bootstrap(
    score: Callable[[np.ndarray], tuple[float, float]], num_rows: int, *, resamples: int = 1000, seed: int = 0
) -> Comparison:
    """Draw the rows again and again, the same for both models, and look how the difference moves.

    Args:
        score: of both models on the rows with these numbers, which may repeat.
        num_rows: N.
        resamples: draws of N rows.
        seed: of the draws.

    Raises:
        ValueError: there are no rows.
    """
    if not num_rows:
        raise ValueError("no rows to compare on")
    random = np.random.default_rng(seed)
    first, second = score(np.arange(num_rows))
    found = second - first
    drawn = np.array([_difference(score, random.integers(0, num_rows, num_rows)) for _ in range(resamples)])
    # where the models are equal by assumption, the resampled differences lie around 0 as these lie around `found`
    extreme = int((np.abs(drawn - found) >= abs(found) - 1e-12).sum())
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Comparison(first, second, found, (float(low), float(high)), (1 + extreme) / (1 + resamples), num_rows)


def _difference(score: Callable[[np.ndarray], tuple[float, float]], rows: np.ndarray) -> float:
    first, second = score(rows)
    return second - first
