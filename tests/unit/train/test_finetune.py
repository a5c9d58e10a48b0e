"""Fine-tuning end to end on small files: what is frozen, sampled, saved, predicted, stopped and resumed."""

import json
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests import tiny
from unmask import Predictor
from unmask.data.batching import Batch
from unmask.errors import InterruptedRunError, UsageError
from unmask.tasks.classification import Classification
from unmask.train.finetune import finetune, read_result
from unmask.train.progress import Progress

BASE: dict[str, Any] = {
    "epochs": 3,
    "log_every": 1,
    "optim": {"lr": 3e-3},
    "machine": {"device": "cpu", "dtype": "float32", "threads": 1},
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 rows, an eighth of them of the rare class."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    texts = [(f"{text} {n}", "bad" if n else "good") for n in range(8) for text in (*tiny.GOOD, *tiny.BAD)]
    path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in texts))
    return path


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder to start from, with dropout."""
    return tiny.saved(tiny.masked_lm(hidden_dropout_prob=0.1), tmp_path_factory.mktemp("start") / "model")


def run(rows: Path, output: Path, start: Path, dev: Path | None = None, **settings: Any) -> Path:
    finetune(rows, output, dev=dev, model=start, given=(BASE, settings))
    return output


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def is_same(one: Path, other: Path) -> bool:
    first, second = weights(one / "model"), weights(other / "model")
    return all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_metric_that_the_task_lacks_is_found_before_the_first_step(rows: Path, start: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no score 'macro_f2'") as caught:
        run(rows, tmp_path / "run", start, metric="macro_f2")
    assert "--metric" in str(caught.value)
    run(rows, tmp_path / "run", start, metric="macro_f1", epochs=1)  # nothing had begun, so the folder is free
    assert read_result(tmp_path / "run").main_metric == "macro_f1"


def test_an_error_chooses_the_epoch_in_which_it_is_least(start: Path, tmp_path: Path) -> None:
    path = tmp_path / "numbers.jsonl"
    texts = [(text, at / 2) for at, text in enumerate((*tiny.GOOD, *tiny.BAD))]
    lines = [{"text": f"{text} {n}", "label": value + n / 7} for n in range(4) for text, value in texts]
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    output = run(path, tmp_path / "run", start, metric="rmse", epochs=4)
    events = [json.loads(line) for line in (output / "events.jsonl").read_text().splitlines()]
    errors = [one["rmse"] for one in events if one["event"] == "evaluation"]
    assert errors[0] > min(errors), "the first epoch is not the best one"
    result = read_result(output)
    assert result.best_epoch == errors.index(min(errors)) + 1
    assert result.scores["rmse"] == pytest.approx(min(errors), rel=1e-3)
    page = result.report.read_text()
    for told in ("numbers.jsonl, 22 rows", "others of that file, 10 rows", "started from", "<td>model</td>"):
        assert told in page


def test_patience_waits_until_learning_has_begun(rows: Path, start: Path, tmp_path: Path) -> None:
    still = {"patience": 1, "epochs": 4, "metric": "macro_f1"}
    run(rows, tmp_path / "still", start, optim={"lr": 1e-9}, **still)
    assert read_result(tmp_path / "still").collapsed is not None, "all rows get one answer"
    events = (tmp_path / "still" / "events.jsonl").read_text().splitlines()
    assert sum('"event": "evaluation"' in line for line in events) == 4, "so no epoch is one too many"
    even = tmp_path / "even.jsonl"
    texts = [
        (f"{text} {n}", label) for n in range(4) for label in ("good", "bad") for text in getattr(tiny, label.upper())
    ]
    even.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in texts))
    run(even, tmp_path / "learned", start, **still | {"epochs": 30})
    events = (tmp_path / "learned" / "events.jsonl").read_text().splitlines()
    assert sum('"event": "evaluation"' in line for line in events) < 30
    assert read_result(tmp_path / "learned").collapsed is None


def test_a_count_chooses_no_model(start: Path, tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text(
        "".join(
            json.dumps({"text": f"{text} {n}", "label": ["a", "b"][: n % 2 + 1]}) + "\n"
            for n in range(4)
            for text in tiny.GOOD
        )
    )
    with pytest.raises(UsageError, match="no score 'labels_per_row'") as caught:
        run(path, tmp_path / "run", start, metric="labels_per_row")
    assert "answers_per_row" not in str(caught.value)
    assert "micro_f1" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "frozen"),
    [
        ({"freeze_layers": 0}, ["embeddings"]),
        ({"freeze_layers": 1}, ["embeddings", "layer.0"]),
        ({"freeze_encoder": True}, ["embeddings", "layer.0", "layer.1"]),
    ],
    ids=str,
)
def test_frozen_parts_stay_and_the_rest_moves(settings, frozen, rows: Path, start: Path, tmp_path: Path) -> None:
    done = weights(run(rows, tmp_path / "run", start, epochs=1, **settings) / "model")
    before = weights(start)
    for name in before.keys() & done.keys():
        is_frozen = any(f".{part}." in name for part in frozen)
        moves = not ("position" in name or "token_type" in name)  # rows that no text has used stay where they are
        assert torch.equal(done[name], before[name]) == is_frozen or not moves, name


AIDS = {
    "freezing": {"freeze_layers": 1, "optim": {"ema_decay": 0.5}},
    "lora": {"lora": {"rank": 2, "dropout": 0.1}, "optim": {"ema_decay": 0.5}},
    "regularizers": {"regularize": {"r_drop": 1.0, "fgm_epsilon": 0.5}, "max_tokens": 100},
    "balanced": {"balanced_sampling": True},
}


@pytest.mark.parametrize("name", AIDS)
def test_stopped_and_resumed_is_bit_for_bit_the_same(
    name: str, rows: Path, start: Path, tmp_path: Path, stopped_at
) -> None:
    straight = run(rows, tmp_path / "straight", start, **AIDS[name])
    for step in (2, 7):
        stopped_at(step)
        with pytest.raises(InterruptedRunError):
            run(rows, tmp_path / "stopped", start, **AIDS[name])
    stopped_at(None)
    stopped = run(rows, tmp_path / "stopped", start, **AIDS[name])
    assert is_same(straight, stopped)
    assert curve(straight) == curve(stopped)


@pytest.fixture
def stopped_at(monkeypatch: pytest.MonkeyPatch):
    """Send SIGTERM to this process when the run has done a step."""
    show, at = Progress.show, [None]

    def showing(self: Progress, step: Any) -> None:
        show(self, step)
        if step.step == at[0]:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Progress, "show", showing)

    def choose(step: int | None) -> None:
        at[0] = step

    return choose


def test_lora_ends_as_an_ordinary_model_and_saves_little(rows: Path, start: Path, tmp_path: Path) -> None:
    done = run(rows, tmp_path / "run", start, lora={"rank": 2})
    plain = run(rows, tmp_path / "plain", start)
    assert weights(done / "model").keys() == weights(plain / "model").keys()
    assert Predictor.load(done / "model")(["a fine and lovely film"])[0].label in ("bad", "good")
    sizes = [
        sum(path.stat().st_size for path in (folder / "checkpoints").glob("step-*/*.safetensors"))
        for folder in (done, plain)
    ]
    assert 4 * sizes[0] < sizes[1]
    with pytest.raises(UsageError, match="each say"):
        run(rows, tmp_path / "both", start, lora={"rank": 2}, freeze_layers=1)
    with pytest.raises(UsageError, match="2 layers"):
        run(rows, tmp_path / "many", start, freeze_layers=3)


def test_balanced_epochs_show_the_rare_class_as_often(rows: Path, start: Path, tmp_path: Path, monkeypatch) -> None:
    seen: Counter[int] = Counter()
    loss = Classification.loss

    def counting(self: Classification, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        assert batch.labels is not None
        seen.update(batch.labels.tolist())
        return loss(self, logits, batch)

    monkeypatch.setattr(Classification, "loss", counting)
    run(rows, tmp_path / "run", start, balanced_sampling=True, epochs=2)
    assert seen[0] == seen[1] > 0


def test_predictions_of_the_dev_rows_are_kept_with_their_scores_and_no_labels(
    rows: Path, start: Path, tmp_path: Path
) -> None:
    done = run(rows, tmp_path / "run", start)
    result = read_result(done)
    records = [json.loads(line) for line in result.predictions.read_text().splitlines()]
    lines = rows.read_text().splitlines()
    gold = [json.loads(lines[record["line"] - 1])["label"] for record in records]
    assert [record["row"] for record in records] == list(range(len(records)))
    right = [record["prediction"]["label"] == label for record, label in zip(records, gold, strict=True)]
    assert [record["score"] for record in records] == [float(one) for one in right]
    assert sum(right) / len(right) == pytest.approx(result.scores["accuracy"])
    texts = [json.loads(lines[record["line"] - 1])["text"] for record in records]
    again = Predictor.load(result.model)(texts)
    assert [one.label for one in again] == [record["prediction"]["label"] for record in records]
    assert set(records[0]) == {"row", "line", "prediction", "score"}
    assert "temperature that answers each fifth" in result.report.read_text()


def test_a_signal_inside_an_evaluation_ends_it_at_once_and_nothing_is_lost(
    rows: Path, start: Path, tmp_path: Path, monkeypatch
) -> None:
    dev = tmp_path / "dev.jsonl"
    dev.write_text(rows.read_text() * 24)  # more than one batch
    straight = run(rows, tmp_path / "straight", start, dev=dev, **AIDS["freezing"])
    answered: list[int] = []
    answer = Classification.answer

    def answering(self: Classification, batch: Any, features: Any) -> Any:
        answered.append(1)
        found = answer(self, batch, features)
        if len(answered) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return found

    monkeypatch.setattr(Classification, "answer", answering)
    with pytest.raises(InterruptedRunError, match="signal 15") as caught:
        run(rows, tmp_path / "stopped", start, dev=dev, **AIDS["freezing"])
    assert caught.value.exit_code == 143
    assert len(answered) == 2, "the second batch is asked for, and does not come"
    state = json.loads(next((tmp_path / "stopped/checkpoints").glob("step-*/state.json")).read_text())
    assert state["evaluated_step"] < state["step"]
    run(rows, tmp_path / "stopped", start, dev=dev, **AIDS["freezing"])
    assert is_same(straight, tmp_path / "stopped")
    assert curve(straight) == curve(tmp_path / "stopped")


def test_a_file_that_has_changed_since_is_named(rows: Path, start: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text(rows.read_text())
    run(file, tmp_path / "run", start, epochs=1)
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(UsageError, match=r"mine\.jsonl has changed since") as caught:
        run(file, tmp_path / "run", start, epochs=1)
    assert "another --output" in str(caught.value)
    assert "the model" not in str(caught.value)


def test_dropout_of_the_encoder_can_be_chosen(rows: Path, start: Path, tmp_path: Path, monkeypatch) -> None:
    rates: list[float] = []
    loss = Classification.loss

    def looking(self: Classification, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        rates.extend([self.encoder.config.hidden_dropout_prob, *(layer.dropout for layer in self.encoder.layers)])
        return loss(self, logits, batch)

    monkeypatch.setattr(Classification, "loss", looking)
    done = run(rows, tmp_path / "run", start, hidden_dropout=0.4, epochs=1)
    assert set(rates) == {0.4}
    assert json.loads((done / "model/config.json").read_text())["hidden_dropout_prob"] == 0.4


def test_a_classifier_on_the_mean_of_states(rows: Path, start: Path, tmp_path: Path) -> None:
    done = run(rows, tmp_path / "run", start, classifier_pooling="mean", epochs=1)
    assert json.loads((done / "model/config.json").read_text())["classifier_pooling"] == "mean"
    assert Predictor.load(done / "model").task.pools_mean
    assert "is left aside there" in (done / "model/README.md").read_text()
    again = run(rows, tmp_path / "again", done / "model", epochs=1)  # what the model says counts where nobody does
    assert Predictor.load(again / "model").task.pools_mean
    assert 'classifier_pooling = "mean"' in (again / "config.toml").read_text()
    back = run(rows, tmp_path / "back", done / "model", classifier_pooling="cls", epochs=1)
    assert not Predictor.load(back / "model").task.pools_mean
    assert json.loads((back / "model/config.json").read_text())["architectures"] == ["RobertaForSequenceClassification"]


def test_a_head_of_tokens_has_no_pooling(start: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "tags.conll"
    path.write_text("".join(f"a O\n{name} B-{name}\n\n" for name in ("good", "bad") * 12))
    done = run(path, tmp_path / "run", start, classifier_pooling="mean", epochs=1)
    assert "classifier_pooling is left aside" in caplog.text
    assert json.loads((done / "model/config.json").read_text())["classifier_pooling"] == "cls"


def curve(folder: Path) -> list[tuple[str, int, float]]:
    """Losses of all steps and scores of all evaluations, the last of each."""
    lines = map(json.loads, (folder / "events.jsonl").read_text().splitlines())
    found = {
        (line["event"], line["step"]): line["loss" if line["event"] == "step" else "accuracy"]
        for line in lines
        if line["event"] in ("step", "evaluation")
    }
    return sorted((event, step, value) for (event, step), value in found.items())
