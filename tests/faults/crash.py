"""Processes that die while they save: real training, a real SIGKILL, in children forked from a warm server."""

import contextlib
import hashlib
import itertools
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch

from tests import runs, tiny
from unmask import disk
from unmask.data.batching import Batch
from unmask.data.corpus import build
from unmask.runtime import machine
from unmask.train.checkpoints import Checkpoints
from unmask.train.fit import Trainer
from unmask.train.pretrain import pretrain
from unmask.train.settings import OptimSettings

# once, in the server that children are forked from
torch.set_num_threads(1)
tiny.tokenizer()

SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "intermediate_size": 16,
    "max_length": 32,
    "hidden_dropout_prob": 0.3,
}
PRETRAIN = runs.settings(max_steps=60, save_every=1, eval_every=1000, eval_blocks=2, model=SMALL)
PART_BYTES = 20_000  # so that a death can fall within a file


def trainer(**changes: object) -> Trainer:
    """A fresh trainer of a tiny classifier with dropout."""
    task = tiny.classifier(**(SMALL | changes))
    return Trainer(task, OptimSettings(lr=1e-3), max_steps=1000, machine=machine("float32", "cpu"), seed=0)


def train(one: Trainer, until: int) -> Trainer:
    """Take steps until the trainer's step is `until`."""
    features = one.task.encode(tiny.rows_of(one.task), is_training=True)
    batch: Batch = one.task.collate(features)
    for step in one.fit([[batch]] * (until - one.step)):
        assert step.verdict == "accept"
    return one


def fingerprint(one: Trainer) -> str:
    """Hash of weights, moments and step."""
    found = hashlib.sha256(str(one.step).encode())
    for _, data in one.snapshot().files():
        found.update(data)
    return found.hexdigest()


def straight(steps: int) -> dict[int, str]:
    """Fingerprints of a run that nothing disturbs, by step."""
    one = trainer()
    return {0: fingerprint(one)} | {step: fingerprint(train(one, step)) for step in range(1, steps + 1)}


def counted(act: Callable[[int, disk.Operation], None]) -> None:
    """Call `act` with the number, from 0, of each change of the disk from now on."""
    numbers = itertools.count()
    disk.watch = lambda operation: act(next(numbers), operation)


def die_at(number: int) -> None:
    """Kill this process before its change of the disk of that number."""

    def act(found: int, _: disk.Operation) -> None:
        if found == number:
            os.kill(os.getpid(), signal.SIGKILL)

    counted(act)


def go_on_and_die(folder: Path, until: int, number: int) -> None:
    """Resume, train, and die within the save."""
    disk.PART_BYTES = PART_BYTES
    one, checkpoints = trainer(), Checkpoints(folder, keep=1)
    checkpoints.restore(one)
    train(one, until)
    die_at(number)
    checkpoints.save(one, {"note": "new"})


def overlap_and_die(folder: Path, number: int) -> None:
    """Resume and train on while each step is saved by a thread, until one of its changes of the disk is the last."""
    one, checkpoints = trainer(), Checkpoints(folder, keep=2, is_async=True)
    checkpoints.restore(one)
    die_at(number)
    for step in range(one.step + 1, one.step + 100):
        checkpoints.save(train(one, step), {})


def pretrain_on(corpus: Path, output: Path) -> None:
    """Start or resume a small pre-training, each step of which is saved."""
    pretrain([corpus], output, PRETRAIN)


def pretraining_corpus(folder: Path) -> Path:
    """A small corpus for it."""
    tiny.tokenizer().save(folder / "tokenizer")
    (folder / "text.txt").write_text("\n\n".join(f"{tiny.STORY} {number}" for number in range(60)), "utf-8")
    build([folder / "text.txt"], tokenizer_folder=folder / "tokenizer", output=folder / "corpus", processes=1)
    return folder / "corpus"


_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["pytest", "tests.faults.crash_server"])


def start(function: Callable[..., None], *arguments: Any) -> ForkServerProcess:
    """Start a function of a test module in a process of its own."""
    process = _context.Process(target=function, args=arguments)
    process.start()
    return process


def run(function: Callable[..., None], *arguments: Any) -> int:
    """Run a function in a process of its own and give its exit code, -9 if it was killed."""
    process = start(function, *arguments)
    process.join(60)
    assert process.exitcode is not None, "the child hangs"
    return process.exitcode


@contextlib.contextmanager
def in_memory(folder: Path) -> Iterator[Path]:
    """A folder whose flushes cost nothing, where there is one; the writes of a killed process stay there too."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield folder
        return
    with tempfile.TemporaryDirectory(dir=memory) as place:
        yield Path(place)


def files(folder: Path) -> dict[str, bytes]:
    """All files below a folder by their relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def operations(act: Callable[[], object]) -> Iterator[disk.Operation]:
    """The changes of the disk that a call makes."""
    found: list[disk.Operation] = []
    before, disk.watch = disk.watch, found.append
    try:
        act()
    finally:
        disk.watch = before
    yield from found
