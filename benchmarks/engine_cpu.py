"""Answers a second of the engine on this CPU beside its peers, on the same ids, interleaved, as medians of rounds.

    pip install torch==2.13.0 'unmask[bench]'
    python benchmarks/engine_cpu.py [--models 4x256] [--workloads mixture] [--engines unmask,openvino:int8]

Encoder and classification head are measured, from ready token ids. Every engine has a process of its own on the same
cores; they answer one round each in turn. Peers get batches of 32 texts, padded to the longest, once in the order of
the file, as users run them, and once sorted by length. The product gets all texts in one call and cuts batches itself.
An engine that fails has a row that says why. Cold start is the time from the start of a process to its first answer;
memory is the greatest resident size. What peers need to prepare (exporting, calibrating) is outside every clock, and
is kept in a folder for the next run.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from engines import PRECISIONS
from engines.pool import EngineError, Setup, Worker, close_all, prepare, prepare_model, start
from engines.report import closeness, show_engines, show_workload
from engines.workloads import MIXED, WORKLOADS

MODELS = ("roberta-base", "6x768", "6x384", "4x256")
ALL = [f"{engine}:{precision}" for engine, precisions in PRECISIONS.items() for precision in precisions]
Found = dict[str, dict[str, Any]]


def start_engines(names: Sequence[str], model: str, setup: Setup, workers: dict[str, Worker]) -> Found:
    """Prepare and start engines into `workers`, one after the other; says of each what it is, or its `failure`."""
    about: Found = {}
    for name in names:
        print(f"{model}: starting {name}", file=sys.stderr)
        try:
            versions = prepare(name, model, setup)
            workers[name], ready = start(name, model, setup)
            about[name] = {
                "cold_start_s": ready["seconds"],
                "ready_mb": ready["memory"],
                "peak_mb": ready["memory"],
                "versions": versions | ready["versions"],
                "orders": ready["orders"],
            }
        except EngineError as error:
            about[name] = {"failure": str(error)}
    return about


def measure(workers: dict[str, Worker], about: Found, workload: str, rounds: int, expected: np.ndarray) -> Found:
    """Rounds of one workload in turns, after one of warming up whose answers are compared.

    Returns:
        For each engine `seconds` by order, one list a round, and `closeness` to the expected logits; or its `failure`.
    """
    found: Found = {name: {"seconds": {}} if name in workers else one for name, one in about.items()}
    for turn in range(rounds + 1):
        names = list(workers)
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            mine = found[name]
            # sorting does nothing to texts of one length
            for order in about[name]["orders"] if WORKLOADS[workload].length is MIXED else ("file",):
                if "failure" in mine:
                    continue
                try:
                    answer = workers[name].ask(workload, order)
                except EngineError as error:
                    mine["failure"] = str(error)
                    continue
                about[name]["peak_mb"] = answer["memory"]
                if turn:
                    mine["seconds"].setdefault(order, []).append(answer["seconds"])
                else:
                    near = closeness(np.array(answer["logits"]), expected)
                    mine["closeness"] = max(mine.get("closeness", near), near, key=lambda one: one["difference"])
    return found


def run_model(model: str, chosen: argparse.Namespace, setup: Setup) -> dict[str, Any]:
    """All workloads of one model."""
    prepare_model(model, setup)
    expected = np.load(setup.cache / model / "expected.npz")
    workers: dict[str, Worker] = {}
    try:
        about = start_engines(chosen.engines, model, setup, workers)
        result: dict[str, Any] = {"engines": about, "workloads": {}}
        for name in chosen.workloads if workers else ():
            result["workloads"][name] = measure(workers, about, name, chosen.rounds, expected[name])
            show_workload(model, name, json.loads((setup.cache / model / "model/config.json").read_text()), result)
    finally:
        close_all(list(workers.values()))
    show_engines(model, about)
    return result


def listed(known: Sequence[str]) -> Any:
    """Type of an argument: several of the known names, with commas; `openvino` stands for all its precisions."""

    def parse(text: str) -> list[str]:
        found = []
        for name in text.split(","):
            matches = [one for one in known if one == name or one.partition(":")[0] == name]
            if not matches:
                raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(known)}")
            found += matches
        return found

    return parse


def arguments() -> argparse.Namespace:
    """What the user asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=listed(MODELS), default=list(MODELS))
    parser.add_argument("--workloads", type=listed(list(WORKLOADS)), default=list(WORKLOADS))
    parser.add_argument("--engines", type=listed(ALL), default=ALL, help="as in unmask,openvino:int8")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--python", action="append", default=[], metavar="ENGINE=PATH", help="an engine's interpreter")
    parser.add_argument("--cache", type=Path, default=Path(__file__).parents[1] / "build" / "engine_cpu")
    parser.add_argument("--json", type=Path, help="write everything there, too")
    return parser.parse_args()


def main() -> None:
    """Measure and print a table for each model and workload."""
    chosen = arguments()
    pythons = dict(one.split("=", 1) for one in chosen.python)
    setup = Setup(chosen.cache.resolve(), chosen.threads, pythons)
    setup.pin()
    about = {
        "processor": processor(),
        "load by others": os.getloadavg()[0],
        "threads": chosen.threads,
        "rounds": chosen.rounds,
        "python": platform.python_version(),
    }
    print(", ".join(f"{name} {value}" for name, value in about.items()), flush=True)
    results = {"machine": about, "models": {}}
    for model in chosen.models:
        results["models"][model] = run_model(model, chosen, setup)
        if chosen.json is not None:
            chosen.json.write_text(json.dumps(results, indent=1), "utf-8")


def processor() -> str:
    """Name of the processor."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


if __name__ == "__main__":
    main()
