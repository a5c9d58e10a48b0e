"""Scores of a regression; thin over scipy."""

from dataclasses import dataclass

import numpy as np
import scipy

from unmask.metrics.intervals import bootstrap_rows


@dataclass(frozen=True)
class NumberScores:
    """What a regression did on a labelled set.

    Attributes:
        spearman: rank correlation of the answers with the right numbers; 0 where either are all the same.
        pearson: linear correlation; likewise.
        rmse: root of the mean squared error, in the unit of the numbers.
        mae: mean absolute error.
        interval: 95 % bootstrap interval of Spearman's correlation; `None` where it was not asked for.
    """

    spearman: float
    pearson: float
    rmse: float
    mae: float
    interval: tuple[float, float] | None


def regression(gold: np.ndarray, answers: np.ndarray, *, has_interval: bool = True) -> NumberScores:
    """Score the answers of a regression.

    Args:
        gold: right numbers, (N,).
        answers: given numbers, (N,).
        has_interval: draw the interval, which takes most of the time.
    """
    errors = answers - gold
    ranks = scipy.stats.rankdata(gold), scipy.stats.rankdata(answers)

    def of_rows(chosen: np.ndarray) -> float:
        return spearman(gold[chosen], answers[chosen])

    return NumberScores(
        spearman=correlation(*ranks),
        pearson=correlation(gold, answers),
        rmse=float(np.sqrt(np.mean(errors**2))),
        mae=float(np.mean(np.abs(errors))),
        interval=bootstrap_rows(of_rows, len(gold)) if has_interval else None,
    )


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Rank correlation; ties share their mean rank."""
    return correlation(scipy.stats.rankdata(first), scipy.stats.rankdata(second))


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's correlation; 0 where it is not defined because all values of one side are equal."""
    first, second = first - first.mean(), second - second.mean()
    norm = float(np.sqrt((first @ first) * (second @ second)))
    return float(first @ second) / norm if norm > 0 else 0.0
