"""Low-rank updates: against W + scale * BA written out and against peft, merged or not; what trains and is saved."""

from pathlib import Path

import peft
import pytest
import torch

from tests import tiny
from unmask.data.batching import Batch
from unmask.model.layers import Linear
from unmask.runtime import machine
from unmask.tasks.base import Task
from unmask.train.fit import Trainer
from unmask.train.lora import LowRank, attach, merge
from unmask.train.settings import LoraSettings, OptimSettings
from unmask.train.snapshot import OPTIMIZER, WEIGHTS

LOGITS_ATOL = 1e-5
SETTINGS = LoraSettings(rank=3, alpha=6.0)


def classifier() -> Task:
    """With weights so large that its logits are about 1."""
    return tiny.classifier(initializer_range=0.3)


def batch_of(task: Task) -> Batch:
    return task.collate(task.encode(tiny.rows_of(task), is_training=True))


def adapted(settings: LoraSettings = SETTINGS) -> Task:
    """A classifier whose updates are not 0."""
    task = classifier()
    attach(task, settings, seed=7)
    generator = torch.Generator().manual_seed(1)
    for part in task.modules():
        if isinstance(part, LowRank):
            part.b.data.normal_(0, 0.3, generator=generator)
    return task


def trainer(task: Task) -> Trainer:
    return Trainer(task, OptimSettings(lr=1e-2), max_steps=100, machine=machine("float32", "cpu"), seed=3)


def test_the_update_is_that_of_the_paper() -> None:
    torch.manual_seed(2)
    base, x = Linear(8, 12), torch.randn(5, 8)
    layer = LowRank(base, SETTINGS, torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(x), base(x))
    layer.b.data.normal_()
    written_out = x @ (base.weight + 2.0 * layer.b @ layer.a).T + base.bias
    torch.testing.assert_close(layer(x), written_out)


def test_it_computes_what_peft_computes() -> None:
    task, other = adapted(), classifier()
    chosen = peft.LoraConfig(r=3, lora_alpha=6.0, target_modules=["qkv", "attention_out", "up", "down"])
    theirs = peft.inject_adapter_in_model(chosen, other)
    ours = dict(task.named_modules())
    for name, part in theirs.named_modules():
        if isinstance(part, peft.tuners.lora.Linear):
            part.lora_A["default"].weight.data.copy_(ours[name].a)
            part.lora_B["default"].weight.data.copy_(ours[name].b)
    batch = batch_of(task)
    torch.testing.assert_close(task.eval()(batch), theirs.eval()(batch), atol=LOGITS_ATOL, rtol=0)


def test_merged_weights_give_the_same_logits_and_the_same_names() -> None:
    task = adapted().eval()
    batch = batch_of(task)
    before = task(batch)
    assert not torch.allclose(before, classifier().eval()(batch), atol=1e-2)
    merge(task)
    torch.testing.assert_close(task(batch), before, atol=LOGITS_ATOL, rtol=0)
    assert task.state_dict().keys() == classifier().state_dict().keys()
    assert all(one.requires_grad for one in task.parameters())


def test_only_updates_and_head_move_and_are_saved(tmp_path: Path) -> None:
    task = classifier()
    before = {name: one.detach().clone() for name, one in task.named_parameters()}
    attach(task, LoraSettings(rank=2, targets=("qkv",)), seed=0)
    one = trainer(task)
    list(one.fit([[batch_of(task)]] * 2))
    moved = {f"encoder.layers.{layer}.qkv.{part}" for layer in (0, 1) for part in "ab"}
    moved |= {name for name in before if name.startswith("head.")}
    snapshot = one.snapshot()
    assert set(snapshot.tensors[WEIGHTS]) == moved
    assert {name.partition("/")[0] for name in snapshot.tensors[OPTIMIZER]} == moved
    for name, parameter in task.named_parameters():
        plain = name.replace(".base.", ".")
        assert (plain in before and torch.equal(parameter, before[plain])) != (name in moved), name


def test_dropout_falls_on_what_goes_into_the_update() -> None:
    task = adapted(LoraSettings(rank=3, dropout=0.5))
    batch = batch_of(task)
    outcomes = [task.train()(batch) for _ in range(2)]
    assert not torch.equal(*outcomes)
    assert torch.equal(task.eval()(batch), task(batch))


def test_seed_decides_the_random_half() -> None:
    first, again = adapted(), adapted()
    other = classifier()
    attach(other, SETTINGS, seed=8)
    assert torch.equal(first.encoder.layers[0].up.a, again.encoder.layers[0].up.a)
    assert not torch.equal(first.encoder.layers[0].up.a, other.encoder.layers[0].up.a)


def test_a_narrow_format_stays_narrow() -> None:
    layer = LowRank(Linear(8, 12), SETTINGS, torch.Generator())
    assert layer(torch.randn(4, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize("targets", [("up",), ("qkv", "down")])
def test_only_the_chosen_matrices_get_one(targets: tuple[str, ...]) -> None:
    task = classifier()
    attach(task, LoraSettings(rank=2, targets=targets), seed=0)
    for layer in task.encoder.layers:
        assert {name for name, part in layer.named_children() if isinstance(part, LowRank)} == set(targets)
