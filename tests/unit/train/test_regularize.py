"""R-Drop and FGM against what their papers say, written out by hand; the mean over targets stays right."""

import contextlib
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests import tiny
from tests.unit.tasks.test_contract import MAKERS
from unmask.data.batching import Batch
from unmask.errors import UnmaskError, UsageError
from unmask.runtime import machine, seed_step
from unmask.tasks import TASKS
from unmask.tasks.base import Task
from unmask.train.fit import Trainer
from unmask.train.job import read_job
from unmask.train.regularize import Regularizer, divergence, moved
from unmask.train.settings import OptimSettings, RegularizeSettings

TWO = [tiny.classifier, tiny.masked_lm]
WITHOUT = ("embedding", "regression")
SEED = 3
RTOL = 1e-5  # the loss and the logits are float32, the rest is float64


def batches(task: Task, sizes: tuple[int, ...] = (8,)) -> list[Batch]:
    features = task.encode(tiny.rows_of(task), is_training=True)
    return [task.collate(features[a:b]) for a, b in itertools.pairwise(np.cumsum((0, *sizes)))]


def one_step(task: Task, micro_batches: list[Batch], monkeypatch: pytest.MonkeyPatch, **settings: float) -> list:
    """Loss and gradients of the loop's first step."""
    where = machine("float32", "cpu")
    trainer = Trainer(task, OptimSettings(max_grad_norm=0.0), max_steps=10, machine=where, seed=SEED)
    trainer.regularizer = Regularizer(task, RegularizeSettings(**settings))
    monkeypatch.setattr(trainer.optimizer, "step", lambda lr: None)
    monkeypatch.setattr(trainer.optimizer, "zero_grad", lambda: None)
    (step,) = trainer.fit([micro_batches])
    return [torch.tensor(step.loss), *(parameter.grad for parameter in task.parameters())]


def gradients_of(loss: torch.Tensor, task: Task) -> list[torch.Tensor]:
    found = torch.autograd.grad(loss, list(task.parameters()), allow_unused=True)
    return [torch.zeros_like(one) if part is None else part for one, part in zip(task.parameters(), found, strict=True)]


def assert_equal(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.double(), other.double(), rtol=RTOL, atol=1e-7)


@pytest.mark.parametrize("make", TWO)
def test_r_drop_is_the_mean_of_two_losses_and_the_weighted_divergence(make, monkeypatch) -> None:
    task = make(hidden_dropout_prob=0.3, initializer_range=0.3).double()
    (batch,) = batches(task)
    ours = one_step(task, [batch], monkeypatch, r_drop=2.0)
    seed_step(SEED, 1)
    first, second = task(batch), task(batch)
    p, q = first.log_softmax(-1), second.log_softmax(-1)
    apart = F.kl_div(p, q, log_target=True, reduction="sum") + F.kl_div(q, p, log_target=True, reduction="sum")
    loss = (task.loss(first, batch) + task.loss(second, batch)) / 2 + 2.0 * apart / 2
    assert float(apart.detach()) > 0.01
    assert_equal(ours, [loss / batch.num_targets, *gradients_of(loss / batch.num_targets, task)])


@pytest.mark.parametrize("make", TWO)
def test_fgm_adds_the_gradient_at_the_moved_words(make, monkeypatch) -> None:
    task = make(initializer_range=0.3).double()
    (batch,) = batches(task)
    before = [one.detach().clone() for one in task.parameters()]
    ours = one_step(task, [batch], monkeypatch, fgm_epsilon=0.7)
    assert all(torch.equal(one, old) for one, old in zip(task.parameters(), before, strict=True))
    words = task.encoder.embeddings.word.weight
    clean = task.loss(task(batch), batch) / batch.num_targets
    (slope,) = torch.autograd.grad(clean, [words], retain_graph=True)
    gradients = gradients_of(clean, task)
    words.data += 0.7 * slope / slope.pow(2).sum().sqrt()
    adversarial = task.loss(task(batch), batch) / batch.num_targets
    assert float(adversarial.detach()) > float(clean.detach()) + 0.01
    summed = [one + other for one, other in zip(gradients, gradients_of(adversarial, task), strict=True)]
    assert_equal(ours, [clean, *summed])


@pytest.mark.parametrize(
    "settings", [{"r_drop": 3.0}, {"fgm_epsilon": 0.5}, {"r_drop": 1.0, "fgm_epsilon": 0.5}], ids=str
)
@pytest.mark.parametrize("make", TWO)
@pytest.mark.parametrize("sizes", [(1, 7), (2, 2, 2, 2)])
def test_cutting_a_step_into_micro_batches_changes_nothing(make, settings, sizes, monkeypatch) -> None:
    found = []
    for parts in ((8,), sizes):
        task = make(initializer_range=0.3).double()
        found.append(one_step(task, batches(task, parts), monkeypatch, **settings))
    assert_equal(*found)


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_all_tasks_have_probabilities_or_say_that_they_have_none(name: str) -> None:
    task = MAKERS[name]()
    batch = task.collate(task.encode(tiny.rows_of(task), is_training=True))
    logits = task(batch)
    if task.name in WITHOUT:
        with pytest.raises(UsageError, match="no probabilities"):
            task.log_probs(logits, batch)
        return
    log_probs = task.log_probs(logits, batch)
    each = float(log_probs.exp().sum().detach()) / batch.num_targets
    assert each == pytest.approx(round(each), rel=1e-4)
    assert round(each) == (2 if task.name == "span_qa" else 1)
    assert float(divergence(log_probs, log_probs.flip(0)).detach()) > 0


@pytest.mark.parametrize("name", sorted(TASKS))
def test_r_drop_without_probabilities_is_refused_when_the_job_is_read(name: str, tmp_path: Path) -> None:
    """Before the model is opened: the folder is none."""
    path = tmp_path / "rows.tsv"
    path.write_text("text\tpair\tscore\na film\ta story\t1.5\na day\ta bore\t2.5\n")
    given = ({"regularize": {"r_drop": 1.0}},)
    with pytest.raises(UnmaskError) as caught:
        read_job(path, model=tmp_path / "none", task=name, given=given)
    if name in WITHOUT:
        assert caught.value.code == "no-probabilities"
        assert caught.value.details["place"] == "regularize.r_drop"
        assert "leave out --regularize.r-drop" in caught.value.details["fix"]
    else:
        assert caught.value.code != "no-probabilities"


def test_without_dropout_r_drop_adds_nothing(monkeypatch) -> None:
    found = []
    for settings in ({}, {"r_drop": 5.0}):
        task = tiny.classifier().double()
        found.append(one_step(task, batches(task), monkeypatch, **settings))
    assert_equal(*found)


def test_off_means_one_pass_and_the_bare_loss() -> None:
    task = tiny.classifier()
    (batch,) = batches(task)
    calls = []

    def forward(seen: Batch) -> torch.Tensor:
        calls.append(seen)
        return task(seen)

    regularizer = Regularizer(task)
    assert torch.equal(regularizer.loss(forward, batch), task.loss(task(batch), batch))
    assert calls == [batch]
    assert len(list(regularizer.passes())) == 1


def test_divergence_takes_any_grouping_and_impossible_outcomes() -> None:
    p, q = torch.randn(2, 4, 3).log_softmax(-1)
    mean = (F.kl_div(p, q, log_target=True, reduction="sum") + F.kl_div(q, p, log_target=True, reduction="sum")) / 2
    mean = mean / 4  # of four distributions
    torch.testing.assert_close(divergence(p, q), mean)
    torch.testing.assert_close(divergence(p.flatten(), q.flatten()), mean)
    impossible = torch.full((2,), -torch.inf)
    wide = torch.cat([p.flatten(), impossible]).requires_grad_()
    found = divergence(wide, torch.cat([q.flatten(), impossible]))
    torch.testing.assert_close(found.detach(), mean)
    (gradient,) = torch.autograd.grad(found, [wide])
    assert torch.isfinite(gradient).all()


def test_the_word_table_comes_back_even_after_an_error() -> None:
    table = torch.nn.Parameter(torch.randn(5, 3))
    before = table.detach().clone()
    table.grad = torch.ones_like(table)
    with contextlib.suppress(KeyError), moved(table, 2.0):
        assert float((table.detach() - before).norm()) == pytest.approx(2.0, rel=1e-5)
        raise KeyError
    assert torch.equal(table, before)
    table.grad.zero_()
    with moved(table, 2.0):
        assert torch.equal(table, before)


def test_frozen_words_cannot_be_moved() -> None:
    task = tiny.classifier()
    task.encoder.embeddings.requires_grad_(False)
    Regularizer(task, RegularizeSettings(r_drop=1.0))
    with pytest.raises(UsageError, match="frozen"):
        Regularizer(task, RegularizeSettings(fgm_epsilon=1.0))
