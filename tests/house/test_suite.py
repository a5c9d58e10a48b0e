"""The suite's own guarantees: see tests/conftest.py."""

import random
import socket
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("host", ["192.0.2.1", "example.invalid"])
def test_no_socket_leaves_this_machine(host: str) -> None:
    with socket.socket() as client:
        with pytest.raises(AssertionError, match="tried to connect"):
            client.connect((host, 80))
        with pytest.raises(AssertionError, match="tried to connect"):
            client.connect_ex((host, 80))


def test_a_socket_may_connect_to_this_machine() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=lambda: server.accept()[0].close())
        thread.start()
        with socket.create_connection(server.getsockname()[:2], timeout=5) as client:
            assert client.recv(1) == b""
        thread.join()


def test_seeds_and_threads_are_fixed() -> None:
    expected = random.Random(0).random(), np.random.RandomState(0).rand(), torch.Generator().manual_seed(0)
    assert random.random() == expected[0]
    assert np.random.rand() == expected[1]
    assert torch.equal(torch.rand(3), torch.rand(3, generator=expected[2]))
    assert torch.get_num_threads() == 1


def test_make_lists_every_target() -> None:
    shown = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    targets = [line.split()[1] for line in shown.splitlines()]
    assert targets == [
        "help",
        "install",
        "demo",
        "test",
        "test-slow",
        "check",
        "docs",
        "bench",
        "bench-engine",
        "clean",
    ]


def test_ci_runs_the_suite() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert "set -euo pipefail" in script.read_text()
    assert "make test" in script.read_text()
