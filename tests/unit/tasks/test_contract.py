"""Every task keeps the contract: encode, a falling loss, the same answers after saving and loading."""

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests import tiny
from unmask.checkpoint import load_model
from unmask.data.rows import Table
from unmask.errors import ArtefactError, DataError
from unmask.predict import Predictor, build_task
from unmask.runtime import machine
from unmask.tasks import TASKS, find_task
from unmask.tasks.base import Task
from unmask.tasks.class_reader import ClassificationSettings
from unmask.tasks.classification import Classification
from unmask.tasks.regression import Regression
from unmask.train.fit import Trainer
from unmask.train.settings import OptimSettings

MAKERS: dict[str, Callable[..., Task]] = {
    "classification": tiny.classifier,
    "embedding": tiny.embedder,
    "masked_lm": tiny.masked_lm,
    "multiple_choice": tiny.multiple_choice,
    "regression": tiny.regression,
    "seq2seq": tiny.seq2seq,
    "span_qa": tiny.span_qa,
    "tagging": tiny.tagger,
    "zero_shot": tiny.zero_shot,
    # a head on the mean of a text's states is another way through task, folder and engine
    "classification, mean": functools.partial(tiny.classifier, classifier_pooling="mean"),
    "regression, mean": functools.partial(tiny.regression, classifier_pooling="mean"),
    "zero_shot, mean": functools.partial(tiny.zero_shot, classifier_pooling="mean"),
    "multiple_choice, mean": functools.partial(tiny.multiple_choice, classifier_pooling="mean"),
}
STEPS = 40


@pytest.fixture(params=sorted(MAKERS))
def task(request: pytest.FixtureRequest) -> Task:
    return MAKERS[request.param]()


def test_loss_falls_on_eight_rows(task: Task) -> None:
    features = task.encode(tiny.rows_of(task), is_training=True)
    batch = task.collate(features)
    trainer = Trainer(task, OptimSettings(lr=5e-3), max_steps=STEPS, machine=machine("float32", "cpu"), seed=0)
    losses = [step.loss for step in trainer.fit([batch] for _ in range(STEPS))]
    assert losses[-1] < 0.5 * losses[0]


def test_same_answers_after_saving_and_loading(task: Task, tmp_path: Path) -> None:
    rows = tiny.rows_of(task)
    before = Predictor(task).predict_rows(rows, is_labelled=True)
    tiny.saved(task, tmp_path / "model")
    after = Predictor(build_task(load_model(tmp_path / "model"))).predict_rows(rows, is_labelled=True)
    assert after == before


def test_a_text_is_answered_alike_alone_and_among_others(task: Task) -> None:
    rows = tiny.rows_of(task)
    task.eval()
    with torch.inference_mode():
        features = task.encode(rows, is_training=True)
        together = task(task.collate(features))
        alone = torch.cat([task(task.collate([one])) for one in features])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_an_empty_text_and_a_missing_column_name_their_row(task: Task) -> None:
    rows = tiny.rows_of(task)
    column = "context" if task.name == "span_qa" else "text"  # a question whose answer is known may be empty
    rows[3] = rows[3] | {column: " \t"}
    with pytest.raises(DataError, match="empty") as caught:
        task.encode(rows, is_training=True)
    assert caught.value.details["place"] == "text 4"
    with pytest.raises(DataError, match="no column 'text'"):
        task.encode([{"txet": "a"}])


def test_score_has_the_main_metric(task: Task) -> None:
    rows = tiny.rows_of(task)
    scores = task.score(Predictor(task).predict_rows(rows, is_labelled=True), rows)
    assert isinstance(scores[task.main_metric], float)


@pytest.mark.parametrize("name", sorted(TASKS))
def test_numbers_that_are_no_goal_or_fall_are_scores(name: str) -> None:
    task = MAKERS[name]()
    rows = tiny.rows_of(task)
    scores = task.score(Predictor(task).predict_rows(rows, is_labelled=True), rows)
    conditional = {"coverage", "labels_per_row", "answers_per_row", "has_answer_questions", "no_answer_questions"}
    conditional |= {"best_threshold"}
    assert (task.falling_metrics | task.other_numbers) - conditional <= set(scores)
    falling = ("error", "rmse", "mae", "nats", "perplexity", "alignment", "uniformity")
    for metric in scores:
        assert task.is_rising(metric) != any(word in metric for word in falling), metric


def test_scores_are_the_same_without_their_interval(task: Task) -> None:
    rows = tiny.rows_of(task)
    predictions = Predictor(task).predict_rows(rows, is_labelled=True)
    scores = task.score(predictions, rows)
    bare = task.score(predictions, rows, has_interval=False)
    assert bare.pop("interval", None) is None
    assert scores.pop("interval", (0.0, 0.0)) is not None
    assert bare == scores


def test_texts_longer_than_the_model_are_cut_and_counted() -> None:
    task = tiny.classifier()
    task.settings = task.settings.model_copy(update={"long_texts": "cut"})
    (answer,) = Predictor(task)(["word " * 500])
    assert 0.8 < answer.truncated_share < 1.0
    assert answer.num_windows == 1


def test_every_task_of_the_table_is_tested() -> None:
    assert {name.partition(",")[0] for name in MAKERS} == set(TASKS)
    assert all(find_task(name).name == name for name in TASKS)


def test_a_folder_cannot_name_code_to_be_run(tmp_path: Path) -> None:
    canary = tmp_path / "evil.py"
    canary.write_text("raise SystemExit('this code was run')")
    folder = tiny.saved(tiny.classifier(), tmp_path / "model", name="evil:Task")
    with pytest.raises(ArtefactError, match="nothing in a folder is run unasked"):
        Predictor.load(folder)


def test_a_head_is_taken_over_only_for_the_same_question(tmp_path: Path) -> None:
    task = tiny.classifier()
    model = load_model(tiny.saved(task, tmp_path / "model"))
    assert tiny.classifier().load_weights(model) == []
    other = Classification(
        task.config, task.tokenizer, ClassificationSettings(labels=("no", "perhaps", "yes"), head_dropout=0.0)
    )
    assert other.load_weights(model) == ["head.dense.bias", "head.dense.weight", "head.out.bias", "head.out.weight"]
    assert torch.equal(other.encoder.layers[0].up.weight, task.encoder.layers[0].up.weight)
    with pytest.raises(ArtefactError, match="lacks"):
        build_task(model, "masked_lm")


def test_a_single_class_is_no_number(tmp_path: Path) -> None:
    """A classifier that saw one class alone, which Python users can make."""
    task = tiny.classifier()
    single = Classification(task.config, task.tokenizer, ClassificationSettings(labels=("only",), head_dropout=0.0))
    single.init_weights(0)
    assert Predictor.load(tiny.saved(single, tmp_path / "model"))(["a film"])[0].label == "only"


class Mine(Regression):
    name = "mine"


def test_a_task_from_outside_opens_its_own_numbers(tmp_path: Path) -> None:
    like = tiny.regression()
    task = Mine(like.config, like.tokenizer, like.settings)
    task.init_weights(0)
    folder = tiny.saved(task, tmp_path / "model", name=f"{__name__}:Mine")
    wanted = Predictor(task)(["a film"])[0].value
    assert Predictor.load(folder, task=f"{__name__}:Mine")(["a film"])[0].value == pytest.approx(wanted, abs=1e-5)
    with pytest.raises(ArtefactError, match="weights for the task classification"):
        Predictor.load(folder, task="classification")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("start", sorted(TASKS.keys() - {"zero_shot"}))
def test_a_folder_of_another_task_is_refused_as_such(start: str, tmp_path: Path) -> None:
    folder = tiny.saved(MAKERS[start](), tmp_path / "model")
    for name in TASKS:
        if name not in (start, "embedding", "zero_shot"):
            with pytest.raises(ArtefactError, match=f"weights for the task {name}, not {start}") as caught:
                Predictor.load(folder, task=name)
            assert caught.value.code == "missing-weights"


@pytest.mark.parametrize("name", ["classification", "embedding", "regression", "seq2seq"])
def test_a_named_column_that_is_not_there_is_told_with_the_nearest_one(name: str) -> None:
    columns = ("title", "other", "score")
    rows = [dict(zip(columns, (f"a text {at}", f"one more {at}", f"{at}.5"), strict=True)) for at in range(4)]
    table = Table(Path("rows.tsv"), columns, rows, [2, 3, 4, 5])
    with pytest.raises(DataError, match="no column 'titel'; did you mean 'title'") as caught:
        find_task(name).understand(table, {"text_column": "titel"})
    assert caught.value.details["place"] == Path("rows.tsv")
    with pytest.raises(DataError, match="no rows"):
        find_task(name).understand(table.part([]), {})
