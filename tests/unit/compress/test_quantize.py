"""A folder is written with its certificate or not at all, and `unmask verify` checks what was certified."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests import tiny
from tests.unit.test_certify import sure, table, with_outlier
from unmask.cli import app
from unmask.compress.quantize import quantize
from unmask.errors import ArtefactError, NumericError, UsageError
from unmask.golden import make_golden, verify
from unmask.predict import Predictor
from unmask.storage import read_json


@pytest.fixture(autouse=True)
def threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_the_command_writes_a_folder_that_is_computed_so_and_verified_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = with_outlier()
    folder = tiny.saved(task, tmp_path / "model", golden=make_golden(task))
    rows = table(task).rows
    (tmp_path / "dev.jsonl").write_text(
        "".join(json.dumps({"review": row["text"], "label": row["label"]}) + "\n" for row in rows)
    )
    words = ["quantize", folder, "--dev", tmp_path / "dev.jsonl", "--output", tmp_path / "small"]
    words += ["--text-column", "review", "--max-drop", 5, "--threads", 1]
    app([str(word) for word in words], exit_on_error=False, print_error=False, result_action="return_value")
    assert "kept more exact: 1.down" in capsys.readouterr().out

    small = tmp_path / "small"
    one = read_json(small / "unmask.json")["meta"]["engine"]["int8"]
    assert (one["metric"], one["exact_score"], one["rows"], list(one["keep"])) == ("accuracy", 1.0, 128, ["1.down"])
    predictor = Predictor.load(small, precision="int8", threads=1)
    assert predictor.engine is not None
    assert predictor.engine.keep == one["keep"]
    assert predictor.task.text_columns == ("text",), "the column of the dev rows was for this once"
    found = verify(small)
    assert found["difference"] <= 1e-6
    assert found["precisions"].keys() == {"int8"}
    assert "## Precisions" in (small / "README.md").read_text()
    weights = load_file(folder / "model.safetensors")
    assert all(torch.equal(value, weights[name]) for name, value in load_file(small / "model.safetensors").items())


def test_nothing_is_written_where_too_much_is_lost(tmp_path: Path) -> None:
    task = with_outlier()
    folder = tiny.saved(task, tmp_path / "model")
    with pytest.raises(NumericError, match="even with 7 products kept") as caught:
        quantize(folder, task, table(task), tmp_path / "small", max_drop=-1, engine="torch", threads=1)
    assert caught.value.code == "too-inexact"
    assert "--max-drop" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_second_precision_joins_the_first(tmp_path: Path) -> None:
    task = sure()
    first, second = tmp_path / "first", tmp_path / "second"
    folder = tiny.saved(task, tmp_path / "model", golden=make_golden(task))
    for before, after, precision in ((folder, first, "bfloat16"), (first, second, "int8")):
        quantize(before, task, table(task), after, precision=precision, max_drop=20, engine="torch", threads=1)
    assert read_json(second / "unmask.json")["meta"]["engine"].keys() == {"bfloat16", "int8"}
    assert verify(second)["precisions"].keys() == {"bfloat16", "int8"}
    card = (second / "README.md").read_text()
    assert card.count("## Precisions") == 1
    assert "* bfloat16: accuracy" in card
    assert "* int8: accuracy" in card


def test_a_certificate_that_no_longer_fits_is_found(tmp_path: Path) -> None:
    task = sure()
    folder = tiny.saved(task, tmp_path / "model", golden=make_golden(task))
    quantize(folder, task, table(task), tmp_path / "small", max_drop=20, engine="torch", threads=1)
    golden = read_json(tmp_path / "small" / "golden.json")
    golden["precisions"]["int8"]["texts"][0]["logits"][0] += 10
    forged = tiny.saved(task, tmp_path / "forged", golden=golden)
    with pytest.raises(ArtefactError, match="logits in int8 differ"):
        verify(forged)


def test_other_outputs_and_tasks_are_refused(tmp_path: Path) -> None:
    task = sure()
    folder = tiny.saved(task, tmp_path / "model")
    with pytest.raises(UsageError, match="exists already"):
        quantize(folder, task, table(task), folder)
    other = tiny.embedder()
    with pytest.raises(UsageError, match="made for 'classification'"):
        quantize(folder, other, table(task), tmp_path / "small")
