"""Rows that are wrong: each is named with its line, and on request left out and listed (matrix rows DS1-DS7, DS12)."""

import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from tests import tiny
from unmask.cli import main
from unmask.data.rejects import Rejects
from unmask.data.rows import Table, read_table
from unmask.errors import DataError, UsageError
from unmask.tasks.class_reader import ClassificationSettings
from unmask.tasks.classification import Classification
from unmask.tasks.sound import checker, filled_rows, sound_rows
from unmask.train.job import read_job

GOOD = [("good film", "pos"), ("bad film", "neg"), ("fine actors", "pos"), ("dull and long", "neg")] * 2


def write(path: Path, rows: list[tuple[str, ...]], header: str = "text\tlabel") -> Path:
    path.write_text("".join("\t".join(row) + "\n" for row in [tuple(header.split("\t")), *rows]), "utf-8")
    return path


def classifier() -> Classification:
    options = ClassificationSettings(labels=("neg", "pos"), text_column="text", label_column="label")
    return Classification(tiny.config(), tiny.tokenizer(), options)


def encode_all(file: Path, dev: Path | None, data: dict[str, Any]) -> None:
    job, _ = read_job(file, dev=dev, given=({"data": data},))
    task = checker(job.kind, job.options, None, job.train)
    for table in (job.train, job.dev):
        assert table is not None
        task.encode(table.rows, place=table.place, is_training=True)


def error_of(file: Path, dev: Path | None = None, **data: Any) -> DataError:
    with pytest.raises(DataError) as caught:
        encode_all(file, dev, data)
    return caught.value


def test_a_label_that_only_dev_has(tmp_path: Path) -> None:
    dev = write(tmp_path / "dev.tsv", [("so so", "pos"), ("lovely", "Pos "), ("well", "posative")])
    error = error_of(write(tmp_path / "train.tsv", GOOD), dev)
    assert (error.code, error.details["place"]) == ("unknown-label", f"{dev}:3")
    assert "did you mean 'pos'?" in str(error)


def test_an_input_longer_than_the_models_is_refused(tmp_path: Path) -> None:
    train = write(tmp_path / "train.tsv", GOOD)
    most = tiny.config().max_length
    model = tiny.saved(tiny.masked_lm(), tmp_path / "model")
    with pytest.raises(UsageError, match=f"the model takes {most} tokens") as caught:
        read_job(train, model=model, given=({"data": {"max_length": most + 1}},))
    assert (caught.value.code, caught.value.details["value"]) == ("max-length", most + 1)
    with pytest.raises(UsageError, match="the model takes 64 tokens") as caught:
        read_job(train, given=({"options": {"max_length": 65}, "model": {"max_length": 64}},))
    assert "--model.max-length 65" in str(caught.value)
    read_job(train, model=model, given=({"data": {"max_length": most}},))


@pytest.mark.parametrize("label", ["7", "-1", "0.5", "true", "01"])
def test_a_number_that_is_no_class(tmp_path: Path, label: str) -> None:
    rows = [(text, str(at % 2)) for at, (text, _) in enumerate(GOOD)]
    error = error_of(write(tmp_path / "train.tsv", rows), write(tmp_path / "dev.tsv", [("a b", "1"), ("c d", label)]))
    assert error.code == "unknown-label"
    assert error.details["place"] == f"{tmp_path / 'dev.tsv'}:3"
    assert error.details["expected"] == "one of 0, 1"


def test_texts_that_look_like_nothing_are_texts(tmp_path: Path) -> None:
    odd = ["NA", "null", "None", "nan", "001", "-"]
    job, _ = read_job(
        write(tmp_path / "train.tsv", [*GOOD, *((text, "pos") for text in odd), ("x", "null"), ("y", "null")])
    )
    assert job.dev is not None
    texts = {row["text"] for table in (job.train, job.dev) for row in table.rows}
    assert set(odd) <= texts
    assert "null" in job.options.model_dump()["labels"]


@pytest.mark.parametrize(("row", "column"), [(("", "pos"), "text"), ((" \u3000", "pos"), "text"), (("a", ""), "label")])
def test_an_empty_cell(tmp_path: Path, row: tuple[str, str], column: str) -> None:
    error = error_of(write(tmp_path / "train.tsv", [*GOOD, row, row]))
    assert error.code == "empty-text"
    assert f"the {column} in column '{column}' is empty" in str(error)


@pytest.mark.parametrize("is_dev", [False, True])
def test_the_first_empty_cell_is_named_before_a_model_is_opened(tmp_path: Path, is_dev: bool) -> None:
    bad = write(tmp_path / "bad.tsv", [*GOOD, ("", "pos"), ("a", ""), *GOOD, ("", "neg")])
    good = write(tmp_path / "good.tsv", GOOD)
    with pytest.raises(DataError) as caught:
        read_job(good, dev=bad) if is_dev else read_job(bad, model=tmp_path / "no model")
    assert caught.value.details["place"] == f"{bad}:10"
    assert "--data.skip-bad" in str(caught.value)


@pytest.mark.parametrize(
    ("cell", "code", "reason"),
    [
        ("", "empty-text", "the label in column 'score' is empty"),
        ("n/a", "not-a-number", "'n/a' in column 'score' is not a number"),
    ],
)
@pytest.mark.parametrize("task", ["regression", "embedding"])
def test_what_is_no_number_is_left_out_as_a_label(tmp_path: Path, task: str, cell: str, code: str, reason: str) -> None:
    rows = [(f"a film {at}", f"no film {at}", cell if at in (4, 7) else str(at / 2)) for at in range(12)]
    train = write(tmp_path / "train.tsv", rows, "text\tother\tscore")
    data = {"text_column": "text", "pair_column": "other", "label_column": "score"}
    with pytest.raises(DataError, match=reason) as caught:
        read_job(train, task=task, given=({"data": data},))
    assert (caught.value.details["place"], caught.value.code) == (f"{train}:6", code)
    assert cell or "--data.skip-bad" in str(caught.value)
    given = ({"data": data | {"skip_bad": True}},)
    job, _ = read_job(train, task=task, given=given, output=tmp_path / "run", is_split=False)
    assert len(job.train.rows) == 10
    listed = [line.split("\t")[:3] for line in (tmp_path / "run.rejects").read_text().splitlines()]
    assert listed == [[f"{train}:{line}", code, reason] for line in (6, 9)]


def test_a_row_of_several_labels_may_have_none_in_a_named_column(tmp_path: Path) -> None:
    rows = [(f"a film {at}", ("a|b", "b|c", "a", "", "c")[at % 5]) for at in range(20)]
    data = {"text_column": "text", "label_column": "label", "skip_bad": True}
    job, _ = read_job(
        write(tmp_path / "train.tsv", rows), given=({"data": data},), is_split=False, output=tmp_path / "run"
    )
    assert len(job.train.rows) == 20


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ([("a", "x"), ("b", "x")], "one-class"),
        ([("a", "x")], "one-class"),
        ([("a", "x"), ("b", "y")], "too-few-rows"),
        ([(f"text {at}", f"label {at}") for at in range(30)], "too-many-classes"),
    ],
)
def test_too_little_to_learn_from(tmp_path: Path, rows: list[tuple[str, str]], code: str) -> None:
    assert error_of(write(tmp_path / "train.tsv", rows)).code == code


def test_rows_of_files_without_headers_fit_to_each_other(tmp_path: Path) -> None:
    """GLUE's RTE and WNLI: the file for training has a header, the other one has not."""
    train = tmp_path / "train.tsv"
    train.write_text(
        "index\tsentence1\tsentence2\tlabel\n" + "".join(f"{at}\ta b {at}\tc d\t{at % 2}\n" for at in range(9))
    )
    dev = tmp_path / "val.tsv"
    dev.write_text("".join(f"{at}\te f {at}\tg h\t{at % 2}\n" for at in range(9)))
    job, _ = read_job(train, dev=dev)
    assert job.dev is not None
    assert job.dev.rows[3] == {"sentence1": "e f 3", "sentence2": "g h", "label": "1"}
    with pytest.raises(DataError, match="has no header"):
        read_table(dev, ["sentence1"])
    names = "index,sentence1,sentence2,label"
    assert read_job(dev, given=({"data": {"columns": names}},))[0].train.columns == tuple(names.split(","))


def test_bad_rows_stop_everything_unless_they_are_skipped(tmp_path: Path) -> None:
    train = tmp_path / "train.csv"
    good = "".join(f"{text},{label}\n" for text, label in GOOD)
    train.write_text(f'text,label\n{good}"x" y,pos\n ,pos\nno label,\n\u5929,neg\n')
    dev = write(tmp_path / "dev.tsv", [("fine", "pos"), ("well", "posative"), ("bad", "neg")])
    assert error_of(train, dev).code == "bad-csv"
    job, _ = read_job(train, dev=dev, given=({"data": {"skip_bad": True}},), output=tmp_path / "run")
    assert [len(job.train.rows), job.dev and len(job.dev.rows)] == [len(GOOD) + 1, 2]
    assert job.options.model_dump()["labels"] == ("neg", "pos")
    lines = [line.split("\t") for line in (tmp_path / "run.rejects").read_text().splitlines()]
    assert [(line[0], line[1]) for line in lines] == [
        (f"{train}:10", "bad-csv"),
        (f"{train}:11", "empty-text"),
        (f"{train}:12", "empty-text"),
        (f"{dev}:3", "unknown-label"),
    ]


def test_rejects_are_listed_where_there_is_no_folder_yet(tmp_path: Path) -> None:
    train = write(tmp_path / "train.tsv", [*GOOD, ("", "pos")])
    output = tmp_path / "new" / "folder" / "run"
    read_job(train, given=({"data": {"skip_bad": True}},), output=output)
    assert "empty-text" in output.with_name("run.rejects").read_text()


def test_no_list_of_rejects_is_left_when_there_are_none(tmp_path: Path) -> None:
    (tmp_path / "run.rejects").write_text("old")
    read_job(write(tmp_path / "train.tsv", GOOD), given=({"data": {"skip_bad": True}},), output=tmp_path / "run")
    assert not (tmp_path / "run.rejects").exists()


def test_sound_rows_are_those_that_encode_alone(tmp_path: Path) -> None:
    rows = [{"text": f"text {at}" if at % 7 else "", "label": "ab"[at % 2] if at % 5 else "c"} for at in range(40)]
    table = Table(Path("rows.tsv"), ("text", "label"), rows, list(range(2, 42)))
    options = Classification.settings_class.model_validate({"labels": ("a", "b")})
    task = checker(Classification, options, None, table)
    rejects = Rejects()
    sound = sound_rows(task, table, rejects)
    wanted = [at for at in range(40) if at % 7 and at % 5]
    assert sound.lines == [at + 2 for at in wanted]
    assert len(rejects.errors) == 40 - len(wanted)
    assert filled_rows(table, ["text"], rejects).lines == [at + 2 for at in range(40) if at % 7]


def test_sound_rows_are_found_a_few_at_a_time_and_by_the_beginnings_of_their_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["  " + "word " * 50, "   ", "a"] * 1000
    rows = [{"text": text, "label": "ab"[at % 2] if at % 1001 else "c"} for at, text in enumerate(texts)]
    table = Table(Path("rows.tsv"), ("text", "label"), rows, list(range(2, len(rows) + 2)))
    options = Classification.settings_class.model_validate({"labels": ("a", "b")})
    task, seen = checker(Classification, options, None, table), list[list[str]]()
    encode = task.encode
    monkeypatch.setattr(
        task, "encode", lambda some, **more: (seen.append([row["text"] for row in some]), encode(some, **more))[1]
    )
    found, rejects = {}, Rejects()
    for has_texts in (True, False):
        seen.clear()
        found[has_texts] = sound_rows(task, table, rejects, has_texts=has_texts)
        assert max(map(len, seen)) <= 1000
        assert (max(len(text) for some in seen for text in some) < 20) == (not has_texts)
    assert found[True].lines == found[False].lines == [at + 2 for at in range(3000) if at % 3 != 1 and at % 1001]
    assert found[False].rows[0] is rows[2]
    half = len(rejects.errors) // 2
    assert list(map(str, rejects.errors[:half])) == list(map(str, rejects.errors[half:]))


def test_evaluate_skips_and_lists_bad_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny.saved(classifier(), tmp_path / "model")
    file = write(tmp_path / "test.tsv", [*GOOD, ("a", "posative"), ("", "pos"), ("b", "pos", "c")])
    for flags, code in (([], 3), (["--skip-bad"], 0)):
        with pytest.raises(SystemExit) as caught:
            main(["evaluate", str(file), "--model", "model", "--json", *flags])
        assert caught.value.code == code
    assert json.loads(capsys.readouterr().out)["rows"] == len(GOOD)
    lines = (tmp_path / "test.tsv.rejects").read_text().splitlines()
    assert [line.split("\t")[1] for line in lines] == ["ragged-row", "unknown-label", "empty-text"]


def test_evaluate_is_told_the_columns_of_a_file_without_a_header(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.saved(classifier(), tmp_path / "model")
    file = write(tmp_path / "test.tsv", GOOD[1:], header="good film\tpos")
    with pytest.raises(SystemExit) as caught:
        main(["evaluate", str(file), "--model", str(tmp_path / "model"), "--json", "--columns", "text,label"])
    assert caught.value.code == 0
    assert json.loads(capsys.readouterr().out)["rows"] == len(GOOD)


def test_a_folder_is_trained_on_by_the_names_in_it(tmp_path: Path) -> None:
    write(tmp_path / "train.tsv", GOOD)
    write(tmp_path / "valid.tsv", GOOD[:3])
    write(tmp_path / "test.tsv", GOOD[:2])
    job, _ = read_job(tmp_path)
    assert job.dev is not None
    assert [len(job.train.rows), len(job.dev.rows)] == [8, 3]
    assert job.inputs.keys() >= {"file", "dev"}


def test_quotes_of_tsv_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "unmask")
    table = read_table(write(tmp_path / "rows.tsv", [('"a" b', "x"), ('"c', "y"), ('"d"', "z")]))
    assert [row["text"] for row in table.rows] == ['"a" b', '"c', '"d"']
    assert "1 rows have cells in quotes, which stay in the text" in caplog.text


def test_a_column_of_nulls_is_told_unless_it_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.table({"text": ["a", "b"], "empty": pyarrow.nulls(2)}), path)
    with pytest.raises(DataError, match="the column 'empty' has 2 nulls") as caught:
        read_table(path)
    assert caught.value.details["place"] == f"{path}:row 1"
    assert len(read_table(path, ["text"]).rows) == 2


def test_a_text_in_another_encoding_is_told_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "rows.all"
    path.write_bytes("1 a good film\n0 a na\u00efve caf\u00e9 film\n".encode("latin-1") * 3)
    with pytest.raises(DataError) as caught:
        read_job(path)
    assert (caught.value.code, caught.value.details["place"]) == ("wrong-encoding", f"{path}:2:7")
    assert "iconv -f iso-8859-1" in str(caught.value)


def test_uneven_classes_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [(f"text number {at}", "rare" if at % 20 == 0 else "usual") for at in range(60)]
    job, _ = read_job(write(tmp_path / "train.tsv", rows))
    assert any("class_weights balanced" in note for note in job.notes)
    assert job.dev is not None
    assert {row["label"] for row in job.dev.rows} == {"rare", "usual"}
