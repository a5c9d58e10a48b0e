"""Metrics beside their definitions."""

import numpy as np
import pytest

from unmask.metrics import classes
from unmask.metrics.intervals import bootstrap


def test_bootstrap_covers_the_true_mean_at_about_its_level() -> None:
    random = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        low, high = bootstrap((random.random(200) < 0.7).astype(float), resamples=300, seed=trial)
        hits += low <= 0.7 <= high
    assert 0.90 <= hits / 200 <= 0.99


def test_bootstrap_of_equal_values_is_a_point() -> None:
    assert bootstrap(np.ones(50)) == (1.0, 1.0)


def test_macro_f1_leaves_out_classes_that_never_occur() -> None:
    scores = classes.classification(["a", "a", "b"], ["a", "b", "b"], ["a", "b", "c"])
    assert scores.macro_f1 == pytest.approx(2 / 3)
    assert scores.per_class["c"]["rows"] == 0
    assert scores.confusion == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_mcc_of_a_constant_is_zero() -> None:
    assert classes.classification(["a", "a"], ["a", "a"], ["a", "b"]).mcc == 0.0
