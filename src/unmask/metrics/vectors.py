"""How good vectors are: agreement with people's similarities, retrieval, analogies, and how they fill their sphere."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unmask.metrics.intervals import bootstrap_rows
from unmask.metrics.numbers import correlation, spearman

_CHUNK = 1024  # rows whose similarities to all others are in memory at once


@dataclass(frozen=True)
class Agreement:
    """How far similarities of vectors go with those that people gave.

    Attributes:
        spearman: rank correlation, from -1 to 1; 0.0 where one side has a single value.
        interval: its 95 % bootstrap interval over pairs; `None` where it was not asked for.
        pearson: linear correlation.
    """

    spearman: float
    interval: tuple[float, float] | None
    pearson: float


@dataclass(frozen=True)
class Retrieval:
    """How well queries find their candidate by cosine similarity.

    Attributes:
        mrr: mean of 1 / rank of the right candidate.
        recall_at_1: share of queries whose nearest candidate is the right one.
        recall_at_10: share of queries whose right candidate is among the ten nearest.
        nearest: for each query the nearest candidate that is not the right one, (Q,) int64; -1 where there is none.
        ranks: of the right candidates, from 1, (Q,) int64.
    """

    mrr: float
    recall_at_1: float
    recall_at_10: float
    nearest: np.ndarray
    ranks: np.ndarray


def agreement(
    similarities: Sequence[float] | np.ndarray, gold: Sequence[float] | np.ndarray, *, has_interval: bool = True
) -> Agreement:
    """Compare similarities of N pairs with the given ones.

    Args:
        similarities: of the vectors, (N,).
        gold: what people said, (N,).
        has_interval: draw the interval, which takes most of the time.
    """
    first, second = np.asarray(similarities, np.float64), np.asarray(gold, np.float64)

    def of_rows(chosen: np.ndarray) -> float:
        return spearman(first[chosen], second[chosen])

    interval = bootstrap_rows(of_rows, len(first)) if has_interval else None
    return Agreement(spearman(first, second), interval, correlation(first, second))


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length 1 in the same directions, (N, D) float32; a zero vector stays one."""
    wide = np.asarray(vectors, np.float32)
    lengths: np.ndarray = np.linalg.norm(wide, axis=-1, keepdims=True)
    return wide / np.maximum(lengths, np.float32(1e-12))


def cosines(firsts: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Cosine similarity of the vectors of each pair, (N, D) and (N, D) to (N,) float32."""
    found: np.ndarray = (unit(firsts) * unit(seconds)).sum(axis=-1)
    return found


def retrieval(queries: np.ndarray, candidates: np.ndarray, targets: np.ndarray) -> Retrieval:
    """Rank all candidates for each query; of equally near ones the right one comes last, so that ties never flatter.

    Args:
        queries: (Q, D).
        candidates: (C, D), different texts.
        targets: number of the right candidate of each query, (Q,) integers.
    """
    left, right = unit(queries), unit(candidates)
    ranks, nearest = np.empty(len(left), np.int64), np.empty(len(left), np.int64)
    for start in range(0, len(left), _CHUNK):
        part = slice(start, start + _CHUNK)
        found = left[part] @ right.T
        rows = np.arange(len(found))
        own = found[rows, targets[part]].copy()
        ranks[part] = (found >= own[:, None]).sum(axis=1)
        found[rows, targets[part]] = -np.inf
        nearest[part] = found.argmax(axis=1) if len(right) > 1 else -1
    return Retrieval(
        mrr=float((1 / ranks).mean()),
        recall_at_1=float((ranks == 1).mean()),
        recall_at_10=float((ranks <= 10).mean()),
        nearest=nearest,
        ranks=ranks,
    )


def alignment(firsts: np.ndarray, seconds: np.ndarray) -> float:
    """Mean squared distance of the unit vectors that belong together (Wang and Isola 2020, section 4.1); 0 is best."""
    return float(((unit(firsts) - unit(seconds)) ** 2).sum(axis=-1).mean())


def uniformity(vectors: np.ndarray) -> float:
    """Log of the mean of exp(-2 d^2) over pairs of different unit vectors (Wang and Isola 2020, section 4.1).

    0 where all are the same; about -4 where they lie evenly on a sphere of many dimensions. 0.0 for fewer than two.
    """
    points = unit(vectors)
    count = len(points)
    if count < 2:
        return 0.0
    total = 0.0
    for start in range(0, count, _CHUNK):
        squared = np.maximum(2 - 2 * (points[start : start + _CHUNK] @ points.T), 0)
        total += float(np.exp(-2 * squared).sum(dtype=np.float64))
    own = float(np.exp(-2 * np.maximum(2 - 2 * (points**2).sum(axis=1), 0)).sum(dtype=np.float64))
    return float(np.log((total - own) / (count * (count - 1))))


def solve_analogies(vectors: np.ndarray, questions: np.ndarray) -> np.ndarray:
    """Answer "a is to b as c is to ?" by 3CosAdd (Mikolov et al. 2013): the word nearest to b - a + c.

    Args:
        vectors: of all words that may be the answer, (W, D).
        questions: numbers of the words a, b and c, (Q, 3) integers; they are never the answer.

    Returns:
        Number of the answer, (Q,) int64; -1 where there are no other words.
    """
    words = unit(vectors)
    answers = np.full(len(questions), -1, np.int64)
    for start in range(0, len(questions), _CHUNK):
        asked = questions[start : start + _CHUNK]
        found = (words[asked[:, 1]] - words[asked[:, 0]] + words[asked[:, 2]]) @ words.T
        np.put_along_axis(found, asked, -np.inf, axis=1)
        best = found.argmax(axis=1)
        answers[start : start + _CHUNK] = np.where(found.max(axis=1) > -np.inf, best, -1)
    return answers
