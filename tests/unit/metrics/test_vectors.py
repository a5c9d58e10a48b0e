"""Retrieval, uniformity, analogies and agreement against slow loops."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from unmask.metrics import vectors as metrics

RNG = np.random.default_rng(3)


def test_retrieval_equals_a_slow_loop_and_a_tie_never_flatters() -> None:
    queries, candidates = RNG.normal(size=(30, 4)), RNG.normal(size=(20, 4))
    candidates[7] = candidates[3] * 2  # the same direction
    targets = RNG.integers(0, 20, 30)
    targets[0] = 3
    ranks, nearest = [], []
    for query, target in zip(queries, targets, strict=True):
        scores = [float(query @ one) / math.sqrt(float(query @ query) * float(one @ one)) for one in candidates]
        ranks.append(sum(score >= scores[target] - 1e-6 for score in scores))
        nearest.append(max((at for at in range(20) if at != target), key=lambda at: scores[at]))
    found = metrics.retrieval(queries, candidates, targets)
    assert found.ranks.tolist() == ranks
    assert [{7: 3}.get(at, at) for at in found.nearest.tolist()] == [{7: 3}.get(at, at) for at in nearest]
    assert found.mrr == pytest.approx(np.mean([1 / rank for rank in ranks]))
    assert found.recall_at_10 == np.mean([rank <= 10 for rank in ranks])
    same = metrics.retrieval(np.ones((5, 3)), np.ones((5, 3)), np.arange(5))
    assert same.recall_at_1 == 0, "vectors that are all the same find nothing"


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    points, targets = RNG.normal(size=(50, 6)).astype(np.float32), RNG.permutation(50)
    asked = RNG.integers(0, 50, (40, 3))
    whole = metrics.retrieval(points, points[::-1], targets).ranks, metrics.uniformity(points)
    answers = metrics.solve_analogies(points, asked)
    monkeypatch.setattr(metrics, "_CHUNK", 7)
    assert metrics.retrieval(points, points[::-1], targets).ranks.tolist() == whole[0].tolist()
    assert metrics.uniformity(points) == pytest.approx(whole[1], rel=1e-5)
    assert metrics.solve_analogies(points, asked).tolist() == answers.tolist()


def test_uniformity_and_alignment_are_those_of_the_paper() -> None:
    points = RNG.normal(size=(12, 5))
    unit = [point / math.sqrt(sum(point**2)) for point in points]
    pairs = [math.exp(-2 * sum((a - b) ** 2)) for i, a in enumerate(unit) for j, b in enumerate(unit) if i != j]
    assert metrics.uniformity(points) == pytest.approx(math.log(sum(pairs) / len(pairs)), rel=1e-4)
    assert metrics.uniformity(np.ones((4, 3))) == pytest.approx(0, abs=1e-6)
    distances = [sum((a - b) ** 2) for a, b in itertools.pairwise(unit)]
    assert metrics.alignment(points[:-1], points[1:]) == pytest.approx(np.mean(distances), rel=1e-4)


def test_analogies_are_answered_by_3cosadd_without_the_words_of_the_question() -> None:
    words = RNG.normal(size=(15, 4))
    asked = np.array([RNG.permutation(15)[:3] for _ in range(25)])
    unit = words / np.linalg.norm(words, axis=1, keepdims=True)
    for (a, b, c), answer in zip(asked, metrics.solve_analogies(words, asked), strict=True):
        goal = unit[b] - unit[a] + unit[c]
        assert answer == max((at for at in range(15) if at not in (a, b, c)), key=lambda at: float(unit[at] @ goal))
    assert metrics.solve_analogies(words[:3], np.array([[0, 1, 2]])).tolist() == [-1]


def test_agreement_equals_scipy() -> None:
    gold = RNG.integers(0, 5, 40)
    found = gold + RNG.normal(size=40)
    result = metrics.agreement(found, gold)
    assert result.spearman == pytest.approx(stats.spearmanr(found, gold).statistic)
    assert result.pearson == pytest.approx(stats.pearsonr(found, gold).statistic)
    assert result.interval[0] < result.spearman < result.interval[1]
    assert metrics.agreement([1.0, 1.0, 1.0], [1, 2, 3]).spearman == 0
