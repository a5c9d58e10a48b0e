"""The loop: the token-weighted mean, the schedule, repeatability, and what happens to a loss that is not finite."""

import itertools

import numpy as np
import pytest
import torch

from tests import tiny
from unmask.data.batching import Batch
from unmask.errors import NumericError
from unmask.runtime import machine
from unmask.tasks.base import Task
from unmask.train.fit import Trainer
from unmask.train.optim import build_optimizer, linear_schedule
from unmask.train.settings import OptimSettings

MEAN_RTOL = 1e-6


def trainer(task: Task, **settings: object) -> Trainer:
    return Trainer(task, OptimSettings(**settings), max_steps=10, machine=machine("float32", "cpu"), seed=3)


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
        monkeypatch.setattr(one.optimizer, "step", lambda: None)
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


def test_the_schedule_rises_and_falls_in_straight_lines() -> None:
    factors = [linear_schedule(step, max_steps=100, warmup_ratio=0.1) for step in range(1, 101)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == factors[9] == 1.0
    assert np.diff(factors[:10]) == pytest.approx(np.full(9, 0.1))
    assert np.diff(factors[10:]) == pytest.approx(np.full(89, -1 / 90))
    assert 0 < factors[-1] < 0.02
    assert linear_schedule(1, max_steps=5, warmup_ratio=0.0) == 1.0


def test_biases_and_norms_are_decayed_only_when_asked() -> None:
    task = tiny.classifier()
    plain = build_optimizer(task, OptimSettings(weight_decay=0.1)).param_groups
    assert [group["weight_decay"] for group in plain] == [0.1, 0.0]
    assert all(parameter.ndim == 1 for parameter in plain[1]["params"])
    assert sum(len(group["params"]) for group in plain) == len(list(task.parameters()))
    (all_decayed,) = build_optimizer(task, OptimSettings(decay_all=True)).param_groups
    assert len(all_decayed["params"]) == len(list(task.parameters()))
    assert all_decayed["betas"] == (0.9, 0.98)
    assert all_decayed["eps"] == 1e-6
