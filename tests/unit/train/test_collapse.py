"""What counts as a collapsed run, and what does not."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests import tiny
from unmask.tasks.base import Prediction
from unmask.tasks.choice_reader import ChoicePrediction
from unmask.tasks.class_answers import ClassPrediction, LabelsPrediction
from unmask.tasks.number_reader import NumberPrediction
from unmask.tasks.span_reader import AnswerPrediction
from unmask.tasks.tag_reader import FoundSpan, TagPrediction
from unmask.train.collapse import entropy, why_collapsed
from unmask.train.finetune import finetune

CLASSES = ["a"] * 6 + ["b"] * 2


def classes(names: str) -> list[Prediction]:
    return [ClassPrediction(name, 0.9, {"a": 0.1, "b": 0.1, name: 0.9}) for name in names]


def choice(index: int) -> Prediction:
    return ChoicePrediction("ab"[index], index, 0.5, (0.5, 0.5))


def found(answer: str) -> Prediction:
    return AnswerPrediction(answer, 0, len(answer), 0.5, 0.0, ())


def why(answers: Sequence[Prediction], gold: Sequence[str], loss: float | None = None, score: float = 0.5) -> str:
    return str(why_collapsed(loss=loss, score=score, train=CLASSES, answers=answers, gold=gold))


def test_a_loss_at_the_entropy_of_the_classes_is_collapse() -> None:
    exact = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert entropy(CLASSES) == pytest.approx(exact)
    assert "entropy" in why(classes("ab"), "ab", exact * 1.01)
    assert why(classes("ab"), "ab", exact * 0.9) == "None"


@pytest.mark.parametrize(
    ("same", "other"),
    [
        (classes("aa"), classes("ab")),
        ([LabelsPrediction(("a",), {})] * 2, [LabelsPrediction(("a",), {}), LabelsPrediction((), {})]),
        ([NumberPrediction(0.5)] * 2, [NumberPrediction(0.5), NumberPrediction(0.6)]),
        ([choice(1)] * 2, [choice(0), choice(1)]),
        ([found("")] * 2, [found(""), found("x")]),
        ([TagPrediction(())] * 2, [TagPrediction(()), TagPrediction((FoundSpan(0, 1, "X", "a", 0.9),))]),
    ],
)
def test_one_answer_to_rows_that_differ_is_collapse(same: list[Prediction], other: list[Prediction]) -> None:
    assert "one answer" in why(same, ["a", "b"])
    assert why(other, ["a", "b"]) == "None"
    assert "no number" in why(other, ["a", "b"], score=math.nan)


def test_one_answer_to_rows_that_are_alike_is_right_but_finding_nothing_is_not() -> None:
    assert why(classes("aa"), ["a", "a"]) == "None"
    assert "one answer" in why([TagPrediction(())] * 2, ["spans", "spans"])
    assert "one answer" in why([found("")] * 2, ["answers", "answers"])
    assert why([found("x")] * 2, ["answers", "answers"]) == "None"
    assert why([TagPrediction(())] * 2, ["", ""]) == "None"


def test_a_good_run_whose_loss_is_more_than_that_of_the_classes_has_not_collapsed(tmp_path: Path) -> None:
    texts = [(text, "good") for text in tiny.GOOD] + [(text, "bad") for text in tiny.BAD]
    rows = [{"text": f"{text} {n}", "label": label} for n in range(4) for text, label in texts]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    start = tiny.saved(tiny.masked_lm(), tmp_path / "start")
    machine = {"device": "cpu", "dtype": "float32", "threads": 1}
    base = {"epochs": 8, "patience": 8, "batch_size": 2, "log_every": 1, "optim": {"lr": 3e-3}, "machine": machine}
    found = finetune(
        tmp_path / "rows.jsonl", tmp_path / "run", model=start, given=(base, {"options": {"label_smoothing": 0.9}})
    )
    assert found.collapsed is None
    assert found.scores["accuracy"] > 0.5
