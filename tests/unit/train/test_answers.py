"""The look at a model's answers beside plain loops."""

import numpy as np
import pytest

from tests import tiny
from unmask.tasks.classification import ClassPrediction
from unmask.train.answers import look_at


def test_rows_are_grouped_by_length_and_by_confidence() -> None:
    task = tiny.classifier()
    random = np.random.default_rng(0)
    rows = [{"text": "word " * (1 + index), "label": "good"} for index in range(50)]
    sure = random.random(50).tolist()
    answers = [ClassPrediction("good" if one > 0.4 else "bad", one, {}) for one in sure]
    found = look_at(task, answers, rows)
    right = [float(one.label == "good") for one in answers]
    assert sum(group.rows for group in found.by_length) == 50
    assert len(found.by_length) == 5
    first = found.by_length[0]
    assert (first.rows, first.score) == (10, pytest.approx(np.mean(right[:10])))
    for group in found.by_confidence:
        mine = [at for at, one in enumerate(sure) if int(one * 10) == int(group.low * 10)]
        assert group.rows == len(mine)
        assert group.value == pytest.approx(np.mean([sure[at] for at in mine]))
        assert group.score == pytest.approx(np.mean([right[at] for at in mine]))
    wrong = [one for one, ok in zip(sure, right, strict=True) if not ok]
    assert found.num_mistakes == len(wrong)
    assert [one.score for one in found.mistakes] == sorted(wrong, reverse=True)[:20]
