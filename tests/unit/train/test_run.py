"""The run folder: going on, refusing, falling back, ending when asked."""

import json
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests import tiny
from unmask import storage
from unmask.config import load_recipe
from unmask.errors import ArtefactError, InterruptedRunError, NumericError, UsageError
from unmask.runtime import Stop, machine
from unmask.train.fit import Trainer
from unmask.train.progress import Progress
from unmask.train.run import Run, clock
from unmask.train.settings import FinetuneSettings, MachineSettings, OptimSettings, PretrainSettings

INPUTS = {"corpus": "somewhere", "fingerprint": "abc"}


def trainer() -> Trainer:
    task = tiny.classifier(hidden_dropout_prob=0.3)
    return Trainer(task, OptimSettings(lr=1e-3), max_steps=10, machine=machine("float32", "cpu"), seed=0)


def train(one: Trainer, steps: int) -> list[float]:
    batch = one.task.collate(one.task.encode(tiny.rows_of(one.task), is_training=True))
    return [step.loss for step, _ in zip(one.fit([batch] for _ in range(steps)), range(steps), strict=True)]


def test_going_on_equals_not_stopping_to_the_last_bit(tmp_path: Path) -> None:
    straight = trainer()
    losses = train(straight, 10)
    first = trainer()
    with Run.open(tmp_path / "run", PretrainSettings(), INPUTS, keep=3) as run:
        train(first, 4)
        run.save(first, {"note": 7})
    second = trainer()
    with Run.open(tmp_path / "run", PretrainSettings(), INPUTS, keep=3) as run:
        assert run.restore(second) == {"step": 4, "note": 7}
        assert train(second, 6) == losses[4:]
    for name, value in straight.task.state_dict().items():
        assert torch.equal(value, second.task.state_dict()[name]), name


def test_other_settings_or_inputs_are_refused_with_the_difference(tmp_path: Path) -> None:
    with Run.open(tmp_path / "run", PretrainSettings(), INPUTS) as run:
        run.log("evaluation", step=1, loss=2.5)
    with pytest.raises(UsageError, match=r"seed 0 -> 5"), Run.open(tmp_path / "run", PretrainSettings(seed=5), INPUTS):
        pass
    other = INPUTS | {"fingerprint": "xyz"}
    with pytest.raises(UsageError, match="'abc' -> 'xyz'"), Run.open(tmp_path / "run", PretrainSettings(), other):
        pass


def test_a_file_that_has_changed_is_named(tmp_path: Path) -> None:
    with Run.open(tmp_path / "run", PretrainSettings(), INPUTS) as run:
        run.log("evaluation", step=1, loss=2.5)
    other, places = INPUTS | {"fingerprint": "xyz"}, {"fingerprint": "rows.csv", "corpus": "my/corpus"}
    with (
        pytest.raises(
            UsageError, match=r"rows\.csv has changed since, or is another one \(inputs\.fingerprint\)"
        ) as caught,
        Run.open(tmp_path / "run", PretrainSettings(), other, places=places),
    ):
        pass
    assert "xyz" not in str(caught.value)
    assert "my/corpus" not in str(caught.value)
    assert caught.value.details["fix"] == "use data as they were to go on with it, or another --output"


@pytest.mark.parametrize("name", ["thesis.txt", "config.toml", "inputs.json"])
def test_a_folder_that_is_no_run_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")
    with pytest.raises(UsageError, match="not a run"), Run.open(tmp_path, PretrainSettings(), INPUTS):
        pass
    assert (tmp_path / name).read_text() == "precious"


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    with (
        Run.open(tmp_path / "run", PretrainSettings(), INPUTS),
        pytest.raises(UsageError, match="pid"),
        Run.open(tmp_path / "run", PretrainSettings(), INPUTS),
    ):
        pass


def test_a_corrupt_checkpoint_is_named_and_the_one_before_it_taken(tmp_path: Path, caplog) -> None:
    one = trainer()
    with Run.open(tmp_path / "run", PretrainSettings(), INPUTS, keep=3) as run:
        train(one, 2)
        run.save(one, {})
        one.step = 3
        newest = run.save(one, {})
        weights = bytearray((newest / "model.safetensors").read_bytes())
        weights[len(weights) // 2] ^= 1
        (newest / "model.safetensors").write_bytes(weights)
        fresh = trainer()
        assert run.restore(fresh) == {"step": 2}
        (tmp_path / "run/checkpoints/step-000000002/state.json").unlink()
        with pytest.raises(ArtefactError, match="step-000000002"):
            run.restore(trainer())


def test_a_state_that_was_restored_does_not_carry_its_old_step_on(tmp_path: Path) -> None:
    one = trainer()
    with Run.open(tmp_path / "run", PretrainSettings(), INPUTS, keep=3) as run:
        train(one, 2)
        run.save(one, {"worse": 1})
        state = run.restore(one)
        assert state is not None
        train(one, 3)
        run.save(one, state)
        again = trainer()
        assert run.restore(again) == {"worse": 1, "step": 5}
        assert again.step == 5


def test_a_step_that_was_rejected_can_be_saved_again(tmp_path: Path) -> None:
    one = trainer()
    with Run.open(tmp_path / "run", PretrainSettings(), INPUTS, keep=3) as run:
        train(one, 2)
        run.save(one, {})
        train(one, 1)
        (run.save(one, {}) / "state.json").write_text("{}")
        fresh = trainer()
        run.restore(fresh)
        train(fresh, 1)
        storage.verify(run.save(fresh, {}))
        run.load_weights(fresh, 3)


def test_a_step_that_is_not_finite_saves_the_weights_before_it(tmp_path: Path) -> None:
    one = trainer()
    batch = one.task.collate(one.task.encode(tiny.rows_of(one.task), is_training=True))
    with Run.open(tmp_path / "run", PretrainSettings(), INPUTS, keep=3) as run:
        steps = run.steps(one, [[batch]] * 5, dict)
        assert [next(steps).step, next(steps).step] == [1, 2]
        before = one.task.state_dict()["encoder.embeddings.word.weight"].clone()
        one.task.head.out.bias.data[0] = float("inf")
        with pytest.raises(NumericError, match="step 3") as caught:
            next(steps)
        folder = tmp_path / "run/checkpoints/step-000000002"
        assert str(folder) in str(caught.value)
        storage.verify(folder)
        assert torch.equal(load_file(folder / "model.safetensors")["encoder.embeddings.word.weight"], before)


def test_how_a_run_talks_and_where_it_computes_may_change(tmp_path: Path) -> None:
    with Run.open(tmp_path / "run", PretrainSettings(), INPUTS):
        pass
    other = PretrainSettings(log_every=3, machine={"threads": 1})
    with Run.open(tmp_path / "run", other, INPUTS):
        pass
    assert load_recipe(str(tmp_path / "run/config.toml"), "pretrain")["log_every"] == 3


def test_a_run_keeps_the_number_format_that_it_began_with(tmp_path: Path, caplog) -> None:
    with Run.open(tmp_path / "run", PretrainSettings(), INPUTS, keep=3) as run:
        assert run.machine(MachineSettings(dtype="float32", threads=1)).dtype == torch.float32
        assert run.machine(MachineSettings(threads=1)).dtype == torch.float32
        assert "elsewhere" not in caplog.text
        run.machine(MachineSettings(dtype="bfloat16", threads=1))
    assert "dtype float32 -> bfloat16" in caplog.text


def test_old_checkpoints_go_but_never_the_best(tmp_path: Path) -> None:
    one = trainer()
    with Run.open(tmp_path / "run", PretrainSettings(), INPUTS, keep=2) as run:
        for step in range(1, 7):
            one.step = step
            run.save(one, {"best_step": 2 if step > 1 else 0})
    left = sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir())
    assert left == ["step-000000002", "step-000000005", "step-000000006"]


def test_a_stop_saves_first(tmp_path: Path) -> None:
    one = trainer()
    with Run.open(tmp_path / "run", PretrainSettings(), INPUTS, keep=3) as run:
        train(one, 3)
        stop = Stop()
        run.end_if_asked(stop, one, {})
        stop.signal = signal.SIGTERM
        with pytest.raises(InterruptedRunError, match="step 3") as caught:
            run.end_if_asked(stop, one, {})
        assert caught.value.exit_code == 143
        assert run.restore(trainer()) == {"step": 3}


def test_events_of_repeated_steps_count_once(tmp_path: Path) -> None:
    with Run.open(tmp_path / "run", PretrainSettings(), INPUTS, keep=3) as run:
        for step, loss in ((1, 5.0), (2, 4.0), (2, 3.5)):
            run.log("step", step=step, loss=loss)
        with (tmp_path / "run/events.jsonl").open("a") as file:
            file.write('{"event": "st')
        assert [event["loss"] for event in run.events("step")] == [5.0, 3.5]
    with Run.open(tmp_path / "run", PretrainSettings(), INPUTS, keep=3) as run:
        run.log("step", step=3, loss=3.0)
        assert [event["loss"] for event in run.events("step")] == [5.0, 3.5, 3.0]


def test_progress_averages_over_targets(tmp_path: Path, caplog) -> None:
    caplog.set_level("INFO", logger="unmask")
    one = trainer()
    with Run.open(tmp_path / "run", PretrainSettings(), INPUTS, keep=3) as run:
        progress = Progress(run, one, every=2)
        batch = one.task.collate(one.task.encode(tiny.rows_of(one.task), is_training=True))
        for step in one.fit([[batch]] * 4):
            progress.show(step)
        lines = [json.loads(line) for line in (tmp_path / "run/events.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4]
    assert all(line["tokens_per_second"] > 0 for line in lines)
    assert "tokens/s" in caplog.text


@pytest.mark.parametrize(("seconds", "text"), [(42.9, "42s"), (200, "3m20s"), (18420, "5h07m")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_events_of_steps_that_were_undone_do_not_count(tmp_path: Path) -> None:
    with Run.open(tmp_path / "run", PretrainSettings(), INPUTS) as run:
        for step in (1, 2, 3):
            run.log("evaluation", step=step, loss=float(step))
        run.log("resume", step=1)
        run.log("evaluation", step=2, loss=20.0)
        assert [(event["step"], event["loss"]) for event in run.events("evaluation")] == [(1, 1.0), (2, 20.0)]


def test_a_run_of_an_older_version_goes_on_with_defaults_of_newer_settings(tmp_path: Path) -> None:
    with Run.open(tmp_path / "run", PretrainSettings(), INPUTS) as run:
        run.log("evaluation", step=1, loss=2.5)
    config = tmp_path / "run" / "config.toml"
    kept = [line for line in config.read_text().splitlines() if not line.startswith(("z_loss", "spike_sigmas"))]
    config.write_text("\n".join(kept) + "\n")
    with Run.open(tmp_path / "run", PretrainSettings(), INPUTS):
        assert "z_loss" in config.read_text()
    with pytest.raises(UsageError, match=r"z_loss"), Run.open(tmp_path / "run", PretrainSettings(z_loss=1.0), INPUTS):
        pass


def test_a_folder_whose_run_never_began_takes_other_settings(tmp_path: Path) -> None:
    with Run.open(tmp_path, FinetuneSettings(epochs=1), {}):
        pass
    with Run.open(tmp_path, FinetuneSettings(epochs=2), {}) as run:
        run.log("evaluation", step=1, accuracy=0.5)
    with pytest.raises(UsageError, match="epochs 2 -> 3"), Run.open(tmp_path, FinetuneSettings(epochs=3), {}):
        pass


def test_options_may_be_named_as_flags_are() -> None:
    assert FinetuneSettings(options={"doc-stride": 3, "n_best": 2}).options == {"doc_stride": 3, "n_best": 2}
