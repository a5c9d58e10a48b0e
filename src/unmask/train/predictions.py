"""dev-predictions.jsonl: what the kept model says about each dev row, for comparing runs row by row."""

import json
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unmask import storage
from unmask.data.rows import Table
from unmask.tasks.base import Task

PREDICTIONS = "dev-predictions.jsonl"


def write_predictions(path: Path, task: Task, predictions: Sequence[Any], table: Table) -> None:
    """Write one JSON object a row: `row` from 0, its `line` in the file, `prediction`, and `score` from 0 to 1.

    `score` says how right the answer is; it is left out in a task whose rows have no scores of their own. The rows of a
    folder of small files have their `file` too. The labels of the rows are not written.

    Args:
        path: of the file.
        task: that gave the predictions.
        predictions: one a row.
        table: the rows.
    """
    scores = task.row_scores(predictions, table.rows)
    records = []
    for at, (line, prediction) in enumerate(zip(table.lines, predictions, strict=True)):
        said = asdict(prediction) if is_dataclass(prediction) and not isinstance(prediction, type) else prediction
        scored = {} if scores is None else {"score": float(scores[at])}
        place = {"file": table.files[at], "line": line} if table.files else {"line": line}
        records.append({"row": at} | place | {"prediction": said} | scored)
    write_records(path, records)


def write_records(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Write JSON lines in one step."""
    lines = (json.dumps(one, ensure_ascii=False, default=_plain) for one in records)
    storage.write_text(path, "".join(f"{line}\n" for line in lines))


def read_records(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _plain(value: Any) -> Any:
    """Numbers of numpy as JSON has them."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} in a prediction")
