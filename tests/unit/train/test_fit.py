"""The loop: the token-weighted mean, the schedule, repeatability, and what happens to a loss that is not finite."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests import tiny
from unmask.data.batching import Batch, fill_up
from unmask.errors import NumericError
from unmask.runtime import machine
from unmask.tasks.base import Task
from unmask.train.fit import Trainer
from unmask.train.settings import GuardSettings, OptimSettings

MEAN_RTOL = 1e-6


def trainer(task: Task, *, guard: GuardSettings | None = None, **settings: object) -> Trainer:
    where = machine("float32", "cpu")
    return Trainer(task, OptimSettings(**settings), max_steps=10, machine=where, seed=3, guard=guard)


def batches(task: Task, sizes: tuple[int, ...]) -> list[Batch]:
    features = task.encode(tiny.rows_of(task), is_training=True)
    edges = np.cumsum((0, *sizes))
    return [task.collate(features[a:b]) for a, b in itertools.pairwise(edges)]


@pytest.mark.parametrize("make", [tiny.classifier, tiny.masked_lm])
@pytest.mark.parametrize("sizes", [(4, 4), (1, 7), (1, 1, 1, 1, 1, 1, 1, 1)])
def test_micro_batches_give_the_gradient_of_one_batch(make, sizes, monkeypatch) -> None:
    gradients = []
    for parts in ((8,), sizes):
        task = make().double()
        one = trainer(task, max_grad_norm=0.0)
        monkeypatch.setattr(one.optimizer, "step", lambda lr: None)
        monkeypatch.setattr(one.optimizer, "zero_grad", lambda: None)
        (step,) = one.fit([batches(task, parts)])
        gradients.append([step.loss, *(parameter.grad for parameter in task.parameters())])
    assert gradients[0][0] == pytest.approx(gradients[1][0], rel=MEAN_RTOL)
    for whole, summed in zip(gradients[0][1:], gradients[1][1:], strict=True):
        torch.testing.assert_close(summed, whole, rtol=MEAN_RTOL, atol=1e-7)


def test_the_reported_loss_is_the_mean_over_all_targets() -> None:
    task = tiny.masked_lm()
    micro_batches = batches(task, (1, 7))
    with torch.inference_mode():
        losses = [float(task.loss(task(batch), batch)) for batch in micro_batches]
    counts = [batch.num_targets for batch in micro_batches]
    assert counts[0] != counts[1]
    (step,) = list(trainer(task).fit([micro_batches]))
    assert step.loss == pytest.approx(sum(losses) / sum(counts), rel=1e-5)
    assert step.num_targets == sum(counts)
    assert step.num_tokens == sum(batch.num_tokens for batch in micro_batches)


def test_dropout_depends_on_seed_and_step_alone() -> None:
    def losses(skip: int) -> list[float]:
        task = tiny.classifier(hidden_dropout_prob=0.5)
        one = trainer(task, lr=1e-12)
        one.step = skip
        torch.rand(skip * 7 + 1)
        return [step.loss for step in one.fit([batches(task, (8,))] * (6 - skip))]

    assert losses(0)[2:] == pytest.approx(losses(2), rel=1e-6)
    assert len(set(losses(0))) == 6


def test_a_loss_that_is_not_finite_touches_no_weight() -> None:
    task = tiny.classifier()
    before = {name: value.clone() for name, value in task.state_dict().items()}
    broken = batches(task, (8,))
    task.head.out.bias.data[0] = float("nan")
    with pytest.raises(NumericError, match="step 1") as caught:
        list(trainer(task).fit([broken]))
    assert caught.value.exit_code == 6
    for name, value in task.state_dict().items():
        if name != "head.out.bias":
            assert torch.equal(value, before[name]), name


def test_a_filled_up_batch_has_the_loss_and_the_gradient_of_the_bare_one() -> None:
    task = tiny.masked_lm()
    (bare,) = batches(task, (8,))
    filled = fill_up(bare, round_tokens=64, round_targets=16, pad_id=task.tokenizer.pad_id)
    assert filled.num_tokens == bare.num_tokens < len(filled.input_ids)
    found = []
    for batch in (bare, filled):
        task.zero_grad()
        loss = task.loss(task(batch), batch)
        torch.autograd.backward(loss)
        found.append([loss.detach(), *(parameter.grad.clone() for parameter in task.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_the_running_mean_is_what_is_evaluated_and_comes_and_goes() -> None:
    task = tiny.classifier()
    one = trainer(task, ema_decay=0.5, lr=1e-2)
    one.max_steps = 12
    mean = {name: value.clone() for name, value in task.named_parameters()}
    for step in one.fit([batches(task, (8,))] * 12):
        decay = min(0.5, (1 + step.step) / (10 + step.step))
        for name, value in task.named_parameters():
            mean[name] = decay * mean[name] + (1 - decay) * value.detach()
    last = {name: value.detach().clone() for name, value in task.named_parameters()}
    with one.averaged() as averaged:
        for name, value in averaged.named_parameters():
            torch.testing.assert_close(value, mean[name], rtol=1e-5, atol=1e-7)
    for name, value in task.named_parameters():
        assert torch.equal(value, last[name]), name
    for name, value in one.final_task().named_parameters():
        torch.testing.assert_close(value, mean[name], rtol=1e-5, atol=1e-7)


def test_a_spike_changes_no_weight_and_the_next_step_runs() -> None:
    task = tiny.masked_lm()
    one = trainer(task, lr=1e-3, guard=GuardSettings(window=8))
    one.max_steps = 100
    calm = batches(task, (8,))
    steps = one.fit(itertools.chain([calm] * 40, [spoilt(calm, task)], [calm] * 2))
    verdicts, frozen = [], None
    for step in steps:
        if step.step == 40:
            frozen = {name: value.detach().clone() for name, value in task.named_parameters()}
        if step.step == 41:
            assert all(torch.equal(value, frozen[name]) for name, value in task.named_parameters())
        verdicts.append(step.verdict)
    assert verdicts == ["accept"] * 40 + ["skip"] + ["accept"] * 2


def spoilt(micro_batches: list[Batch], task: Task) -> list[Batch]:
    """The same batches with the least probable labels."""
    found = []
    for batch in micro_batches:
        with torch.inference_mode():
            worst = task(batch).argmin(-1)
        found.append(replace(batch, labels=worst.clone()))
    return found


def test_time_ends_a_run_and_its_learning_rate() -> None:
    task = tiny.classifier()
    one = trainer(task, lr=1e-3, warmup_ratio=0.1)
    one.max_steps, one.max_seconds = 1_000_000, 0.3
    steps = list(one.fit(itertools.repeat(batches(task, (8,)))))
    assert 0.3 <= sum(step.seconds for step in steps) < 1.5
    assert one.is_over
    assert steps[-1].lr < 0.3e-3 < max(step.lr for step in steps)
