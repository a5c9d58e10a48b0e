"""Rows SG1, SG3 and NM1 to NM5 of the fault matrix: signals in every phase, and losses that are not finite or jump."""

import contextlib
import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests import runs
from tests.unit.data.corpora import small_corpus, write_text, write_tokenizer
from unmask import storage
from unmask.errors import InterruptedRunError, NumericError
from unmask.tasks.masked_lm import MaskedLM
from unmask.train.pretrain import pretrain
from unmask.train.settings import PretrainSettings

COMMAND = [sys.executable, "-m", "unmask"]
SIZES = [
    "--model.num-hidden-layers", "1", "--model.hidden-size", "16", "--model.num-attention-heads", "1",
    "--model.intermediate-size", "32", "--model.max-length", "32", "--block-length", "32",
    "--machine.threads", "1", "--machine.dtype", "float32", "--held-out-tokens", "2000", "--recipe", "demo",
    "--global-batch-size", "4", "--micro-batch-size", "4",
]  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_corpus(tmp_path_factory.mktemp("corpus"), num_documents=80).folder


def interrupted(command: list[str], *marks: str, number: int = signal.SIGTERM) -> tuple[int, str]:
    """Start a command, send a signal when it says each of the marks, and give its exit code and its talk."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    talk, waiting = [], list(marks)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        for line in process.stderr:
            talk.append(line)
            if waiting and waiting[0] in line:
                waiting.pop(0)
                process.send_signal(number)
    return process.returncode, "".join(talk)


def checkpoints(run: Path) -> list[Path]:
    return sorted((run / "checkpoints").glob("step-*"))


# (phase, settings that make it long, what the run says when it is in it)
LONG = ["--log-every", "1", "--max-steps", "100000"]
PHASES = [
    ("start", [*LONG, "--eval-every", "100000"], "parameters"),
    ("evaluation", [*LONG, "--eval-every", "5", "--eval-blocks", "500"], "step 5/"),
    ("save", [*LONG, "--eval-every", "100000", "--save-every", "1"], "step 7/"),
]


@pytest.mark.parametrize(("phase", "more", "mark"), PHASES, ids=[phase for phase, _, _ in PHASES])
def test_sg1_sigterm_to_the_command(phase: str, more: list[str], mark: str, corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [*COMMAND, "pretrain", "--corpus", str(corpus), "--output", str(run), *SIZES, *more]
    code, talk = interrupted(command, mark)
    assert code == 143, talk
    assert "ended by signal 15" in talk
    if phase != "start":
        newest = checkpoints(run)[-1]
        storage.verify(newest)
        assert f"saved: step {int(newest.name.removeprefix('step-'))} in" in talk
    assert not list(run.rglob(".staging*"))


def test_sg1_twenty_signals_at_random_times(corpus: Path, tmp_path: Path) -> None:
    """Whatever the run does at that moment: steps, evaluations, saves; what it has done is there, and it goes on."""
    pretrain([corpus], tmp_path / "first", runs.settings())  # libraries that are broken off while they load stay broken
    source = random.Random(0)
    settings = runs.settings(max_steps=100_000, eval_every=3, save_every=2, machine={"data_threads": 2})
    step = 0
    for _ in range(20):
        timer = threading.Timer(source.uniform(0.15, 0.5), os.kill, (os.getpid(), signal.SIGTERM))
        with pytest.raises(InterruptedRunError) as caught, stoppable_from_the_start(), started(timer):
            pretrain([corpus], tmp_path / "run", settings)
        assert caught.value.exit_code == 143
        if caught.value.details["saved"] == "nothing yet":
            continue
        newest = checkpoints(tmp_path / "run")[-1]
        storage.verify(newest)
        before, step = step, int(newest.name.removeprefix("step-"))
        assert step >= before
        assert f"step {step} in" in str(caught.value.details["saved"])
    assert step > 20


@contextlib.contextmanager
def started(timer: threading.Timer) -> Iterator[None]:
    """Run a timer, and never let it fire behind the block."""
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


@contextlib.contextmanager
def stoppable_from_the_start() -> Iterator[None]:
    """As the command line does: outside the loop a signal ends the process in order."""

    def end(number: int, _frame: object) -> None:
        raise KeyboardInterrupt(number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except KeyboardInterrupt as interrupt:
        raise InterruptedRunError(interrupt.args[0], "nothing yet") from None
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("words", "mark"),
    [
        (["tokenizer", "train", "--vocab-size", "2000"], None),
        (["corpus", "build", "--processes", "1"], "the corpus will take about"),
    ],
    ids=["tokenizer", "corpus"],
)
def test_sg1_sigterm_while_text_is_prepared(words: list[str], mark: str | None, tmp_path: Path) -> None:
    text = write_text(tmp_path / "text.txt", num_documents=4000)
    more = ["--tokenizer", str(write_tokenizer(tmp_path / "tokenizer"))] if words[0] == "corpus" else []
    command = [*COMMAND, *words, str(text), *more, "--output", str(tmp_path / "out")]
    if mark is None:
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            while not list(tmp_path.glob(".staging*")):
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            talk = process.stderr.read()
        code = process.returncode
    else:
        code, talk = interrupted(command, mark)
    assert code == 143, talk
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".staging*"))
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("pause", [0.0, 0.005, 0.02])
def test_sg2_a_kill_right_behind_sigterm(pause: float, corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [*COMMAND, "pretrain", "--corpus", str(corpus), "--output", str(run), *SIZES, *LONG, "--save-every", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if "step 5/" in line:
                process.send_signal(signal.SIGTERM)
            if "asked to stop" in line:
                time.sleep(pause)
                process.kill()
    left = checkpoints(run)
    newest = int(left[-1].name.removeprefix("step-"))
    assert newest >= 2
    code, talk = interrupted(command, f"step {newest + 1}/")
    assert code == 143, talk
    assert f"going on after step {newest} " in talk


@pytest.mark.parametrize("marks", [["step 3/"], ["step 3/", "asked to stop"]], ids=["once", "twice"])
def test_sg3_ctrl_c_once_saves_and_twice_stops_at_once(marks: list[str], corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [*COMMAND, "pretrain", "--corpus", str(corpus), "--output", str(run), *SIZES, *LONG]
    code, talk = interrupted(command, *marks, number=signal.SIGINT)
    assert code == 130, talk
    assert ("saved: step" in talk) or len(marks) == 2
    assert "Traceback" not in talk
    for folder in checkpoints(run):
        storage.verify(folder)


def spoil(monkeypatch: pytest.MonkeyPatch, step: int, change) -> None:
    """Change the loss of one optimizer step while training."""
    loss, count = MaskedLM.loss, [0]

    def spoilt(self, logits, batch):
        value = loss(self, logits, batch)
        if not self.training:
            return value
        count[0] += 1
        return change(value) if count[0] in (step if isinstance(step, tuple) else (step,)) else value

    monkeypatch.setattr(MaskedLM, "loss", spoilt)


def whole_steps(**changes: object) -> PretrainSettings:
    return runs.settings(**({"micro_batch_size": 8} | changes))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nm1_a_loss_that_is_not_finite(value: float, corpus: Path, tmp_path: Path, monkeypatch) -> None:
    spoil(monkeypatch, 6, lambda loss: loss * value)
    with pytest.raises(NumericError) as caught:
        pretrain([corpus], tmp_path / "run", whole_steps())
    assert caught.value.code == "not-finite"
    newest = checkpoints(tmp_path / "run")[-1]
    assert newest.name == "step-000000005"
    storage.verify(newest)
    evidence = json.loads((tmp_path / "run" / "bad-step-000000006.json").read_text())
    assert len(evidence["micro_batches"][0]["samples"]) == 8
    monkeypatch.undo()
    pretrain([corpus], tmp_path / "run", whole_steps())
    pretrain([corpus], tmp_path / "straight", whole_steps())
    one, other = runs.weights(tmp_path / "run"), runs.weights(tmp_path / "straight")
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items()), "no step with a bad value was taken"


def test_nm2_a_gradient_that_is_not_finite(corpus: Path, tmp_path: Path, monkeypatch) -> None:
    class Bad(torch.autograd.Function):
        @staticmethod
        def forward(ctx, value):
            return value.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * math.nan

    spoil(monkeypatch, 3, Bad.apply)
    with pytest.raises(NumericError, match="step 3: loss 5"):
        pretrain([corpus], tmp_path / "run", whole_steps())
    assert checkpoints(tmp_path / "run")[-1].name == "step-000000002"


def long_and_guarded(**guard: object) -> PretrainSettings:
    return whole_steps(max_steps=80, eval_every=80, save_every=20, optim={"lr": 1e-3}, guard={"window": 16, **guard})


def test_nm3_a_spike_is_skipped_and_shown(corpus: Path, tmp_path: Path, monkeypatch, caplog) -> None:
    spoil(monkeypatch, 50, lambda loss: loss * 100)
    with caplog.at_level("WARNING", logger="unmask"):
        pretrain([corpus], tmp_path / "run", long_and_guarded())
    assert "step 50: loss" in caplog.text
    (spike,) = runs.events(tmp_path / "run", "spike")
    assert (spike["step"], spike["verdict"]) == (50, "skip")
    assert runs.events(tmp_path / "run", "step")[-1]["step"] == 80


def test_nm4_spikes_roll_back_and_then_give_up(corpus: Path, tmp_path: Path, monkeypatch, caplog) -> None:
    spoil(monkeypatch, (50, 51, 52, 60, 61, 62), lambda loss: loss * 100)
    with caplog.at_level("WARNING", logger="unmask"), pytest.raises(NumericError) as caught:
        pretrain([corpus], tmp_path / "run", long_and_guarded(max_rollbacks=1))
    assert caught.value.code == "unstable"
    (back,) = runs.events(tmp_path / "run", "rollback")
    assert (back["step"], back["to"]) == (52, "step-000000040")
    assert "after 1 returns" in str(caught.value)


def test_nm4_a_rolled_back_run_goes_on_to_the_same_bits(corpus: Path, tmp_path: Path, monkeypatch) -> None:
    chosen = long_and_guarded()
    for name, ends in (("straight", ()), ("stopped", (55, 66))):
        spoil(monkeypatch, (50, 51, 52), lambda loss: loss * 100)
        for end in ends:
            with runs.stopped_at(end), pytest.raises(Exception, match="ended by signal"):
                pretrain([corpus], tmp_path / name, chosen)
        pretrain([corpus], tmp_path / name, chosen)
        monkeypatch.undo()
    one, other = runs.weights(tmp_path / "straight"), runs.weights(tmp_path / "stopped")
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_nm4_a_rolled_back_run_does_not_depend_on_where_it_was_interrupted(
    corpus: Path, tmp_path: Path, monkeypatch
) -> None:
    chosen = long_and_guarded()
    for name, ends in (("straight", ()), ("stopped", (44, 47))):
        first = 0
        for end in (*ends, None):
            spoil(monkeypatch, tuple(step - first for step in (50, 51, 52)), lambda loss: loss * 100)
            if end is None:
                pretrain([corpus], tmp_path / name, chosen)
            else:
                with runs.stopped_at(end), pytest.raises(InterruptedRunError):
                    pretrain([corpus], tmp_path / name, chosen)
                first = int(checkpoints(tmp_path / name)[-1].name.removeprefix("step-"))
            monkeypatch.undo()
        assert [event["to"] for event in runs.events(tmp_path / name, "rollback")] == ["step-000000040"]
    one, other = runs.weights(tmp_path / "straight"), runs.weights(tmp_path / "stopped")
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_a_signal_in_the_last_evaluation_of_a_resumed_run(corpus: Path, tmp_path: Path, monkeypatch) -> None:
    chosen = whole_steps(eval_every=100, save_every=100, micro_batch_size=2)
    loss, asked = MaskedLM.loss, [True]

    def asking(self, *rest):
        if not self.training and asked[0]:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss(self, *rest)

    monkeypatch.setattr(MaskedLM, "loss", asking)
    for _ in range(3):
        with pytest.raises(InterruptedRunError):
            pretrain([corpus], tmp_path / "run", chosen)
        assert not (tmp_path / "run" / "model").exists()
    asked[0] = False
    assert pretrain([corpus], tmp_path / "run", chosen).steps == 10
    assert [event["step"] for event in runs.events(tmp_path / "run", "evaluation")] == [10]


def test_nm5_an_evaluation_that_is_not_finite_is_reported_as_such(corpus: Path, tmp_path: Path, monkeypatch) -> None:
    loss = MaskedLM.loss
    monkeypatch.setattr(MaskedLM, "loss", lambda self, *rest: loss(self, *rest) * (1 if self.training else math.nan))
    result = pretrain([corpus], tmp_path / "run", whole_steps())
    assert math.isnan(result.loss)
    assert all(math.isnan(event["loss"]) for event in runs.events(tmp_path / "run", "evaluation"))
