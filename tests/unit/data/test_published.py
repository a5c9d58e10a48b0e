"""Rows of published sets whose parts are objects or lists."""

import json
import re
from pathlib import Path

import pytest

from unmask.data.infer import infer_columns
from unmask.data.rows import read_table
from unmask.errors import DataError

LEAF = {"span1_text": "树叶", "span1_index": 4, "span2_text": "他", "span2_index": 11}
DOG = {"span1_text": "The dog", "span1_index": 0, "span2_text": "it", "span2_index": 5}


def write(path: Path, *rows: dict) -> Path:
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    return path


def spans(first: str, start: int, second: str, other: int) -> dict:
    return {"span1_text": first, "span1_index": start, "span2_text": second, "span2_index": other}


@pytest.mark.parametrize(
    ("text", "target", "marked"),
    [
        ("就像一片树叶飘入了树林他走了。", LEAF, "就像一片_树叶_飘入了树林[他]走了。"),
        ("The dog ran fast because it could.", DOG, "_The dog_ ran fast because [it] could."),
        ("it saw the dog", spans("the dog", 2, "it", 0), "[it] saw _the dog_"),
        ("When he came home, Bob slept.", spans("Bob", 4, "he", 1), "When [he] came home, _Bob_ slept."),
        ("Bob saw his father.", spans("his father", 2, "his", 2), "Bob saw _[his] father_."),
        ("It is his", spans("his", 2, "It", 0), "[It] is _his_"),
        (
            'Mark said "the  Cat ran" and it did.',
            spans("The cat.", 2, "It", 6),
            'Mark said "_the  Cat_ ran" and [it] did.',
        ),
        ("老人说老人的话", spans("老人", 0, "老人", 3), "_老人_说[老人]的话"),
    ],
)
def test_spans_of_winograd_schemas_are_marked(tmp_path: Path, text: str, target: dict, marked: str) -> None:
    """CLUEWSC counts characters, SuperGLUE words; without the marks rows of one text would differ in label alone."""
    rows = [{"target": target, "idx": at, "label": label, "text": text} for at, label in enumerate(("true", "false"))]
    table = read_table(write(tmp_path / "wsc.jsonl", *rows))
    assert table.rows[0] == {"idx": "0", "label": "true", "text": marked}


def test_a_span_that_stands_elsewhere_is_refused_with_its_line(tmp_path: Path) -> None:
    rows = [
        {"target": target, "label": "true", "text": "就像一片树叶飘入了树林他走了。"}
        for target in (LEAF, LEAF | {"span2_index": 3})
    ]
    path = write(tmp_path / "wsc.json", *rows)
    with pytest.raises(DataError, match=re.escape(f"{path}:2")):
        read_table(path)
    rejected: list[DataError] = []
    assert len(read_table(path, reject=rejected.append).rows) == len(rejected) == 1


def test_keywords_of_csl_are_one_text(tmp_path: Path) -> None:
    rows = [{"id": 1, "abst": "一种协议。", "keyword": ["网络", "隐私"], "label": label} for label in "01"]
    table = read_table(write(tmp_path / "csl.json", *rows))
    assert table.rows[0]["keyword"] == "网络 隐私"
    found = infer_columns(table)
    assert (found.text, found.pair, found.label) == ("keyword", "abst", "label")
