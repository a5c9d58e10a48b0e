"""Comparing two models: the same rows, the fast scorer like the slow one, and errors that say what is wrong."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import tiny
from unmask.cli import main
from unmask.data.recognise import read_rows
from unmask.data.rows import Table
from unmask.errors import DataError, UsageError
from unmask.predict import Predictor
from unmask.runtime import machine
from unmask.study.compare import Compared, compare
from unmask.tasks.base import Task
from unmask.tasks.class_reader import ClassificationSettings
from unmask.tasks.classification import Classification
from unmask.tasks.tagging import Tagging
from unmask.train.fit import Trainer
from unmask.train.settings import OptimSettings


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A model from random weights, one that has learned, and labelled rows."""
    folder = tmp_path_factory.mktemp("compare")
    fresh, taught = tiny.classifier(), tiny.classifier()
    rows = tiny.rows_of(taught)
    batch = taught.collate(taught.encode(rows, is_training=True))
    trainer = Trainer(taught, OptimSettings(lr=5e-3), max_steps=40, machine=machine("float32", "cpu"), seed=0)
    list(trainer.fit([batch] for _ in range(40)))
    file = folder / "rows.tsv"
    lines = [f"{row['text']}\t{row['label']}" for row in rows * 5]
    file.write_text("\n".join(["text\tlabel", *lines]) + "\n")
    return tiny.saved(fresh, folder / "fresh"), tiny.saved(taught, folder / "run" / "model").parent, file


def compared(first: Path, second: Path, file: Path, **options: Any) -> Compared:
    predictors = Predictor.load(first), Predictor.load(second)
    return compare(predictors, (read_rows(file), read_rows(file)), **options)


def answers(folder: Path, rows: list[dict[str, str]]) -> list[bool]:
    return [one.label == row["label"] for one, row in zip(Predictor.load(folder).predict_rows(rows), rows, strict=True)]


def test_the_taught_model_is_better_and_the_rows_say_where(folders: tuple[Path, Path, Path]) -> None:
    first, second, file = folders
    found = compared(first, second, file, resamples=300)
    rows = tiny.rows_of(tiny.classifier()) * 5
    right = answers(first, rows), answers(second / "model", rows)
    assert found.metric == "accuracy"
    assert found.scores["accuracy"] == (np.mean(right[0]), np.mean(right[1])) != (1.0, 1.0)
    assert found.comparison.is_significant
    assert found.counts == (0, right[0].count(False))
    assert [one.place for one in found.differences] == [
        f"{file}:{at + 2}" for at, (a, b) in enumerate(zip(*right, strict=True)) if a != b
    ]


def test_a_score_of_many_rows_is_drawn_anew(folders: tuple[Path, Path, Path]) -> None:
    first, second, file = folders
    found = compared(first, second, file, metric="macro_f1", resamples=20).comparison
    assert found.second == 1.0
    assert found.interval[0] > 0


def test_the_general_way_agrees_with_the_fast_one(
    folders: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = compared(*folders, resamples=20).comparison
    monkeypatch.setattr(Classification, "row_scores", lambda self, predictions, rows: None)
    assert compared(*folders, resamples=20).comparison == fast


def test_all_draws_are_made_of_a_score_that_is_no_mean(folders: tuple[Path, Path, Path]) -> None:
    found = compared(*folders, metric="mcc", resamples=400).comparison
    assert found.p_value == 1 / 401


def test_the_f1_of_all_rows_agrees_with_the_task_that_scores_each_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh, taught = tiny.tagger(), tiny.tagger()
    taught.init_weights(1)
    table = Table(Path("rows"), ["text"], tiny.rows_of(fresh) * 2, list(range(1, 17)))
    predictors, tables = (Predictor(fresh), Predictor(taught)), (table, table)
    fast = compare(predictors, tables, resamples=30)
    assert fast.metric == "f1"
    assert fast.comparison.interval[0] < fast.comparison.interval[1]
    monkeypatch.setattr(Tagging, "row_counts", Task.row_counts)
    assert compare(predictors, tables, resamples=30).comparison == fast.comparison


def test_what_cannot_be_compared_is_said(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    first, _, file = folders
    with pytest.raises(UsageError, match="no score 'acuracy'"):
        compared(first, first, file, metric="acuracy")
    settings = ClassificationSettings(labels=("dull", "fine"))
    other = tiny.saved(Classification(tiny.config(), tiny.tokenizer(), settings), tmp_path / "dull")
    with pytest.raises(DataError, match=r"the second model .* none of the model's classes"):
        compared(first, other, file)
    with pytest.raises(UsageError, match="the second for masked_lm"):
        compared(first, tiny.saved(tiny.masked_lm(), tmp_path / "other"), file)


def test_the_command_prints_the_difference(
    folders: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, file = folders
    with pytest.raises(SystemExit) as ended:
        main(["compare", str(first), str(second), "--file", str(file), "--resamples", "50"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert "more than chance" in told
    assert f"{file}:2" in told


def test_columns_may_have_other_names_in_the_file(
    folders: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, file = folders
    renamed = tmp_path / "renamed.tsv"
    renamed.write_text(file.read_text().replace("text\tlabel", "review\tgrade"))
    named = ["--text-column", "review", "--label-column", "grade"]
    told = []
    for where, more in ((file, []), (renamed, named)):
        with pytest.raises(SystemExit) as ended:
            main(["compare", str(first), str(second), "--file", str(where), "--resamples", "50", "--json", *more])
        assert ended.value.code == 0
        told.append(json.loads(capsys.readouterr().out))
    assert told[0]["comparison"] == told[1]["comparison"]


def test_the_model_whose_column_is_missing_is_named(
    folders: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, _, file = folders
    settings = ClassificationSettings(labels=("bad", "good"), label_column="tags")
    other = tiny.saved(Classification(tiny.config(), tiny.tokenizer(), settings), tmp_path / "tags")
    with pytest.raises(SystemExit) as ended:
        main(["compare", str(first), str(other), "--file", str(file)])
    assert ended.value.code == 3
    assert "the second model cannot be scored on this file: there is no column 'tags'" in capsys.readouterr().err
