"""What is fitted to the dev rows is not scored on the rows that it was fitted to."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests import tiny
from unmask.data.dealing import deal
from unmask.data.rows import Table
from unmask.evaluate import evaluate
from unmask.predict import Predictor
from unmask.tasks.class_reader import ClassificationSettings
from unmask.tasks.classification import Classification

LABELS = ("a", "b", "c", "d")


def table(rows: list[dict[str, Any]]) -> Table:
    return Table(Path("rows.jsonl"), ["text", "label"], rows, list(range(1, len(rows) + 1)))


def guesser(**options: Any) -> Classification:
    """A classifier that is sure of itself and knows nothing."""
    settings = ClassificationSettings.model_validate({"labels": LABELS, "head_dropout": 0.0} | options)
    task = Classification(tiny.config(), tiny.tokenizer(), settings)
    task.init_weights(0)
    with torch.no_grad():
        task.head.out.weight.mul_(600)
    return task


def chance_rows(number: int, *, is_several: bool) -> list[dict[str, Any]]:
    random = np.random.default_rng(1)
    words = [" ".join(text) for text in random.choice([*"abcdefghijklmnop"], (number, 6))]
    there = random.random((number, len(LABELS))) < 0.3
    several = [[name for name, is_there in zip(LABELS, row, strict=True) if is_there] for row in there]
    single = random.choice(LABELS, number).tolist()
    return [
        {"text": text, "label": many if is_several else one}
        for text, many, one in zip(words, several, single, strict=True)
    ]


def test_each_row_is_answered_with_what_the_other_folds_gave() -> None:
    rows = chance_rows(40, is_several=False)
    task = guesser()
    found = evaluate(Predictor(task), table(rows), fit=True)
    assert found.fitted == ("temperature",)

    def heat_of(chosen: list[int]) -> float:
        other = guesser()
        evaluate(Predictor(other), table([rows[row] for row in chosen]), fit=True)
        return float(other.settings.temperature)

    assert task.settings.temperature == heat_of(list(range(40)))
    for held in deal([row["label"] for row in rows], 5, seed=0):
        heat = heat_of([row for row in range(40) if row not in held])
        assert heat != task.settings.temperature
        answers = Predictor(guesser(temperature=heat)).predict_rows([rows[row] for row in held])
        assert [found.predictions[row].score for row in held] == [answer.score for answer in answers]


def test_thresholds_that_are_fitted_to_chance_do_not_flatter() -> None:
    rows = chance_rows(80, is_several=True)
    options = {"multi_label": True, "fit_thresholds": "each", "calibrate": False}
    task = guesser(**options)
    honest = evaluate(Predictor(task), table(rows), fit=True)
    flattering = evaluate(Predictor(task), table(rows))
    assert honest.fitted == ("thresholds",)
    assert honest.main_score < flattering.main_score


def test_what_does_not_hang_on_the_rows_is_not_called_fitted() -> None:
    task = tiny.seq2seq()
    assert evaluate(Predictor(task), table(tiny.rows_of(task)), fit=True).fitted == ()
    alone = evaluate(Predictor(guesser()), table(chance_rows(1, is_several=False)), fit=True)
    assert alone.rows == 1
