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
    assert (found.text, found.pair, found.label) == ("title", None, "other")
    with pytest.raises(DataError, match="no column 'titel'"):
        infer_columns(rows, text="titel")


def test_both_texts_of_a_file_without_a_header_count() -> None:
    rows = [f"{at},two women are {at},they say goodbye,{at % 3}" for at in range(20)]
    found = infer_columns(table("1,2,3,4", *rows))
    assert (found.text, found.pair, found.label) == ("2", "3", "4")
    found = infer_columns(table("1,2,3,4", *(row.replace("they say goodbye", "x") for row in rows)))
    assert (found.text, found.pair, found.label) == ("2", None, "4")


def test_a_column_of_lists_holds_labels() -> None:
    rows = [{"text": f"text {at}", "intents": ["a"] * (at % 2)} for at in range(9)]
    assert infer_columns(Table(Path("a.json"), ("text", "intents"), rows, [1] * 9)).label == "intents"


def test_a_table_without_a_label_column_is_refused() -> None:
    with pytest.raises(DataError, match="no column looks like a label"):
        infer_columns(table("one,two", *(f"text {n},note {n}" for n in range(50))))


def test_the_split_keeps_the_mix_and_is_a_pure_function_of_the_seed() -> None:
    labels = ["a"] * 100 + ["b"] * 20 + ["c"] * 2 + ["d"]
    rest, chosen = split_off(labels, 0.1, seed=3)
    assert sorted(rest + chosen) == list(range(len(labels)))
    assert Counter(labels[index] for index in chosen) == {"a": 10, "b": 2, "c": 1}
    assert (rest, chosen) == split_off(labels, 0.1, seed=3)
    assert chosen != split_off(labels, 0.1, seed=4)[1]


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


def test_a_number_column_is_found_by_its_name_or_its_values() -> None:
    rows = ("1,a b,c d,3,0.5,x", "2,e f,g h,3,4.25,y", "3,i j,k l,4,-1e2,x")
    found = infer_columns(table("id,sentence1,sentence2,words,score,genre", *rows), is_number=True)
    assert (found.text, found.pair, found.label) == ("sentence1", "sentence2", "score")
    assert (
        infer_columns(table("id,sentence1,sentence2,words,gold points,genre", *rows), is_number=True).label
        == "gold points"
    )
    with pytest.raises(DataError, match="number in every row"):
        infer_columns(table("text,score", "a b,1", "c d,two"), is_number=True)


def test_a_column_of_lists_is_a_label() -> None:
    rows = [{"body": f"text number {n}", "tags": ["a"] if n % 2 else ["a", "b"]} for n in range(30)]
    found = infer_columns(Table(Path("a.jsonl"), ("body", "tags"), rows, list(range(30))))
    assert (found.text, found.label) == ("body", "tags")
