"""Loss spikes: skip the step, go back to a checkpoint when they come close together, stop when that does not help."""

import math
import statistics
from typing import Any, Literal

from unmask.train.settings import GuardSettings

Verdict = Literal["accept", "skip", "roll back", "give up"]

_NEAR_STEPS = 100
_MIN_LOSSES = 32


class SpikeGuard:
    """Judges each step's loss by those of the last accepted ones.

    A spike never enters the window, so that one of them hides no other. The state is small and is saved with each
    checkpoint: a resumed run judges as the straight one.

    Args:
        settings: bounds.
    """

    def __init__(self, settings: GuardSettings) -> None:
        self.settings = settings
        self.losses: list[float] = []
        self.spikes: list[int] = []
        self.num_skipped = 0
        self.num_rollbacks = 0

    def judge(self, step: int, loss: float) -> Verdict:
        """Decide about a finite loss before the weights change.

        Returns:
            `accept`; `skip` for a spike; `roll back` for one too many within 100 steps; `give up` when the weights
            have been rolled back too often.
        """
        if not self._is_spike(loss):
            self.losses = [*self.losses, loss][-self.settings.window :]
            return "accept"
        self.num_skipped += 1
        self.spikes = [one for one in self.spikes if step - one < _NEAR_STEPS] + [step]
        if len(self.spikes) < self.settings.max_spikes:
            return "skip"
        if self.num_rollbacks >= self.settings.max_rollbacks:
            return "give up"
        self.num_rollbacks += 1
        return "roll back"

    def forgive(self) -> None:
        """Begin to count anew, after the weights were rolled back."""
        self.spikes = []

    def renew(self) -> None:
        """Forget the losses so far, where other text begins: places of longer blocks that nothing was learned for."""
        self.losses = []

    def _is_spike(self, loss: float) -> bool:
        if not self.settings.spike_sigmas or len(self.losses) < min(_MIN_LOSSES, self.settings.window):
            return False
        mean, deviation = statistics.fmean(self.losses), statistics.pstdev(self.losses)
        return loss > mean + self.settings.spike_sigmas * max(deviation, 1e-3 * math.fabs(mean))

    def state(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        names = ("losses", "spikes", "num_skipped", "num_rollbacks")
        return {name: getattr(self, name) for name in names}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over the values of a checkpoint."""
        for name, value in state.items():
            setattr(self, name, value)
