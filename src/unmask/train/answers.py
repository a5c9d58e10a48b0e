"""What a report shows of the answers: the worst, how they go with length, whether they know their doubt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unmask.tasks.base import Mistake, Row, Task

_SHOWN = 20
_BINS = 10


@dataclass(frozen=True)
class Group:
    """Rows of like length, or of like confidence.

    Attributes:
        low: least length or confidence.
        high: greatest.
        rows: how many rows.
        value: mean confidence of the rows; 0 for groups by length.
        score: mean row score, from 0 to 1.
    """

    low: float
    high: float
    rows: int
    value: float
    score: float


@dataclass(frozen=True)
class Answers:
    """A look at the answers on one labelled set.

    Attributes:
        mistakes: the worst, worst first.
        num_mistakes: of all wrong answers.
        by_length: rows in groups of about equal size, by tokens.
        by_confidence: rows by the confidence of their answers, in steps of a tenth; empty where answers have none.
    """

    mistakes: list[Mistake]
    num_mistakes: int
    by_length: list[Group]
    by_confidence: list[Group]


def look_at(task: Task, predictions: Sequence[Any], rows: Sequence[Row]) -> Answers:
    """Group and sort the answers of a task."""
    mistakes = task.mistakes(predictions, rows)
    worst = sorted(mistakes, key=lambda one: -one.score)[:_SHOWN]
    found = task.row_scores(predictions, rows)
    if not found:
        return Answers(worst, len(mistakes), [], [])
    scores = np.array(found, dtype=np.float64)
    texts = [" ".join(task.texts(row, task.settings)) for row in rows]
    lengths = np.array([len(ids) for ids in task.tokenizer.encode_ids(texts)], dtype=np.float64)
    given = [getattr(answer, "score", None) for answer in predictions]
    confidences = np.array(given, dtype=np.float64) if all(isinstance(one, float) for one in given) else None
    by_confidence = [] if confidences is None else _groups(confidences, scores, np.arange(1, _BINS) / _BINS)
    return Answers(
        worst, len(mistakes), _groups(lengths, scores, np.quantile(lengths, (0.2, 0.4, 0.6, 0.8))), by_confidence
    )


def _groups(values: np.ndarray, scores: np.ndarray, borders: np.ndarray) -> list[Group]:
    places = np.searchsorted(borders, values, side="right")
    return [
        Group(
            float(values[mine].min()),
            float(values[mine].max()),
            int(mine.sum()),
            float(values[mine].mean()),
            float(scores[mine].mean()),
        )
        for place in range(len(borders) + 1)
        if (mine := places == place).any()
    ]
