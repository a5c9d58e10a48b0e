"""Questions with choices: every published form, and rows that are none."""

import json
import logging
from pathlib import Path

import pytest

from unmask.data.choices import looks_like_choices, read_choices
from unmask.errors import DataError

WHY = {"context": "It rained.", "question": "Why?", "choices": ["clouds", "fish"], "answer": 0}


def write(path: Path, *lines: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "\n".join(one if isinstance(one, str) else json.dumps(one, ensure_ascii=False) for one in lines), "utf-8"
    )
    return path


@pytest.mark.parametrize(
    ("record", "row"),
    [
        (WHY, WHY),
        (WHY | {"answer": "1"}, WHY | {"answer": 1}),
        ({"query": "A man ate, therefore", "gold": 1, "choices": ["a", "b"]},
         {"context": "", "question": "A man ate, therefore", "choices": ["a", "b"], "answer": 1}),
        ({"ctx": "A man", "endings": ["eats", "flies"], "label": 0},
         {"context": "", "question": "A man", "choices": ["eats", "flies"], "answer": 0}),
        ({"premise": "It fell.", "choice1": "It broke.", "choice2": "It sang.", "question": "effect", "label": 0},
         {"context": "It fell.", "question": "What happened as a result?", "choices": ["It broke.", "It sang."],
          "answer": 0}),
        ({"context_options": ["He saw her so he", "He saw her so she"], "continuation": "ran.", "gold": 1},
         {"context": "", "question": "_ ran.", "choices": ["He saw her so he", "He saw her so she"], "answer": 1}),
        ({"article": "Long.", "question": "What?", "options": ["a", "b", "c"], "example_id": "h1", "answer": 2},
         {"context": "Long.", "question": "What?", "choices": ["a", "b", "c"], "answer": 2}),
        ({"question": "What?", "choices": ["a", "b"]},
         {"context": "", "question": "What?", "choices": ["a", "b"], "answer": -1}),
    ],
)  # fmt: skip
def test_one_question_a_line(tmp_path: Path, record: dict, row: dict) -> None:
    path = write(tmp_path / "rows.jsonl", WHY, "", record)
    assert looks_like_choices(path, path.read_text("utf-8"))
    assert looks_like_choices(path, json.dumps(record))
    table = read_choices(path)
    assert table.form == "choices"
    assert table.rows[1] == row
    assert table.lines == [1, 3]


def test_idioms_of_chid_are_questions_with_choices(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As CLUE has them, several holes in a row and the answers in a file beside, and as FewCLUE has them."""
    idioms = ["百尺竿头", "随波逐流", "一日千里"]
    texts = ["希望能#idiom000378#再进一步。", "去#idiom000379#？还是#idiom000380#。"]
    path = write(tmp_path / "train.json", {"content": texts, "candidates": idioms})
    assert looks_like_choices(path, path.read_text("utf-8"))
    assert [row["answer"] for row in read_choices(path).rows] == [-1, -1, -1]
    assert "no train_answer.json beside it" in caplog.text
    write(tmp_path / "train_answer.json", {"#idiom000378#": 0, "#idiom000379#": 1, "#idiom000380#": 2})
    table = read_choices(path)
    assert [row["question"] for row in table.rows] == ["希望能____再进一步。", "去____？还是……。", "去……？还是____。"]
    assert [row["answer"] for row in table.rows] == [0, 1, 2]
    assert all(row["choices"] == idioms for row in table.rows)
    write(tmp_path / "train_answer.json", [0, 1])
    with pytest.raises(DataError, match="which choice fills which hole"):
        read_choices(path)
    few = write(tmp_path / "few.json", {"id": 1, "candidates": idioms, "content": "他#idiom#。", "answer": 1})
    assert read_choices(few).rows == [{"context": "", "question": "他____。", "choices": idioms, "answer": 1}]
    for wrong in ({"content": "他。"}, {"content": "#idiom1##idiom2#", "answer": 1}):
        with pytest.raises(DataError, match="hole"):
            read_choices(write(tmp_path / "wrong.json", {"candidates": idioms} | wrong))


THREE = {"question": "What?", "choices": ["x", "y", "z"]}
ARC = {"question": {"stem": "What?", "choices": [{"text": "a", "label": "1"}, {"text": "b", "label": "2"}]}}


@pytest.mark.parametrize(
    ("records", "answers"),
    [
        ([THREE | {"answer": one} for one in (0, 1, 2)], [0, 1, 2]),
        ([THREE | {"answer": one} for one in (1, 3, "2")], [0, 2, 1]),  # from 1, for 3 is a choice
        ([THREE | {"answer": one} for one in ("1", None, "0", -1)], [1, -1, 0, -1]),
        ([THREE | {"answer": one} for one in ("B", "A", "", "C")], [1, 0, -1, 2]),
        ([THREE | {"answer": one} for one in ("z", "x")], [2, 0]),
        ([{"question": "What?", "choices": ["2", "1"], "answer": "1"}, THREE | {"answer": "y"}], [1, 1]),
        ([{"question": "What?", "choices": ["B", "C"], "answer": "B"}, THREE | {"answer": "A"}], [1, 0]),
        ([{"question": "What?", "choices": ["B", "C"], "answer": "B"}, THREE | {"answer": "x"}], [0, 0]),
        ([ARC | {"answerKey": "2"}, ARC | {"answerKey": "1"}], [1, 0]),
        ([ARC | {"answerKey": "2"}, ARC | {"answerKey": 2}], [1, 1]),
        ([ARC | {"answerKey": "2"}, {**THREE, "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answer": "A"}],
         [1, 0]),
        ([THREE, THREE], [-1, -1]),
        ([{"question": "What?", "choices": ["1", "2"], "answer": "1"}] * 2 + [THREE | {"answer": "3"}], [0, 0, 2]),
    ],
)  # fmt: skip
def test_answers_are_read_in_one_way_in_all_rows(tmp_path: Path, records: list[dict], answers: list[int]) -> None:
    for order in (1, -1):
        table = read_choices(write(tmp_path / "rows.jsonl", *records[::order]))
        assert [row["answer"] for row in table.rows] == answers[::order]


@pytest.mark.parametrize(
    ("values", "line", "told"),
    [
        ((0, 1, 3), 3, "read as those before it are: as numbers from 0"),
        ((0, 1, "B"), 3, "as numbers from 0"),
        (("A", "x"), 2, "as names of the choices"),
        (("z", None, "1"), 3, "as texts of the choices"),
        ((1, 2, 1), 1, "read as numbers from 0 and as numbers from 1, which are different choices"),
    ],
)
def test_mixed_and_unclear_answers_are_refused(tmp_path: Path, values: tuple, line: int, told: str) -> None:
    path = write(tmp_path / "rows.jsonl", *(THREE | {"answer": one} for one in values))
    with pytest.raises(DataError, match=told) as caught:
        read_choices(path)
    assert caught.value.details["place"] == f"{path}:{line}"
    assert caught.value.details["value"] == values[line - 1]
    assert caught.value.details["fix"]


def race(number: int) -> dict:
    return {
        "article": f"Text {number}.", "id": f"high{number}.txt", "answers": ["B", "A"],
        "questions": ["What?", "It is _ ."], "options": [["a", "b"], ["c", "d", "e"]],
    }  # fmt: skip


def test_race_is_a_folder_of_articles(tmp_path: Path) -> None:
    for number in (1, 2):
        path = write(tmp_path / "train" / "high" / f"{number}.txt", race(number))
    assert looks_like_choices(path, path.read_text())
    table = read_choices(tmp_path / "train")
    assert [row["context"] for row in table.rows] == ["Text 1.", "Text 1.", "Text 2.", "Text 2."]
    assert [row["answer"] for row in table.rows] == [1, 0, 1, 0]
    assert read_choices(write(tmp_path / "train.jsonl", race(1), race(2))).rows == table.rows
    assert table.rows[3] == {"context": "Text 2.", "question": "It is _ .", "choices": ["c", "d", "e"], "answer": 0}


def test_c3_is_a_list_of_dialogues(tmp_path: Path) -> None:
    asked = [
        {"question": "他们谈什么?", "choice": ["旅行", "工作"], "answer": "工作"},
        {"question": "谁?", "choice": ["男", "女", "狗"], "answer": "男"},
    ]
    path = write(
        tmp_path / "dev.json", json.dumps([[["男：你好", "女：好"], asked, "1-2"]], ensure_ascii=False, indent=1)
    )
    assert looks_like_choices(path, path.read_text("utf-8"))
    table = read_choices(path)
    assert table.rows[0] == {
        "context": "男：你好\n女：好",
        "question": "他们谈什么?",
        "choices": ["旅行", "工作"],
        "answer": 1,
    }
    lines = path.read_text("utf-8").split("\n")
    assert all(row["question"] in lines[line - 1] for row, line in zip(table.rows, table.lines, strict=True))


def test_arc_as_csv_leaves_damaged_rows_out_and_tells(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(
        tmp_path / "arc.csv",
        '"What, then?",a,b,c,d,B', "Rocks are,,,,,3", 'Which?,x,"y\nz",w,,C', "Where?,a,b,c,d,E", "Who?,a,b,c,d,A",
        "Whom?,a,b,c,d,A", "Whose?,a,b,c,d,A", "How?,a,b,c,d,A", "Why?,a,b,c,d,A",
    )  # fmt: skip
    assert looks_like_choices(path, path.read_text() + "\n")
    with caplog.at_level(logging.WARNING, "unmask"):
        table = read_choices(path)
    assert len(table.rows) == 7
    assert table.rows[0] == {"context": "", "question": "What, then?", "choices": ["a", "b", "c", "d"], "answer": 1}
    assert table.rows[1] == {"context": "", "question": "Which?", "choices": ["x", "y\nz", "w"], "answer": 2}
    assert table.lines[:3] == [1, 3, 6]
    assert "2 rows have no choices, or lack the right one, and are left out: line 2, 5" in caplog.text


@pytest.mark.parametrize(
    ("name", "head", "is_one"),
    [
        ("rows.jsonl", '{"text": "a", "label": "b"}', False),
        ("rows.jsonl", '{"context": "c", "qas": [], "choices": [', False),
        ("table.csv", "text,label\na,A\nb,B\n", False),
        ("table.csv", "question,a,b,answer\nWhat,x,y,A\n", False),
        ("table.tsv", "What?\ta\tb\tA\n", False),
        ("book.txt", 'He said "choices": [ and went', False),
        ("table.csv", "", False),
    ],
)
def test_other_files_are_left_alone(name: str, head: str, is_one: bool) -> None:
    assert looks_like_choices(Path(name), head) == is_one


@pytest.mark.parametrize(
    ("record", "told"),
    [
        (WHY | {"choices": ["a"]}, "there are 1 choices"),
        (WHY | {"choices": ["a", " "]}, "not a list of texts"),
        (WHY | {"choices": "ab"}, "not a list of texts"),
        (WHY | {"answer": 2}, "none of the choices"),
        (WHY | {"answer": "whale"}, "none of the choices"),
        (WHY | {"answer": True}, "none of the choices"),
        (WHY | {"question": 3}, "'question' is not a text"),
        (race(1) | {"options": [["a", "b"]]}, "not lists of one length"),
        ("[1, 2]", "it is not an object"),
        ('{"question": "Why?", "choices": ["a', "not JSON"),
        (WHY | {"question": "half \ud83d"}, "surrogate"),
    ],
)
def test_errors_name_line_and_reason(tmp_path: Path, record: object, told: str) -> None:
    path = write(tmp_path / "rows.jsonl", WHY, record if isinstance(record, str) else json.dumps(record))
    with pytest.raises(DataError, match=told) as caught:
        read_choices(path)
    assert str(caught.value.details["place"]).startswith(f"{path}:2")


def test_damage_of_other_kinds(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_bytes(b'{"question": "r\xe9"}')
    with pytest.raises(DataError, match="not UTF-8"):
        read_choices(tmp_path / "bad.jsonl")
    with pytest.raises(DataError, match="no questions"):
        read_choices(write(tmp_path / "empty.json", "[]"))
    with pytest.raises(DataError, match="not CSV"):
        read_choices(write(tmp_path / "bad.csv", 'What?,a,"b"x,A'))
    with pytest.raises(DataError, match=r"no \[texts, questions, id\]"):
        read_choices(write(tmp_path / "bad.json", [[["a"], [{}]]]))
