"""The classes in a column: one a row or several, their order, their doubles and the advice about rare ones."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from unmask.data.classes import Classes, find_classes, labels_in, nearest, number_in, quoted
from unmask.data.rows import Table
from unmask.errors import DataError


def column(cells: Sequence[str | list[str]]) -> Table:
    rows = [{"text": f"text {at}", "label": cell} for at, cell in enumerate(cells)]
    return Table(Path("data.csv"), ("text", "label"), rows, list(range(2, len(rows) + 2)))


def found(*cells: str | list[str], **options: object) -> Classes:
    return find_classes(column(cells), "label", **options)  # type: ignore[arg-type]


def test_numbers_are_ordered_by_value_and_kept_as_written() -> None:
    assert found("10", "9", "-1", "007").labels == ("-1", "007", "9", "10")


@pytest.mark.parametrize("label", ["--5", "5-", "\u0665", "1e5"])
def test_labels_that_only_look_like_numbers_are_names(label: str) -> None:
    assert set(found(label, "2").labels) == {label, "2"}


@pytest.mark.parametrize(("one", "other"), [("x", " x"), ("Spam", "spam"), ("1", "1.0"), ("1", "01"), ("True", "true")])
def test_labels_that_are_nearly_the_same_are_told(one: str, other: str, caplog: pytest.LogCaptureFixture) -> None:
    assert set(found(one, other, "y").labels) == {one, other, "y"}
    by = "case" if one.casefold() == other.casefold() else "spaces, case or zeros"
    assert f"differ only by {by} are" in caplog.text
    assert repr(one) in caplog.text
    assert repr(other) in caplog.text


def test_all_groups_of_such_labels_are_told(caplog: pytest.LogCaptureFixture) -> None:
    found("x", " x", "x ", "y", "Y")
    assert "' x', 'x', 'x '; write each in one way" in caplog.text
    assert "'Y', 'y'" in caplog.text


def test_an_empty_cell_is_no_class() -> None:
    assert found("x", "", "y", " ").labels == ("x", "y")
    assert found("x", "", "y", " ", "y", "y").shares == (0.25, 0.75)


@pytest.mark.parametrize(
    ("cells", "hint"),
    [
        (("a; b", "b; c", "c; a", "a; b; c"), "--options.label_separator ';' parts them"),
        (("a, b", "b", "a"), "--options.label_separator ',' parts them"),
        (("1,5", "2,0", "2"), "look like numbers with a decimal comma"),
        (("York, NY", "Troy, NY", "Rome"), None),
        (("n/a", "yes", "no"), None),
        (("1,5", "two"), None),
    ],
)
def test_labels_that_may_be_no_classes_are_told(cells: tuple[str, ...], hint: str | None) -> None:
    told = found(*cells).advice()
    assert (hint is None) == (not any("column 'label'" in line for line in told))
    assert hint is None or any(hint in line for line in told)


def test_too_many_labels_of_several_words_get_the_hint_as_a_remedy() -> None:
    with pytest.raises(DataError, match=r"--options\.label_separator ';'"):
        found(*(f"a{n % 6}; b{n // 6}" for n in range(30)))


def test_labels_are_shown_in_quotes_where_these_are_needed() -> None:
    assert [*map(quoted, ["x", "x y", " x", "x ", "", "1,5"])] == ["x", "x y", "' x'", "'x '", "''", "'1,5'"]


def test_different_labels_are_not_told(caplog: pytest.LogCaptureFixture) -> None:
    found("1", "2", "-1", "true", "false", "10")
    assert not caplog.text


def test_ds12_a_single_class_is_refused() -> None:
    with pytest.raises(DataError, match="same label"):
        found("x", "x")
    with pytest.raises(DataError, match="same label"):
        found("a|b", "b|a", multi_label=True)


def test_a_label_for_nearly_every_row_is_no_class() -> None:
    with pytest.raises(DataError, match="40 different labels"):
        found(*(f"{n}.5" for n in range(40)))


@pytest.mark.parametrize(
    ("cells", "labels", "is_multi"),
    [
        (("a|b", "b", "c"), ("a", "b", "c"), True),
        (("b | a", "a|c|a", ""), ("a", "b", "c"), True),
        ((["a", "b"], ["c"], []), ("a", "b", "c"), True),
        (("a|b", "c", "c"), ("a|b", "c"), False),
        (("a|b", "a|b", "c|d"), ("a|b", "c|d"), False),
        (("a", "b"), ("a", "b"), False),
    ],
)
def test_ds12_several_labels_are_seen_in_the_cells(
    cells: tuple[str | list[str], ...], labels: tuple[str, ...], is_multi: bool
) -> None:
    classes = found(*cells)
    assert (classes.labels, classes.is_multi_label) == (labels, is_multi)


def test_the_user_says_whether_there_are_several_and_what_parts_them() -> None:
    assert found("a|b", "b", multi_label=False).labels == ("a|b", "b")
    assert found("a|b", "c", multi_label=True).labels == ("a", "b", "c")
    assert found("a;b", "b", separator=";").labels == ("a", "b")


def test_labels_of_a_cell_are_stripped_and_stand_once() -> None:
    assert labels_in(" a | b||a", "|") == ["a", "b"]
    assert labels_in(["a|b", "c", ""], "|") == ["a|b", "c"]


def test_shares_count_rows() -> None:
    classes = found("a|b", "a", "", "b|c")
    assert dict(zip(classes.labels, classes.shares, strict=True)) == {"a": 0.5, "b": 0.5, "c": 0.25}


def test_ds12_rare_classes_are_told_with_advice() -> None:
    assert found("a", "a", "b", "b").advice() == []
    uneven = found(*["ham"] * 100, *["spam"] * 3).advice()
    assert len(uneven) == 1
    assert "'ham' has 100 rows, 'spam' 3" in uneven[0]
    assert "class_weights balanced" in uneven[0]
    hard = found(*["no"] * 10_000, "yes").advice()
    assert ["1 to 10,000" in line for line in hard] == [False, True, False]
    assert "1 of the classes have one row each ('yes')" in hard[2]


@pytest.mark.parametrize(
    ("text", "number"),
    [("1", 1.0), (" -2.50 ", -2.5), (".5", 0.5), ("1e3", 1000.0), ("1.", 1.0), ("nan", None), ("inf", None),
     ("1_0", None), ("0x1", None), ("\u0665", None), ("", None), ("1 2", None)],
)  # fmt: skip
def test_numbers_in_texts(text: str, number: float | None) -> None:
    assert number_in(text) == number


def test_the_nearest_class_is_the_same_number_or_word() -> None:
    assert nearest("1.0", ["0", "1"]) == "1"
    assert nearest(" TRUE", ["false", "true"]) == "true"
    assert nearest("2", ["0", "1"]) is None
