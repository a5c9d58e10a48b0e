"""Predict and score: the published numbers come from the code that users call."""

import time
from dataclasses import dataclass
from typing import Any

from unmask.config import resolve
from unmask.data.rows import Table
from unmask.errors import DataError
from unmask.predict import Predictor
from unmask.tasks.base import Fitted


@dataclass(frozen=True)
class Evaluation:
    """What a model did on a labelled file.

    Attributes:
        scores: the task's metrics by name.
        main_metric: name of the one that models are chosen by.
        rows: number of rows.
        seconds: time of predicting them.
        predictions: one a row, in order.
    """

    scores: dict[str, Any]
    main_metric: str
    rows: int
    seconds: float
    predictions: list[Any]

    @property
    def main_score(self) -> float:
        """Value of the main metric."""
        return float(self.scores[self.main_metric])


def evaluate(predictor: Predictor, table: Table, *, fit: bool = False) -> Evaluation:
    """Predict every row of a table and compare with its labels.

    Args:
        predictor: answers the task.
        table: labelled rows.
        fit: let the task first choose on these rows what it chooses behind training, such as a temperature; its
            settings then stay so.

    Raises:
        DataError: no rows, a missing column, an empty text, or a label that the model does not have; with its line.
    """
    if not table.rows:
        raise DataError("no-rows", "there are no rows to evaluate", place=table.path)
    start = time.perf_counter()
    task = predictor.task
    said = predictor.run(table.rows, place=table.place, is_labelled=True)
    found = Fitted()
    if fit:
        found = task.fit_to_dev([parts for parts, _ in said], [features for _, features in said], table.rows)
        task.settings = resolve(type(task.settings), task.settings.model_dump(), found.settings)
    predictions = [task.decode(*one, row) for one, row in zip(said, table.rows, strict=True)]
    seconds = time.perf_counter() - start
    scores = task.score(predictions, table.rows) | found.scores
    return Evaluation(scores, task.main_metric, len(table.rows), seconds, predictions)
