"""Questions about texts: every published form, and answers that are not where the file says."""

import gzip
import json
import logging
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unmask.data.questions import Answer, looks_like_questions, read_questions, write_answers
from unmask.errors import DataError

CONTEXT = "The Amazon is a river. The Amazon flows east."
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


def question(number: int, *answers: tuple[str, int], **more: object) -> dict[str, Any]:
    found = [{"text": text, "answer_start": start} for text, start in answers]
    return {"id": f"q{number}", "question": f"What is {number}?", "answers": found} | more


def squad(*questions: dict[str, Any], context: str = CONTEXT) -> dict[str, Any]:
    paragraph = {"context": context, "qas": list(questions)}
    return {"version": "1.1", "data": [{"title": "Rivers", "paragraphs": [paragraph]}]}


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False), "utf-8")
    return path


def test_squad_with_and_without_answers(tmp_path: Path) -> None:
    content = squad(
        question(1, ("river", 16), ("a river", 14)),
        question(2, is_impossible=True, plausible_answers=[{"text": "east", "answer_start": 40}]),
        question(3, ("east", 40), is_impossible=False),
    )
    table = read_questions(write(tmp_path / "dev.json", json.dumps(content, indent=1)))
    assert table.form == "questions"
    assert [row["id"] for row in table.rows] == ["q1", "q2", "q3"]
    assert table.rows[0] == {
        "id": "q1", "title": "Rivers", "context": CONTEXT, "question": "What is 1?",
        "answers": [Answer("river", 16), Answer("a river", 14)], "is_impossible": False,
    }  # fmt: skip
    assert [row["is_impossible"] for row in table.rows] == [False, True, False]
    lines = table.path.read_text().splitlines()
    assert all(row["id"] in lines[line - 1] for row, line in zip(table.rows, table.lines, strict=True))
    assert table.place(1) == f"{table.path}:{table.lines[1]}"


def test_cmrc_in_its_original_form_has_texts_without_places(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    asked = [
        {"query_id": "D_1", "query_text": "河在哪里？", "answers": ["东", "东部", 3]},
        {"query_id": "D_2", "query_text": "几条？", "answers": ["没有"]},
    ]
    content = [{"context_id": "D", "context_text": "东部有河，河流向东，共3条。", "qas": asked, "title": "河"}]
    with caplog.at_level(logging.INFO, "unmask"):
        table = read_questions(write(tmp_path / "dev.json", content))
    assert table.rows[0]["answers"] == [Answer("东", 0), Answer("东部", 0), Answer("3", 11)]
    assert table.rows[1]["answers"] == [Answer("没有", -1)]
    assert not table.rows[1]["is_impossible"]
    assert "1 of 4 answers stand more than once" in caplog.text
    assert "1 of 4 answers stand nowhere" in caplog.text
    assert "question D_2: '没有'" in caplog.text


def test_drcd_and_paragraphs_without_articles(tmp_path: Path) -> None:
    paragraph = {"id": "1-5", "context": CONTEXT, "qas": [question(1, ("east", 40))]}
    drcd = {"version": "1.3", "data": [{"paragraphs": [paragraph], "id": "1", "title": "t"}]}
    first = read_questions(write(tmp_path / "drcd.json", drcd))
    second = read_questions(write(tmp_path / "list.json", [paragraph]))
    assert first.rows[0]["answers"] == second.rows[0]["answers"] == [Answer("east", 40)]


def test_one_question_a_line(tmp_path: Path) -> None:
    lines = [
        {"id": "a", "context": CONTEXT, "question": "What?", "answers": {"text": ["river"], "answer_start": [16]}},
        {"id": "b", "context": CONTEXT, "question": "Who?", "answers": {"text": [], "answer_start": []}},
        {"context": CONTEXT, "question": "Where to?", "answers": [{"text": "east", "answer_start": 40}]},
    ]
    path = write(tmp_path / "rows.jsonl", "\n".join(map(json.dumps, lines)) + "\n\n")
    table = read_questions(path)
    assert [row["answers"] for row in table.rows] == [[Answer("river", 16)], [], [Answer("east", 40)]]
    assert [row["is_impossible"] for row in table.rows] == [False, True, False]
    assert [row["id"] for row in table.rows] == ["a", "b", "3"]
    assert table.lines == [1, 2, 3]


def test_answers_that_stand_elsewhere_are_moved_to_the_nearest_place_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = squad(
        question(1, ("Amazon", 25)), question(2, ("Amazon", 5)), question(3, (" east ", 99)),
        question(4, ("Nile", 4)), question(5, ("river", -3)), question(6, ("flows", 34)),
    )  # fmt: skip
    with caplog.at_level(logging.WARNING, "unmask"):
        table = read_questions(write(tmp_path / "train.json", content))
    found = [row["answers"][0] for row in table.rows]
    assert found == [
        Answer("Amazon", 27), Answer("Amazon", 4), Answer("east", 40), Answer("Nile", -1), Answer("river", 16),
        Answer("flows", 34),
    ]  # fmt: skip
    assert all(CONTEXT.startswith(one.text, one.start) for one in found if one.start >= 0)
    assert "4 of 6 answers do not stand where the file says" in caplog.text
    assert "line 1: article 1 'Rivers', paragraph 1, question q1: at 25 stands 'e Amaz', not 'Amazon'" in caplog.text
    assert "which is at 27 and at 1 other places" in caplog.text
    assert "and 1 more" in caplog.text
    assert "1 of 6 answers stand nowhere" in caplog.text


def test_questions_that_ask_nothing_are_kept_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = squad(question(1, ("river", 16)), question(2, ("east", 40), question=""))
    table = read_questions(write(tmp_path / "dev.json", content))
    assert [row["question"] for row in table.rows] == ["What is 1?", ""]
    assert "1 of 2 questions are empty" in caplog.text
    assert "question q2" in caplog.text


def test_a_clean_file_is_read_in_silence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "unmask"):
        read_questions(write(tmp_path / "train.json", squad(question(1, ("river", 16)))))
    assert not caplog.records


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(before=TEXTS, answer=TEXTS.filter(str.strip), behind=TEXTS, shift=st.integers(-5, 5))
def test_a_placed_answer_is_in_its_context_whatever_the_characters(
    tmp_path: Path, before: str, answer: str, behind: str, shift: int
) -> None:
    context = before + answer + behind
    content = squad(question(1, (answer, len(before) + shift)), context=context)
    (row,) = read_questions(write(tmp_path / "train.json", content)).rows
    (found,) = row["answers"]
    assert context[found.start : found.start + len(found.text)] == found.text
    assert found.text.strip() == answer.strip()
    assert shift or found == Answer(answer, len(before))


@pytest.mark.parametrize(
    ("content", "told", "place"),
    [
        ('{"data": [{"paragraphs": [', "not JSON", ":1"),
        ({"data": [{"paragraphs": [{"qas": [question(1)]}]}]}, "'context' is missing", "paragraph 1, question q1"),
        (squad({"id": "q7", "answers": []}), "'question' is missing", "question q7"),
        (squad(question(1) | {"answers": [{"text": "river"}]}), "'answer_start' is missing", "article 1 'Rivers'"),
        (squad(question(1) | {"answers": [{"text": "river", "answer_start": "16"}]}), "not a whole number", "q1"),
        (squad(question(1) | {"answers": [[]]}), "not an object", "question q1"),
        (squad(question(1) | {"answers": "river"}), "'answers' is not a list", "question q1"),
        ({"data": [{"paragraphs": []}]}, "no questions", ".json"),
        ({"data": {"paragraphs": []}}, "'data' is not a list", ".json"),
        ([{"qas": [], "context": 3}, 5], "not an object", "article 2"),
        (json.dumps(squad(question(1), context="half \ud83d")), "surrogate", "question q1"),
    ],
)  # fmt: skip
def test_errors_name_the_place(tmp_path: Path, content: object, told: str, place: str) -> None:
    path = tmp_path / "train.json"
    with pytest.raises(DataError, match=told) as caught:
        read_questions(write(path, content))
    assert place in str(caught.value.details["place"])
    assert str(path) in str(caught.value.details["place"])


def test_wrong_encoding_and_compression(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    path.write_bytes(json.dumps(squad(question(1)), ensure_ascii=False).encode().replace(b"river", b"r\xe9ver"))
    with pytest.raises(DataError, match="not UTF-8"):
        read_questions(path)
    packed = tmp_path / "train.json.gz"
    packed.write_bytes(gzip.compress(json.dumps(squad(question(1, ("river", 16)))).encode()))
    assert read_questions(packed).rows[0]["answers"] == [Answer("river", 16)]


@pytest.mark.parametrize(
    ("name", "head", "is_one"),
    [
        ("train.json", json.dumps(squad(question(1))), True),
        ("train.json.xz", json.dumps(squad(question(1)))[:70], True),
        ("dev.json", '[{"context_id": "D", "context_text": "', True),
        ("rows.jsonl", '{"context": "c", "question": "q", "answers": {"text": [', True),
        ("train.csv", json.dumps(squad(question(1))), False),
        ("rows.jsonl", '{"context": "c", "question": "q", "choices": ["a"], "answer": 1}', False),
        ("rows.jsonl", '{"text": "about qas: [1]", "label": "a"}', False),
    ],
)
def test_files_are_recognised(name: str, head: str, is_one: bool) -> None:
    assert looks_like_questions(Path(name), head) == is_one


def test_answers_are_written_as_one_object(tmp_path: Path) -> None:
    answers = {"q1": "河 \u2028 \n", "q2": ""}
    write_answers(tmp_path / "answers.json", answers)
    assert json.loads((tmp_path / "answers.json").read_text("utf-8")) == answers


def test_a_question_without_answers_is_not_one_that_has_none(tmp_path: Path) -> None:
    asked = {"id": "q1", "question": "What?"}
    content = squad(
        asked, asked | {"id": "q2", "answers": []}, asked | {"id": "q3", "answers": [], "is_impossible": False}
    )
    rows = read_questions(write(tmp_path / "test.json", content)).rows
    assert [row["is_impossible"] for row in rows] == [False, True, False]


def test_ids_that_stand_twice_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read_questions(write(tmp_path / "train.json", squad(question(1), question(1))))
    assert "same id" in caplog.text


@pytest.mark.parametrize("indent", [None, 1])
def test_an_array_of_flat_questions_is_read(tmp_path: Path, indent: int | None) -> None:
    rows = [{"context": CONTEXT} | question(number, ("Amazon", 4)) for number in range(3)]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows, indent=indent))
    assert looks_like_questions(path, path.read_text())
    table = read_questions(path)
    assert [row["id"] for row in table.rows] == ["q0", "q1", "q2"]
    lines = path.read_text().splitlines()
    assert all(row["id"] in lines[line - 1] for row, line in zip(table.rows, table.lines, strict=True))


def test_lines_of_questions_with_numbers_as_ids_are_found(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(squad(*(question(at) | {"id": at} for at in range(5, 12))), indent=1))
    lines = path.read_text().splitlines()
    assert [lines[line - 1].strip(" ,") for line in read_questions(path).lines] == [
        f'"id": {at}' for at in range(5, 12)
    ]


@pytest.mark.parametrize("kind", ["none", "number", "odd"])
def test_the_text_is_gone_through_once_for_the_lines_of_all_questions(tmp_path: Path, kind: str) -> None:
    rows = [question(at) for at in range(3000)]
    for at, row in enumerate(rows):
        del row["id"]
        row |= {"none": {}, "number": {"id": at}, "odd": {"id": at}}[kind]
    text = json.dumps(squad(*rows), indent=1)
    text = text.replace('"id": 1\n', '"\\u0069d": 1\n') if kind == "odd" else text  # the same key for JSON alone
    (tmp_path / "rows.json").write_text(text)
    start = time.process_time()
    table = read_questions(tmp_path / "rows.json")
    assert time.process_time() - start < 0.4
    last = text[: text.index('"id": 0')].count("\n") + 1 if kind == "odd" else table.lines[-1]
    assert table.lines[-1] == last
