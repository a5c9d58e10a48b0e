"""How block length and batch size grow over a run, as a function of the step alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from unmask.config import Settings


class CurriculumSettings(Settings):
    """Shorter blocks and smaller batches to begin with."""

    block_lengths: tuple[Annotated[int, Field(ge=8)], ...] = ()
    """Lengths of the blocks of the first phases; the last phase has `block_length`."""
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
        batch_size: full-sentence blocks of the final length with as many tokens.
    """

    phase: int
    block_length: int
    first: int
    count: int
    batch_size: float


class Curriculum:
    """The samples of every step.

    A step of any phase has as many tokens as one of full-sentence blocks of the final length would have: where blocks
    are shorter their number grows, as the paper does for DOC-SENTENCES (section 4.2).

    Args:
        settings: phases and warm-up.
        block_length: of the last phase.
        max_steps: of the run; steps behind it go on like the last one.
        batch_size: full-sentence blocks of the final length whose tokens make a step.
        scales: their mean length over that of the blocks of each phase, one for each phase.

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
        ends = np.rint(np.cumsum(settings.block_shares) * max_steps).astype(np.int64)
        steps = np.arange(max_steps)
        self._phases = np.searchsorted(ends, steps, side="right")
        self._sizes = np.full(max_steps, batch_size, dtype=np.float64)
        growing = int(np.ceil(settings.batch_warmup_ratio * max_steps))
        if settings.start_batch_size is not None:
            grown = steps[:growing] / growing
            self._sizes[:growing] = settings.start_batch_size + grown * (batch_size - settings.start_batch_size)
        self._counts = np.maximum(1, np.floor(self._sizes * np.asarray(scales)[self._phases] + 0.5)).astype(np.int64)
        before = np.cumsum(self._counts) - self._counts
        self._firsts = before - before[np.searchsorted(self._phases, self._phases)]

    def at(self, step: int) -> Point:
        """The samples of one step, counted from 0."""
        here = min(step, len(self._counts) - 1)
        count = int(self._counts[here])
        first = int(self._firsts[here]) + (step - here) * count
        phase = int(self._phases[here])
        return Point(phase, self.block_lengths[phase], first, count, float(self._sizes[here]))

    def samples(self, steps: int) -> np.ndarray:
        """Samples of each phase in the first `steps` steps, (phases,) int64."""
        taken = np.bincount(self._phases[:steps], self._counts[:steps], minlength=len(self.block_lengths))
        taken[-1] += max(0, steps - len(self._counts)) * self._counts[-1]
        return taken.astype(np.int64)
