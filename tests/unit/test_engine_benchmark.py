"""The benchmark of engines: the same texts for all, answers in the order of the file, failures that are told."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.engines.pool import EngineError, Setup, Worker
from benchmarks.engines.report import closeness
from benchmarks.engines.worker import one_by_one, one_round
from benchmarks.engines.workloads import END, MIXED, START, WORKLOADS, Workload, padded, texts_of


class Lengths:
    """An engine whose logits tell the length of a text and its batch's."""

    def run(self, ids: list[np.ndarray]) -> np.ndarray:
        return np.array([[len(one), max(map(len, ids))] for one in ids], np.float32)


def test_texts_are_the_same_at_each_call_and_of_the_promised_lengths() -> None:
    texts = texts_of(WORKLOADS["mixture"], 1000)
    again = texts_of(WORKLOADS["mixture"], 1000)
    lengths = np.array([len(text) for text in texts])
    assert len(texts) == 256
    assert all(np.array_equal(one, other) for one, other in zip(texts, again, strict=True))
    assert lengths.min() >= 5
    assert lengths.max() <= 256
    assert 45 <= lengths.mean() <= 51
    assert all(text[0] == START and text[-1] == END and text[1:-1].min() > END for text in texts)
    assert {len(text) for text in texts_of(WORKLOADS["128"], 1000)} == {128}


def test_other_seeds_give_other_texts() -> None:
    one, other = (texts_of(Workload(4, 9), 1000, seed=seed) for seed in (0, 1))
    assert not np.array_equal(one, other)


def test_padding_keeps_ids_and_marks_the_rest() -> None:
    ids, mask = padded([np.array([0, 7, 2]), np.array([0, 8, 9, 9, 2])])
    assert ids.tolist() == [[0, 7, 2, 1, 1], [0, 8, 9, 9, 2]]
    assert mask.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]


@pytest.mark.parametrize("batch_size", [32, None])
@pytest.mark.parametrize("order", ["file", "sorted"])
def test_answers_come_in_the_order_of_the_file(order: str, batch_size: int | None) -> None:
    texts = texts_of(Workload(100, MIXED), 1000)
    logits, _ = one_round(Lengths(), batch_size, texts, order)
    lengths = np.array([len(text) for text in texts])
    assert np.array_equal(logits[:, 0], lengths)
    first = lengths.argmin() if order == "sorted" else 0
    longest = np.sort(lengths)[31] if order == "sorted" else lengths[:32].max()
    assert logits[first, 1] == (longest if batch_size else lengths.max())
    assert np.array_equal(one_by_one(Lengths(), texts)[0][:, 0], lengths)


def test_closeness_sees_wrong_and_lost_answers() -> None:
    expected = np.array([[1.0, 2.0], [3.0, -1.0]])
    assert closeness(expected, expected) == {"difference": 0.0, "cosine": pytest.approx(1), "centred": pytest.approx(1)}
    alike = expected + 100
    assert closeness(alike[::-1], alike)["cosine"] > 0.99
    assert closeness(alike[::-1], alike)["centred"] == pytest.approx(-1)
    assert closeness(expected[::-1], expected)["cosine"] < 0.5
    assert closeness(expected[:1], expected)["cosine"] == 0.0
    assert closeness(expected * np.nan, expected)["difference"] == float("inf")


def test_an_engine_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    worker = Worker("absent:float32", "tiny", Setup(tmp_path, threads=1, pythons={}))
    with pytest.raises(EngineError, match="ModuleNotFoundError"):
        worker.start()
    worker.close()
    assert worker.process.returncode == 0


def test_a_process_that_dies_is_told_of_and_so_is_an_absent_interpreter(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    worker = Worker("absent:float32", "tiny", Setup(tmp_path, threads=1, pythons={}))
    worker.process.kill()
    with pytest.raises(EngineError, match="ended by signal 9"):
        worker.start()
    worker.close()
    with pytest.raises(EngineError, match="no interpreter"):
        Worker("absent:float32", "tiny", Setup(tmp_path, threads=1, pythons={"absent": "no-such-python"}))
