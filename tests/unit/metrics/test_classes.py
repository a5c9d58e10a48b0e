"""Scores of classifiers beside their definitions."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from unmask.metrics import classes


def test_macro_f1_leaves_out_classes_that_never_occur() -> None:
    scores = classes.classification(["a", "a", "b"], ["a", "b", "b"], ["a", "b", "c"])
    assert scores.macro_f1 == pytest.approx(2 / 3)
    assert scores.per_class["c"]["rows"] == 0
    assert scores.confusion == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_mcc_of_a_constant_is_zero() -> None:
    assert classes.classification(["a", "a"], ["a", "a"], ["a", "b"]).mcc == 0.0


def test_no_answer_is_a_wrong_one() -> None:
    scores = classes.classification(["a", "a", "b", "b"], ["a", "", "b", "b"], ["a", "b"])
    assert scores.accuracy == 0.75
    assert scores.per_class["a"]["recall"] == 0.5
    assert scores.confusion == [[1, 0], [0, 2]]
    assert scores.macro_f1 == pytest.approx((2 / 3 + 1) / 2)


def test_scores_of_several_labels_agree_with_the_reference() -> None:
    random = np.random.default_rng(0)
    gold = (random.random((120, 5)) < [0.5, 0.3, 0.2, 0.1, 0.0]).astype(int)
    given = np.where(random.random((120, 5)) < 0.2, 1 - gold, gold)
    given[:, 4] = 0
    scores = classes.multi_label(gold, given, list("abcde"))
    assert scores.micro_f1 == pytest.approx(f1_score(gold, given, average="micro"))
    assert scores.macro_f1 == pytest.approx(f1_score(gold[:, :4], given[:, :4], average="macro"))
    assert scores.exact_match == np.mean([list(a) == list(b) for a, b in zip(gold, given, strict=True)])
    assert scores.per_class["b"]["f1"] == pytest.approx(f1_score(gold[:, 1], given[:, 1]))
    assert scores.per_class["e"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "rows": 0}
    assert scores.labels_per_row == gold.sum() / 120
    assert scores.answers_per_row == given.sum() / 120
    low, high = scores.interval
    assert low < scores.micro_f1 < high


def test_empty_sets_are_right_and_have_no_f1() -> None:
    nothing = np.zeros((3, 2), int)
    scores = classes.multi_label(nothing, nothing, ["a", "b"])
    assert (scores.exact_match, scores.micro_f1, scores.macro_f1) == (1.0, 0.0, 0.0)


def slow_f1(gold: np.ndarray, given: np.ndarray) -> float:
    return 2 * int((gold & given).sum()) / (int(gold.sum()) + int(given.sum()))


def test_the_best_threshold_is_the_one_that_a_search_finds() -> None:
    random = np.random.default_rng(1)
    for _ in range(20):
        gold = (random.random(40) < 0.3).astype(int)
        gold[0] = 1
        sure = np.round(np.clip(random.normal(0.3 + 0.3 * gold, 0.2), 0, 1), 1)  # with many ties
        found = classes.best_threshold(sure, gold)
        best = max(slow_f1(gold, sure >= value) for value in np.linspace(0.0, 1.0, 1001))
        assert slow_f1(gold, sure >= found) == pytest.approx(best)


def test_of_equal_thresholds_the_one_nearest_to_a_half_is_taken() -> None:
    assert classes.best_threshold(np.array([0.9, 0.1]), np.array([1, 0])) == 0.5
