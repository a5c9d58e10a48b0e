"""Tables: every value as it is written."""

import csv
import gzip
import io
import json
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from unmask.data.cells import header_hint
from unmask.data.rows import iter_table, read_table
from unmask.errors import DataError

ODD = ["NA", "null", "None", "nan", "001", "1e5", "1.0", "True", "", " x ", "-", "\u5929\u6c14", "#N/A", "inf"]
CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode("utf-8"))
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_odd_values_stay_as_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"table{suffix}"
    if suffix == ".parquet":
        parquet.write_table(pyarrow.table({"text": ODD, "label": ODD}), path)
    elif suffix == ".jsonl":
        write(path, "".join(json.dumps({"text": value, "label": value}) + "\n" for value in ODD))
    else:
        mark = "," if suffix == ".csv" else "\t"
        write(path, "".join(f"{value}{mark}{value}\n" for value in ["text", *ODD]).replace("text", "label", 1))
        path.write_text(path.read_text().replace(f"label{mark}text", f"text{mark}label", 1))
    table = read_table(path)
    assert table.columns == ("text", "label")
    assert [row["text"] for row in table.rows] == [row["label"] for row in table.rows] == ODD


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(
    rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=6),
    mark=st.sampled_from(",;\t"),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_csv_round_trip(tmp_path: Path, rows: list[tuple[str, str]], mark: str, end: str) -> None:
    assume(any(map(str.strip, rows[-1])))  # blank rows at the end are left out
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=mark, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([("text", "label"), *rows])
    table = read_table(write(tmp_path / "table.csv", buffer.getvalue()))
    assert [(row["text"], row["label"]) for row in table.rows] == rows


@pytest.mark.parametrize(
    ("first", "mark"),
    [("sep=,", ","), ("SEP=;", ";"), ("sep=\t", "\t"), ("sep=|", "|"), ('"sep=;"', ";"), ('"sep=,"', ",")],
)
def test_a_first_line_of_excel_names_the_delimiter(tmp_path: Path, first: str, mark: str) -> None:
    rows = ["text", "label"], ["a, b; c", "pos"], ["d", "neg"]
    body = "".join(mark.join(f'"{cell}"' for cell in row) + "\r\n" for row in rows)
    table = read_table(write(tmp_path / "table.csv", f"{first}\r\n{body}"))
    assert table.columns == ("text", "label")
    assert table.rows == [{"text": "a, b; c", "label": "pos"}, {"text": "d", "label": "neg"}]
    assert table.lines == [3, 4]


def test_bars_part_cells_where_the_header_has_nothing_else(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "table.csv", 'id|text|label\n1|one, two; three|pos\n2|"a|b"|neg\n'))
    assert table.columns == ("id", "text", "label")
    assert [row["text"] for row in table.rows] == ["one, two; three", "a|b"]


@pytest.mark.parametrize(
    ("body", "columns"),
    [
        ("text,labels\nx,a|b\ny,b|c\n", ("text", "labels")),
        ("labels|tags,text\na|b,x\nb|c,y\n", ("labels|tags", "text")),
        ('"text|label"\n"x|y"\n', ("text|label",)),
        ("not gross | not flicks\none film\nno bars here\n", ("not gross | not flicks",)),
        ("a|\nb\nc|d\n", ("a|",)),
    ],
)
def test_bars_in_cells_stay_in_them(tmp_path: Path, body: str, columns: tuple[str, ...]) -> None:
    assert read_table(write(tmp_path / "table.csv", body)).columns == columns


def test_lines_count_the_newlines_inside_quotes(tmp_path: Path) -> None:
    path = write(tmp_path / "table.csv", 'text,label\r\n"a\r\nb",1\r\n\r\nc,2\r\n"d ""e""",3\r\n')
    table = read_table(path)
    assert table.rows == [
        {"text": "a\r\nb", "label": "1"},
        {"text": "c", "label": "2"},
        {"text": 'd "e"', "label": "3"},
    ]
    assert table.lines == [2, 5, 6]
    assert table.place(1) == f"{path}:5"


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("text,label", ("text", "label")),
        ("text;label", ("text", "label")),
        ("text\tlabel", ("text", "label")),
        ('"text, long";label', ("text, long", "label")),
        ("text", ("text",)),
        (",text", ("", "text")),
        ("\ufefftext,label", ("text", "label")),
    ],
)
def test_delimiter_is_found_in_the_header(tmp_path: Path, header: str, columns: tuple[str, ...]) -> None:
    mark = next((mark for mark in ";\t," if mark in header), ",")
    path = write(tmp_path / "table.csv", "\n" + header + "\n" + mark.join("x" * len(columns)) + "\n")
    if header.startswith("\ufeff"):
        path.write_bytes(path.read_bytes()[1:])
    table = read_table(path)
    assert table.columns == columns
    assert list(table.rows[0].values()) == ["x"] * len(columns)


def test_tsv_has_no_quotes(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "table.tsv", 'text\tlabel\n"a\t1\n"b"\t"2"\n'))
    assert [list(row.values()) for row in table.rows] == [['"a', "1"], ['"b"', '"2"']]
    assert table.lines == [2, 3]


def test_json_numbers_keep_their_text(tmp_path: Path) -> None:
    line = '{"a": 1.0, "b": 1e5, "c": 12345678901234567890, "d": true, "e": false, "f": -0, "g": NaN, "h": 1.10}\n'
    table = read_table(write(tmp_path / "table.jsonl", "\n" + line))
    assert list(table.rows[0].values()) == ["1.0", "1e5", "12345678901234567890", "true", "false", "-0", "NaN", "1.10"]
    assert table.lines == [2]


def test_json_keys_may_change_their_order(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "table.jsonl", '{"a": "1", "b": "2"}\n{"b": "4", "a": "3"}'))
    assert table.rows == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]


def test_parquet_types(tmp_path: Path) -> None:
    columns = {
        "large": pyarrow.array(["a", "b"], pyarrow.large_string()),
        "dictionary": pyarrow.array(["x", "y"]).dictionary_encode(),
        "int": pyarrow.array([1, -2], pyarrow.int8()),
        "double": pyarrow.array([1.0, 1e22]),
        "single": pyarrow.array(np.array([0.1, 2.0], np.float32)),
        "bool": pyarrow.array([True, False]),
        "decimal": pyarrow.array([Decimal("1.10"), Decimal("2.00")]),
    }
    path = tmp_path / "table.parquet"
    parquet.write_table(pyarrow.table(columns), path)
    table = read_table(path)
    assert list(table.rows[0].values()) == ["a", "x", "1", "1.0", "0.1", "true", "1.10"]
    assert list(table.rows[1].values()) == ["b", "y", "-2", "1e+22", "2.0", "false", "2.00"]
    assert table.place(1) == f"{path}:row 2"


def test_tables_may_be_compressed(tmp_path: Path) -> None:
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(b"text,label\na,1\n"))
    assert read_table(path).rows == [{"text": "a", "label": "1"}]
    assert read_table(path).place(0) == f"{path}:2"


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_named_columns_leave_the_others_unread(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"table{suffix}"
    if suffix == ".parquet":
        parquet.write_table(pyarrow.table({"text": ["a"], "more": pyarrow.array([None], pyarrow.string())}), path)
    else:
        write(path, "more,text\n,a\n" if suffix == ".csv" else '{"more": [1, 2], "text": "a"}\n{"text": "b"}\n')
    assert read_table(path, ["text"]).rows[0] == {"text": "a"}


@pytest.mark.parametrize(
    ("columns", "is_hint"),
    [
        (["text", "label"], False),
        (["", "id"], False),
        (["0", "1"], False),
        (["I loved it.", "pos"], True),
        (["No.", "Is spam?"], False),
        (["a very long name that is surely a sentence", "1"], True),
        (["\u5f88\u597d\u3002", "1"], True),
        (["word", "0.75"], True),
    ],
)
def test_header_hint(columns: list[str], is_hint: bool) -> None:
    assert (header_hint(columns) is not None) == is_hint


def test_a_text_file_has_one_text_a_line(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text('first, "quoted"\n\nthird\tNA\n', "utf-8")
    table = read_table(path)
    assert table.columns == ("text",)
    assert [row["text"] for row in table.rows] == ['first, "quoted"', "third\tNA"]
    assert table.place(1) == f"{path}:3"


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_cells_may_be_lists_of_texts(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"table{suffix}"
    rows = [{"text": "a", "labels": ["x", "y"]}, {"text": "b", "labels": []}, {"text": "c", "labels": [1, 2]}]
    if suffix == ".parquet":
        lists = [[str(one) for one in row["labels"]] for row in rows]
        parquet.write_table(pyarrow.table({"text": ["a", "b", "c"], "labels": lists}), path, row_group_size=2)
    else:
        write(path, "".join(json.dumps(row) + "\n" for row in rows))
    assert [row["labels"] for row in read_table(path).rows] == [["x", "y"], [], ["1", "2"]]


def test_an_array_of_objects_is_a_table(tmp_path: Path) -> None:
    rows = [{"text": "a [1], {2}", "label": "\u00e9"}, {"text": "b\nc", "label": 1.50}]
    for indent in (None, 2):
        path = write(tmp_path / "table.json", "\n " + json.dumps(rows, indent=indent, ensure_ascii=False) + "\n")
        table = read_table(path)
        assert table.rows == [{"text": "a [1], {2}", "label": "\u00e9"}, {"text": "b\nc", "label": "1.5"}]
        assert table.lines == ([2, 2] if indent is None else [3, 7])


def test_columns_that_begin_with_a_null_or_an_object_are_not_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "unmask")
    line = '{"text": "a", "label": 1, "label0": null, "target": {"at": 3}}\n'
    path = write(tmp_path / "table.jsonl", line)
    assert read_table(path).columns == ("text", "label")
    assert "label0, target" in caplog.text
    with pytest.raises(DataError, match="'label' is null"):
        read_table(write(path, line.replace("1", "null")))  # a name that labels have


def test_a_list_may_be_absent(tmp_path: Path) -> None:
    path = write(tmp_path / "table.jsonl", '{"text": "a", "labels": ["x"]}\n{"text": "b"}\n')
    assert read_table(path).rows[1] == {"text": "b", "labels": []}
    with pytest.raises(DataError, match="'labels' is null"):
        read_table(write(path, '{"text": "a", "labels": ["x"]}\n{"text": "b", "labels": null}\n'))


@pytest.mark.parametrize(
    ("name", "text", "columns", "first"),
    [
        ("SMSSpamCollection", "ham\tGo until jurong point, crazy..\nspam\tFree\nham\tOk lar\nham\tYes\n", "1 2", 0),
        ("snli.txt", "two women are\tthe sisters are\t1\na man\ta dog\t1\na\tb\t1\n", "1 2 3", 0),
        ("rows.data", "\u5f88\u597d\u3002\t1\n\u5dee\t0\n", "1 2", 0),
        ("rows.csv", "great film,pos\nbad film,neg\nnice,pos\nawful,neg\n", "1 2", 0),
        ("cola.tsv", "gj04\t1\t\tOur friends won't buy it.\ngj04\t0\t*\tThey hammered it.\n",
         "source label mark sentence", 0),
        ("sts-train.csv", "main-captions\tMSRvid\t2012\t0001\t5.000\t\"A plane\tAn air plane.\n"
                          "main-captions\tMSRvid\t2012\t0004\t3.800\tA man\tA man.\thttp://x\t2007\n",
         "genre file year number score sentence1 sentence2", 0),
        ("TREC.train.all", "0 How did serfdom develop ?\n1 What films featured Popeye ?\n", "label text", 0),
        ("raw", "DESC:manner How did serfdom ?\nENTY:cremat What films ?\n", "label text", 0),
        ("fast.txt", "__label__good a film\n__label__bad another\n", "label text", 0),
        ("mrpc.txt", "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t2\t3\t\"a\tb\n",
         "Quality|#1 ID|#2 ID|#1 String|#2 String", 1),
        ("pandas.csv", "0,1\na text,1\nb text,0\nc text,1\n", "0 1", 1),
        ("texts.txt", "I like it\n3 dogs\n", "text", 0),
        ("names.csv", "text,spam\na,1\nb,1\nspam,1\nspam,0\n", "text spam", 1),
    ],
)  # fmt: skip
def test_headers_are_told_from_rows(tmp_path: Path, name: str, text: str, columns: str, first: int) -> None:
    path = write(tmp_path / name, text)
    table = read_table(path)
    assert table.columns == tuple(columns.split("|") if "|" in columns else columns.split())
    assert table.lines == list(range(1 + first, text.count("\n") + 1))


def test_labels_before_the_text_are_parted_from_it(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.txt", "__label__good a  film\n-1 b\n")
    assert read_table(path).rows == [{"label": "good", "text": "a  film"}, {"label": "-1", "text": "b"}]
    assert read_table(path, ["text"]).rows == [{"text": "__label__good a  film"}, {"text": "-1 b"}]


def test_columns_may_be_named_by_the_user(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.tsv", "text\t1\nb\t0\n")
    assert read_table(path, names=["note", "label"]).rows == [
        {"note": "text", "label": "1"},
        {"note": "b", "label": "0"},
    ]


def test_bad_rows_may_be_rejected(tmp_path: Path) -> None:
    texts = {
        "a.csv": 'text,label\na,1\n"b"c,1\nd\ne,0\n',
        "a.jsonl": '{"text": "a", "label": 1}\n{"text": "b"\n{"text": null, "label": 1}\n{"text": "e", "label": 0}\n',
        "a.json": '[{"text": "a", "label": 1},\n[1],\n{"text": null},\n{"text": "e", "label": 0}]\n',
    }
    for name, text in texts.items():
        errors: list[DataError] = []
        table = read_table(write(tmp_path / name, text), reject=errors.append)
        assert [row["text"] for row in table.rows] == ["a", "e"]
        assert [len(errors), errors[0].details["place"]] == [2, f"{tmp_path / name}:{3 if name == 'a.csv' else 2}"]
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"text": ["a", None, "e"]}), path)
    assert read_table(path, reject=errors.append).lines == [1, 3]


def test_keys_that_the_first_json_row_lacks_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a"}\n{"text": "b", "label": "x"}\n{"text": "c", "label": "y", "note": "n"}\n')
    assert [*read_table(path).rows[1]] == ["text"]
    assert "label (2 rows, first line 2), note (1 rows, first line 3)" in caplog.text
    caplog.clear()
    read_table(path, ["text"])
    assert not caplog.text, "columns were named"


def test_rows_one_by_one_are_those_of_the_table(tmp_path: Path) -> None:
    for name, content in (
        ("rows.jsonl", '{"text": "a", "label": "x"}\n\n{"text": "b", "label": "y"}\n'),
        ("rows.csv", 'text,label\n"a\nb",x\nc,y\n'),
        ("rows.tsv", "text\tlabel\na\tx\nb\ty\n"),
    ):
        path = tmp_path / name
        path.write_text(content)
        table = read_table(path, ["text"])
        wanted = [(table.place(at), row) for at, row in enumerate(table.rows)]
        assert list(iter_table(path, ["text"])) == wanted
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "a"}\n{"text": null}\n')
    rows = iter_table(bad, ["text"])
    assert next(rows) == (f"{bad}:1", {"text": "a"})
    with pytest.raises(DataError) as caught:
        next(rows)
    assert caught.value.details["place"] == f"{bad}:2"


@pytest.mark.parametrize(
    ("first", "given"), [("text,label", "a,b"), (" Sentence,gold", "a,b"), ("words, Mine", "words ,mine")]
)
def test_names_for_a_file_with_a_header_are_refused(tmp_path: Path, first: str, given: str) -> None:
    path = write(tmp_path / "table.csv", f"{first}\na film,pos\nno film,neg\n")
    with pytest.raises(DataError, match="in the first line looks like one") as caught:
        read_table(path, names=given.split(","))
    assert (caught.value.code, caught.value.details["place"]) == ("named-header", f"{path}:1")
    assert "take the line out" not in caught.value.details["fix"]


@pytest.mark.parametrize(
    "rows",
    [
        ["what day is it,date", "and here,place", "and now,date"],
        ["1,label", "2,query"],
        ["This is a row of a text,label", "another one,query"],
        ["text,label"],
        ["stars,words", "a film,pos"],
        ["question,noun", "answer,noun", "foo,verb"],
        ["hello there,Text", "bye,call"],
        ["Text,", "bye,call"],
    ],
)
def test_rows_with_usual_names_in_them_are_no_header(tmp_path: Path, rows: list[str]) -> None:
    table = read_table(write(tmp_path / "table.csv", "\n".join(rows) + "\n"), names=("a", "b"))
    assert len(table.rows) == len(rows)


def test_a_row_with_one_usual_name_is_told_where_names_are_given(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "table.csv", "hello there,Text\nbye,call\n")
    with caplog.at_level("INFO"):
        read_table(path, names=("a", "b"))
    assert f"{path}:1 is read as a row, since names are given; 'Text'" in caplog.text


@pytest.mark.parametrize("header", ["text,label", ""])
def test_blank_rows_at_the_end_are_left_out_and_told(
    tmp_path: Path, header: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "unmask")
    path = write(tmp_path / "table.csv", f"{header}\na,pos\n,\nb,neg\n, \n,,,\n")
    table = read_table(path, names=None if header else ("text", "label"))
    assert [row["text"] for row in table.rows] == ["a", "", "b"]
    assert "table.csv: 2 rows at its end have nothing in any cell" in caplog.text
