"""Classification: labels, pairs and scores."""

import pytest
from sklearn.metrics import accuracy_score, matthews_corrcoef

from tests import tiny
from unmask.errors import DataError
from unmask.predict import Predictor
from unmask.tasks.classification import Classification, ClassificationSettings, ClassPrediction


def test_unknown_label_names_the_nearest_one() -> None:
    rows = [{"text": "a", "label": "good"}, {"text": "b", "label": "goood"}]
    with pytest.raises(DataError, match="did you mean 'good'") as caught:
        tiny.classifier().encode(rows, is_training=True)
    assert caught.value.details["place"] == "text 2"
    assert caught.value.exit_code == 3


def test_probabilities_sum_to_one_and_the_answer_is_the_greatest() -> None:
    for answer in Predictor(tiny.classifier())(list(tiny.GOOD)):
        assert sum(answer.scores.values()) == pytest.approx(1.0)
        assert answer.score == max(answer.scores.values()) == answer.scores[answer.label]


def test_pairs_stand_as_published() -> None:
    settings = ClassificationSettings(labels=("a", "b"), text_column="one", pair_column="two")
    task = Classification(tiny.config(), tiny.tokenizer(), settings)
    (features,) = task.encode([{"one": "a fine film", "two": "a dull day"}])
    first, second = (piece.ids.tolist() for piece in tiny.tokenizer().encode(["a fine film", "a dull day"]))
    assert features.input_ids.tolist() == [0, *first, 2, 2, *second, 2]
    with pytest.raises(DataError, match="reads 2 text"):
        Predictor(task)(["only one"])
    assert len(Predictor(task)([("a fine film", "a dull day")])) == 1


def test_scores_agree_with_the_reference() -> None:
    gold = ["good", "bad", "bad", "good", "bad", "good", "good"]
    given = ["good", "good", "bad", "good", "bad", "bad", "good"]
    answers = [ClassPrediction(label, 1.0, {}) for label in given]
    scores = tiny.classifier().score(answers, [{"label": label} for label in gold])
    assert scores["accuracy"] == pytest.approx(accuracy_score(gold, given))
    assert scores["mcc"] == pytest.approx(matthews_corrcoef(gold, given))
    assert scores["confusion"] == [[2, 1], [1, 3]]
    assert scores["per_class"]["good"] == pytest.approx({"precision": 0.75, "recall": 0.75, "f1": 0.75, "rows": 4})
    low, high = scores["interval"]
    assert low < scores["accuracy"] < high
