"""What holds for the whole suite: fixed seeds, one core and one thread a worker, no network."""

import ipaddress
import os
import random
import socket
from collections.abc import Iterator

import hypothesis
import numpy as np
import pytest
import torch

hypothesis.settings.register_profile("suite", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("suite")

# Workers share the cores, one each, and so do the commands that they start: two threads on one busy core wait for each
# other at every product (training ran 2.7 times slower so).
if _worker := os.environ.get("PYTEST_XDIST_WORKER"):
    _cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {_cores[int(_worker.removeprefix("gw")) % len(_cores)]})
torch.set_num_threads(1)

# The reference libraries then fail at once where they would ask a hub first.
os.environ["HF_HUB_OFFLINE"] = "1"


class NetworkError(AssertionError):
    """A test tried to leave this machine."""


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """Let a socket connect only within this machine."""
    connect = socket.socket.connect
    connect_ex = socket.socket.connect_ex

    def guarded_connect(self: socket.socket, address: object) -> None:
        _refuse_remote(self, address)
        connect(self, address)  # type: ignore[arg-type]

    def guarded_connect_ex(self: socket.socket, address: object) -> int:
        _refuse_remote(self, address)
        return connect_ex(self, address)  # type: ignore[arg-type]

    socket.socket.connect = guarded_connect  # type: ignore[method-assign,assignment]
    socket.socket.connect_ex = guarded_connect_ex  # type: ignore[method-assign,assignment]
    yield
    socket.socket.connect = connect  # type: ignore[method-assign]
    socket.socket.connect_ex = connect_ex  # type: ignore[method-assign]


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    """Start each test from the same random state, in whatever order the tests run."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def _refuse_remote(connecting: socket.socket, address: object) -> None:
    if connecting.family == socket.AF_UNIX:
        return
    host = address[0] if isinstance(address, tuple) else address
    if host != "localhost" and not _is_loopback(str(host)):
        raise NetworkError(f"a test tried to connect to {address!r}")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
