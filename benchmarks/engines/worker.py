"""The process of one engine: it prepares, or loads and answers requests that come through a pipe.

    python -m engines.worker JOB

JOB is a JSON object: `pipe` (file descriptor), `engine`, `precision`, `model`, `prepared`, `threads`, `is_preparing`.
"""

import ctypes
import importlib
import json
import shutil
import signal
import sys
import time
import traceback
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .workloads import WORKLOADS, Workload, order_of, texts_of

FIRST = Workload(1, 12)
WARM_CALLS = 3
# of prctl(2)
PR_SET_PDEATHSIG = 1


def prepare(module: ModuleType, job: dict[str, Any], versions: dict[str, str]) -> None:
    """Let the engine write its files, unless these versions did so for this model already."""
    target = Path(job["prepared"])
    note = json.dumps([versions, (Path(job["model"]).parent / "note.json").read_text("utf-8")])
    mark = target / "note.json"
    if mark.is_file() and mark.read_text("utf-8") == note:
        return
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    module.prepare(Path(job["model"]), job["precision"], target)
    mark.write_text(note, "utf-8")


def one_round(engine: Any, batch_size: int | None, texts: list[np.ndarray], order: str) -> tuple[np.ndarray, float]:
    """Answer all texts; logits (N, C) in the order of the file, and the seconds of the engine's calls alone."""
    rows = order_of(texts, order)
    size = batch_size or len(texts)
    batches = [[texts[row] for row in rows[at : at + size]] for at in range(0, len(rows), size)]
    start = time.perf_counter()
    answers = [engine.run(batch) for batch in batches]
    seconds = time.perf_counter() - start
    logits = np.concatenate(answers)
    return logits[np.argsort(rows)], seconds


def one_by_one(engine: Any, texts: list[np.ndarray]) -> tuple[np.ndarray, list[float]]:
    """Answer text by text; logits (N, C) and the seconds of each call."""
    for text in texts[:WARM_CALLS]:
        engine.run([text])
    answers, seconds = [], []
    for text in texts:
        start = time.perf_counter()
        answers.append(engine.run([text]))
        seconds.append(time.perf_counter() - start)
    return np.concatenate(answers), seconds


def peak_memory() -> float:
    """Greatest resident size of this process so far, in MB."""
    status = Path("/proc/self/status").read_text("utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


def serve(pipe: Connection, module: ModuleType, job: dict[str, Any], versions: dict[str, str]) -> None:
    """Load, answer one text, and then each request until `None` comes; a failed request is told and forgotten."""
    model = Path(job["model"])
    vocab_size = json.loads((model / "config.json").read_text("utf-8"))["vocab_size"]
    engine = module.Engine(model, job["precision"], Path(job["prepared"]), job["threads"])
    engine.run(texts_of(FIRST, vocab_size))
    pipe.send({"versions": versions, "orders": module.ORDERS, "memory": peak_memory()})
    while (request := pipe.recv()) is not None:
        workload = WORKLOADS[request["workload"]]
        texts = texts_of(workload, vocab_size)
        try:
            if workload.is_latency:
                logits, seconds = one_by_one(engine, texts)
            else:
                logits, total = one_round(engine, module.BATCH_SIZE, texts, request["order"])
                seconds = [total]
            pipe.send({"seconds": seconds, "logits": logits.tolist(), "memory": peak_memory()})
        except Exception as error:
            traceback.print_exc()
            pipe.send({"failure": reason_of(error)})


def reason_of(error: BaseException) -> str:
    """The kind of an error and the first line of its text."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:160]}"


def main() -> None:
    """Do one job; what it fails of goes through the pipe."""
    job = json.loads(sys.argv[1])
    # a stopped process would outlive its driver
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    pipe = Connection(job["pipe"])
    try:
        part = "prepare" if job["is_preparing"] else "with"
        module = importlib.import_module(f".{part}_{job['engine']}", __package__)
        versions = {name: version(name) for name in module.LIBRARIES}
        if job["is_preparing"]:
            prepare(module, job, versions)
            pipe.send({"versions": versions})
        else:
            serve(pipe, module, job, versions)
    except Exception as error:
        traceback.print_exc()
        pipe.send({"failure": reason_of(error)})


if __name__ == "__main__":
    main()
