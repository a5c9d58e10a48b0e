"""Scores of spans against seqeval."""

import random

import pytest
from seqeval.metrics import classification_report, f1_score, precision_score, recall_score

from unmask.data.tags import chunks_of
from unmask.metrics.spans import NONE, prf, sentence_f1, span_scores

POOL = ["O", "O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG"]


def sentences(seed: int, count: int = 150) -> list[list[str]]:
    rng = random.Random(seed)
    return [rng.choices(POOL, k=rng.randint(1, 12)) for _ in range(count)]


def spans(tags: list[str]) -> list[tuple[int, int, str]]:
    return [(one.first, one.end, one.label) for one in chunks_of(tags)]


@pytest.mark.parametrize("seed", [0, 1])
def test_figures_are_those_of_seqeval(seed: int) -> None:
    gold = sentences(seed)
    rng = random.Random(seed + 10)
    found = [[tag if rng.random() < 0.8 else rng.choice(POOL) for tag in tags] for tags in gold]
    scores = span_scores([spans(one) for one in gold], [spans(one) for one in found])
    assert scores.f1 == pytest.approx(f1_score(gold, found))
    assert scores.precision == pytest.approx(precision_score(gold, found))
    assert scores.recall == pytest.approx(recall_score(gold, found))
    report = classification_report(gold, found, output_dict=True)
    assert scores.macro_f1 == pytest.approx(report["macro avg"]["f1-score"])
    for name, one in scores.per_class.items():
        want = report[name]
        assert one == pytest.approx(
            {"precision": want["precision"], "recall": want["recall"], "f1": want["f1-score"], "rows": want["support"]}
        )
    low, high = scores.interval
    assert low < scores.f1 < high
    assert high - low < 0.2


def test_the_interval_narrows_with_more_sentences() -> None:
    widths = []
    for count in (30, 300):
        gold = sentences(3, count)
        found = [tags if at % 3 else ["O"] * len(tags) for at, tags in enumerate(gold)]
        low, high = span_scores([spans(one) for one in gold], [spans(one) for one in found]).interval
        widths.append(high - low)
    assert 2 < widths[0] / widths[1] < 5  # the root of ten, about


def test_confusion_counts_labels_of_the_same_edges() -> None:
    gold = [[(0, 1, "A"), (2, 4, "B"), (5, 6, "A")], []]
    found = [[(0, 1, "B"), (2, 4, "B")], [(0, 9, "A")]]
    scores = span_scores(gold, found)
    assert scores.labels == ["A", "B", NONE]
    assert scores.confusion == [[0, 1, 1], [0, 1, 0], [1, 0, 0]]
    assert span_scores([[(0, 1, "A")]], [[(0, 1, "B")]]).labels == ["A", "B"]


def test_nothing_to_find() -> None:
    scores = span_scores([[], []], [[], []])
    assert (scores.f1, scores.interval, scores.per_class) == (0.0, (0.0, 0.0), {})
    assert prf(0, 0, 3) == (0.0, 0.0, 0.0)
    assert sentence_f1([], []) == 1.0
    assert sentence_f1([(0, 1, "A")], []) == 0.0
    assert sentence_f1([(0, 1, "A"), (2, 3, "A")], [(0, 1, "A")]) == pytest.approx(2 / 3)
