"""The benchmarks of training: the product and its peers compute on the same device."""

import pytest
import torch

from tests import tiny
from unmask.runtime import Machine

pytest.importorskip("transformers", reason="the extra `dev` is not installed")
from benchmarks import training_peers


def test_the_product_computes_where_its_peers_do(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def machine(dtype: str = "auto", device: str = "auto") -> Machine:
        asked.append(device)
        return Machine(torch.device("cpu"), torch.float32, 1, "a processor", "as asked")

    monkeypatch.setattr(training_peers, "machine", machine)
    training_peers.our_step(tiny.classifier(), list)
    training_peers.about_this_machine()
    assert asked == ["cpu", "cpu"]
