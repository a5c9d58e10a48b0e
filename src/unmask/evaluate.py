"""Predict and score: the published numbers come from the code that users call."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from unmask.config import resolve
from unmask.data.dealing import deal
from unmask.data.rows import Table
from unmask.errors import DataError
from unmask.predict import Predictor, Said
from unmask.tasks.base import Fitted, Row, Task

_FOLDS = 5


@dataclass(frozen=True)
class Evaluation:
    """What a model did on a labelled file.

    Attributes:
        scores: the task's metrics by name.
        main_metric: name of the one that models are chosen by.
        rows: number of rows.
        seconds: time of predicting them.
        predictions: one a row, in order.
        fitted: settings of the task that were fitted on the rows; each row's answer, and so the scores, come from what
            the other folds of the rows gave.
    """

    scores: dict[str, Any]
    main_metric: str
    rows: int
    seconds: float
    predictions: list[Any]
    fitted: tuple[str, ...] = ()

    @property
    def main_score(self) -> float:
        """Value of the main metric."""
        return float(self.scores[self.main_metric])


def evaluate(predictor: Predictor, table: Table, *, fit: bool = False) -> Evaluation:
    """Predict every row of a table and compare with its labels.

    Args:
        predictor: answers the task.
        table: labelled rows.
        fit: let the task choose on these rows what it chooses behind training, such as a temperature; its settings
            then stay so. The answers are those of a cross-fit: no row is answered with what was fitted on itself.

    Raises:
        DataError: no rows, a missing column, an empty text, or a label that the model does not have; with its line.
    """
    if not table.rows:
        raise DataError("no-rows", "there are no rows to evaluate", place=table.path)
    start = time.perf_counter()
    task = predictor.task
    said = predictor.run(table.rows, place=table.place, is_labelled=True)
    predictions, own, fitted = _cross_fit(task, said, table.rows) if fit else (_decode(task, said, table.rows), {}, ())
    seconds = time.perf_counter() - start
    scores = task.score(predictions, table.rows) | own
    return Evaluation(scores, task.main_metric, len(table.rows), seconds, predictions, fitted)


def _decode(task: Task, said: Sequence[Said], rows: Sequence[Row]) -> list[Any]:
    return [task.decode(*one, row) for one, row in zip(said, rows, strict=True)]


def _cross_fit(
    task: Task, said: Sequence[Said], rows: Sequence[Row]
) -> tuple[list[Any], dict[str, float], tuple[str, ...]]:
    """Answer each fold with what the task fits to the others, and leave the task with what it fits to all.

    A single row, or rows that are all about one text, have no others.

    Returns:
        One answer a row, the scores of the fit to all, and the names of the settings that hang on the rows.
    """
    given = task.settings

    def fit(chosen: Sequence[int]) -> Fitted:
        task.settings = given
        parts, features = zip(*(said[row] for row in chosen), strict=True)
        found = task.fit_to_dev(parts, features, [rows[row] for row in chosen])
        task.settings = resolve(type(given), given.model_dump(), found.settings)
        return found

    strata, groups = [task.stratum(row, given) for row in rows], [task.group(row, given) for row in rows]
    folds = [fold for fold in deal(strata, _FOLDS, seed=0, groups=groups) if fold]
    answers: dict[int, Any] = {}
    fits = []
    for held in folds:
        rest = sorted(set(range(len(rows))).difference(held)) or held
        fits.append(fit(rest).settings)
        answers |= zip(held, _decode(task, [said[row] for row in held], [rows[row] for row in held]), strict=True)
    final = fit(range(len(rows)))
    fitted = tuple(name for name, value in final.settings.items() if any(one.get(name) != value for one in fits))
    return [answers[row] for row in range(len(rows))], final.scores, fitted
