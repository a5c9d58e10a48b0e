"""How block length and batch size grow over a run, as a function of the step alone."""

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from unmask.config import Settings


class CurriculumSettings(Settings):
    """Shorter blocks and smaller batches to begin with."""

    block_lengths: tuple[Annotated[int, Field(ge=8)], ...] = ()
    """Lengths of the blocks of the first phases; the last phase has `block_length`. Places that only longer blocks have
    go on at the turn as those before them turn (`unmask.model.places`), and are learned from there."""
    block_shares: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = ()
    """Share of the steps of each of these phases; the last phase has the rest."""
    start_batch_size: Annotated[int, Field(gt=0)] | None = None
    """Blocks of the first step; by default the full batch."""
    batch_warmup_ratio: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the steps in which the batch grows, linearly, to its full size."""

    @model_validator(mode="after")
    def _parts_fit(self) -> "CurriculumSettings":
        if len(self.block_lengths) != len(self.block_shares):
            raise ValueError("block_lengths and block_shares need one number for each phase, both")
        if sum(self.block_shares) >= 1:
            raise ValueError("block_shares must leave some steps for the final block_length: their sum is below 1")
        if (self.start_batch_size is None) != (self.batch_warmup_ratio == 0):
            raise ValueError("start_batch_size and batch_warmup_ratio are given together")
        return self


@dataclass(frozen=True, slots=True)
class Point:
    """Where the sample stream stands at one step.

    Attributes:
        phase: number of the phase, from 0.
        block_length: most tokens of a block.
        first: samples of this phase that were taken before.
        count: samples of this step.
        batch_size: full-sentence blocks of the final length with as many tokens, about.
    """

    phase: int
    block_length: int
    first: int
    count: int
    batch_size: float


class Curriculum:
    """The samples of every step, in closed form.

    A step of any phase has as many tokens as one of full-sentence blocks of the final length would have: where blocks
    are shorter their number grows, as the paper does for DOC-SENTENCES (section 4.2). Fractions are carried on from
    step to step, so that the mean is exact.

    Args:
        settings: phases and warm-up.
        block_length: of the last phase.
        max_steps: of the run; steps behind it go on like the last one.
        batch_size: full-sentence blocks of the final length whose tokens make a step.
        scales: their mean length over that of the blocks of each phase, one for each phase; never below 1.

    Attributes:
        block_lengths: of each phase, the last one included.
    """

    def __init__(
        self,
        settings: CurriculumSettings,
        *,
        block_length: int,
        max_steps: int,
        batch_size: int,
        scales: Sequence[float],
    ) -> None:
        self.block_lengths = (*settings.block_lengths, block_length)
        self._starts = [0, *np.rint(np.cumsum(settings.block_shares) * max_steps).astype(int).tolist()]
        self._scales = scales
        self._full = batch_size
        self._start = settings.start_batch_size or batch_size
        self._growing = math.ceil(settings.batch_warmup_ratio * max_steps)

    def at(self, step: int) -> Point:
        """The samples of one step, counted from 0."""
        phase = bisect.bisect_right(self._starts, step) - 1
        before, behind = self._taken(phase, step), self._taken(phase, step + 1)
        size = self._full - (self._full - self._start) * max(0.0, 1 - step / max(1, self._growing))
        first = before - self._taken(phase, self._starts[phase])
        return Point(phase, self.block_lengths[phase], first, behind - before, size)

    def is_turn(self, step: int) -> bool:
        """Whether a step, counted from 0, is the first of a later phase."""
        return step > 0 and step in self._starts[1:]

    def samples(self, steps: int) -> list[int]:
        """Samples of each phase in the first `steps` steps."""
        stops = [*self._starts[1:], max(steps, self._starts[-1])]
        return [
            self._taken(phase, min(steps, stop)) - self._taken(phase, min(steps, start))
            for phase, (start, stop) in enumerate(zip(self._starts, stops, strict=True))
        ]

    def _taken(self, phase: int, steps: int) -> int:
        """Samples of the first `steps` steps if all were in this phase."""
        growing = min(steps, self._growing)
        missing = (self._full - self._start) * (growing - growing * (growing - 1) / (2 * max(1, self._growing)))
        return math.floor((self._full * steps - missing) * self._scales[phase] + 0.5)
