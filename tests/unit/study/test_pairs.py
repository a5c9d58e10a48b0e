"""Minimal pairs: reading, deciding, means and intervals."""

import json
import lzma
from pathlib import Path

import numpy as np
import pytest

from tests import tiny
from unmask import runtime
from unmask.errors import DataError
from unmask.study.likelihood import pseudo_log_likelihoods
from unmask.study.pairs import Paradigm, read_pairs, score_pairs, summarize

MACHINE = runtime.machine("float32", "cpu")
PAIRS = [
    ("The cat sat on the mat.", "The cat sat on mat the."),
    ("It looked at the moon.", "It looked at the the."),
    ("What a wonderful day.", "What a day wonderful."),
]


def write(path: Path, pairs: list[tuple[str, str]], **more: str) -> Path:
    rows = [{"sentence_good": good, "sentence_bad": bad, **more} for good, bad in pairs]
    text = "".join(f"{json.dumps(row)}\n" for row in rows)
    path.write_bytes(lzma.compress(text.encode()) if path.suffix == ".xz" else text.encode())
    return path


def paradigm(name: str, field: str, size: int) -> Paradigm:
    return Paradigm(name, field, [("a", "b")] * size, ["-"] * size)


def test_a_folder_is_read_with_its_fields(tmp_path: Path) -> None:
    write(tmp_path / "passive.jsonl", PAIRS, linguistics_term="s-selection", UID="x")
    write(tmp_path / "drop.jsonl.xz", PAIRS[:2], linguistics_term="argument_structure")
    write(tmp_path / "mine.jsonl", PAIRS)
    (tmp_path / "README.md").write_text("no pairs")
    found = {one.name: one for one in read_pairs(tmp_path, limit=2)}
    assert {name: one.field for name, one in found.items()} == {
        "passive": "argument_structure",
        "drop": "argument_structure",
        "mine": "",
    }
    assert found["mine"].pairs == PAIRS[:2]
    assert found["passive"].places[1] == f"{tmp_path}/passive.jsonl:2"
    assert read_pairs(tmp_path / "mine.jsonl")[0].pairs == PAIRS


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ('{"sentence_good": "a", "sentence_bad": " "}', "empty-text"),
        ('{"sentence_good": "a"}', "missing-value"),
        ('{"sentence_good": "a", "sentence_bad": ["b"]}', "not-a-text"),
        ('{"sentence_good": "a", ', "bad-json"),
    ],
)
def test_a_bad_pair_is_named_by_its_line(tmp_path: Path, line: str, code: str) -> None:
    path = write(tmp_path / "pairs.jsonl", PAIRS)
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(DataError) as caught:
        read_pairs(tmp_path)
    assert caught.value.code == code
    assert str(caught.value.details["place"]).startswith(f"{path}:4")


def test_a_file_without_the_columns_and_a_folder_without_files(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"good": "a", "bad": "b"}\n')
    with pytest.raises(DataError, match="no column 'sentence_good'") as caught:
        read_pairs(tmp_path)
    assert caught.value.details["place"] == f"{tmp_path}/a.jsonl:1"
    (tmp_path / "a.jsonl").rename(tmp_path / "a.md")
    with pytest.raises(DataError, match="has no"):
        read_pairs(tmp_path)


def test_a_pair_is_decided_by_the_sums_of_its_sentences(tmp_path: Path) -> None:
    task = tiny.masked_lm()
    same = ("The cat sat.", "The cat sat.")
    paradigms = [Paradigm("one", "x", [*PAIRS, same], ["-"] * 4), Paradigm("two", "y", PAIRS[::-1], ["-"] * 3)]
    points = []
    for good, bad in [*PAIRS, same]:
        left, right = (pseudo_log_likelihoods(task, [text], machine=MACHINE)[0].sum() for text in (good, bad))
        points.append(0.5 if left == right else float(left > right))
    assert points[3] == 0.5
    found = score_pairs(task, paradigms, machine=MACHINE)
    assert found.paradigms["one"].accuracy == np.mean(points)
    assert found.paradigms["two"].accuracy == pytest.approx(np.mean(points[:3]))
    assert found.paradigms["one"].pairs == 4
    assert found.within_word == "l2r"
    turned = [Paradigm("one", "x", [pair[::-1] for pair in PAIRS], ["-"] * 3)]
    assert score_pairs(task, turned, machine=MACHINE).mean.accuracy == pytest.approx(1 - np.mean(points[:3]))


def test_means_weigh_paradigms_and_fields_alike() -> None:
    paradigms = [paradigm("a", "x", 4), paradigm("b", "x", 2), paradigm("c", "", 1)]
    points = [np.array([1, 1, 1, 0.0]), np.array([0, 0.5]), np.array([1.0])]
    found = summarize(paradigms, points, "original")
    assert found.paradigms["b"].accuracy == 0.25
    assert found.fields["x"].accuracy == 0.5
    assert found.fields["unnamed"].accuracy == 1
    assert found.mean.accuracy == pytest.approx((0.75 + 0.25 + 1) / 3)
    assert found.mean_of_fields.accuracy == 0.75
    assert (found.fields["x"].pairs, found.mean.pairs) == (6, 7)
    assert found.paradigms["c"].interval == (1, 1)


def test_intervals_are_those_of_resampled_pairs() -> None:
    rng = np.random.default_rng(3)
    points = [rng.choice([0, 0.5, 1], 40, p=[0.3, 0.1, 0.6]), rng.choice([0.0, 1.0], 90)]
    found = summarize([paradigm("a", "x", 40), paradigm("b", "y", 90)], points, "l2r")
    means = [np.mean([rng.choice(one, len(one)).mean() for one in points]) for _ in range(4000)]
    assert found.mean.interval == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.01)
    alone = [rng.choice(points[0], 40).mean() for _ in range(4000)]
    assert found.paradigms["a"].interval == pytest.approx(np.quantile(alone, [0.025, 0.975]), abs=0.03)
