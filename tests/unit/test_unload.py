"""Memory of mapped files is let go of, and nothing else."""

import mmap
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from unmask.runtime import unload

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc/self/pagemap")
PRESENT = 63


def pages_in_memory(tensor: torch.Tensor) -> int:
    first, count = tensor.data_ptr() // mmap.PAGESIZE, tensor.nbytes // mmap.PAGESIZE
    with open("/proc/self/pagemap", "rb") as file:
        file.seek(8 * first)
        flags = np.frombuffer(file.read(8 * count), np.uint64)
    return int((flags >> np.uint64(PRESENT) & np.uint64(1)).sum())


@pytest.fixture
def mapped(tmp_path: Path) -> dict[str, torch.Tensor]:
    values = {name: torch.arange(1 << 18, dtype=torch.float32) + at for at, name in enumerate("abc")}
    safetensors.torch.save_file(values, tmp_path / "weights.safetensors")
    return safetensors.torch.load_file(tmp_path / "weights.safetensors")


def test_pages_of_a_file_are_let_go_of_and_read_again(mapped: dict[str, torch.Tensor]) -> None:
    total = mapped["b"].sum()
    assert pages_in_memory(mapped["b"]) > 200
    unload(mapped.values())
    assert pages_in_memory(mapped["b"]) == 0
    assert mapped["b"].sum() == total
    assert mapped["b"][5] == 6


def test_what_was_changed_or_made_here_stays(mapped: dict[str, torch.Tensor]) -> None:
    mapped["b"][1000:1010] = -1.0
    made = torch.full((1 << 18,), 7.0)
    unload([mapped["b"], made, torch.empty(0)])
    assert mapped["b"][1005] == -1.0
    assert mapped["b"][0] == 1
    assert bool((made == 7.0).all())
