"""What a run says while it goes on."""

import logging
import math
from dataclasses import asdict

from unmask.train.fit import Step, Trainer
from unmask.train.flops import step_flops
from unmask.train.run import Run, clock

log = logging.getLogger("unmask")


class Progress:
    """Writes a line every few steps: loss, rate, real tokens a second, share of the peak, waiting, and time to go.

    Args:
        run: whose events get the same numbers.
        trainer: of the run.
        every: steps between lines.
        peak: floating-point operations a second that the machine, with all ranks, reaches at its best; with it the
            share of it is said. Only of pre-training, whose arithmetic is counted.
    """

    def __init__(self, run: Run, trainer: Trainer, every: int, *, peak: float = math.inf) -> None:
        self._run = run
        self._trainer = trainer
        self._every = every
        self._peak = peak
        self._recent: list[Step] = []

    def show(self, step: Step) -> None:
        """Note a step; log and print the mean of the last few when it is time."""
        if step.verdict != "accept":
            self._run.log("spike", step=step.step, loss=step.loss, verdict=step.verdict)
            log.warning("step %d: loss %.4f is a spike: %s", step.step, step.loss, step.verdict)
        self._recent.append(step)
        if step.step % self._every and not self._trainer.is_over:
            return
        recent, self._recent = self._recent, []
        seconds = sum(one.seconds for one in recent)
        speed = sum(one.num_tokens for one in recent) / seconds
        loss = sum(one.loss * one.num_targets for one in recent) / max(1, sum(one.num_targets for one in recent))
        mfu = sum(step_flops(self._trainer.task.config, one) for one in recent) / seconds / self._peak
        numbers = {"loss": loss, "tokens_per_second": round(speed, 1)} | ({"mfu": round(mfu, 4)} if mfu else {})
        self._run.log("step", **(asdict(step) | numbers))
        parts = [
            f"step {step.step}/{self._trainer.max_steps}",
            f"loss {loss:.4f}",
            f"lr {step.lr:.2e}",
            f"grad {step.grad_norm:.2f}",
            f"{speed:,.0f} tokens/s",
            *([f"{100 * mfu:.0f} % of peak"] if mfu else []),
            f"data wait {100 * sum(one.data_seconds for one in recent) / seconds:.0f} %",
            f"{clock(self._to_go(seconds / len(recent)))} to go",
        ]
        log.info("%s", "  ".join(parts))

    def _to_go(self, each: float) -> float:
        trainer = self._trainer
        by_steps = (trainer.max_steps - trainer.step) * each
        return min(by_steps, max(0.0, (trainer.max_seconds or math.inf) - trainer.seconds))
