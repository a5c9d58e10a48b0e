"""What a user's mistakes in files of tags and spans get: the place, the text with the span marked, and the remedy."""

import json
from pathlib import Path

import pytest

from tests import tiny
from unmask.cli import main
from unmask.data.recognise import read_rows
from unmask.errors import DataError
from unmask.predict import Predictor

SMALL = [
    "--epochs", "1", "--model.num-hidden-layers", "1", "--model.hidden-size", "16", "--model.num-attention-heads", "1",
    "--model.intermediate-size", "16", "--machine.dtype", "float32", "--machine.threads", "1",
]  # fmt: skip
GOOD = {"text": "Anna saw New York today", "spans": [{"start": 9, "end": 17, "label": "LOC"}]}


def json_lines(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


@pytest.fixture
def ask(capfd: pytest.CaptureFixture[str]):
    def run(*words: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as caught:
            main([str(word) for word in words])
        talk = capfd.readouterr().err
        assert "Traceback" not in talk
        return int(caught.value.code or 0), talk

    return run


@pytest.mark.parametrize(
    ("start", "end", "reason", "marks"),
    [
        (10, 17, "inside a word", "              ^^^^^^^ LOC"),
        (8, 17, "white space", "            ^^^^^^^^^ LOC"),
        (18, 24, "reaches out of the text", "                      ^^^^^ LOC"),
        (9, 9, "is empty", "             ^ LOC"),
    ],
)
def test_a_span_that_is_off_ends_training_before_it_begins(
    ask, tmp_path: Path, start: int, end: int, reason: str, marks: str
) -> None:
    bad = {"text": GOOD["text"], "spans": [{"start": start, "end": end, "label": "LOC"}]}
    path = json_lines(tmp_path / "rows.jsonl", GOOD, GOOD, bad, *[GOOD] * 12)
    code, talk = ask("finetune", path, "--dev", path, "--output", tmp_path / "run", *SMALL)
    assert code == 3
    assert reason in talk
    assert "    Anna saw New York today\n" + marks in talk
    assert f"{path}:3" in talk
    assert "span_policy contract, expand or drop" in talk


@pytest.mark.parametrize("policy", ["contract", "expand", "drop"])
def test_a_policy_lets_it_pass(ask, tmp_path: Path, policy: str) -> None:
    bad = {"text": GOOD["text"], "spans": [{"start": 10, "end": 19, "label": "LOC"}]}
    path = json_lines(tmp_path / "rows.jsonl", *[GOOD, bad] * 8)
    code, _ = ask("finetune", path, "--output", tmp_path / "run", *SMALL, "--options.span_policy", policy)
    assert code == 0
    assert Predictor.load(tmp_path / "run" / "model").task.settings.span_policy == policy


def test_a_stray_tag_is_shown_and_strict_refuses_it(ask, tmp_path: Path) -> None:
    path = tmp_path / "rows.conll"
    path.write_text("Anna B-PER\nLee I-PER\n\nIn O\nRome I-LOC\n\nBob B-PER\nsat O\n\n" * 6, "utf-8")
    code, talk = ask("finetune", path, "--output", tmp_path / "run", *SMALL)
    assert code == 0
    assert "6 texts have a span that goes on with a chunk that has not begun" in talk
    assert "    In Rome\n       ^^^^ LOC" in talk
    code, talk = ask("finetune", path, "--output", tmp_path / "other", *SMALL, "--options.span_policy", "strict")
    assert code == 3
    assert "    In Rome\n       ^^^^ LOC" in talk


def test_lines_with_other_columns_are_named(ask, tmp_path: Path) -> None:
    path = tmp_path / "rows.conll"
    path.write_text("Anna N B-PER\nsaw V O\n\n" * 9 + "New York N B-LOC\n\nBob N\n", "utf-8")
    code, talk = ask("finetune", path, "--task", "tagging", "--output", tmp_path / "run", *SMALL)
    assert code == 3
    assert "expected 3 columns, saw 4: 'New | York | N | B-LOC'" in talk
    assert f"{path}:28" in talk


def test_a_label_that_only_the_dev_file_has_is_named(ask, tmp_path: Path) -> None:
    train = json_lines(tmp_path / "train.jsonl", *[GOOD] * 4)
    other = {"text": "Bonn", "spans": [{"start": 0, "end": 4, "label": "LOK"}]}
    dev = json_lines(tmp_path / "dev.jsonl", GOOD, other)
    code, talk = ask("finetune", train, "--dev", dev, "--output", tmp_path / "run", *SMALL)
    assert code == 3
    assert "did you mean 'LOC'" in talk
    assert f"{dev}:2" in talk


@pytest.mark.parametrize(
    "content", ["a B-X\r\nb O\r\n\r\nc O\r\n", "\ufeffa B-X\nb O\n\nc O", "a\tB-X\nb\tO\n\nc\tO\n\n\n \n"]
)
def test_line_ends_marks_and_tails_do_not_matter(tmp_path: Path, content: str) -> None:
    path = tmp_path / "rows.bio"
    path.write_bytes(content.encode("utf-8"))
    assert [row["text"] for row in read_rows(path).rows] == ["a b", "c"]


def test_damaged_files_raise_nothing_but_told_errors(tmp_path: Path) -> None:
    """Each byte of small files of every form removed or changed: read, or refused with a place."""
    whole = [
        ("a.conll", b"Anna N B-PER\nsaw V O\n\nNew N B-LOC\nYork N I-LOC\n"),
        ("a.conllu", b"1\tEt\t_\tN\t_\t_\t_\t_\t_\t_\n2-3\tdu\t_\t_\t_\t_\t_\t_\t_\t_\n2\tde\t_\tA\t_\t_\t_\t_\t_\t_\n"
         b"3\tle\t_\tD\t_\t_\t_\t_\t_\t_\n"),
        ("a.jsonl", b'{"text": "Anna", "spans": [{"start": 0, "end": 4, "label": "PER"}]}\n'),
        ("a.json", b'{"text": "Anna", "label": {"PER": {"Anna": [[0, 3]]}}}\n'),
    ]  # fmt: skip
    task = tiny.tagger(labels=("PER", "LOC"))
    refused = []
    for name, content in whole:
        path = tmp_path / name
        for at in range(0, len(content), 2):
            for damaged in (content[:at] + content[at + 1 :], content[:at] + b"7" + content[at + 1 :], content[:at]):
                path.write_bytes(damaged)
                try:
                    table = read_rows(path)
                    if table.form == "tagged":
                        task.encode(table.rows, place=table.place, is_training=True)
                except DataError as error:
                    refused.append(error)
    assert len(refused) > 50
    assert all(error.details["place"] is not None for error in refused)


@pytest.mark.parametrize(
    ("name", "content", "count"),
    [
        ("a.txt", "Anna saw Rome\n\nBob too\n", 2),
        ("a.csv", "id,text\n1,Anna saw Rome\n2,Bob too\n", 2),
        ("a.jsonl", '{"text": "Anna saw Rome"}\n', 1),
        ("a.conll", "Anna B-PER\nsaw O\n\nBob B-PER\ntoo O\n", 2),
        ("a.jsonl", json.dumps(GOOD) + "\n", 1),
    ],
)
def test_a_tagger_answers_about_the_texts_of_any_file(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, name: str, content: str, count: int
) -> None:
    model = tiny.saved(tiny.tagger(), tmp_path / "model")
    (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(SystemExit) as caught:
        main(["predict", "--file", str(tmp_path / name), "--model", str(model), "--json"])
    assert not caught.value.code
    answers = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert len(answers) == count
    for one in answers:
        assert all(one["input"]["text"][span["start"] : span["end"]] == span["text"] for span in one["spans"])


def test_the_column_of_the_tags_can_be_named(ask, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "rows.conll"
    path.write_text("Anna N B-PER\nsaw V O\n\nBob N B-PER\ntoo D O\n\n" * 8, "utf-8")
    code, talk = ask("finetune", path, "--dev", path, "--output", tmp_path / "run", *SMALL, "--data.label-column", "2")
    assert code == 0
    assert "3 labels: N 16, V 8, D 8" in talk
    model = tmp_path / "run" / "model"
    code, _ = ask("evaluate", path, "--model", model)
    assert code == 0
    code, talk = ask("evaluate", path, "--model", model, "--label-column", "4")
    assert code == 3
    assert "no column '4'" in talk
