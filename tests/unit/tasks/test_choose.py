"""The task that a file is for."""

from pathlib import Path

import pytest

from unmask.data.rows import Form, Table
from unmask.tasks import choose
from unmask.tasks.choose import choose as choose_task

ALL = ("classification", "regression", "tagging", "span_qa", "multiple_choice", "embedding", "seq2seq")


@pytest.fixture(autouse=True)
def every_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "TASKS", dict.fromkeys(ALL, ""))


def table(columns: str, *rows: list[object], form: Form = "table") -> Table:
    names = tuple(columns.split())
    return Table(Path("a.csv"), names, [dict(zip(names, row, strict=True)) for row in rows], [1] * len(rows), form)


@pytest.mark.parametrize(
    ("form", "task"), [("tagged", "tagging"), ("questions", "span_qa"), ("choices", "multiple_choice")]
)
def test_form_decides(form: Form, task: str) -> None:
    assert choose_task(table("text", ["a"], form=form), {}) == task


NUMBERS = [[f"text {at}", str(at / 10)] for at in range(30)]
TEXTS = [[f"text {at}", f"short {at}"] for at in range(30)]


@pytest.mark.parametrize(
    ("columns", "rows", "task"),
    [
        ("text label", [["a", "x"], ["b", "y"]], "classification"),
        ("anchor positive", TEXTS, "embedding"),
        ("sent0 sent1 hard_neg", [["a", "b", "c"]], "embedding"),
        ("Anchor positive negative", [["a", "b", "c"]], "embedding"),
        ("sentence1 score", NUMBERS, "regression"),
        ("sentence1 score", NUMBERS[:3], "regression"),
        ("text label", NUMBERS, "regression"),
        ("text label", [["a", "0.0"], ["b", "1.0"]], "classification"),
        ("text label", [[f"text {at}", str(at)] for at in range(30)], "classification"),
        ("text rating", [["a", "1"], ["b", "5"]], "classification"),
        ("text label", [*NUMBERS, ["a", "nan"]], "classification"),
        ("source target", TEXTS, "seq2seq"),
        ("title Text", TEXTS, "seq2seq"),
        ("title text label", [[*row, "x"] for row in TEXTS], "classification"),
        ("source target", [["a", "x"], ["b", "y"]] * 9, "classification"),
        ("1 2", TEXTS, "seq2seq"),
        ("en zh", TEXTS, "seq2seq"),
        ("1 2", [["a", "x"], ["b", "y"]] * 9, "classification"),
        ("1 2 3", [[*row, "x"] for row in TEXTS], "classification"),
        ("text label", [["a", ["x", "y"]], ["b", ["y"]]], "classification"),
        ("text label", [["a", "x|y"], ["b", "y"]], "classification"),
    ],
)
def test_columns_and_values_decide(columns: str, rows: list[list[object]], task: str) -> None:
    assert choose_task(table(columns, *rows), {}) == task


def test_texts_alone_are_told_from_each_other() -> None:
    texts = table("text", ["a"], ["b"])
    assert choose_task(texts, {}) == "classification"
    assert choose_task(Table(Path("a.txt"), texts.columns, texts.rows, texts.lines), {}) == "embedding"


def test_a_named_label_decides() -> None:
    rows = [[f"text {at}", f"short {at}", str(at / 10)] for at in range(30)]
    assert choose_task(table("source target mark", *rows), {}) == "seq2seq"
    assert choose_task(table("source target mark", *rows), {"label_column": "mark"}) == "regression"
    assert choose_task(table("source target mark", *rows), {"label_column": "target"}) == "classification"


def test_only_tasks_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "TASKS", {"classification": ""})
    assert choose_task(table("text", ["a"], form="tagged"), {}) == "classification"
