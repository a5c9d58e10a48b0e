"""Whole passes of the compiled kernels for AVX-512 and for AVX2 beside torch, as it is and limited to AVX2.

    python benchmarks/kernels_cpu.py [--rounds 7] [--threads 1] [--layers 2]

Every engine has a process of its own on the same cores; they answer one round each in turn, and medians are shown.
Work is counted in the linear layers alone, two operations for each weight and token, so that attention and all the
rest make the numbers smaller. An AVX2 variant that computes int8 on a processor with AVX-512 uses its 256-bit
instructions.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

SIZES = {"base": (768, 12, 3072), "4x256": (256, 4, 1024)}
LENGTHS = {
    "32 texts of 8 to 64 tokens": (64, 48, 40, 32, 24, 16, 12, 8) * 4,
    "one text of 12": (12,),
    "4 of 512": (512,) * 4,
}
NATIVE = ("avx512 float32", "avx2 float32", "avx512 int8", "avx2 int8")
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
ENGINES = (*NATIVE, "torch float32", "torch-avx2 float32")


def encoder_of(engine: str, size: str, layers: int, threads: int) -> Any:
    """An encoder with random weights, computed by an engine."""
    from unmask.engine.compiled import library
    from unmask.engine.native import NativeEncoder
    from unmask.model.config import EncoderConfig
    from unmask.model.encoder import Encoder

    hidden, heads, wide = SIZES[size]
    made = Encoder(
        EncoderConfig(
            vocab_size=64,
            hidden_size=hidden,
            num_attention_heads=heads,
            intermediate_size=wide,
            num_hidden_layers=layers,
        )
    ).eval()
    made.init_weights(0)
    variant, precision = engine.split()
    if engine not in NATIVE:
        return made
    kernels = library(variant)
    if kernels is None or not kernels.runs(precision):
        sys.exit(f"{engine} does not run on this processor")
    return NativeEncoder(made, kernels, precision, threads=threads)


def work(engine: str, layers: int, threads: int, clock: Callable[[], float]) -> None:
    """Answer `size,workload` lines with the seconds of one pass, until there are no more."""
    import numpy as np
    import torch

    from unmask.data.batching import positions_of
    from unmask.model.layout import Layout

    torch.set_num_threads(threads)
    encoders = {size: encoder_of(engine, size, layers, threads) for size in SIZES}
    print("ready", flush=True)
    for line in sys.stdin:
        size, workload = line.strip().split(",")
        starts = np.concatenate([[0], np.cumsum(LENGTHS[workload])])
        arguments = torch.full((int(starts[-1]),), 5), positions_of(starts, 2), Layout.of(starts)
        with torch.inference_mode():
            start = clock()
            encoders[size](*arguments)
            print(clock() - start, flush=True)


def start(engine: str, chosen: argparse.Namespace) -> subprocess.Popen[str] | None:
    """A process that computes by an engine; `None` where it does not run."""
    options = {"engine": engine, "layers": chosen.layers, "threads": chosen.threads, "clock": chosen.clock}
    words = [sys.executable, __file__, *(word for name, value in options.items() for word in (f"--{name}", str(value)))]
    limits = {"OMP_NUM_THREADS": str(chosen.threads)} | (AVX2 if engine.startswith("torch-avx2") else {})
    process = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **limits}
    )
    assert process.stdout is not None
    return process if process.stdout.readline() == "ready\n" else None


def ask(process: subprocess.Popen[str], size: str, workload: str) -> float:
    """Seconds of one pass."""
    assert process.stdin is not None
    assert process.stdout is not None
    print(f"{size},{workload}", file=process.stdin, flush=True)
    return float(process.stdout.readline())


def show(size: str, workload: str, chosen: argparse.Namespace, workers: dict[str, subprocess.Popen[str]]) -> None:
    """Measure one workload and print its rows."""
    taken: dict[str, list[float]] = {name: [] for name in workers}
    for turn in range(chosen.rounds + 1):
        for name, process in workers.items():
            seconds = ask(process, size, workload)
            if turn:
                taken[name].append(seconds)
    hidden, _, wide = SIZES[size]
    operations = 2 * sum(LENGTHS[workload]) * chosen.layers * hidden * (4 * hidden + 2 * wide)
    print(f"\n{size}, {chosen.layers} layers, {workload}:")
    usual = statistics.median(taken.get("torch-avx2 float32", [float("nan")]))
    for name, times in taken.items():
        middle = statistics.median(times)
        print(
            f"  {name:<20}{middle * 1e3:9.2f} ms  {operations / middle / 1e9:7.1f} G/s"
            f"  {usual / middle:6.2f} times torch in AVX2   (best {min(times) * 1e3:.2f} ms)"
        )


def main() -> None:
    """Measure every engine that runs here."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: for one thread on a core that others use")
    parser.add_argument("--engine", choices=ENGINES, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.engine:
        return work(chosen.engine, chosen.layers, chosen.threads, CLOCKS[chosen.clock])
    workers = {name: process for name in ENGINES if (process := start(name, chosen)) is not None}
    print(f"{platform.processor() or platform.machine()}, {chosen.threads} threads, medians of {chosen.rounds} rounds")
    for size in SIZES:
        for workload in LENGTHS:
            show(size, workload, chosen, workers)
    for process in workers.values():
        process.communicate()
    return None


if __name__ == "__main__":
    main()
