"""All tasks on all engines: the same answers, as far as the precision goes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import tiny
from tests.unit.tasks.test_contract import MAKERS
from unmask.engine.choice import NAMES, PRECISIONS, runs
from unmask.predict import Predictor
from unmask.tasks import TASKS

FAR = {"float32": 1e-4, "bfloat16": 5e-2, "int8": 5e-2}  # of the size of the greatest number


def numbers(part: Any) -> np.ndarray:
    """All numbers that a task's network says about a feature."""
    if isinstance(part, (list, tuple)):
        return np.concatenate([numbers(one) for one in part] or [np.zeros(0)])
    return np.ravel(np.asarray(part, dtype=np.float64)) if isinstance(part, (np.ndarray, float)) else np.zeros(0)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("engine", NAMES)
@pytest.mark.parametrize("name", sorted(TASKS))
def test_every_task_runs_on_every_engine(name: str, engine: str, precision: str, tmp_path: Path) -> None:
    task = MAKERS[name]()
    if not runs(engine, precision, task.config):
        pytest.skip(f"{engine} cannot compute in {precision} here")
    rows = tiny.rows_of(task)
    if name == "masked_lm":
        rows = [{"text": f"{row['text']} {task.tokenizer.mask_token}"} for row in rows]
    folder = tiny.saved(task, tmp_path / "model")
    exact = Predictor(task).run(rows)
    predictor = Predictor.load(folder, engine=engine, precision=precision, threads=1)
    found = predictor.run(rows)
    for (parts, features), (wanted, _) in zip(found, exact, strict=True):
        got, right = numbers(parts), numbers(wanted)
        assert len(parts) == len(features)
        if name != "seq2seq":  # which writes tokens, not numbers
            assert len(right)
            np.testing.assert_allclose(got, right, atol=FAR[precision] * max(1.0, np.abs(right).max()))
    answers = predictor.predict_rows(rows)
    assert [type(one) for one in answers] == [type(one) for one in Predictor(task).predict_rows(rows)]
