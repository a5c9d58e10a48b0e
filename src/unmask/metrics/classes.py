"""Scores of a classifier; thin over scikit-learn."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unmask.metrics.intervals import bootstrap, bootstrap_rows


@dataclass(frozen=True)
class ClassScores:
    """What a classifier did on a labelled set.

    Attributes:
        accuracy: share of right answers.
        interval: 95 % bootstrap interval of the accuracy; `None` where it was not asked for.
        mcc: Matthews correlation coefficient.
        macro_f1: mean of the classes' F1, over classes that occur as label or as answer.
        per_class: precision, recall, F1 and number of rows of each class.
        confusion: rows counted by label (first axis) and answer (second axis), in the order of `labels`; rows without
            an answer are left out.
        labels: names of the classes.
    """

    accuracy: float
    interval: tuple[float, float] | None
    mcc: float
    macro_f1: float
    per_class: dict[str, dict[str, float]]
    confusion: list[list[int]]
    labels: list[str]


@dataclass(frozen=True)
class LabelScores:
    """What a classifier that may give several labels a row did on a labelled set.

    Attributes:
        micro_f1: F1 of all decisions together.
        interval: 95 % bootstrap interval of it; `None` where it was not asked for.
        macro_f1: mean of the classes' F1, over classes that occur as label or as answer.
        exact_match: share of the rows whose set of labels is right.
        per_class: precision, recall, F1 and number of rows of each class.
        labels_per_row: mean number of right labels.
        answers_per_row: mean number of given labels.
    """

    micro_f1: float
    interval: tuple[float, float] | None
    macro_f1: float
    exact_match: float
    per_class: dict[str, dict[str, float]]
    labels_per_row: float
    answers_per_row: float


def classification(
    gold: Sequence[str], predicted: Sequence[str], labels: Sequence[str], *, has_interval: bool = True
) -> ClassScores:
    """Score the answers of a classifier.

    Args:
        gold: right labels, one a row.
        predicted: answered labels, one a row; one that is none of the labels is a wrong answer.
        labels: all classes, in the order of the confusion matrix.
        has_interval: draw the interval, which takes most of the time.
    """
    from sklearn import metrics as sk

    right = np.array([a == b for a, b in zip(gold, predicted, strict=True)], dtype=np.float64)
    per_class, macro_f1 = _per_class(gold, predicted, labels, answered=set(predicted))
    return ClassScores(
        accuracy=float(right.mean()),
        interval=bootstrap(right) if has_interval else None,
        mcc=float(sk.matthews_corrcoef(gold, predicted)) if len(set(gold) | set(predicted)) > 1 else 0.0,
        macro_f1=macro_f1,
        per_class=per_class,
        confusion=sk.confusion_matrix(gold, predicted, labels=list(labels)).tolist(),
        labels=list(labels),
    )


def multi_label(
    gold: np.ndarray, predicted: np.ndarray, labels: Sequence[str], *, has_interval: bool = True
) -> LabelScores:
    """Score the answers of a classifier that may give several labels a row, or none.

    Args:
        gold: 1 where a row has a class, (N, C) of 0 and 1.
        predicted: 1 where it was given, (N, C).
        labels: names of the classes.
        has_interval: draw the interval, which takes most of the time.
    """
    hits, given, right = gold * predicted, predicted.sum(1), gold.sum(1)
    answered = {name for name, count in zip(labels, predicted.sum(0), strict=True) if count}
    per_class, macro_f1 = _per_class(gold, predicted, labels, answered=answered)

    def micro_f1(rows: np.ndarray) -> float:
        total = given[rows].sum() + right[rows].sum()
        return float(2 * hits[rows].sum() / total) if total else 0.0

    return LabelScores(
        micro_f1=micro_f1(np.arange(len(gold))),
        interval=bootstrap_rows(micro_f1, len(gold)) if has_interval else None,
        macro_f1=macro_f1,
        exact_match=float((gold == predicted).all(1).mean()),
        per_class=per_class,
        labels_per_row=float(right.mean()),
        answers_per_row=float(given.mean()),
    )


def best_threshold(probabilities: np.ndarray, gold: np.ndarray) -> float:
    """The threshold between two neighbouring probabilities with the greatest F1; of equals, the one nearest to 0.5.

    Args:
        probabilities: of one class, (N,).
        gold: 1 where a row has it, (N,); at least one does.
    """
    order = np.argsort(-probabilities, kind="stable")
    sure, hits = probabilities[order], np.cumsum(gold[order])
    f1 = 2 * hits / (np.arange(1, len(gold) + 1) + gold.sum())
    middles = (sure + np.append(sure[1:], 0.0)) / 2
    is_border = np.append(sure[:-1] > sure[1:], True)
    best = np.flatnonzero(is_border & (f1 == f1[is_border].max()))
    return float(min(middles[best], key=lambda value: abs(value - 0.5)))


def _per_class(
    gold: Sequence[str] | np.ndarray, predicted: Sequence[str] | np.ndarray, labels: Sequence[str], answered: set[str]
) -> tuple[dict[str, dict[str, float]], float]:
    from sklearn import metrics as sk

    names = None if isinstance(gold, np.ndarray) else list(labels)
    scores = sk.precision_recall_fscore_support(gold, predicted, labels=names, average=None, zero_division=0.0)
    per_class = {
        name: {"precision": float(p), "recall": float(r), "f1": float(f1), "rows": int(rows)}
        for name, p, r, f1, rows in zip(labels, *scores, strict=True)
    }
    seen = [one["f1"] for name, one in per_class.items() if one["rows"] or name in answered]
    return per_class, float(np.mean(seen)) if seen else 0.0
