"""The driver's side: a process for each engine, asked in turns; the others are stopped, so that no thread spins."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

from . import FILES_OF

BENCHMARKS = Path(__file__).parents[1]
PREPARE_SECONDS = 3600
ANSWER_SECONDS = 1800
CLOSE_SECONDS = 10


class EngineError(Exception):
    """An engine cannot be measured; the text says why."""


@dataclass(frozen=True)
class Setup:
    """What all engines of a run share.

    Attributes:
        cache: folder for everything that is prepared.
        threads: of each engine; they run on as many cores, the same ones for all.
        pythons: interpreter of an engine, where it is not this one.
    """

    cache: Path
    threads: int
    pythons: dict[str, str]

    def environment(self) -> dict[str, str]:
        """The variables of a worker: threads, no telemetry, caches in our own folder."""
        count = str(self.threads)
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), count)
        others = {
            "TORCHINDUCTOR_CACHE_DIR": str(self.cache / "inductor"),
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
            # OpenVINO and NNCF send no figures about their use from a machine that says it is one of CI
            "CI": "true",
        }
        return {**os.environ, **threads, **others}

    def pin(self) -> None:
        """Hold this process, and what it will start, to the first cores that it may use."""
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: self.threads])


class Worker:
    """An engine in its process.

    Args:
        name: of the engine and its precision, as in `openvino:int8`.
        model: name of the model.
        setup: of the run.
        is_preparing: only write the engine's files.

    Raises:
        EngineError: there is no such interpreter.
    """

    def __init__(self, name: str, model: str, setup: Setup, *, is_preparing: bool = False) -> None:
        engine, precision = name.split(":")
        engine = FILES_OF.get(engine, engine) if is_preparing else engine
        home = setup.cache / model
        self.log = home / f"{engine}-{precision}.log"
        self.pipe, theirs = Pipe()
        job = {
            "pipe": theirs.fileno(),
            "engine": engine,
            "precision": precision,
            "model": str(home / "model"),
            "prepared": str(home / f"{FILES_OF.get(engine, engine)}-{precision}"),
            "threads": setup.threads,
            "is_preparing": is_preparing,
        }
        self._began = time.perf_counter()
        with theirs, self.log.open("wb" if is_preparing else "ab") as log:
            command = [setup.pythons.get(engine, sys.executable), "-m", "engines.worker", json.dumps(job)]
            try:
                self.process = subprocess.Popen(
                    command, cwd=BENCHMARKS, env=setup.environment(), pass_fds=[theirs.fileno()],
                    stdout=log, stderr=log,
                )  # fmt: skip
            except OSError as error:
                raise EngineError(f"no interpreter: {error}") from None

    def receive(self, timeout: float) -> dict[str, Any]:
        """The next answer.

        Raises:
            EngineError: the worker failed, ended, or was silent for `timeout` seconds.
        """
        try:
            if not self.pipe.poll(timeout):
                # its answer would come to a later question
                self.process.kill()
                raise EngineError(f"no answer in {timeout:.0f} s")
            answer = self.pipe.recv()
        except (EOFError, ConnectionError):
            raise EngineError(self._why_it_ended()) from None
        if "failure" in answer:
            raise EngineError(answer["failure"])
        return answer

    def start(self) -> dict[str, Any]:
        """Wait for the first answer of the engine; says `seconds` since the start of its process, too."""
        ready = self.receive(ANSWER_SECONDS)
        ready["seconds"] = time.perf_counter() - self._began
        self._signal(signal.SIGSTOP)
        return ready

    def ask(self, workload: str, order: str) -> dict[str, Any]:
        """One round; the process runs for this long only."""
        self._signal(signal.SIGCONT)
        try:
            self.pipe.send({"workload": workload, "order": order})
            return self.receive(ANSWER_SECONDS)
        except (BrokenPipeError, ConnectionError):
            raise EngineError(self._why_it_ended()) from None
        finally:
            self._signal(signal.SIGSTOP)

    def close(self) -> None:
        """End the process."""
        self._signal(signal.SIGCONT)
        with contextlib.suppress(OSError):
            self.pipe.send(None)
        self.pipe.close()
        try:
            self.process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)

    def _why_it_ended(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(CLOSE_SECONDS)
        code = self.process.poll()
        lines = self.log.read_text("utf-8", errors="replace").strip().splitlines()
        how = f"ended by signal {-code}" if code is not None and code < 0 else f"ended with {code}"
        return f"{how}: {lines[-1][:160]}" if lines else how


def prepare_model(model: str, setup: Setup) -> None:
    """Write a model's folder and the expected answers, unless they are there."""
    command = [sys.executable, "-m", "engines.models", model, str(setup.cache / model)]
    subprocess.run(command, cwd=BENCHMARKS, env=setup.environment(), check=True)


def prepare(name: str, model: str, setup: Setup) -> dict[str, str]:
    """Let an engine write its files, if it has any; versions of the libraries that did so.

    Raises:
        EngineError: it could not.
    """
    engine = name.partition(":")[0]
    if not Path(__file__).with_name(f"prepare_{FILES_OF.get(engine, engine)}.py").is_file():
        return {}
    worker = Worker(name, model, setup, is_preparing=True)
    try:
        return worker.receive(PREPARE_SECONDS)["versions"]
    finally:
        worker.close()


def start(name: str, model: str, setup: Setup) -> tuple[Worker, dict[str, Any]]:
    """A ready worker and what it says of itself.

    Raises:
        EngineError: it cannot be loaded, or the machine has no memory left for it.
    """
    weights = sum(path.stat().st_size for path in (setup.cache / model / "model").glob("*.safetensors"))
    needed, free = 3 * weights + 2**29, free_memory()
    if free < needed:
        raise EngineError(f"not started: {free / 2**30:.1f} GB of memory are free, {needed / 2**30:.1f} needed")
    worker = Worker(name, model, setup)
    try:
        return worker, worker.start()
    except EngineError:
        worker.close()
        raise


def free_memory() -> int:
    """Bytes that processes could still take."""
    found = re.search(r"MemAvailable:\s+(\d+)", Path("/proc/meminfo").read_text("utf-8"))
    assert found is not None, "a file of every Linux"
    return int(found[1]) * 1024


def close_all(workers: Sequence[Worker]) -> None:
    """End all processes."""
    for worker in workers:
        worker.close()
