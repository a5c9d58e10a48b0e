"""Scores of labelled spans, exact as conlleval and seqeval count them: a span is right if start, end and label are."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Spans = Sequence[tuple[int, int, str]]
NONE = "(none)"
"""Row of the confusion for spans that are not in the file, column for those that were not found."""


@dataclass(frozen=True)
class SpanScores:
    """What was found of the spans of a labelled set.

    Attributes:
        f1: harmonic mean of precision and recall over all spans (micro).
        precision: share of the found spans that are right.
        recall: share of the file's spans that were found.
        interval: 95 % bootstrap interval of f1, by drawing sentences; `None` where it was not asked for.
        macro_f1: mean of the labels' F1.
        per_class: precision, recall, F1 and number of spans of each label.
        confusion: spans with the same edges counted by the file's label (first axis) and the answer's (second axis), in
            the order of `labels`; the last row and column are `NONE`, unless both are empty.
        labels: of the confusion.
    """

    f1: float
    precision: float
    recall: float
    interval: tuple[float, float] | None
    macro_f1: float
    per_class: dict[str, dict[str, float]]
    confusion: list[list[int]]
    labels: list[str]


def span_scores(gold: Sequence[Spans], found: Sequence[Spans], *, has_interval: bool = True) -> SpanScores:
    """Compare found spans with those of the file.

    Args:
        gold: (start, end, label) of each sentence; one that stands twice counts once.
        found: likewise.
        has_interval: draw the interval, which takes most of the time.
    """
    pairs = [(set(a), set(b)) for a, b in zip(gold, found, strict=True)]
    right, given, wanted = Counter[str](), Counter[str](), Counter[str]()
    for a, b in pairs:
        right.update(label for _, _, label in a & b)
        given.update(label for _, _, label in b)
        wanted.update(label for _, _, label in a)
    names = sorted(wanted | given)
    per_class = {
        name: dict(zip(("precision", "recall", "f1"), prf(right[name], given[name], wanted[name]), strict=True))
        | {"rows": wanted[name]}
        for name in names
    }
    precision, recall, f1 = prf(right.total(), given.total(), wanted.total())
    counts = np.array([[len(a & b), len(a) + len(b)] for a, b in pairs], dtype=np.float64).reshape(-1, 2)
    confusion, labels = _confusion(pairs, names)
    return SpanScores(
        f1=f1,
        precision=precision,
        recall=recall,
        interval=_interval(counts) if has_interval else None,
        macro_f1=float(np.mean([one["f1"] for one in per_class.values()])) if names else 0.0,
        per_class=per_class,
        confusion=confusion,
        labels=labels,
    )


def sentence_f1(gold: Spans, found: Spans) -> float:
    """F1 of one sentence; 1 where there is nothing to find and nothing was found."""
    total = len(set(gold)) + len(set(found))
    return 2 * len(set(gold) & set(found)) / total if total else 1.0


def prf(right: int, given: int, wanted: int) -> tuple[float, float, float]:
    """Precision, recall and F1 from counts; 0 where they are not defined, as conlleval has it."""
    precision = right / given if given else 0.0
    recall = right / wanted if wanted else 0.0
    return precision, recall, 2 * right / (given + wanted) if given + wanted else 0.0


def _confusion(pairs: Sequence[tuple[set, set]], names: list[str]) -> tuple[list[list[int]], list[str]]:
    place = {name: index for index, name in enumerate(names)}
    counts = np.zeros((len(names) + 1, len(names) + 1), dtype=np.int64)
    for a, b in pairs:
        ours, theirs = ({(start, end): place[label] for start, end, label in spans} for spans in (a, b))
        for edges in ours.keys() | theirs.keys():
            counts[ours.get(edges, -1), theirs.get(edges, -1)] += 1
    if not counts[-1].any() and not counts[:, -1].any():
        return counts[:-1, :-1].tolist(), names
    return counts.tolist(), [*names, NONE]


def _interval(counts: np.ndarray, *, resamples: int = 1000, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Percentile interval of 2 * right / (given + wanted), for (N, 2) counts of the sentences."""
    rng, size = np.random.default_rng(seed), len(counts)
    if not counts[:, 1].sum():
        return 0.0, 0.0
    drawn = np.concatenate(
        [rng.multinomial(size, np.full(size, 1 / size), size=20) @ counts for _ in range(resamples // 20)]
    )
    values = 2 * drawn[:, 0] / np.maximum(drawn[:, 1], 1)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
