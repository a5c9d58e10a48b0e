"""Seconds until the command line answers: median of several runs of `unmask --help` and of an empty Python.

The aim is 0.3 s for `--help`. Run: `python benchmarks/start_up.py`.
"""

import platform
import statistics
import subprocess
import sys
import time

RUNS = 9
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "unmask --help": ["-c", "from unmask.cli import main; main(['--help'])"],
    "unmask pretrain --help": ["-c", "from unmask.cli import main; main(['pretrain', '--help'])"],
    "import torch": ["-c", "import torch"],
}


def seconds(arguments: list[str]) -> float:
    """Median time of one command, from the start of its process to its end."""
    taken = []
    for _ in range(RUNS):
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def main() -> None:
    """Print one line a command."""
    print(f"Python {platform.python_version()} on {platform.machine()}, median of {RUNS} runs")
    for name, arguments in COMMANDS.items():
        print(f"{name:<24} {seconds(arguments):.3f} s")


if __name__ == "__main__":
    main()
