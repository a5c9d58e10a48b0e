"""Several real processes as the ranks of one run, over gloo on this machine."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def start(count: int, script: str, *arguments: object) -> list[subprocess.Popen]:
    """Start `count` processes of a Python script as ranks; the caller waits for them.

    Args:
        count: world size.
        script: its text.
        arguments: of the script.
    """
    port = free_port()
    processes = []
    for rank in range(count):
        environment = os.environ | {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(count),
            "LOCAL_WORLD_SIZE": str(count),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }
        command = [sys.executable, "-c", script, *map(str, arguments)]
        processes.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    return processes


def finish(processes: list[subprocess.Popen], seconds: float = 120) -> list[tuple[int, str, str]]:
    """Exit code, stdout and stderr of each process; those that hang are killed."""
    found = []
    for one in processes:
        try:
            out, err = one.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            one.send_signal(signal.SIGKILL)
            out, err = one.communicate()
        found.append((one.returncode, out, err))
    return found
