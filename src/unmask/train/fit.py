"""The one training loop, a generator: it yields after each optimizer step, and the caller logs, evaluates and saves."""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from unmask.data.batching import Batch
from unmask.errors import NumericError
from unmask.runtime import Machine, seed_step
from unmask.tasks.base import Task
from unmask.train.optim import build_optimizer, linear_schedule
from unmask.train.settings import OptimSettings


@dataclass(frozen=True)
class Step:
    """What one optimizer step did.

    Attributes:
        step: its number, from 1.
        loss: mean over the targets of the whole global batch, in nats.
        lr: learning rate.
        grad_norm: length of the gradient before clipping.
        num_tokens: real tokens that went through the network.
        num_targets: labels that the loss is a mean of.
        seconds: time of the step, waiting for data included.
        data_seconds: time spent waiting for data.
    """

    step: int
    loss: float
    lr: float
    grad_norm: float
    num_tokens: int
    num_targets: int
    seconds: float
    data_seconds: float


class Trainer:
    """The state that moves: a task's weights, the optimizer's moments and the number of finished steps.

    Args:
        task: network and loss.
        settings: optimizer and schedule.
        max_steps: steps after which the learning rate is 0.
        machine: where forward passes run, and in which number format.
        seed: with the step's number it decides dropout.
    """

    def __init__(self, task: Task, settings: OptimSettings, *, max_steps: int, machine: Machine, seed: int) -> None:
        self.task = task.to(machine.device)
        self.settings = settings
        self.max_steps = max_steps
        self.machine = machine
        self.seed = seed
        self.step = 0
        self.optimizer = build_optimizer(task, settings)

    def fit(self, global_batches: Iterable[Sequence[Batch]]) -> Iterator[Step]:
        """Take one optimizer step for each global batch, a sequence of micro-batches, up to `max_steps`.

        Raises:
            NumericError: loss or gradient is not finite; the weights are still those of the step before.
        """
        start = time.perf_counter()
        for micro_batches in global_batches:
            waited = time.perf_counter() - start
            loss, norm = self._update(micro_batches)
            end = time.perf_counter()
            yield Step(
                step=self.step,
                loss=loss,
                lr=self.optimizer.param_groups[0]["lr"],
                grad_norm=norm,
                num_tokens=sum(batch.num_tokens for batch in micro_batches),
                num_targets=sum(batch.num_targets for batch in micro_batches),
                seconds=end - start,
                data_seconds=waited,
            )
            if self.step >= self.max_steps:
                return
            start = time.perf_counter()

    def _update(self, micro_batches: Sequence[Batch]) -> tuple[float, float]:
        self.task.train()
        step = self.step + 1
        seed_step(self.seed, step)
        num_targets = max(1, sum(batch.num_targets for batch in micro_batches))
        losses = [self._backward(batch, num_targets) for batch in micro_batches]
        loss = float(torch.stack(losses).sum())
        limit = self.settings.max_grad_norm or math.inf
        norm = float(torch.nn.utils.clip_grad_norm_(self.task.parameters(), limit))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self.optimizer.zero_grad()
            raise NumericError(
                "not-finite",
                f"step {step}: loss {loss}, gradient norm {norm}",
                remedy="start anew with a lower --optim.lr or a lower --optim.max-grad-norm, and another --output",
            )
        factor = linear_schedule(step, max_steps=self.max_steps, warmup_ratio=self.settings.warmup_ratio)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.lr * factor
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step = step
        return loss, norm

    def _backward(self, batch: Batch, num_targets: int) -> torch.Tensor:
        batch = batch.to(self.machine.device)
        with self.machine.autocast():
            logits = self.task(batch)
        loss = self.task.loss(logits, batch) / num_targets
        torch.autograd.backward(loss)
        return loss.detach()
