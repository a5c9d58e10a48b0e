"""Guessing columns and splitting rows."""

from collections import Counter
from pathlib import Path

import pytest

from unmask.data.infer import infer_columns, split_off
from unmask.data.rows import Table
from unmask.errors import DataError


def table(columns: str, *rows: str) -> Table:
    names = tuple(columns.split(","))
    values = [dict(zip(names, row.split(","), strict=True)) for row in rows]
    return Table(Path("data.csv"), names, values, list(range(2, len(rows) + 2)))


@pytest.mark.parametrize(
    ("columns", "rows", "text", "pair", "label"),
    [
        ("text,label", ("good film,pos", "bad film,neg"), "text", None, "label"),
        ("Review,Sentiment", ("good film,pos", "bad film,neg"), "Review", None, "Sentiment"),
        ("premise,hypothesis,label", ("it rains,it is wet,yes", "it rains,it is dry,no"), "premise", "hypothesis",
         "label"),
        ("id,sentence1,sentence2,label", ("1,a b,c d,0", "2,e f,g h,1"), "sentence1", "sentence2", "label"),
        ("id,utterance,kind", ("1,where is my card,card", "2,I lost my card today,card", "3,what is the rate,rate",
                               "4,tell me the rate,rate"), "utterance", None, "kind"),
    ],
)  # fmt: skip
def test_columns_are_found(columns: str, rows: tuple[str, ...], text: str, pair: str | None, label: str) -> None:
    found = infer_columns(table(columns, *rows))
    assert (found.text, found.pair, found.label) == (text, pair, label)


def test_named_columns_win() -> None:
    rows = table("text,title,label,other", "a b c,d,x,y", "e f g,h,z,w")
    found = infer_columns(rows, text="title", label="other")
    assert (found.text, found.pair, found.label, found.labels) == ("title", None, "other", ("w", "y"))
    with pytest.raises(DataError, match="no column 'titel'"):
        infer_columns(rows, text="titel")


def test_numbers_are_ordered_by_value_and_kept_as_written() -> None:
    found = infer_columns(table("text,label", "a,10", "b,9", "c,-1", "d,007"))
    assert found.labels == ("-1", "007", "9", "10")


def test_a_file_without_a_header_is_refused() -> None:
    rows = [f"{kind},message number {number}" for number in range(20) for kind in ("ham", "spam")]
    with pytest.raises(DataError, match="a row, not a header"):
        infer_columns(table("ham,first message", *rows))


def test_one_class_and_no_label_column_are_refused() -> None:
    with pytest.raises(DataError, match="same label"):
        infer_columns(table("text,label", "a,x", "b,x"))
    with pytest.raises(DataError, match="no column looks like a label"):
        infer_columns(table("one,two", *(f"text {n},note {n}" for n in range(50))))


def test_the_split_keeps_the_mix_and_is_a_pure_function_of_the_seed() -> None:
    labels = ["a"] * 100 + ["b"] * 20 + ["c"] * 2 + ["d"]
    rest, chosen = split_off(labels, 0.1, seed=3)
    assert sorted(rest + chosen) == list(range(len(labels)))
    assert Counter(labels[index] for index in chosen) == {"a": 10, "b": 2, "c": 1}
    assert (rest, chosen) == split_off(labels, 0.1, seed=3)
    assert chosen != split_off(labels, 0.1, seed=4)[1]


def test_labels_that_differ_by_spaces_are_said(caplog: pytest.LogCaptureFixture) -> None:
    assert infer_columns(table("text,label", "a,x", "b, x", "c,y")).labels == (" x", "x", "y")
    assert "differ only by spaces" in caplog.text


def test_a_label_for_nearly_every_row_is_no_class() -> None:
    with pytest.raises(DataError, match="40 different labels"):
        infer_columns(table("text,label", *(f"text {n},{n}.5" for n in range(40))))


@pytest.mark.parametrize("label", ["--5", "5-", "\u0665", "1e5"])
def test_labels_that_only_look_like_numbers_are_names(label: str) -> None:
    assert set(infer_columns(table("text,label", f"a,{label}", "b,2")).labels) == {label, "2"}


def test_a_fold_or_an_id_is_no_label() -> None:
    rows = [f"{n},text number {n},{n % 3},{'yes' if n % 2 else 'no'}" for n in range(30)]
    assert infer_columns(table("id,body,fold,verdict", *rows)).label == "verdict"


def test_rows_of_one_group_stay_together() -> None:
    groups = [None, "a", "a", None, "b", "b", "b", None, "a", "c"]
    rest, held = split_off([""] * 10, 0.4, seed=1, groups=groups)
    assert sorted(rest + held) == list(range(10))
    assert held, "some rows are held out"
    for name in "abc":
        rows = {index for index, group in enumerate(groups) if group == name}
        assert rows <= set(rest) or rows <= set(held)
