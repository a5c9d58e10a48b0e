"""The paired bootstrap beside the exact sign test, and its false alarms."""

import numpy as np
import pytest
from scipy import stats

from unmask.metrics.paired import Comparison, paired_bootstrap


def compared(first: np.ndarray, second: np.ndarray, **options: int) -> Comparison:
    return paired_bootstrap(lambda rows: (first[rows].mean(), second[rows].mean()), len(first), **options)


def test_equal_models_do_not_differ() -> None:
    right = (np.arange(100) % 3 > 0).astype(float)
    found = compared(right, right)
    assert (found.difference, found.interval, found.p_value) == (0.0, (0.0, 0.0), 1.0)
    assert not found.is_significant


@pytest.mark.parametrize(("better", "worse"), [(30, 10), (14, 10), (40, 31), (22, 5)])
def test_p_is_near_the_exact_sign_test(better: int, worse: int) -> None:
    first, second = np.ones(400), np.ones(400)
    first[:better], second[better : better + worse] = 0.0, 0.0
    exact = stats.binomtest(better, better + worse).pvalue
    found = compared(first, second, resamples=4000)
    assert found.difference == pytest.approx((better - worse) / 400)
    assert found.interval[0] < found.difference < found.interval[1]
    assert found.p_value == pytest.approx(exact, rel=0.6, abs=0.005)


def test_one_of_twenty_comparisons_of_equal_models_is_a_false_alarm() -> None:
    random = np.random.default_rng(0)
    alarms = 0
    for trial in range(200):
        first, second = (random.random((2, 150)) < 0.8).astype(float)
        alarms += compared(first, second, resamples=200, seed=trial).is_significant
    assert 2 <= alarms <= 22


def test_no_rows_are_an_error() -> None:
    with pytest.raises(ValueError, match="no rows"):
        compared(np.zeros(0), np.zeros(0))
