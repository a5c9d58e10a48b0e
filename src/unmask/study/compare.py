"""Two models on one labelled file: which is better, by how much, is it chance, and where do they differ."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unmask.data.rows import Table
from unmask.errors import DataError, UsageError
from unmask.evaluate import Evaluation, evaluate
from unmask.metrics.paired import Comparison, paired_bootstrap
from unmask.predict import Predictor
from unmask.tasks.base import Task

log = logging.getLogger("unmask")

MODELS = ("first", "second")


@dataclass(frozen=True)
class Difference:
    """A row that one model answers better than the other.

    Attributes:
        place: where it stands.
        text: of the row.
        first: answer and row score of the first model.
        second: of the second.
    """

    place: str
    text: str
    first: tuple[str, float]
    second: tuple[str, float]


@dataclass(frozen=True)
class Compared:
    """What two models did on one file.

    Attributes:
        metric: by which they are compared.
        comparison: the two scores and their difference.
        scores: all scores of both that are numbers, by name.
        seconds: time of each.
        differences: rows that only one of them has right, or more right; the greatest differences first.
        is_rising: whether the higher score is the better one.
        counts: how many rows the first, and how many the second answers better; `None` without scores of rows.
    """

    metric: str
    comparison: Comparison
    scores: dict[str, tuple[float, float]]
    seconds: tuple[float, float]
    differences: list[Difference]
    is_rising: bool
    counts: tuple[int, int] | None


def compare(
    predictors: tuple[Predictor, Predictor],
    tables: tuple[Table, Table],
    *,
    metric: str | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Compared:
    """Score two models on the rows of one file.

    Args:
        predictors: the two, for the same task.
        tables: the labelled rows, as each of the models reads the file.
        metric: a score of the task; by default its main one.
        resamples: of the paired bootstrap; each takes longer for a score that is no mean of the rows' scores.
        seed: of the draws.

    Raises:
        UsageError: the models are for different tasks, or the task has no such score.
        DataError: a row is wrong for one of the models.
    """
    tasks = [one.task for one in predictors]
    if tasks[0].name != tasks[1].name:
        raise UsageError("other-task", f"the first model is for {tasks[0].name}, the second for {tasks[1].name}")
    results = []
    for which, predictor, table in zip(MODELS, predictors, tables, strict=True):
        with of_model(which):
            results.append(evaluate(predictor, table))
    name = metric or results[0].main_metric
    shared = {
        key: (results[0].scores[key], results[1].scores[key]) for key in _numbers(results[0]) & _numbers(results[1])
    }
    if name not in shared:
        raise UsageError(
            "unknown-metric", f"the task has no score '{name}'", place="--metric", expected=", ".join(shared)
        )
    row_scores = [
        task.row_scores(result.predictions, table.rows)
        for task, result, table in zip(tasks, results, tables, strict=True)
    ]
    score = _mean_scorer(row_scores, shared[name]) or _f1_scorer(tasks, results, tables, name)
    if score is None:
        score = _task_scorer(tasks, results, tables, name)
        log.info("%s is no mean of rows: the task scores %d draws anew, which takes a while", name, resamples)
    return Compared(
        metric=name,
        comparison=paired_bootstrap(score, len(tables[0].rows), resamples=resamples, seed=seed),
        scores=shared,
        seconds=(results[0].seconds, results[1].seconds),
        differences=_differences(tasks, results, tables[0], row_scores),
        is_rising=tasks[0].is_rising(name),
        counts=_counts(row_scores),
    )


@contextlib.contextmanager
def of_model(which: str) -> Iterator[None]:
    """Say of which model an error speaks that the rows give inside the block.

    Args:
        which: `first` or `second`.
    """
    try:
        yield
    except DataError as error:
        error.reason = f"the {which} model cannot be scored on this file: {error.reason}"
        raise


def _numbers(result: Evaluation) -> set[str]:
    return {name for name, value in result.scores.items() if isinstance(value, float)}


Scorer = Callable[[np.ndarray], tuple[float, float]]


def _mean_scorer(row_scores: Sequence[list[float] | None], wanted: tuple[float, float]) -> Scorer | None:
    """The fast way: the metric is the mean of the rows' scores, as accuracy is."""
    if any(one is None for one in row_scores):
        return None
    first, second = (np.array(one, dtype=np.float64) for one in row_scores)
    if not np.allclose([first.mean(), second.mean()], wanted, atol=1e-9):
        return None
    return lambda rows: (float(first[rows].mean()), float(second[rows].mean()))


def _f1_scorer(
    tasks: Sequence[Task], results: Sequence[Evaluation], tables: Sequence[Table], name: str
) -> Scorer | None:
    """As fast: the metric is the F1 of all rows' findings together, as that of entities is."""
    first, second = (
        task.row_counts(result.predictions, table.rows) if name == task.main_metric else None
        for task, result, table in zip(tasks, results, tables, strict=True)
    )
    if first is None or second is None:
        return None
    return lambda rows: (_f1(first[rows]), _f1(second[rows]))


def _f1(counts: np.ndarray) -> float:
    right, given, wanted = counts.sum(0)
    return float(2 * right / (given + wanted)) if given + wanted else 0.0


def _task_scorer(tasks: Sequence[Task], results: Sequence[Evaluation], tables: Sequence[Table], name: str) -> Scorer:
    """The general way: the task scores the drawn rows anew, without the intervals that it draws of its own."""

    def score(rows: np.ndarray) -> tuple[float, float]:
        found = [
            task.score(
                [result.predictions[row] for row in rows], [table.rows[row] for row in rows], has_interval=False
            )[name]
            for task, result, table in zip(tasks, results, tables, strict=True)
        ]
        return float(found[0]), float(found[1])

    return score


def _counts(row_scores: Sequence[list[float] | None]) -> tuple[int, int] | None:
    first, second = row_scores
    if first is None or second is None:
        return None
    return sum(a > b for a, b in zip(first, second, strict=True)), sum(
        b > a for a, b in zip(first, second, strict=True)
    )


def _differences(
    tasks: Sequence[Task], results: Sequence[Evaluation], table: Table, row_scores: Sequence[list[float] | None]
) -> list[Difference]:
    first, second = row_scores
    if first is None or second is None:
        return []
    gaps = np.abs(np.subtract(first, second))
    rows = [int(row) for row in np.argsort(-gaps, kind="stable") if gaps[row] > 0]
    return [
        Difference(
            table.place(row),
            " | ".join(tasks[0].texts(table.rows[row], tasks[0].settings)),
            (_told(results[0].predictions[row]), first[row]),
            (_told(results[1].predictions[row]), second[row]),
        )
        for row in rows
    ]


def _told(answer: Any) -> str:
    return " ".join(str(answer.summary()).split())
