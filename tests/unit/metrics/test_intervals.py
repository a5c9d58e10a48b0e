"""Intervals cover the truth about as often as they say."""

import numpy as np
import pytest

from unmask.metrics.intervals import bootstrap, bootstrap_rows


def test_bootstrap_covers_the_true_mean_at_about_its_level() -> None:
    random = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        low, high = bootstrap((random.random(200) < 0.7).astype(float), resamples=300, seed=trial)
        hits += low <= 0.7 <= high
    assert 0.90 <= hits / 200 <= 0.99


def test_bootstrap_of_equal_values_is_a_point() -> None:
    assert bootstrap(np.ones(50)) == (1.0, 1.0)


def test_rows_and_means_have_the_same_interval() -> None:
    values = np.random.default_rng(1).normal(size=300)
    means = bootstrap(values, resamples=4000)
    rows = bootstrap_rows(lambda chosen: float(values[chosen].mean()), 300, resamples=4000)
    assert rows == pytest.approx(means, abs=0.008)


def test_the_draw_is_a_pure_function_of_the_seed() -> None:
    values = np.random.default_rng(2).normal(size=40)

    def median(chosen: np.ndarray) -> float:
        return float(np.median(values[chosen]))

    assert bootstrap_rows(median, 40, seed=3) == bootstrap_rows(median, 40, seed=3)
    assert bootstrap_rows(median, 40, seed=3) != bootstrap_rows(median, 40, seed=4)
