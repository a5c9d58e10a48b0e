"""Zero-shot classification: the pairs that are asked, how logits become answers, and which models can be asked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import special

from tests import tiny
from unmask.checkpoint import load_model
from unmask.cli import main
from unmask.data.rows import Table
from unmask.errors import UsageError
from unmask.evaluate import evaluate
from unmask.predict import Predictor, build_task
from unmask.tasks.class_reader import ClassificationSettings
from unmask.tasks.classification import Classification
from unmask.tasks.zero_reader import ZeroShotSettings
from unmask.tasks.zero_shot import ZeroShot

NLI = ("contradiction", "neutral", "entailment")
TOPICS = ("sport", "a very long name for politics")


def zero_shot(labels: Sequence[str] = NLI, **changes: Any) -> ZeroShot:
    settings = {"candidate_labels": TOPICS, "template": "About {}."} | changes
    task = ZeroShot(tiny.config(), tiny.tokenizer(), ZeroShotSettings(labels=tuple(labels), **settings))
    task.init_weights(0)
    with torch.no_grad():
        task.head.out.weight.mul_(20)
    return task.eval()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A classifier of pairs, as fine-tuning on inference writes it."""
    settings = ClassificationSettings(labels=NLI, text_column="premise", pair_column="hypothesis", head_dropout=0.0)
    task = Classification(tiny.config(), tiny.tokenizer(), settings)
    task.init_weights(0)
    return tiny.saved(task, tmp_path / "nli")


def logits_of(task: ZeroShot, text: str) -> np.ndarray:
    """Logits of each class, (classes, 3), by a plain classifier of pairs."""
    classifier = Classification(task.config, task.tokenizer, ClassificationSettings(labels=NLI, pair_column="pair"))
    classifier.load_state_dict(task.state_dict())
    rows = [{"text": text, "pair": f"About {name}."} for name in TOPICS]
    with torch.inference_mode():
        logits: np.ndarray = classifier.eval()(classifier.collate(classifier.encode(rows))).numpy()
    return logits


def test_one_class_by_softmax_of_entailment() -> None:
    task = zero_shot()
    (answer,) = Predictor(task)(["the cat sat"])
    want = special.softmax(logits_of(task, "the cat sat")[:, 2])
    assert list(answer.scores.values()) == pytest.approx(want, abs=1e-5)
    assert answer.label == TOPICS[int(want.argmax())]


def test_several_classes_by_entailment_against_contradiction() -> None:
    task = zero_shot(multi_label=True, threshold=0.3)
    (answer,) = Predictor(task)(["the cat sat"])
    want = special.softmax(logits_of(task, "the cat sat")[:, [0, 2]], axis=1)[:, 1]
    assert list(answer.scores.values()) == pytest.approx(want, abs=1e-5)
    assert answer.labels == tuple(name for name, sure in zip(TOPICS, want, strict=True) if sure >= 0.3)


def test_the_windows_of_a_long_text_are_the_same_for_all_classes() -> None:
    task = zero_shot(stride=15)
    text = "the cat sat on the mat and looked at the moon " * 12
    features = task.encode([{"text": text}, {"text": "short"}])
    long = [one for one in features if one.row == 0]
    (pieces,) = tiny.tokenizer().encode([text])
    hypotheses = tiny.tokenizer().encode([f"About {name}." for name in TOPICS])
    count = len(long) // 2
    assert count > 2
    assert len(features) == len(long) + 2
    for at in range(count):
        first, second = long[at].input_ids.tolist(), long[count + at].input_ids.tolist()
        cut = [ids[1 : ids.index(tiny.tokenizer().sep_id)] for ids in (first, second)]
        assert cut[0] == cut[1] == pieces.ids[15 * at :][: len(cut[0])].tolist()
        assert first[-1 - len(hypotheses[0].ids) : -1] == hypotheses[0].ids.tolist()
        assert second[-1 - len(hypotheses[1].ids) : -1] == hypotheses[1].ids.tolist()
    with torch.inference_mode():
        logits = np.stack([task(task.collate([one])).numpy()[0] for one in long]).reshape(2, count, 3)
    (answer, _) = Predictor(task)([text, "short"])
    assert list(answer.scores.values()) == pytest.approx(special.softmax(logits[..., 2], axis=0).mean(1), abs=1e-5)
    assert answer.num_windows == count


def test_every_class_has_the_same_windows_whatever_the_length_of_text_and_hypothesis() -> None:
    task, counts = zero_shot(), set()
    (piece,) = (one.ids for one in tiny.tokenizer().encode(["cat " * 10]))
    for number in range(1, 5 * 10 * task.config.max_length // len(piece)):
        row = {"text": "cat " * number}
        features = task.encode([row])
        shown = [one.input_ids.tolist() for one in features]
        cut = [ids[: ids.index(tiny.tokenizer().sep_id)] for ids in shown]
        assert cut[: len(cut) // 2] == cut[len(cut) // 2 :]
        parts = [np.zeros(3, np.float32)] * len(features)
        counts.add(task.decode(parts, features, row).num_windows)
    assert counts >= {1, 2, 3, 4, 5}


@pytest.mark.parametrize(
    ("labels", "places"),
    [
        (("CONTRADICTION", "NEUTRAL", "ENTAILMENT"), (2, 0)),
        (("Entailment", "Neutral", "Contradiction"), (0, 2)),
        (("entails", "contradicts", "neither"), (0, 1)),
        (("not_entailment", "entailment"), (1, 0)),
        (("entailment", "non-entailment"), (0, 1)),
    ],
)
def test_the_classes_of_inference_are_found_in_any_spelling(labels: tuple[str, ...], places: tuple[int, int]) -> None:
    task = zero_shot(labels)
    (gold_first, gold_second) = task.encode([{"text": "a", "label": "sport"}], is_training=True)
    assert (gold_first.label, gold_second.label) == places


@pytest.mark.parametrize(
    "labels", [("LABEL_0", "LABEL_1", "LABEL_2"), ("bad", "good"), ("entailment", "entailed", "no")]
)
def test_a_model_whose_classes_say_nothing_is_refused_and_can_be_told(labels: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        Predictor(zero_shot(labels))(["a fine day"])
    assert caught.value.code == "no-inference-model"
    assert "--options.entailment NAME" in str(caught.value)
    told = zero_shot(labels, entailment=labels[0], contradiction=labels[-1])
    assert set(Predictor(told)(["a fine day"])[0].scores) == set(TOPICS)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"candidate_labels": ()}, "no-candidate-labels"),
        ({"candidate_labels": ("a", "word " * 100)}, "candidate-too-long"),
        ({"candidate_labels": ("a", "a")}, "bad-setting"),
        ({"template": "no place"}, "bad-setting"),
        ({"template": "{} and {}"}, "bad-setting"),
    ],
)
def test_classes_and_template_that_cannot_be_asked_are_refused(
    folder: Path, changes: dict[str, Any], code: str
) -> None:
    options = {"candidate_labels": TOPICS} | changes
    with pytest.raises(UsageError) as caught:
        Predictor.load(folder, task="zero_shot", options=options)(["a fine day"])
    assert caught.value.code == code


def test_a_folder_of_inference_answers_from_python_and_from_the_command_line(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    predictor = Predictor.load(folder, task="zero_shot", options={"candidate_labels": ("sport", "law"), "top_k": 2})
    (answer,) = predictor(["a fine day"])
    flags = ["--task", "zero_shot", "--labels", "sport, law", "--options.top_k", "2"]
    with pytest.raises(SystemExit) as caught:
        main(["predict", "a fine day", "--model", str(folder), *flags])
    assert not caught.value.code
    assert capfd.readouterr().out == f"{answer.summary()}\ta fine day\n"


def test_rows_are_scored_by_their_classes(folder: Path) -> None:
    task = build_task(load_model(folder), "zero_shot", options={"candidate_labels": ("sport", "law")})
    rows = [{"text": text, "label": "law"} for text in tiny.GOOD]
    result = evaluate(Predictor(task), Table(Path("rows.csv"), ("text", "label"), rows, [2, 3, 4, 5]))
    assert result.scores["accuracy"] == sum(one.label == "law" for one in result.predictions) / 4
    several = zero_shot(multi_label=True)
    assert several.main_metric == "micro_f1"
    marked = [{"text": "a", "label": "sport"}, {"text": "b", "label": ""}]
    assert 0 <= several.score(Predictor(several).predict_rows(marked, is_labelled=True), marked)["micro_f1"] <= 1


def test_it_is_not_trained_on_its_classes() -> None:
    rows = Table(Path("rows.csv"), ("text", "label"), [{"text": "a", "label": "b"}], [2])
    with pytest.raises(UsageError, match="learns nothing") as caught:
        ZeroShot.understand(rows, {})
    assert "entailment, neutral and contradiction" in str(caught.value)
