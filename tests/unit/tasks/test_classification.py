"""Classification: labels, windows, several labels, weights, calibration and scores."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import special
from sklearn.metrics import accuracy_score, matthews_corrcoef

from tests import tiny
from unmask.config import resolve
from unmask.data.rows import Table
from unmask.errors import DataError, UsageError
from unmask.evaluate import evaluate
from unmask.predict import Predictor
from unmask.tasks.base import Row
from unmask.tasks.class_answers import ClassPrediction
from unmask.tasks.class_reader import ClassificationSettings
from unmask.tasks.classification import Classification
from unmask.train.finetune import finetune

LONG = "the cat sat on the mat and looked at the moon " * 12


def classifier(labels: Sequence[str] = ("bad", "good"), **changes: Any) -> Classification:
    settings = ClassificationSettings(labels=tuple(labels), head_dropout=0.0, **changes)
    task = Classification(tiny.config(), tiny.tokenizer(), settings)
    task.init_weights(0)
    return task.eval()


def table(rows: Sequence[Row]) -> Table:
    return Table(Path("rows.jsonl"), tuple(rows[0]), list(map(dict, rows)), list(range(1, len(rows) + 1)))


def labelled(*labels: str | list[str]) -> list[Row]:
    return [{"text": tiny.GOOD[at % 4], "label": label} for at, label in enumerate(labels)]


# Labels that are not there


def test_ds1_unknown_labels_are_counted_with_the_nearest_class() -> None:
    rows = labelled("good", "goood", "bad", "goood", "awful")
    with pytest.raises(DataError, match=r"did you mean 'good'\? \(2 rows\); others too: 'awful' \(1\)") as caught:
        classifier().encode(rows, is_training=True)
    assert caught.value.details["place"] == "text 2"
    assert caught.value.details["expected"] == "one of bad, good"
    assert caught.value.exit_code == 3


def test_ds1_a_label_of_the_test_file_that_training_had_not_is_an_error_with_its_line() -> None:
    with pytest.raises(DataError, match="'posative' in column 'label'") as caught:
        evaluate(Predictor(classifier(["negative", "positive"])), table(labelled("positive", "negative", "posative")))
    assert caught.value.details["place"] == "rows.jsonl:3"
    assert "did you mean 'positive'?" in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "wrong", "near"),
    [
        (("0", "1"), "2", None),
        (("0", "1"), "-1", "1"),
        (("0", "1"), "1.0", "1"),
        (("0", "1"), "01", "1"),
        (("false", "true"), "True", "true"),
        (("bad", "good"), "GOOD", "good"),
    ],
)
def test_ds2_numbers_and_truth_values_out_of_the_set_are_named(
    labels: tuple[str, ...], wrong: str, near: str | None
) -> None:
    with pytest.raises(DataError) as caught:
        classifier(labels).encode(labelled(labels[1], wrong), is_training=True)
    assert caught.value.code == "unknown-label"
    assert caught.value.details["place"] == "text 2"
    assert (f"did you mean '{near}'?" in caught.value.reason) == (near is not None)


def test_ds12_a_list_is_no_single_label() -> None:
    with pytest.raises(DataError, match="several values where one is wanted") as caught:
        classifier().encode(labelled("good", ["good", "bad"]), is_training=True)
    assert "multi_label" in str(caught.value)


# Inputs


def test_pairs_stand_as_published() -> None:
    settings = ClassificationSettings(labels=("a", "b"), text_column="one", pair_column="two")
    task = Classification(tiny.config(), tiny.tokenizer(), settings)
    (features,) = task.encode([{"one": "a fine film", "two": "a dull day"}])
    first, second = (piece.ids.tolist() for piece in tiny.tokenizer().encode(["a fine film", "a dull day"]))
    assert features.input_ids.tolist() == [0, *first, 2, 2, *second, 2]
    with pytest.raises(DataError, match="reads 2 text"):
        Predictor(task)(["only one"])
    assert len(Predictor(task)([("a fine film", "a dull day")])) == 1


def test_ds13_a_long_text_is_read_in_windows_with_its_label() -> None:
    task = classifier(stride=20)
    rows = [{"text": "short", "label": "bad"}, {"text": LONG, "label": "good"}]
    features = task.encode(rows, is_training=True)
    assert [one.row for one in features] == [0] + [1] * (len(features) - 1)
    assert [one.label for one in features] == [0] + [1] * (len(features) - 1)
    assert all(len(one) <= task.config.max_length and one.num_truncated == 0 for one in features)
    (pieces,) = tiny.tokenizer().encode([LONG])
    seen = [piece for at, one in enumerate(features[1:]) for piece in one.input_ids[1:-1][-20 if at else 0 :]]
    assert len(seen) >= len(pieces.ids)
    assert features[2].input_ids[1:-1].tolist() == pieces.ids[20 : 20 + 62].tolist()


def test_ds13_probabilities_of_a_long_text_are_the_mean_of_its_windows() -> None:
    task = classifier(temperature=0.5)
    (answer,) = Predictor(task)([LONG])
    with torch.inference_mode():
        logits = torch.cat([task(task.collate([one])) for one in task.encode([{"text": LONG}])]).numpy()
    assert answer.num_windows == len(logits) > 1
    assert list(answer.scores.values()) == pytest.approx(special.softmax(logits / 0.5, axis=1).mean(0), abs=1e-5)


@pytest.mark.parametrize("is_first_longer", [True, False])
def test_the_longer_text_of_a_pair_moves_and_the_other_stands_in_every_window(is_first_longer: bool) -> None:
    task = classifier(pair_column="pair")
    texts = (LONG, "a fine day") if is_first_longer else ("a fine day", LONG)
    features = task.encode([dict(zip(("text", "pair"), texts, strict=True))])
    (short,) = tiny.tokenizer().encode(["a fine day"])
    assert len(features) > 2
    for one in features:
        ids = one.input_ids[1:-1].tolist()
        size = len(short.ids)
        assert (ids[-size:] if is_first_longer else ids[:size]) == short.ids.tolist()
        assert one.num_truncated == 0


def test_what_a_pair_of_long_texts_loses_is_counted_once(caplog: pytest.LogCaptureFixture) -> None:
    task = classifier(pair_column="pair")
    with caplog.at_level("WARNING", "unmask"):
        answer, _ = Predictor(task)([(LONG, LONG + LONG), ("a", "b")])
    (pieces,) = tiny.tokenizer().encode([LONG])
    features = task.encode([{"text": LONG, "pair": LONG + LONG}])
    lost = len(pieces.ids) - (task.config.max_length - 4) // 2
    assert [one.num_truncated for one in features] == [lost] + [0] * (len(features) - 1)
    assert answer.truncated_share == pytest.approx(lost / (lost + sum(len(one) for one in features)))
    assert "1 of 2 texts are longer" in caplog.text
    cut = classifier(pair_column="pair", long_texts="cut")
    (whole,) = cut.encode([{"text": LONG, "pair": LONG}])
    assert whole.num_truncated == 2 * len(pieces.ids) - (task.config.max_length - 4)


# Answers


def test_probabilities_sum_to_one_and_the_answer_is_the_greatest() -> None:
    for answer in Predictor(classifier())(list(tiny.GOOD)):
        assert sum(answer.scores.values()) == pytest.approx(1.0)
        assert answer.score == max(answer.scores.values()) == answer.scores[answer.label]


def test_the_first_classes_are_listed_when_asked_for() -> None:
    (answer,) = Predictor(classifier(["a", "b", "c"], top_k=2))(["a fine day"])
    assert [name for name, _ in answer.top] == sorted(answer.scores, key=answer.scores.__getitem__, reverse=True)[:2]
    assert answer.summary() == "\t".join(f"{name}\t{score:.4f}" for name, score in answer.top)
    (plain,) = Predictor(classifier(["a", "b", "c"]))(["a fine day"])
    assert plain.top == ()
    assert plain.summary() == f"{plain.label}\t{plain.score:.4f}"


def test_below_a_probability_there_is_no_answer_and_coverage_is_told() -> None:
    task = classifier(abstain_below=0.6)
    answers = [
        task.answers.answer(np.array(sure), truncated_share=0.0, num_windows=1)
        for sure in ([0.9, 0.1], [0.2, 0.8], [0.55, 0.45], [0.45, 0.55])
    ]
    assert [one.label for one in answers] == ["bad", "good", None, None]
    assert answers[2].summary() == "(no answer)\t0.5500"
    scores = task.score(answers, labelled("bad", "bad", "bad", "bad"))
    assert (scores["accuracy"], scores["coverage"], scores["accuracy_answered"]) == (0.25, 0.5, 0.5)
    assert "coverage" not in classifier().score(answers, labelled("bad", "bad", "bad", "bad"))


def test_scores_agree_with_the_reference() -> None:
    gold = ["good", "bad", "bad", "good", "bad", "good", "good"]
    given = ["good", "good", "bad", "good", "bad", "bad", "good"]
    answers = [ClassPrediction(label, 1.0, {}) for label in given]
    scores = classifier().score(answers, [{"label": label} for label in gold])
    assert scores["accuracy"] == pytest.approx(accuracy_score(gold, given))
    assert scores["mcc"] == pytest.approx(matthews_corrcoef(gold, given))
    assert scores["confusion"] == [[2, 1], [1, 3]]
    assert scores["per_class"]["good"] == pytest.approx({"precision": 0.75, "recall": 0.75, "f1": 0.75, "rows": 4})
    assert scores["calibration_error"] == pytest.approx(2 / 7)
    low, high = scores["interval"]
    assert low < scores["accuracy"] < high


def test_mistakes_come_with_probabilities() -> None:
    task = classifier(["a", "b", "c"])
    answer = task.answers.answer(np.array([0.7, 0.1, 0.2]), truncated_share=0.0, num_windows=1)
    (mistake,) = task.mistakes([answer, answer], labelled("b", "a"))
    assert (mistake.label, mistake.answer, mistake.score) == ("b", "a 0.70, c 0.20, b 0.10", 0.7)


# Loss


def losses(task: Classification, rows: Sequence[Row]) -> float:
    batch = task.collate(task.encode(rows, is_training=True))
    with torch.no_grad():
        return float(task.loss(task(batch), batch))


def test_balanced_weights_make_classes_count_alike() -> None:
    plain = classifier()
    balanced = classifier(class_weights="balanced", class_shares=(0.2, 0.8))
    given = classifier(class_weights=(2.5, 0.625))
    bad, good = labelled("bad"), labelled("good")
    assert losses(balanced, bad) == pytest.approx(losses(plain, bad) / (2 * 0.2), rel=1e-5)
    assert losses(balanced, good) == pytest.approx(losses(plain, good) / (2 * 0.8), rel=1e-5)
    assert losses(balanced, bad + good) == pytest.approx(losses(given, bad + good), rel=1e-5)
    rare = classifier(class_weights="balanced", class_shares=(0.0001, 0.9999))
    assert losses(rare, bad) == pytest.approx(100 * losses(plain, bad), rel=1e-5)


def test_smoothing_spreads_a_share_over_all_classes() -> None:
    plain, smooth = classifier(), classifier(label_smoothing=0.2)
    bad, good = losses(plain, labelled("bad")), losses(plain, [{"text": tiny.GOOD[0], "label": "good"}])
    assert losses(smooth, labelled("bad")) == pytest.approx(0.9 * bad + 0.1 * good, rel=1e-5)


@pytest.mark.parametrize(
    "wrong", [{"class_weights": (1.0,)}, {"thresholds": (0.5, 0.5, 0.5)}, {"class_weights": "balanced"}]
)
def test_one_value_a_class_is_asked_for(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"values for 2 classes|needs class_shares"):
        resolve(ClassificationSettings, {"labels": ("a", "b")}, wrong)


def test_flags_give_lists_with_commas() -> None:
    found = resolve(ClassificationSettings, {"labels": ("a", "b")}, {"class_weights": "1,2.5", "thresholds": "0.3,0.4"})
    assert (found.class_weights, found.thresholds) == ((1.0, 2.5), (0.3, 0.4))


# Calibration


def test_the_temperature_is_fitted_on_dev_and_changes_probabilities_but_no_answer() -> None:
    rows = [{"text": text, "label": label} for text in (*tiny.GOOD, *tiny.BAD) for label in ("bad", "good")] * 4
    task = classifier()
    with torch.no_grad():
        task.head.out.weight.mul_(600)  # sure of itself, and no better than chance
    before = Predictor(task).predict_rows(rows, is_labelled=True)
    result = evaluate(Predictor(task), table(rows), fit=True)
    assert task.settings.temperature > 2.0
    assert result.scores["temperature"] == task.settings.temperature
    assert result.scores["calibration_error"] < result.scores["calibration_error_before"]
    assert [one.label for one in result.predictions] == [one.label for one in before]
    assert result.predictions[0].score < before[0].score


def test_the_temperature_of_several_labels_is_fitted_on_all_decisions() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(2000, 3)) * 2
    gold = random.random((2000, 3)) < special.expit(logits)
    rows = labelled(*([name for name, there in zip("abc", row, strict=True) if there] for row in gold))
    found = several().fit_to_dev([[one] for one in 3 * logits], [[]] * 2000, rows)
    assert found.settings["temperature"] == pytest.approx(3.0, rel=0.06)
    assert found.scores["calibration_error_before"] > 0.05


@pytest.mark.parametrize(("changes", "kept"), [({"calibrate": False}, 1.0), ({"temperature": 0.5}, 0.5)])
def test_no_temperature_is_fitted_when_it_is_not_wanted(changes: dict[str, Any], kept: float) -> None:
    task = classifier(**changes)
    result = evaluate(Predictor(task), table(labelled("bad", "good", "bad", "good")), fit=True)
    assert task.settings.temperature == kept
    assert "temperature" not in result.scores


# Several labels


def several(**changes: Any) -> Classification:
    return classifier(["a", "b", "c"], multi_label=True, **changes)


def test_cells_and_lists_become_the_same_targets() -> None:
    task = several()
    features = task.encode(labelled("a|c", ["c", "a"], "", [], " b "), is_training=True)
    assert np.array([one.label for one in features]).tolist() == [[1, 0, 1], [1, 0, 1], [0, 0, 0], [0, 0, 0], [0, 1, 0]]
    assert task.main_metric == "micro_f1"
    other = several(label_separator=";")
    assert other.encode(labelled("a;b"), is_training=True)[0].label.tolist() == [1, 1, 0]


def test_ds1_unknown_labels_among_several_are_counted() -> None:
    with pytest.raises(DataError, match=r"the label 'd' .* \(2 rows\); others too: 'B' \(1\)") as caught:
        several().encode(labelled("a|b", "a|d", "d", "B"), is_training=True)
    assert caught.value.details["place"] == "text 2"


def test_every_class_at_its_threshold_is_answered() -> None:
    sure = np.array([0.5, 0.49, 0.9])
    assert several().answers.answer(sure, truncated_share=0, num_windows=1).labels == ("a", "c")
    picky = several(thresholds=(0.6, 0.4, 0.95)).answers.answer(sure, truncated_share=0, num_windows=1)
    assert picky.labels == ("b",)
    assert picky.summary() == "b 0.4900"
    nothing = several(thresholds=(1.0,)).answers.answer(sure, truncated_share=0, num_windows=1)
    assert (nothing.labels, nothing.summary()) == ((), "(none)")


def test_scores_of_several_labels() -> None:
    task = several()
    give = [task.answers.answer(np.array(p), truncated_share=0, num_windows=1) for p in ([0.9, 0.1, 0.8], [0.2] * 3)]
    scores = task.score(give, labelled("a|c", "b"))
    assert (scores["exact_match"], scores["micro_f1"]) == (0.5, pytest.approx(0.8))
    assert task.row_scores(give, labelled("a|b", "")) == [0.5, 1.0]
    first, second = task.mistakes(give, labelled("a|b", "b"))
    assert (first.label, first.answer, first.score) == ("a | b", "a 0.90, c 0.80", pytest.approx(0.9))
    assert (second.label, second.answer) == ("b", "a 0.20, b 0.20, c 0.20")


def test_balanced_weights_of_several_labels_weigh_their_presence() -> None:
    shares = (0.25, 0.5, 0.001)
    task = several(class_weights="balanced", class_shares=shares)
    logits = torch.tensor([[0.3, -1.0, 2.0]])
    batch = task.collate(task.encode(labelled("a|c"), is_training=True))
    p = special.expit(logits.numpy()[0])
    want = -(3 * np.log(p[0]) + np.log(1 - p[1]) + 100 * np.log(p[2])) / 3
    assert float(task.loss(logits, batch)) == pytest.approx(want, rel=1e-5)


def test_thresholds_are_fitted_for_classes_with_enough_dev_rows() -> None:
    task = several(fit_thresholds="each", calibrate=False)
    rows = labelled(*(["a", "b"] if at < 6 else ["c"] if at == 6 else [] for at in range(12)))
    logits = np.array([[-1.0 if at < 6 else -2.0, 3.0 if at < 6 else 2.0, 0.0] for at in range(12)])
    found = task.fit_to_dev([[one] for one in logits], [[]] * 12, rows).settings["thresholds"]
    assert special.expit(-2.0) < found[0] < special.expit(-1.0)
    assert special.expit(2.0) < found[1] < special.expit(3.0)
    assert found[2] == 0.5


def test_a_shared_threshold_is_fitted_unless_one_is_set() -> None:
    rows = labelled(*(["a"] if at < 6 else ["c"] if at < 9 else [] for at in range(12)))
    logits = np.array([[-3.0 if at < 6 else -5.0, -6.0, -3.2 if 6 <= at < 9 else -5.5] for at in range(12)])
    parts, features = [[one] for one in logits], [[]] * 12
    found = several(calibrate=False).fit_to_dev(parts, features, rows).settings
    (threshold,) = found["thresholds"]
    given = special.expit(logits) >= threshold
    right = several().answers.targets(rows, str) > 0
    assert (given == right).all(), "at 0.5 there would be no answer at all"
    for fixed in ({"thresholds": (0.5,)}, {"fit_thresholds": "none"}):
        assert "thresholds" not in several(calibrate=False, **fixed).fit_to_dev(parts, features, rows).settings
    assert not several(calibrate=False).fit_to_dev(parts[:2], features[:2], rows[:2]).settings, "too few rows"


def test_rows_are_split_by_their_rarest_class() -> None:
    settings = several(class_shares=(0.6, 0.1, 0.3)).settings
    strata = [Classification.stratum(row, settings) for row in labelled("a|b|c", ["c", "a"], "a", "")]
    assert strata == ["b", "c", "a", ""]


# What a file says


def test_a_file_with_several_labels_is_understood() -> None:
    rows = [{"body": f"text number {at}", "topics": ["x", "y"] if at % 3 else ["x"]} for at in range(30)]
    found = Classification.understand(table(rows), {})
    assert found.settings["multi_label"] is True
    assert found.settings["labels"] == ("x", "y")
    assert found.settings["class_shares"] == (1.0, pytest.approx(2 / 3))
    assert found.notes == ["text: body | label: topics | 2 classes, 1.67 a row: x, y"]


def test_shares_stand_in_the_order_of_labels_that_are_named() -> None:
    rows = labelled("bad", "bad", "bad", "good")
    options = {"labels": ["good", "none", "bad"], "class_weights": "balanced"}
    found = resolve(ClassificationSettings, Classification.understand(table(rows), options).settings, options)
    assert (found.labels, found.class_shares) == (("good", "none", "bad"), (0.25, 0.0, 0.75))
    task = classifier(found.labels, class_shares=found.class_shares, class_weights="balanced")
    assert np.isfinite(losses(task, rows))
    few = resolve(ClassificationSettings, Classification.understand(table(rows), {"labels": ["bad"]}).settings)
    with pytest.raises(DataError, match=r"the label 'good' .* none of the model's classes .*\(1 rows\)"):
        classifier(few.labels, class_shares=few.class_shares).encode(rows, is_training=True)


def test_options_are_heard_before_the_classes_are_looked_for() -> None:
    rows = table(labelled("a;b", "b", "c", "a|b"))
    assert Classification.understand(rows, {"label_separator": ";"}).settings["labels"] == ("a", "a|b", "b", "c")
    whole = Classification.understand(rows, {"multi_label": "false"}).settings
    assert (whole["multi_label"], whole["labels"]) == (False, ("a;b", "a|b", "b", "c"))


def test_ds12_uneven_classes_come_with_advice() -> None:
    notes = Classification.understand(table(labelled(*["no"] * 40, "yes")), {}).notes
    assert any("class_weights balanced" in note for note in notes)
    assert any("one row each ('yes')" in note for note in notes)


def test_what_is_fitted_at_the_end_of_training_is_kept_in_the_folder(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    texts = [(text, ["fine"]) for text in tiny.GOOD] + [(text, ["dull", "sad"]) for text in tiny.BAD]
    lines = [json.dumps({"text": f"{text} {at}", "topics": names}) for at in range(6) for text, names in texts]
    path.write_text("\n".join(lines))
    small = {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2}
    given = {"epochs": 2, "model": small, "options": {"fit_thresholds": "each"}, "machine": {"dtype": "float32"}}
    found = finetune(path, tmp_path / "run", given=(given,))
    assert found.main_metric == "micro_f1"
    predictor = Predictor.load(found.model)
    settings = predictor.task.settings
    assert settings.multi_label
    assert settings.temperature == found.scores["temperature"] != 1.0
    assert len(settings.thresholds) == 3
    assert list(predictor([texts[0][0]])[0].scores) == ["dull", "fine", "sad"]


@pytest.mark.parametrize(("old", "new"), [(False, "none"), (True, "each"), ("true", "each"), ("shared", "shared")])
def test_settings_of_older_folders_are_read(old: object, new: str) -> None:
    settings = resolve(ClassificationSettings, {"labels": ["a", "b"], "fit_thresholds": old})
    assert settings.fit_thresholds == new


def test_another_way_to_fit_is_named() -> None:
    with pytest.raises(UsageError, match="'none', 'shared' or 'each'"):
        resolve(ClassificationSettings, {"labels": ["a", "b"], "fit_thresholds": ["all"]})
