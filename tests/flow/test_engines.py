"""All tasks on all engines: the same answers, as far as the precision goes."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import tiny
from tests.unit.tasks.test_contract import MAKERS
from unmask.compress.export import export
from unmask.data.rows import Table
from unmask.engine.choice import NAMES, PRECISIONS, runs
from unmask.light import LightPredictor
from unmask.predict import Predictor
from unmask.runtime import _own_thread_setters, one_thread
from unmask.tasks.base import Task
from unmask.tasks.text_reader import Said

FAR = {"float32": 1e-4, "bfloat16": 5e-2, "int8": 5e-2}  # of the size of the greatest number


def numbers(part: Any) -> np.ndarray:
    """All numbers that a task's network says about a feature."""
    if isinstance(part, Said):
        return np.array([one.score for one in part.found])
    if isinstance(part, (list, tuple)):
        return np.concatenate([numbers(one) for one in part] or [np.zeros(0)])
    return np.ravel(np.asarray(part, dtype=np.float64)) if isinstance(part, (np.ndarray, float)) else np.zeros(0)


def near(parts: Any, wanted: Any, precision: str) -> None:
    """What an engine says is what the network says."""
    got, right = numbers(parts), numbers(wanted)
    assert len(right)
    np.testing.assert_allclose(got, right, atol=FAR[precision] * max(1.0, np.abs(right).max()))


def asked(task: Task) -> list[dict[str, Any]]:
    """Rows with a mask to fill where the task fills masks."""
    rows = tiny.rows_of(task)
    return (
        [{"text": f"{row['text']} {tiny.tokenizer().mask_token}"} for row in rows] if task.name == "masked_lm" else rows
    )


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("engine", NAMES)
@pytest.mark.parametrize("name", sorted(MAKERS))
def test_every_task_runs_on_every_engine(name: str, engine: str, precision: str, tmp_path: Path) -> None:
    task = MAKERS[name]()
    if not runs(engine, precision, task.config):
        pytest.skip(f"{engine} cannot compute in {precision} here")
    rows = asked(task)
    folder = tiny.saved(task, tmp_path / "model")
    exact = Predictor(task).run(rows)
    predictor = Predictor.load(folder, engine=engine, precision=precision, threads=1)
    found = predictor.run(rows)
    for (parts, features), (wanted, _) in zip(found, exact, strict=True):
        assert len(parts) == len(features)
        near(parts, wanted, precision)
    answers = predictor.predict_rows(rows)
    assert [type(one) for one in answers] == [type(one) for one in Predictor(task).predict_rows(rows)]


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("name", sorted(MAKERS))
def test_every_task_runs_without_torch(name: str, precision: str, tmp_path: Path) -> None:
    task = MAKERS[name]().eval()
    if not runs("onnx", precision, task.config):
        pytest.skip("the extra `onnx` is not installed")
    rows, labelled = asked(task), tiny.rows_of(task)
    dev = Table(Path("dev.jsonl"), tuple(labelled[0]), labelled, list(range(len(labelled))))
    export(task, tmp_path / "out", precision=precision, dev=dev, max_drop=1e6)  # random weights have no score to lose
    light = LightPredictor.load(tmp_path / "out", threads=1)
    for (parts, _), (wanted, _) in zip(light.run(rows), Predictor(task).run(rows), strict=True):
        near(parts, wanted, precision)


needs_setters = pytest.mark.skipif(_own_thread_setters() is None, reason="torch has no OpenMP and MKL inside")


@needs_setters
@pytest.mark.parametrize("name", ["classification", "masked_lm"])
@pytest.mark.parametrize("engine", ["native", "torch"])
def test_small_heads_do_not_wake_threads_beside_those_of_an_engine(name: str, engine: str, tmp_path: Path) -> None:
    task = MAKERS[name]()
    if not runs(engine, "float32", task.config):
        pytest.skip(f"{engine} does not run here")
    predictor = Predictor.load(tiny.saved(task, tmp_path / "model"), engine=engine, threads=1)
    seen: list[int] = []
    predictor.task.head.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        predictor.predict_rows(asked(task))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {1 if (name, engine) == ("classification", "native") else 3}


@needs_setters
def test_one_thread_is_that_of_the_caller_alone() -> None:
    """A thread that uses torch for the first time meanwhile would keep what `torch.set_num_threads` says."""
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(3)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
            for _ in range(2):
                other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
                other.start()
                other.join()
        assert [torch.get_num_threads(), *seen] == [3, 3, 3]
    finally:
        torch.set_num_threads(before)
