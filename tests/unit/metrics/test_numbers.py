"""Scores of a regression beside scipy's."""

import numpy as np
import pytest
from scipy import stats

from unmask.metrics.numbers import correlation, regression, spearman


def test_scores_agree_with_the_reference() -> None:
    random = np.random.default_rng(0)
    gold = random.integers(0, 6, 200).astype(float)  # with ties
    answers = gold + random.normal(size=200)
    scores = regression(gold, answers)
    assert scores.spearman == pytest.approx(stats.spearmanr(gold, answers).statistic)
    assert scores.pearson == pytest.approx(stats.pearsonr(gold, answers).statistic)
    assert scores.rmse == pytest.approx(np.mean((gold - answers) ** 2) ** 0.5)
    assert scores.mae == pytest.approx(np.mean(abs(gold - answers)))
    low, high = scores.interval
    assert low < scores.spearman < high


def test_what_is_always_the_same_has_no_correlation() -> None:
    scores = regression(np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 2.0]))
    assert (scores.spearman, scores.pearson) == (0.0, 0.0)
    assert scores.interval == (0.0, 0.0)


def test_ranks_ignore_the_scale_and_a_line_is_perfect() -> None:
    values = np.array([1.0, 3.0, 2.0, 8.0])
    assert spearman(values, np.exp(values)) == pytest.approx(1.0)
    assert correlation(values, np.exp(values)) < 0.99
    assert correlation(values, 5 - 2 * values) == pytest.approx(-1.0)
