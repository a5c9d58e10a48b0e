"""Calibration beside its definition and beside known temperatures."""

import numpy as np
import pytest
from scipy import special

from unmask.metrics.calibration import calibration_error, fit_temperature, mean_sigmoid, mean_softmax


def slow_error(confidences: np.ndarray, hits: np.ndarray, bins: int) -> float:
    """Guo et al. 2017, equation 3, as it is written; bins hold their lower border."""
    total = 0.0
    for at in range(bins):
        inside = [
            index
            for index, value in enumerate(confidences)
            if at / bins <= value < (at + 1) / bins or (value == 1.0 and at == bins - 1)
        ]
        if inside:
            gap = abs(np.mean(hits[inside]) - np.mean(confidences[inside]))
            total += len(inside) / len(confidences) * gap
    return total


def test_the_calibration_error_is_the_one_defined() -> None:
    random = np.random.default_rng(0)
    confidences = np.append(random.random(300), [0.0, 1.0])
    hits = (random.random(302) < confidences**2).astype(float)
    assert calibration_error(confidences, hits, bins=10) == pytest.approx(slow_error(confidences, hits, 10))
    assert calibration_error(np.array([0.75] * 4), np.array([1, 1, 1, 0])) == 0.0
    assert calibration_error(np.ones(4), np.zeros(4)) == 1.0


@pytest.mark.parametrize("heat", [0.4, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(heat: float) -> None:
    random = np.random.default_rng(1)
    logits = random.normal(size=(5000, 4)) * 2
    gold = np.array([random.choice(4, p=row) for row in special.softmax(logits, axis=1)])
    starts = np.arange(5000)

    def loss(found: float) -> float:
        return float(-np.log(mean_softmax(logits * heat, starts, found)[starts, gold]).sum())

    assert fit_temperature(loss) == pytest.approx(heat, rel=0.06)


def test_a_few_rows_that_are_all_right_make_nobody_sure() -> None:
    logits, starts = np.tile([[2.0, 0.0]], (10, 1)), np.arange(10)

    def loss(heat: float) -> float:
        return float(-np.log(mean_softmax(logits, starts, heat)[:, 0]).sum())

    assert 0.4 < fit_temperature(loss) < 0.8  # without a pull towards 1 it would be the least that is allowed


def test_probabilities_are_the_mean_of_the_windows() -> None:
    logits = np.random.default_rng(2).normal(size=(6, 3)).astype(np.float32)
    starts = np.array([0, 1, 4])
    one, many = mean_softmax(logits, starts, 2.0), mean_sigmoid(logits, starts, 2.0)
    for row, (start, end) in enumerate([(0, 1), (1, 4), (4, 6)]):
        windows = logits[start:end].astype(float) / 2.0
        assert one[row] == pytest.approx(np.mean([special.softmax(each) for each in windows], axis=0))
        assert many[row] == pytest.approx(np.mean([1 / (1 + np.exp(-each)) for each in windows], axis=0))
    assert one.sum(1) == pytest.approx(np.ones(3))
