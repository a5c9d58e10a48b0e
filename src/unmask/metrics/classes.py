"""Scores of a classifier; thin over scikit-learn."""

from dataclasses import dataclass

import numpy as np
from sklearn import metrics as sk

from unmask.metrics.intervals import bootstrap


@dataclass(frozen=True)
class ClassScores:
    """What a classifier did on a labelled set.

    Attributes:
        accuracy: share of right answers.
        interval: 95 % bootstrap interval of the accuracy.
        mcc: Matthews correlation coefficient.
        macro_f1: mean of the classes' F1, over classes that occur as label or as answer.
        per_class: precision, recall, F1 and number of rows of each class.
        confusion: rows counted by label (first axis) and answer (second axis), in the order of `labels`.
        labels: names of the classes.
    """

    accuracy: float
    interval: tuple[float, float]
    mcc: float
    macro_f1: float
    per_class: dict[str, dict[str, float]]
    confusion: list[list[int]]
    labels: list[str]


def classification(gold: list[str], predicted: list[str], labels: list[str]) -> ClassScores:
    """Score the answers of a classifier.

    Args:
        gold: right labels, one a row.
        predicted: answered labels, one a row.
        labels: all classes, in the order of the confusion matrix.
    """
    precision, recall, f1, support = sk.precision_recall_fscore_support(
        gold, predicted, labels=labels, zero_division=0.0
    )
    right = np.array([a == b for a, b in zip(gold, predicted, strict=True)], dtype=np.float64)
    answered = set(predicted)
    seen = [index for index, name in enumerate(labels) if support[index] or name in answered]
    return ClassScores(
        accuracy=float(right.mean()),
        interval=bootstrap(right),
        mcc=float(sk.matthews_corrcoef(gold, predicted)) if len(set(gold) | set(predicted)) > 1 else 0.0,
        macro_f1=float(np.mean(f1[seen])),
        per_class={
            name: {
                "precision": float(precision[index]),
                "recall": float(recall[index]),
                "f1": float(f1[index]),
                "rows": int(support[index]),
            }
            for index, name in enumerate(labels)
        },
        confusion=sk.confusion_matrix(gold, predicted, labels=labels).tolist(),
        labels=list(labels),
    )
