"""An exported folder in the place of a model folder: the commands that answer give the same."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests import tiny
from tests.unit.tasks.test_contract import MAKERS
from unmask.cli import main
from unmask.data.rows import Table
from unmask.errors import ArtefactError, DataError, UsageError
from unmask.evaluate import evaluate
from unmask.predict import Predictor
from unmask.study.search import read_cache
from unmask.tasks.base import Task
from unmask.tasks.embedding import Embedding
from unmask.tasks.vector_reader import EmbeddingSettings

pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
from tests.flow.test_light import CASES, NEAR, as_json, chained, same
from unmask.compress.export import export
from unmask.exported import open_exported
from unmask.light import LightPredictor

FAR = 1e-3  # relative: a correlation of answers that hardly differ shows what their last bits are
# What only the network says: how probable a given text is.
BY_NETWORK = {"nats_per_token", "perplexity", "token_accuracy"}


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    return int(caught.value.code or 0)


def table_of(task: Task, path: Path = Path("rows.jsonl")) -> Table:
    rows = tiny.rows_of(task)
    return Table(rows=rows, columns=tuple(rows[0]), path=path, lines=list(range(1, 1 + len(rows))))


@pytest.mark.parametrize("name", CASES)
def test_answers_are_those_of_the_model(name: str, tmp_path: Path) -> None:
    task, rows = CASES[name]
    export(task.eval(), tmp_path / "model")
    predictor = open_exported(tmp_path / "model", threads=1)
    assert type(predictor.task) is type(task)
    assert same(as_json(predictor.predict_rows(rows)), as_json(Predictor(task).predict_rows(rows)))


@pytest.mark.parametrize("make", [*MAKERS.values(), chained], ids=[*MAKERS, "chain"])
def test_scores_are_those_of_the_model(make, tmp_path: Path) -> None:
    task = make().eval()
    export(task, tmp_path / "model")
    wanted = evaluate(Predictor(task), table_of(task)).scores
    found = evaluate(open_exported(tmp_path / "model", threads=1), table_of(task)).scores
    assert wanted.keys() - found.keys() == (BY_NETWORK if task.name == "seq2seq" else set())
    for name, value in found.items():
        if isinstance(value, float):
            assert value == pytest.approx(wanted[name], rel=FAR, abs=NEAR), name


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A model and its export."""
    task = tiny.classifier().eval()
    export(task, tmp_path / "exported")
    return tiny.saved(task, tmp_path / "model"), tmp_path / "exported"


@pytest.mark.parametrize("more", [(), ("--processes", 2)])
def test_the_commands_take_either(
    more: tuple[object, ...], folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"review": row["text"], "label": row["label"]}) + "\n"
                            for row in tiny.rows_of(tiny.classifier())))  # fmt: skip
    answers, scores = [], []
    for folder in folders:
        words = ("--model", folder, "--json", "--threads", 1, "--text-column", "review")
        assert run("predict", "--file", file, *words, *more) == 0
        answers.append([json.loads(line) for line in capsys.readouterr().out.splitlines()])
        assert run("evaluate", file, *words) == 0
        scores.append({name: one for name, one in json.loads(capsys.readouterr().out).items() if name != "seconds"})
    assert same(*answers)
    assert len(answers[0]) == scores[0]["rows"] > 0
    assert same(*scores)
    assert run("compare", *folders, "--file", file, "--text-column", "review", "--json") == 0
    assert json.loads(capsys.readouterr().out)["comparison"]["difference"] == pytest.approx(0, abs=NEAR)


def test_rows_without_a_known_label_are_named(folders: tuple[Path, Path]) -> None:
    rows = [{"text": "a film", "label": "excellent"}]
    with pytest.raises(DataError, match=r"rows\.jsonl:1"):
        evaluate(open_exported(folders[1]), Table(Path("rows.jsonl"), ("text", "label"), rows, [1]))


@pytest.mark.parametrize(
    "asked",
    [{"engine": "native"}, {"precision": "int8"}, {"options": {"top_k": 2}}, {"device": "cuda"}],
    ids=str,
)
def test_what_was_decided_by_the_export_cannot_be_asked_for(
    asked: dict[str, object], folders: tuple[Path, Path]
) -> None:
    open_exported(folders[1], engine="onnx", precision="float32", task="classification", device="cpu", options={})
    with pytest.raises(UsageError, match=f"has the {next(iter(asked))} that it was exported with"):
        open_exported(folders[1], **asked)


def test_vectors_of_single_texts_are_not_scored(tmp_path: Path) -> None:
    task = Embedding(tiny.config(), tiny.tokenizer(), EmbeddingSettings())
    task.init_weights(0)
    export(task.eval(), tmp_path / "model")
    predictor = open_exported(tmp_path / "model", threads=1)
    assert same(as_json(predictor(["a film"])), as_json(Predictor(task)(["a film"])))
    with pytest.raises(UsageError, match="dropout"):
        evaluate(predictor, Table(Path("rows.jsonl"), ("text",), [{"text": "a film"}], [1]))
    with pytest.raises(UsageError, match="dropout"):
        open_exported(tmp_path / "model", is_labelled=True)


@pytest.fixture
def embedders(tmp_path: Path) -> tuple[Path, Path]:
    """A model of sentence vectors and its export."""
    task = Embedding(tiny.config(), tiny.tokenizer(), EmbeddingSettings())
    task.init_weights(0)
    export(task.eval(), tmp_path / "exported")
    return tiny.saved(task, tmp_path / "model"), tmp_path / "exported"


def test_vectors_are_made_and_searched_by_either(
    embedders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("a fine film\n\na dull film\nthe plot\n")
    found, kept = [], tmp_path / "kept.npz"
    for at, folder in enumerate(embedders):
        assert run("embed", file, "--model", folder, "--output", tmp_path / f"{at}.npy", "--threads", 1) == 0
        words = ("--model", folder, "--file", file, "--json", "--threads", 1, "--vectors", kept)
        capsys.readouterr()
        assert run("search", "a film", *words) == 0
        found.append([json.loads(line) for line in capsys.readouterr().out.splitlines()])
    mine, theirs = (np.load(tmp_path / f"{at}.npy") for at in range(2))
    assert mine.any()
    np.testing.assert_allclose(theirs, mine, atol=NEAR)
    assert same(*found)
    key = read_cache(kept)[0]
    (tmp_path / "other").mkdir()
    export(loaded(embedders[0], seed=1), tmp_path / "other/model")
    assert run("search", "a film", "--model", tmp_path / "other/model", *words[2:]) == 0
    assert read_cache(kept)[0] != key, "another graph has other vectors"


def loaded(folder: Path, *, seed: int) -> Embedding:
    """The same model with other weights."""
    task = Predictor.load(folder, engine="torch").task
    assert isinstance(task, Embedding)
    task.init_weights(seed)
    return task.eval()


def test_the_pooling_of_a_graph_cannot_be_changed(embedders: tuple[Path, Path]) -> None:
    layers = Predictor.load(embedders[0]).task.settings.layers
    as_it_is = {"pooling": "mean", "layers": layers, "text_column": "body"}
    assert open_exported(embedders[1], columns=as_it_is).task.text_columns == ("body",)
    with pytest.raises(UsageError, match="unknown setting 'colour'"):
        open_exported(embedders[1], columns={"colour": "red"})
    with pytest.raises(UsageError, match="has the pooling that it was exported with"):
        open_exported(embedders[1], columns={"pooling": "cls"})
    with pytest.raises(UsageError, match="layers"):
        LightPredictor.load(embedders[1], columns={"layers": (0,)})  # type: ignore[dict-item]  # what the flag gives


def test_other_commands_say_what_the_folder_is(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ArtefactError, match="LightPredictor"):
        Predictor.load(folders[1])
    assert run("finetune", "rows.csv", "--model", folders[1], "--output", tmp_path / "run") in (3, 4, 5)
    assert run("average", folders[1], folders[0], "--output", tmp_path / "mean") == 4
    assert "[exported-model]" in capsys.readouterr().err
    assert run("embed", "rows.txt", "--model", folders[1], "--output", tmp_path / "vectors.npy") == 2
    assert "fine-tune with --task embedding" in capsys.readouterr().err
