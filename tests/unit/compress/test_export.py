"""Exporting a model: the proof beside it, the gate, what is refused; and each task's head in the graph."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import tiny
from tests.unit.tasks.test_contract import MAKERS
from unmask import storage
from unmask.data.rows import Table
from unmask.engine.onnx_run import Runner
from unmask.errors import NumericError, UsageError
from unmask.model.heads import TaskHead
from unmask.predict import Predictor
from unmask.tasks.base import Task
from unmask.tasks.class_reader import ClassificationSettings
from unmask.tasks.classification import Classification
from unmask.tasks.text_reader import TextPrediction

pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
from unmask.cli import main
from unmask.compress import export as exporting
from unmask.compress.export import export
from unmask.engine.onnx_decoder import PRODUCTS
from unmask.engine.onnx_heads import task_graph
from unmask.light import LightPredictor

EXACT = 1e-5


def dev_rows(task: Task) -> Table:
    rows = tiny.rows_of(task)
    return Table(rows=rows, columns=tuple(rows[0]), path=Path("dev.csv"), lines=list(range(2, 2 + len(rows))))


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_a_head_in_the_graph_gives_the_logits_of_the_network(name: str) -> None:
    task = MAKERS[name]().eval()
    rows = tiny.rows_of(task)
    if name == "masked_lm":
        rows = [{"text": f"{row['text']} {task.tokenizer.mask_token}"} for row in rows]
    one = task.encode(rows)[0]
    found = task.reader.logits(Runner(task_graph(task, "float32"), 1), [one])
    with torch.inference_mode():
        wanted = task(task.collate([one])).numpy()
    if name == "tagging":  # every token, of which the task takes those that decide a word
        found = found[0, one.pieces[:, 0]]
    np.testing.assert_allclose(found.reshape(wanted.shape), wanted, atol=EXACT)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_vectors_of_several_layers(pooling: str) -> None:
    task = tiny.embedder().eval()
    task.settings = task.settings.model_copy(update={"layers": (0, 1, -1), "pooling": pooling})
    one = task.encode([{"text": "a fine film"}])[0]
    feeds = {"input_ids": np.zeros((1, 20), np.int64), "attention_mask": np.zeros((1, 20), np.int64)}
    feeds["input_ids"][0, : len(one)], feeds["attention_mask"][0, : len(one)] = one.input_ids, 1
    with torch.inference_mode():
        wanted = task(task.collate([one])).numpy()
    np.testing.assert_allclose(Runner(task_graph(task, "float32"), 1)(feeds)[0], wanted, atol=EXACT)


def test_heads_that_are_not_written_are_named(tmp_path: Path) -> None:
    task = tiny.classifier()
    task.head = TaskHead(task.config)
    with pytest.raises(UsageError, match="the head of this 'classification'"):
        task_graph(task, "float32")
    task.name = "mine"
    with pytest.raises(UsageError, match="'mine' is not exported yet"):
        export(task, tmp_path / "out")
    with pytest.raises(UsageError, match="no exported 'bfloat16'"):
        export(tiny.classifier(), tmp_path / "out", precision="bfloat16")
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="exists already"):
        export(tiny.classifier(), tmp_path / "out")


def test_the_proof_stands_beside_the_graph(tmp_path: Path) -> None:
    task = tiny.classifier().eval()
    made = export(task, tmp_path / "out", precision="int8", dev=dev_rows(task))
    storage.verify(tmp_path / "out")
    golden = json.loads((tmp_path / "out" / "golden.json").read_text())
    rows = golden["exported"].pop("rows")
    assert [len(one["numbers"]) for one in rows] == [2, 2, 2]
    assert [one["row"]["text"] for one in rows] == [one["text"] for one in golden["texts"]]
    assert golden["exported"] == {"max_difference": made.difference, "cosine": made.cosine, "precision": "int8"}
    assert 0 < made.difference < 1e-3
    assert made.size_bytes == (tmp_path / "out" / "model.onnx").stat().st_size
    assert len(golden["texts"][0]["logits"]) == 2


def test_pieces_that_have_changed_places_are_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their shares are next to nothing beside that of a sure piece: the logits of all pieces are compared."""
    task, other = tiny.masked_lm().eval(), tiny.masked_lm().eval()
    sure, first, second = task.tokenizer.text_ids[:3]
    with torch.no_grad():
        for one, (low, lower) in ((task, (first, second)), (other, (second, first))):
            one.head.bias[sure], one.head.bias[low], one.head.bias[lower] = 12.0, -3.0, -9.0
    monkeypatch.setattr(exporting, "task_graph", lambda _, *rest, **more: task_graph(other, *rest, **more))
    with pytest.raises(NumericError, match="nothing was written"):
        export(task, tmp_path / "out")


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_graph_that_says_something_else_is_not_written(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, other = tiny.classifier().eval(), tiny.classifier()
    other.init_weights(7)
    monkeypatch.setattr(exporting, "task_graph", lambda task, *rest, **more: task_graph(other, *rest, **more))
    with pytest.raises(NumericError, match="nothing was written"):
        export(task, tmp_path / "out", precision=precision, dev=dev_rows(task))
    assert not (tmp_path / "out").exists()


def test_int8_is_measured_on_dev_rows(tmp_path: Path) -> None:
    task = tiny.classifier().eval()
    with pytest.raises(UsageError, match="not known without labelled rows"):
        export(task, tmp_path / "out", precision="int8")
    made = export(task, tmp_path / "out", precision="int8", dev=dev_rows(task))
    assert made.certificate is not None
    assert made.certificate.is_passed
    note = json.loads((tmp_path / "out" / "unmask.json").read_text())
    assert note["meta"]["engine"]["int8"]["metric"] == "accuracy"
    assert "accuracy" in str(made)


def writer_of_its_own_words() -> tuple[Task, Table]:
    """A writer, and dev rows whose targets are what it writes, so that each other text is a loss."""
    task = tiny.seq2seq(num_decoder_layers=2, dev_texts=None).eval()
    rows = [{**row, "target": said.text} for row, said in zip(dev_rows(task).rows, written(task), strict=True)]
    return task, replace(dev_rows(task), rows=rows)


def written(task: Task) -> list[TextPrediction]:
    return Predictor(task).predict_rows(tiny.rows_of(task))


def test_a_decoder_that_loses_nothing_is_in_int8(tmp_path: Path) -> None:
    task, dev = writer_of_its_own_words()
    made = export(task, tmp_path / "out", precision="int8", dev=dev, max_drop=100)
    assert made.certificate is not None
    assert made.certificate.keep == {}
    assert made.size_bytes == len(task_graph(task, "int8"))
    steps = [len(task_graph(task, "int8", keep={f"decoder.1.{name}": "float32"})) for name in PRODUCTS]
    assert min(steps) > made.size_bytes, "each of these products is in int8"


def test_the_product_of_a_decoder_that_int8_spoils_stays_in_float32(tmp_path: Path) -> None:
    """One input that no weight reads, and that is so large that int8 has no steps left for the others."""
    task, _ = writer_of_its_own_words()
    layer = task.head.layers[1]
    with torch.no_grad():
        layer.up.bias[0] = 1e6
        layer.down.weight[:, 0] = 0
        layer.down.weight[:, 1:] *= 50
    rows = [{**row, "target": said.text} for row, said in zip(dev_rows(task).rows, written(task), strict=True)]
    made = export(task, tmp_path / "out", precision="int8", dev=replace(dev_rows(task), rows=rows), max_drop=30)
    assert made.certificate is not None
    kept = list(made.certificate.keep)
    assert kept[0] == "decoder.1.down", "82 of 100 are lost without it"
    assert len(kept) <= 2
    with_fewer = task_graph(task, "int8", keep=dict.fromkeys(kept[:-1], "float32"))
    said = LightPredictor(task.reader, Runner(with_fewer, 1)).predict_rows(rows)
    assert 100 - task.score(said, rows)["chrf"] > 30, "all of these are needed"
    light = LightPredictor.load(tmp_path / "out", threads=1)
    assert made.certificate.score == task.score(light.predict_rows(rows), rows)["chrf"]
    golden = json.loads((tmp_path / "out" / "golden.json").read_text())
    assert golden["exported"]["cosine"] == made.certificate.cosine


def test_a_writer_that_float32_does_not_save_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, dev = writer_of_its_own_words()
    asked: list[set[str]] = []

    def graph_of_another(_: Task, precision: str, *, keep: dict[str, str]) -> bytes:
        asked.append(set(keep))
        other = tiny.seq2seq(num_decoder_layers=2)
        other.init_weights(7)
        return task_graph(other, precision, keep=keep)

    monkeypatch.setattr(exporting, "task_graph", graph_of_another)
    with pytest.raises(NumericError, match="loses"):
        export(task, tmp_path / "out", precision="int8", dev=dev)
    assert [len(one) for one in asked] == [0, 14]
    assert not (tmp_path / "out").exists()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tiny.saved(tiny.classifier(), tmp_path / "model")
    (tmp_path / "dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in tiny.rows_of(tiny.classifier())))
    command = ["export", str(folder), "--output", str(tmp_path / "out"), "--precision", "int8"]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--dev", str(tmp_path / "dev.jsonl")])
    assert ended.value.code == 0
    assert "int8" in capsys.readouterr().out
    assert (tmp_path / "out" / "MANIFEST.json").is_file()


def test_the_command_takes_another_task(tmp_path: Path) -> None:
    """An inference model as a classifier of classes that it has never seen."""
    labels = ("contradiction", "neutral", "entailment")
    settings = ClassificationSettings(labels=labels, text_column="premise", pair_column="hypothesis")
    task = Classification(tiny.config(), tiny.tokenizer(), settings)
    task.init_weights(0)
    folder = tiny.saved(task, tmp_path / "nli")
    command = ["export", str(folder), "--output", str(tmp_path / "out"), "--task", "zero_shot", "--labels", "a,b,c"]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--options.template", "About {}."])
    assert ended.value.code == 0
    (answer,) = LightPredictor.load(tmp_path / "out", threads=1)(["a film"])
    options = {"candidate_labels": "a,b,c", "template": "About {}."}
    (wanted,) = Predictor.load(folder, task="zero_shot", options=options, engine="torch")(["a film"])
    assert answer.scores == pytest.approx(wanted.scores, abs=EXACT)


def test_the_command_names_columns_of_a_file_without_a_header(tmp_path: Path) -> None:
    folder = tiny.saved(tiny.classifier(), tmp_path / "model")
    rows = tiny.rows_of(tiny.classifier())
    (tmp_path / "dev.tsv").write_text("".join(f"{at}\t{row['label']}\t{row['text']}\n" for at, row in enumerate(rows)))
    command = ["export", str(folder), "--output", str(tmp_path / "out"), "--precision", "int8", "--max-drop", "100"]
    command += ["--dev", str(tmp_path / "dev.tsv"), "--columns", "n,gold,body"]
    with pytest.raises(SystemExit) as caught:
        main([*command, "--text-column", "body", "--label-column", "gold"])
    assert caught.value.code == 0
    assert LightPredictor.load(tmp_path / "out", threads=1).reader.text_columns == ("body",)
