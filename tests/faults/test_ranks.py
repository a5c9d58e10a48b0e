"""Rows SG4 to SG6 and NM2 of the fault matrix: ranks that die, hang, are asked to stop, or have a bad gradient."""

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests import runs
from tests.faults.ranks import finish, start
from tests.unit.data.corpora import small_corpus
from unmask import storage
from unmask.train.pretrain import pretrain

# Rank 1 says its process number, then trains slowly enough to be hit; `break_at` spoils its gradient at a step.
SCRIPT = """
import os, sys, time
from pathlib import Path
import torch
from unmask import disk
from unmask.errors import UnmaskError
from unmask.train import fit
from unmask.train.progress import Progress
from unmask.train.pretrain import pretrain
from unmask.train.settings import PretrainSettings
torch.set_num_threads(1)
corpus, output, settings, pause, break_at, fault = sys.argv[1:]
show = Progress.show
def slow(self, step):
    show(self, step)
    print("step", step.step, flush=True)
    time.sleep(float(pause))
Progress.show = slow
backward = fit.Trainer._backward
def spoilt(self, batch, divisor, *, is_last):
    is_it = self.ranks.rank == 1 and self.step + 1 == int(break_at) and is_last
    if is_it and fault == "memory":
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB")
    loss = backward(self, batch, divisor, is_last=is_last)
    if is_it and fault == "gradient":
        next(self.task.parameters()).grad[0] = float("nan")
    return loss
write = disk.write_bytes
def slowly(path, data):
    time.sleep(3)
    write(path, data)
if fault == "disk":
    disk.write_bytes = slowly
fit.Trainer._backward = spoilt
try:
    pretrain([Path(corpus)], Path(output), PretrainSettings.model_validate_json(settings))
except UnmaskError as error:
    sys.stderr.write(str(error))
    sys.stderr.flush()
    sys.stdout.flush()
    os._exit(error.exit_code)
"""
LIMIT_SECONDS = 30


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_corpus(tmp_path_factory.mktemp("corpus"), num_documents=80).folder


def begin(
    corpus: Path, output: Path, settings, *, pause: float, break_at: int = 0, fault: str = "gradient"
) -> list[subprocess.Popen]:
    return start(2, SCRIPT, corpus, output, settings.model_dump_json(), pause, break_at, fault)


def await_step(process: subprocess.Popen, number: int) -> None:
    for line in process.stdout:
        if line.strip() == f"step {number}":
            return
    raise AssertionError(process.stderr.read())


def quiet(**changes: object):
    return runs.settings(**({"model": {"hidden_dropout_prob": 0.0}, "save_every": 2} | changes))


def test_sg4_a_killed_rank_is_named_and_the_run_goes_on(corpus: Path, tmp_path: Path) -> None:
    chosen = quiet()
    processes = begin(corpus, tmp_path / "run", chosen, pause=0.3)
    await_step(processes[0], 5)
    victim = processes[1].pid
    processes[1].send_signal(signal.SIGKILL)
    began = time.monotonic()
    code, _, told = finish(processes[:1])[0]
    assert time.monotonic() - began < LIMIT_SECONDS
    assert code == 7, told
    assert f"rank 1 (pid {victim}" in told
    assert "given no sign of life" in told
    finish(processes[1:])
    pretrain([corpus], tmp_path / "run", chosen)
    pretrain([corpus], tmp_path / "straight", chosen)
    losses = [[event["loss"] for event in runs.events(tmp_path / name, "step")] for name in ("run", "straight")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_sg5_a_hanging_rank_is_named_and_the_others_leave(corpus: Path, tmp_path: Path) -> None:
    processes = begin(corpus, tmp_path / "run", quiet(), pause=0.3)
    await_step(processes[0], 3)
    processes[1].send_signal(signal.SIGSTOP)
    began = time.monotonic()
    code, _, told = finish(processes[:1])[0]
    took = time.monotonic() - began
    processes[1].send_signal(signal.SIGKILL)
    finish(processes[1:])
    assert took < LIMIT_SECONDS
    assert code == 7, told
    assert f"rank 1 (pid {processes[1].pid}" in told
    assert "all_reduce" in told, "where the main thread waits"


def test_sg6_a_signal_to_one_rank_saves_the_same_step_on_all(corpus: Path, tmp_path: Path) -> None:
    processes = begin(corpus, tmp_path / "run", quiet(machine={"strategy": "fsdp"}), pause=0.3)
    await_step(processes[0], 3)
    processes[1].send_signal(signal.SIGTERM)
    found = finish(processes)
    assert [code for code, _, _ in found] == [143, 143], found
    saved = {err.partition("saved: ")[2].partition(" in ")[0] for _, _, err in found}
    assert len(saved) == 1
    assert saved.pop() in ("step 4", "step 5")


def test_nm2_a_bad_gradient_on_one_rank_stops_all_before_the_step(corpus: Path, tmp_path: Path) -> None:
    found = finish(begin(corpus, tmp_path / "run", quiet(), pause=0, break_at=5))
    assert [code for code, _, _ in found] == [6, 6], found
    assert sorted(path.name for path in (tmp_path / "run").glob("bad-step-*")) == [
        "bad-step-000000005-rank-0.json",
        "bad-step-000000005-rank-1.json",
    ]
    evidence = [json.loads(path.read_text()) for path in sorted((tmp_path / "run").glob("bad-step-*"))]
    samples = [tuple(one) for part in evidence for micro in part["micro_batches"] for one in micro["samples"]]
    assert len(samples) == len(set(samples)) == 8


def test_sg6_no_rank_leaves_while_another_saves(corpus: Path, tmp_path: Path) -> None:
    processes = begin(corpus, tmp_path / "run", quiet(save_every=100), pause=0.3, fault="disk")
    await_step(processes[0], 3)
    processes[1].send_signal(signal.SIGTERM)
    found = finish(processes)
    assert [code for code, _, _ in found] == [143, 143], found
    (saved,) = (tmp_path / "run" / "checkpoints").glob("step-*")
    storage.verify(saved)


def test_sg8_a_rank_without_memory_is_named(corpus: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    found = finish(begin(corpus, tmp_path / "run", quiet(), pause=0, break_at=4, fault="memory"))
    assert time.monotonic() - began < 2 * LIMIT_SECONDS
    assert found[0][0] == 7, found
    assert "rank 1 (pid" in found[0][2]
    assert "OutOfMemoryError" in found[0][2]
