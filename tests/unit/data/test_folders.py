"""Folders of small files: the layouts of RACE, 20 Newsgroups and the Large Movie Review Dataset."""

import json
from pathlib import Path

import pytest

from tests import tiny
from unmask import storage
from unmask.data.files import read_text
from unmask.data.recognise import find_splits, read_rows
from unmask.data.rows import Table
from unmask.errors import DataError
from unmask.predict import Predictor
from unmask.train.finetune import finetune
from unmask.train.job import read_job
from unmask.train.predictions import read_records, write_predictions


def reviews(folder: Path) -> Path:
    """Parts, classes, and texts as aclImdb has them, with its texts without a class and its lists."""
    for part in ("train", "test"):
        for label, texts in (("neg", tiny.BAD), ("pos", tiny.GOOD), ("unsup", tiny.GOOD)):
            for number, text in enumerate(texts):
                file = folder / part / label / f"{number}_7.txt"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(f"{text}\n<br />and more", "utf-8")
        (folder / part / "urls_pos.txt").write_text("an address\n")
    (folder / "README").write_text("about\n")
    return folder


def race(folder: Path) -> Path:
    for level in ("high", "middle"):
        for number in range(3):
            record = {
                "answers": ["A", "C"],
                "options": [["a cat", "a dog", "a cow", "a hen"], ["red", "blue", "grey", "green"]],
                "questions": ["What is it?", "Its colour is _ ."],
                "article": f"The {level} cat {number} is grey.",
                "id": f"{level}{number}.txt",
            }
            file = folder / "train" / level / f"{number}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(record))
    return folder


def test_each_file_is_a_text_of_the_class_that_its_folder_is_called(tmp_path: Path) -> None:
    splits = find_splits(reviews(tmp_path))
    assert (splits.train, splits.dev, splits.test) == (tmp_path / "train", None, tmp_path / "test")
    table = read_rows(splits.train)
    assert [row["label"] for row in table.rows] == ["neg"] * 4 + ["pos"] * 4
    for at, row in enumerate(table.rows):
        assert row["text"] == read_text(tmp_path / "train" / row["label"] / f"{at % 4}_7.txt")
        assert table.place(at) == f"{tmp_path}/train/{row['label']}/{at % 4}_7.txt:1"
    part = table.part([5, 2])
    assert [part.place(at) for at in (0, 1)] == [table.place(5), table.place(2)]


def test_a_part_may_be_named_itself_and_files_need_no_ending(tmp_path: Path) -> None:
    for name in ("alt.atheism", "sci.space"):
        (tmp_path / "20news-bydate-train" / name).mkdir(parents=True)
        (tmp_path / "20news-bydate-train" / name / "49960").write_text(f"a post to {name}")
    train = tmp_path / "20news-bydate-train"
    assert find_splits(tmp_path).train == find_splits(train).train == train
    assert read_rows(train).rows[1] == {"text": "a post to sci.space", "label": "sci.space"}


def test_an_article_a_file_gives_questions_with_their_places(tmp_path: Path) -> None:
    table = read_rows(find_splits(race(tmp_path)).train)
    assert (table.form, len(table.rows)) == ("choices", 12)
    assert [row["answer"] for row in table.rows] == [0, 2] * 6
    assert table.rows[7]["context"] == "The middle cat 0 is grey."
    assert table.place(7) == f"{tmp_path}/train/middle/0.txt:1"
    (tmp_path / "train/middle/1.txt").write_text(
        '{"article": "a", "questions": ["b"], "options": [["c"]], "answers": ["A"]}'
    )
    with pytest.raises(DataError, match="1 choices") as caught:
        read_rows(tmp_path / "train")
    assert str(caught.value.details["place"]).startswith(f"{tmp_path}/train/middle/1.txt:1")


def test_what_is_wrong_in_a_small_file_is_told_with_its_path(tmp_path: Path) -> None:
    train = reviews(tmp_path) / "train"
    bad = train / "pos/2_7.txt"
    bad.write_text("  ")
    with pytest.raises(DataError, match="is empty") as caught:
        finetune(train, tmp_path / "run", given=({"machine": {"device": "cpu"}},))
    assert caught.value.details["place"] == f"{bad}:1"
    bad.write_bytes("caf\xe9".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8") as caught:
        read_rows(train)
    assert caught.value.details["place"] == bad
    with pytest.raises(DataError, match="not one of texts by their classes"):
        read_rows(train / "pos")


def test_predictions_name_the_small_file(tmp_path: Path) -> None:
    task = tiny.classifier()
    rows = [{"text": tiny.GOOD[0], "label": "good"}]
    table = Table(tmp_path, ("text", "label"), rows, [1], files=("train/good/7.txt",))
    write_predictions(tmp_path / "said.jsonl", task, Predictor(task).predict_rows(rows), table)
    (record,) = read_records(tmp_path / "said.jsonl")
    assert (record["row"], record["file"], record["line"]) == (0, "train/good/7.txt", 1)


def test_a_job_reads_folders_and_knows_them_again(tmp_path: Path) -> None:
    job, _ = read_job(reviews(tmp_path / "a"))
    assert job.kind.name == "classification"
    assert job.dev is not None
    assert len(job.train.rows) + len(job.dev.rows) == 8
    same, _ = read_job(reviews(tmp_path / "b"))
    assert same.inputs == job.inputs
    (tmp_path / "b/train/pos/0_7.txt").write_text("another text")
    assert read_job(tmp_path / "b")[0].inputs != job.inputs
    assert storage.digest(tmp_path / "a/train") != storage.digest(tmp_path / "a/test/pos")
    assert read_job(race(tmp_path / "race"))[0].kind.name == "multiple_choice"
