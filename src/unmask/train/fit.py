"""The one training loop, a generator: it yields after each optimizer step, and the caller logs, evaluates and saves."""

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unmask.data.batching import Batch
from unmask.errors import NumericError
from unmask.runtime import Machine, Stop, seed_step
from unmask.tasks.base import Task
from unmask.train.distributed import ALONE, Ranks
from unmask.train.guard import SpikeGuard, Verdict
from unmask.train.optim import Optimizers
from unmask.train.parallel import Parallel, spread, whole
from unmask.train.regularize import Regularizer
from unmask.train.schedule import schedule
from unmask.train.settings import GuardSettings, OptimSettings
from unmask.train.snapshot import MEAN, OPTIMIZER, WEIGHTS, Snapshot, Tensors, is_sharded, read_tensors


@dataclass(frozen=True)
class Step:
    """What one optimizer step did.

    Attributes:
        step: its number, from 1.
        loss: mean over the targets of the whole global batch, in nats.
        lr: learning rate.
        grad_norm: length of the gradient before clipping.
        num_texts: texts that attention kept apart, on all ranks.
        num_tokens: real tokens that went through the network, on all ranks.
        num_targets: labels that the loss is a mean of.
        seconds: time of the step, waiting for data included.
        data_seconds: time spent waiting for data.
        verdict: `accept`, or why the weights did not change.
    """

    step: int
    loss: float
    lr: float
    grad_norm: float
    num_texts: int
    num_tokens: int
    num_targets: int
    seconds: float
    data_seconds: float
    verdict: Verdict = "accept"


class Trainer:
    """The state that moves: a task's weights, the optimizer's moments and the number of finished steps.

    Parameters that are frozen (`requires_grad` is off) do not move: they have no moments and stand in no checkpoint.

    Args:
        task: network and loss.
        settings: optimizer and schedule.
        max_steps: steps after which the run is over.
        machine: where forward passes run, and in which number format.
        seed: with the step's number it decides dropout.
        max_seconds: time after which the run is over, if that comes first; the schedule then counts time, not steps.
        guard: what to do about spikes; None never skips a step.
        ranks: of a distributed run.

    Attributes:
        regularizer: makes the loss of a batch; the caller may set another one than the task's bare loss.
    """

    def __init__(
        self,
        task: Task,
        settings: OptimSettings,
        *,
        max_steps: int,
        machine: Machine,
        seed: int,
        max_seconds: float | None = None,
        guard: GuardSettings | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.task = task.to(machine.device)
        self.settings = settings
        self.max_steps = max_steps
        self.max_seconds = max_seconds
        self.machine = machine
        self.seed = seed
        self.ranks = ranks
        self.parallel = Parallel(self.task, ranks)
        self.guard = SpikeGuard(guard or GuardSettings(spike_sigmas=0))
        self.step = 0
        self.seconds = 0.0
        self.optimizer = Optimizers(task, settings)
        self._last: tuple[dict[str, Any], Sequence[Batch], list[float]] = ({}, (), [])
        self.regularizer = Regularizer(self.task)
        self.mean = [one.detach().clone() for one in self._moving().values()] if settings.ema_decay else []

    @property
    def is_over(self) -> bool:
        """Whether all steps are done or the time is up."""
        return self.step >= self.max_steps or self.seconds >= (self.max_seconds or math.inf)

    def fit(self, global_batches: Iterable[Sequence[Batch]], stop: Stop | None = None) -> Iterator[Step]:
        """Take one optimizer step for each global batch, a sequence of micro-batches, until the run is over.

        Args:
            global_batches: this rank's part of each.
            stop: told to the other ranks when it is set on one.

        Raises:
            NumericError: loss or gradient is not finite, or spikes do not end; the weights are still those of the
                step before.
        """
        start = time.perf_counter()
        for micro_batches in global_batches:
            waited = time.perf_counter() - start
            done = self._update(micro_batches, stop or Stop())
            seconds = time.perf_counter() - start
            # all ranks must agree on when the time is up
            self.seconds += self.ranks.sum([seconds])[0] / self.ranks.world_size
            yield Step(**done, seconds=seconds, data_seconds=waited)
            if self.is_over:
                return
            start = time.perf_counter()

    @property
    def evidence(self) -> dict[str, Any]:
        """What the last step saw, for the file that names the samples of a bad one."""
        numbers, micro_batches, losses = self._last
        return numbers | {"micro_batches": _named(micro_batches, losses)}

    @contextlib.contextmanager
    def averaged(self) -> Iterator[Task]:
        """The task with the running mean of its weights, where one is kept; for evaluation and for the end."""
        self._swap()
        try:
            yield self.task
        finally:
            self._swap()

    def final_task(self) -> Task:
        """The task with the weights to keep: from here on the running mean, where there is one. Ends the training."""
        self._swap()
        self.mean = []
        return self.task

    @torch.no_grad()
    def change(self, name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Change one parameter and its running mean between two steps; all ranks take what the first one has made.

        Args:
            name: of a parameter that moves.
            change: from its whole value to another of the same shape.
        """
        named = self._moving()
        means = [one for other, one in zip(named, self.mean, strict=False) if other == name]
        for tensor in (named[name].detach(), *means):
            tensor.copy_(spread(self.ranks.same(change(whole(tensor))), tensor))

    def snapshot(self) -> Snapshot:
        """A copy of everything that moves, which later steps leave alone; of tensors, only on the rank that writes."""
        values = {"step": self.step, "seconds": self.seconds, "guard": self.guard.state()}
        if self.parallel.is_sharded:
            if not self.step:
                self.optimizer.make_state()
            return Snapshot.of(self._tensors(), values, is_sharded=True)
        return Snapshot.of(self._tensors() if self.ranks.is_main else {}, values, is_sharded=False)

    def restore(self, folder: Path, values: dict[str, Any]) -> None:
        """Take over what a snapshot wrote into a folder."""
        self.read_weights(folder)
        self.step, self.seconds = values["step"], values["seconds"]
        self.guard.restore(values["guard"])

    def read_weights(self, folder: Path) -> None:
        """Take over weights, moments and running mean of a checkpoint folder, but not its counters."""
        if is_sharded(folder) or (folder / OPTIMIZER).is_file():
            self.optimizer.make_state()
        read_tensors(self._tensors(), folder)

    def _tensors(self) -> Tensors:
        """All tensors that move, by file and name; they are the live ones."""
        named = self._moving()
        moments = {
            f"{name}/{part}": value
            for name, parameter in named.items()
            for part, value in self.optimizer.state(parameter).items()
        }
        mean = dict(zip(named, self.mean, strict=True)) if self.mean else {}
        return {WEIGHTS: {name: one.detach() for name, one in named.items()}, OPTIMIZER: moments, MEAN: mean}

    def _moving(self) -> dict[str, torch.nn.Parameter]:
        """The parameters that are trained, by name."""
        return {name: one for name, one in self.task.named_parameters() if one.requires_grad}

    def _update(self, micro_batches: Sequence[Batch], stop: Stop) -> dict[str, Any]:
        self.task.train()
        step = self.step + 1
        seed_step(self.seed, step)
        texts, tokens, *counts = self.ranks.sum(_totals(micro_batches))
        divisor = torch.tensor([max(1.0, count) for count in counts], device=self.machine.device)
        passes = [
            torch.stack([self._backward(batch, divisor, is_last=batch is micro_batches[-1]) for batch in micro_batches])
            for _ in self.regularizer.passes()
        ]
        losses = passes[0].tolist()
        # the norm is the same on all ranks, unless one of them has gone wrong: then its sum is not finite anywhere
        loss, norms = self.ranks.sum([math.fsum(losses), self._clip()])
        norm = norms / self.ranks.world_size
        self._last = {"step": step, "loss": loss, "grad_norm": norm}, micro_batches, losses
        verdict = self._judge(step, loss, norm)
        lr = self.settings.lr * self._factor(step)
        if verdict == "accept":
            self.optimizer.step(lr)
            if self.mean:
                # a young mean forgets faster, so that the random start does not stay in it
                decay = min(self.settings.ema_decay, (1 + step) / (10 + step))
                torch._foreach_lerp_(self.mean, list(self._moving().values()), 1 - decay)
        self.optimizer.zero_grad()
        self.ranks.agree(stop)
        self.step = step
        return {
            "step": step, "loss": loss, "lr": lr, "grad_norm": norm, "num_texts": int(texts),
            "num_tokens": int(tokens), "num_targets": int(counts[0]), "verdict": verdict,
        }  # fmt: skip

    def _backward(self, batch: Batch, divisor: torch.Tensor, *, is_last: bool) -> torch.Tensor:
        """One micro-batch's share of the loss: the sum of its targets over the number of all of them."""
        batch = batch.to(self.machine.device)
        with self.parallel.accumulate(is_last=is_last):
            loss = (self.regularizer.loss(self._forward, batch) / divisor).sum()
            # the ranks' gradients are averaged, and their sum is wanted
            torch.autograd.backward(loss * self.ranks.world_size)
        return loss.detach()

    def _forward(self, batch: Batch) -> torch.Tensor:
        with self.machine.autocast():
            return self.parallel.forward(batch)

    def _clip(self) -> float:
        """Length of the gradient, which is scaled down when it is too long."""
        limit = self.settings.max_grad_norm or math.inf
        return float(whole(torch.nn.utils.clip_grad_norm_(self._moving().values(), limit)))

    def _judge(self, step: int, loss: float, norm: float) -> Verdict:
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self.optimizer.zero_grad()
            raise NumericError(
                "not-finite",
                f"step {step}: loss {loss}, gradient norm {norm}",
                remedy="start anew with a lower --optim.lr or a lower --optim.max-grad-norm, and another --output",
            )
        verdict = self.guard.judge(step, loss)
        if verdict == "give up":
            self.optimizer.zero_grad()
            raise NumericError(
                "unstable",
                f"step {step}: the loss jumps to {loss:.3f} again, after {self.guard.num_rollbacks} returns to a "
                "checkpoint",
                remedy="start anew with a lower --optim.lr, a longer warm-up or a larger batch, and another --output",
            )
        return verdict

    def _factor(self, step: int) -> float:
        begin, end = (step - 1) / self.max_steps, step / self.max_steps
        if self.max_seconds is not None:
            each = self.seconds / max(1, self.step)
            begin, end = max(begin, self.seconds / self.max_seconds), max(end, (self.seconds + each) / self.max_seconds)
        return schedule(begin, min(1.0, end), self.settings)

    def _swap(self) -> None:
        with torch.no_grad():
            for mean, parameter in zip(self.mean, self._moving().values(), strict=bool(self.mean)):
                kept = parameter.clone()
                parameter.copy_(mean)
                mean.copy_(kept)


def _named(micro_batches: Sequence[Batch], losses: Sequence[float]) -> list[dict[str, Any]]:
    """Which samples each micro-batch holds, and its share of the loss."""
    return [
        {"loss": loss, "samples": None if batch.sample_ids is None else batch.sample_ids.tolist()}
        for batch, loss in zip(micro_batches, losses, strict=True)
    ]


def _totals(micro_batches: Sequence[Batch]) -> list[int]:
    """Texts, tokens and targets of this rank's part of a global batch."""
    rows = [(len(batch.cu_seqlens) - 1, batch.num_tokens, *batch.counts) for batch in micro_batches]
    return [sum(column) for column in zip(*rows, strict=True)]
