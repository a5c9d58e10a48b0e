"""One door for every file of rows."""

from pathlib import Path

import pytest

from unmask.data import recognise
from unmask.data.recognise import Reader, find_splits, read_rows
from unmask.data.rows import Table
from unmask.errors import DataError


def test_what_no_reader_knows_is_a_table(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\na,1\n")
    table = read_rows(path)
    assert (table.form, table.rows) == ("table", [{"text": "a", "label": "1"}])
    assert read_rows(path, ["text"]).rows == [{"text": "a"}]


def test_readers_are_asked_in_their_order_and_by_their_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n" + "a,1\n" * 10_000)
    heads = []

    def reader(form: recognise.Form, mark: str) -> Reader:
        def looks_like(_path: Path, head: str) -> bool:
            heads.append(head)
            return mark in head

        return Reader(form, looks_like, lambda path: Table(path, (), [{"form": form}], [1], form))

    monkeypatch.setattr(recognise, "READERS", (reader("tagged", "@"), reader("questions", "t"), reader("choices", "l")))
    assert read_rows(path).form == "questions"
    assert read_rows(path, form="choices").form == "choices"
    assert read_rows(path, form="table").form == "table"
    with pytest.raises(DataError) as caught:
        read_rows(path, form="tagged")
    assert (caught.value.code, caught.value.details["place"]) == ("other-form", path)
    assert {len(head) for head in heads} == {8192}


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["train.tsv", "dev.tsv", "test.tsv", ".hidden"], ("train.tsv", "dev.tsv", "test.tsv")),
        (["sts-train.csv", "sts-dev.csv", "readme.txt"], ("sts-train.csv", "sts-dev.csv", None)),
        (["eng.train", "eng.testa", "eng.testb"], ("eng.train", "eng.testa", "eng.testb")),
        (["train.csv", "validation.csv"], ("train.csv", "validation.csv", None)),
        (["TREC.train.all", "TREC.test.all"], ("TREC.train.all", None, "TREC.test.all")),
        (["train.tsv", "dev_a.tsv", "dev_b.tsv"], ("train.tsv", None, None)),
        (["train_dev.tsv", "dev_test.tsv"], ("train_dev.tsv", "dev_test.tsv", None)),
    ],
)
def test_splits_are_found_by_their_names(tmp_path: Path, names: list[str], found: tuple[str | None, ...]) -> None:
    for name in names:
        (tmp_path / name).touch()
    splits = find_splits(tmp_path)
    assert tuple(path and path.name for path in (splits.train, splits.dev, splits.test)) == found


def test_several_files_for_one_part_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("train.tsv", "dev_matched.tsv", "dev_mismatched.tsv"):
        (tmp_path / name).touch()
    assert find_splits(tmp_path).dev is None
    assert "dev_matched.tsv, dev_mismatched.tsv" in caplog.text


@pytest.mark.parametrize(
    ("names", "told"), [(["a.tsv"], "has no files with 'train'"), (["train.1", "train.2"], "has 2 files with 'train'")]
)
def test_one_file_is_trained_on(tmp_path: Path, names: list[str], told: str) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=told):
        find_splits(tmp_path)


def test_files_of_two_languages_are_one_table(tmp_path: Path) -> None:
    (tmp_path / "train.en").write_text("a dog\n\na cat\n")
    (tmp_path / "train.de").write_text("ein Hund\n\neine Katze\n")
    for form in (None, "table"):
        table = read_rows(tmp_path / "train.en", form=form)
        assert (table.columns, table.lines) == (("en", "de"), [1, 3])
        assert table.rows[1] == {"en": "a cat", "de": "eine Katze"}
    assert read_rows(tmp_path / "train.de").columns == ("de", "en")
    (tmp_path / "train.de").write_text("ein Hund\n")
    with pytest.raises(DataError, match="3 and 1 lines"):
        read_rows(tmp_path / "train.en")
    (tmp_path / "train.fr").write_text("un chien\n")
    with pytest.raises(DataError, match="says nothing"):
        read_rows(tmp_path / "train.en")


def test_every_published_form_finds_its_reader(tmp_path: Path) -> None:
    texts = {
        "eng.train": ("tagged", "-DOCSTART- -X- O O\n\nEU NNP I-NP I-ORG\nis VBZ I-VP O\n\nAda NNP I-NP I-PER\n"),
        "squad.json": ("questions", '{"data": [{"title": "t", "paragraphs": [{"context": "a b", "qas": [{"id": "1", '
                       '"question": "q?", "answers": [{"text": "a", "answer_start": 0}]}]}]}]}'),
        "race.jsonl": ("choices", '{"article": "x", "question": "q", "options": ["a", "b"], "answer": "A"}\n'),
        "rows.jsonl": ("table", '{"text": "a", "label": "b"}\n'),
    }  # fmt: skip
    for name, (form, text) in texts.items():
        (tmp_path / name).write_text(text)
        assert read_rows(tmp_path / name).form == form
        assert read_rows(tmp_path / name, form=form).form == form  # type: ignore[arg-type]


def test_answers_beside_their_questions_are_no_part_of_a_data_set(tmp_path: Path) -> None:
    """As CLUE publishes ChID."""
    for name in ("train.json", "train_answer.json", "dev.json", "dev_answer.json"):
        (tmp_path / name).write_text("{}")
    found = find_splits(tmp_path)
    assert (found.train, found.dev) == (tmp_path / "train.json", tmp_path / "dev.json")
    (tmp_path / "train.json").unlink()
    assert find_splits(tmp_path).train == tmp_path / "train_answer.json", "a file of its own"


def test_utf_16_is_told_before_anything_is_guessed(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes("id;text;label\r\n1;a film;pos\r\n".encode("utf-16"))
    with pytest.raises(DataError, match="iconv -f utf-16le") as caught:
        read_rows(path)
    assert caught.value.code == "wrong-encoding"


def test_a_lone_carriage_return_ends_a_line_in_a_guess_too(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"text,label\nfine,pos\nfirst\rsecond,neg\nbad,neg\n")
    with pytest.raises(DataError, match="saw 1: 'first'") as caught:
        read_rows(path)
    assert (caught.value.code, caught.value.details["place"]) == ("ragged-row", f"{path}:3")
