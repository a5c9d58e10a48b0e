"""Regression: the scale, what is no number, windows, scores and what a file says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from tests import tiny
from unmask.config import resolve
from unmask.data.rows import Table
from unmask.errors import DataError, UsageError
from unmask.predict import Predictor
from unmask.tasks.number_reader import NumberPrediction, RegressionSettings
from unmask.tasks.regression import Regression


def regression(**changes: Any) -> Regression:
    task = Regression(tiny.config(), tiny.tokenizer(), RegressionSettings(head_dropout=0.0, **changes))
    task.init_weights(0)
    return task.eval()


def rows(*scores: str) -> list[dict[str, str]]:
    return [{"text": tiny.GOOD[at % 4], "score": score} for at, score in enumerate(scores)]


def pairs(*scores: str) -> Table:
    columns = ("genre", "sentence1", "sentence2", "score")
    cells = [("news", f"text {at}", f"other {at}", score) for at, score in enumerate(scores)]
    values = [dict(zip(columns, row, strict=True)) for row in cells]
    return Table(Path("sts.csv"), columns, values, list(range(2, len(scores) + 2)))


def test_the_network_learns_numbers_between_0_and_1_and_answers_in_their_unit() -> None:
    task = regression(low=-2.0, high=6.0)
    labels = [one.label for one in task.encode(rows("-2", "6", "2.0", "1e1"), is_training=True)]
    assert labels == [0.0, 1.0, 0.5, 1.5]
    batch = task.collate(task.encode(rows("-2", "6", "2"), is_training=True))
    with torch.no_grad():
        logits = task(batch)
        loss = float(task.loss(logits, batch))
    assert loss == pytest.approx(float(((logits[:, 0] - torch.tensor([0.0, 1.0, 0.5])) ** 2).sum()))
    answers = Predictor(task)([row["text"] for row in rows("-2", "6", "2")])
    assert [one.value for one in answers] == pytest.approx((-2 + 8 * logits[:, 0]).tolist(), abs=1e-5)
    assert answers[0].summary() == f"{answers[0].value:.4f}"


@pytest.mark.parametrize("wrong", ["nan", "inf", "1,5", "good", "1 2", "1e999"])
def test_what_is_no_number_is_named(wrong: str) -> None:
    with pytest.raises(DataError) as caught:
        regression().encode(rows("1", wrong), is_training=True)
    assert caught.value.code == "not-a-number"
    assert caught.value.details["place"] == "text 2"
    with pytest.raises(DataError, match=r"number in every row|not a number"):
        Regression.understand(pairs("1", wrong), {})


def test_a_long_text_gives_the_mean_of_its_windows() -> None:
    task = regression(low=0.0, high=5.0)
    text = "the cat sat on the mat and looked at the moon " * 12
    (answer,) = Predictor(task)([text])
    with torch.inference_mode():
        logits = torch.cat([task(task.collate([one])) for one in task.encode([{"text": text}])])
    assert answer.num_windows == len(logits) > 1
    assert answer.value == pytest.approx(5 * float(logits.mean()), abs=1e-5)


def test_scores_and_mistakes() -> None:
    gold, given = [0.0, 2.5, 5.0, 1.0], [0.5, 2.0, 3.0, 2.5]
    answers = [NumberPrediction(value) for value in given]
    labelled = rows(*map(str, gold))
    scores = regression().score(answers, labelled)
    assert scores["spearman"] == pytest.approx(stats.spearmanr(gold, given).statistic)
    assert scores["pearson"] == pytest.approx(stats.pearsonr(gold, given).statistic)
    assert scores["rmse"] == pytest.approx(np.sqrt(np.mean(np.subtract(gold, given) ** 2)))
    worst = max(regression().mistakes(answers, labelled), key=lambda one: one.score)
    assert (worst.text, worst.label, worst.answer, worst.score) == (tiny.GOOD[2], "5", "3.000", 2.0)


def test_a_file_of_pairs_with_scores_is_understood() -> None:
    found = Regression.understand(pairs("5.0", "0", "3.25"), {})
    assert found.settings == {
        "labels": ("score",),
        "text_column": "sentence1",
        "pair_column": "sentence2",
        "label_column": "score",
        "low": 0.0,
        "high": 5.0,
    }
    assert found.notes == ["text: sentence1 + sentence2 | number: score, 0 to 5, mean 2.75"]
    with pytest.raises(DataError, match="same number"):
        Regression.understand(pairs("1", "1.0"), {})


def test_rows_of_like_numbers_are_split_alike() -> None:
    settings = RegressionSettings(low=0.0, high=5.0)
    strata = [Regression.stratum(row, settings) for row in rows("0.1", "0.2", "2.6", "5")]
    assert strata == ["0", "0", "5", "10"]


def test_a_range_goes_upwards() -> None:
    with pytest.raises(UsageError, match="is not below"):
        resolve(RegressionSettings, {"low": 2, "high": 1})


def test_a_folder_keeps_the_range(tmp_path: Path) -> None:
    folder = tiny.saved(regression(low=1.0, high=3.0), tmp_path / "model")
    loaded = Predictor.load(folder).task
    assert (loaded.name, loaded.labels, loaded.problem_type) == ("regression", ["score"], "regression")
    assert (loaded.settings.low, loaded.settings.high) == (1.0, 3.0)
