"""A finished set of a suite beside the same set of another model: median, and whether the difference is chance."""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from unmask import storage
from unmask.errors import UnmaskError, UsageError
from unmask.metrics.paired import paired_bootstrap
from unmask.train.predictions import PREDICTIONS, read_records
from unmask.train.summary import SUMMARY

log = logging.getLogger("unmask")


def compared(mine: Path, others: Path, metric: str) -> tuple[float, float | None] | str:
    """Median of the other model, and p of the difference where the score is a mean of rows, else None.

    Args:
        mine: folder of a finished set.
        others: folder of the same set with another model.
        metric: score of `mine`.

    Returns:
        Both; or, in words, why the two cannot be compared.
    """
    try:
        return _against(mine, others, metric)
    except (UnmaskError, OSError) as error:
        log.warning("%s is not compared: %s", mine.name, error)
        return reason_of(error)


def reason_of(error: Exception) -> str:
    """What went wrong, in one line."""
    return error.reason if isinstance(error, UnmaskError) else str(error)


def _against(mine: Path, others: Path, metric: str) -> tuple[float, float | None]:
    summary = finished_summary(others, metric)
    first, second = _row_scores(others), _row_scores(mine)
    if first is None or second is None or not np.isclose(first.mean(), summary["mean"]):
        return float(summary["median"]), None
    if len(first) != len(second):
        raise UsageError("not-comparable", f"{len(first)} dev rows there, {len(second)} here", place=others)
    found = paired_bootstrap(lambda rows: (first[rows].mean(), second[rows].mean()), len(first))
    return float(summary["median"]), found.p_value


def finished_summary(folder: Path, metric: str | None) -> dict[str, Any]:
    """Summary of a finished set.

    Args:
        folder: of the set.
        metric: score that it must have; `None` takes any.

    Raises:
        UsageError: there is none, or none with this score.
    """
    found: dict[str, Any] = storage.read_json(folder / SUMMARY) if (folder / SUMMARY).is_file() else {}
    if not found or found.get("metric") != (metric or found.get("metric")):
        raise UsageError(
            "not-comparable",
            "there is no finished run of this set" + (f" with the score '{metric}'" if metric else ""),
            place=folder,
            remedy="run the same suite with the other model first, and name its --output; or choose sets with --only",
        )
    return found


def _row_scores(folder: Path) -> np.ndarray | None:
    """Score of each dev row, mean over the seeds that count, (N,); `None` where rows have no scores."""
    runs = [
        run["name"]
        for run in storage.read_json(folder / SUMMARY)["runs"]
        if run["score"] is not None and not run["is_replaced"]
    ]
    records = [read_records(folder / name / PREDICTIONS) for name in runs]
    if any("score" not in one for one in records[0][:1]):
        return None
    return np.mean([[one["score"] for one in rows] for rows in records], axis=0)
