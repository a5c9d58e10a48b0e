"""Fine-tuning certifies lower precisions by the way, and keeps only those that lose little."""

import json
import logging
from pathlib import Path

import pytest

from tests import runs, tiny
from tests.unit.test_certify import sure, table, with_outlier
from unmask.certify import computed_by
from unmask.data.rows import Table
from unmask.engine.choice import runs as runs_here
from unmask.evaluate import evaluate
from unmask.golden import verify
from unmask.model.encoder import Encoder
from unmask.predict import Predictor
from unmask.storage import read_json
from unmask.tasks.embedding import Embedding
from unmask.tasks.vector_reader import EmbeddingSettings
from unmask.train.finetune import finetune
from unmask.train.finish import certify_model, score_model, write_model
from unmask.train.report import write_report
from unmask.train.run import Run
from unmask.train.settings import FinetuneSettings

SETTINGS = {
    "epochs": 2,
    "patience": 20,
    "batch_size": 8,
    "log_every": 1,
    "optim": {"lr": 3e-3},
    "machine": {"device": "cpu", "dtype": "float32", "threads": 1},
}
LOWER = [one for one in ("bfloat16", "int8") if runs_here("native", one, tiny.config())]
needs_kernels = pytest.mark.skipif(not LOWER, reason="no kernels of a lower precision here")


def rows(path: Path, number: int) -> Path:
    texts = [(f"{text} {n}", label) for n in range(number) for text, label in ((tiny.GOOD[n % 4], "good"),
                                                                               (tiny.BAD[n % 4], "bad"))]  # fmt: skip
    path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in texts))
    return path


def trained(tmp_path: Path, name: str, dev: Path, **settings: object) -> Path:
    start = tmp_path / "start"
    if not start.exists():
        tiny.saved(tiny.masked_lm(), start)
    output = tmp_path / name
    finetune(rows(tmp_path / "train.jsonl", 16), output, dev=dev, model=start, given=(SETTINGS, settings))
    return output


@needs_kernels
def test_a_run_with_enough_dev_rows_certifies(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "unmask"):
        run = trained(tmp_path, "run", rows(tmp_path / "dev.jsonl", 50), epochs=16)
    (final,) = runs.events(run, "final")
    assert list(final["precisions"]) == LOWER
    passed = {name for name, one in final["precisions"].items() if one["is_passed"]}
    assert passed, "a model of two easy classes loses nothing"
    stored = read_json(run / "model" / "unmask.json")["meta"]["engine"]
    assert stored.keys() == passed
    assert all(one["rows"] == 100 and one["keep"] == {} and one["engine"] == "native" for one in stored.values())
    assert verify(run / "model")["precisions"].keys() == passed
    assert "## Precisions" in (run / "model" / "README.md").read_text()
    assert "Lower precisions" in (run / "report.html").read_text()
    assert any(message.startswith("precisions measured on the dev rows in ") for message in caplog.messages)


def test_few_dev_rows_or_no_wish_certify_nothing(tmp_path: Path) -> None:
    few = trained(tmp_path, "few", rows(tmp_path / "few.jsonl", 49))
    unasked = trained(tmp_path, "unasked", rows(tmp_path / "many.jsonl", 50), certify=False, epochs=16)
    for run in (few, unasked):
        assert "engine" not in read_json(run / "model" / "unmask.json")["meta"]
        assert "precisions" not in read_json(run / "model" / "golden.json")
        assert "Precisions" not in (run / "model" / "README.md").read_text()
        assert "Lower precisions" not in (run / "report.html").read_text()


def test_the_kept_weights_are_scored_as_users_compute_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    task = sure()
    dev = table(task)
    with caplog.at_level(logging.INFO, "unmask"):
        found = score_model(task, dev)
    assert type(task.encoder) is Encoder, "the network of training is as before"
    used = Predictor.load(tiny.saved(task, tmp_path / "model"), device="cpu")
    assert f"the kept weights are scored by: {used.engine}" in caplog.messages
    with computed_by(task, used.engine):  # type: ignore[arg-type]
        assert evaluate(Predictor(task), dev).scores["accuracy"] == found.scores["accuracy"]
        assert Predictor(task).predict_rows(dev.rows) == used.predict_rows(dev.rows)


def test_pairs_of_the_same_text_are_scored_under_dropout() -> None:
    task = Embedding(tiny.config(hidden_dropout_prob=0.1), tiny.tokenizer(), EmbeddingSettings())
    task.init_weights(0)
    dev = Table(Path("dev.jsonl"), ("text",), [{"text": text} for text in tiny.GOOD], [1, 2, 3, 4])
    assert task.needs_dropout
    assert score_model(task, dev).scores["alignment"] > 0, "0 is what no dropout gives: a text is near itself"


@needs_kernels
def test_a_run_that_has_learned_nothing_has_nothing_to_lose(tmp_path: Path) -> None:
    run = trained(tmp_path, "run", rows(tmp_path / "dev.jsonl", 50), epochs=1, optim={"lr": 1e-9})
    (final,) = runs.events(run, "final")
    assert final["collapsed"]
    assert final["precisions"] == {}


@pytest.mark.skipif(LOWER != ["bfloat16", "int8"], reason="no kernels of both precisions here")
def test_a_precision_that_loses_much_is_told_and_not_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    task = with_outlier()
    with caplog.at_level(logging.INFO, "unmask"):
        found = certify_model(task, table(task))
    assert [one.precision for one in found] == LOWER
    assert not found[1].is_passed
    assert caplog.messages[-1].endswith("; not certified")
    with Run.open(tmp_path / "run", FinetuneSettings(), {"file": "rows"}) as run:
        told = {one.precision: one.to_json() | {"is_passed": one.is_passed} for one in found}
        run.log("final", step=1, scores={"accuracy": 1.0}, precisions=told)
        write_report(run, "Fine-tuning", {"accuracy": 1.0})
        write_model(run, task, FinetuneSettings(), {}, certificates=found)
    assert "int8" not in read_json(run.model / "unmask.json")["meta"].get("engine", {})
    assert "int8" not in verify(run.model)["precisions"]
    assert "not certified" in (run.folder / "report.html").read_text()
