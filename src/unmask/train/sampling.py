"""Which rows stand in each step of a fine-tuning, a pure function of seed and step; strata may be made even."""

from collections.abc import Iterator, Sequence

import numpy as np

from unmask.data.batching import Features, shuffled_batches, units_of
from unmask.data.order import permute
from unmask.train.settings import FinetuneSettings


class Sampler:
    """The order of a fine-tuning's training rows.

    Args:
        features: of the rows.
        settings: seed, size of a batch, and whether strata are made even.
        strata: stratum of each row.
        is_coupled: whether the features of a row stay together in a batch.
    """

    def __init__(
        self, features: Sequence[Features], settings: FinetuneSettings, *, strata: Sequence[str], is_coupled: bool
    ) -> None:
        self._settings = settings
        self._units = units_of(features, is_coupled=is_coupled)
        self._lengths = np.array([sum(len(features[index]) for index in unit) for unit in self._units])
        self._strata = [strata[features[unit[0]].row] for unit in self._units]
        self.num_steps = len(self._epoch(0))
        """Steps of an epoch."""

    def steps(self, first: int) -> Iterator[list[np.ndarray]]:
        """Numbers of the features of each micro-batch of each step, without end.

        Args:
            first: steps that are done already.
        """
        epoch, done = divmod(first, self.num_steps)
        while True:
            for units in self._epoch(epoch)[done:]:
                yield [np.concatenate([self._units[unit] for unit in part]) for part in self._cut(units)]
            epoch, done = epoch + 1, 0

    def _epoch(self, epoch: int) -> list[np.ndarray]:
        """Units of each step of an epoch."""
        settings = self._settings
        units = np.arange(len(self._units))
        if settings.balanced_sampling:
            units = balanced(self._strata, seed=settings.seed, epoch=epoch)
        order = shuffled_batches(self._lengths[units], batch_size=settings.batch_size, seed=settings.seed, epoch=epoch)
        return [units[places] for places in order]

    def _cut(self, units: np.ndarray) -> list[np.ndarray]:
        """A batch in as many parts as `max_tokens` asks for."""
        num_parts = -(-int(self._lengths[units].sum()) // self._settings.max_tokens)
        return np.array_split(units, min(num_parts, len(units)))


def balanced(strata: Sequence[str], *, seed: int, epoch: int) -> np.ndarray:
    """The rows of one epoch: about as many as there are, the same number of each stratum.

    Each stratum is an endless stream, one permutation of its rows after the other, and an epoch takes the next part of
    it. So rare rows come back several times in an epoch, none much more often than another, and frequent ones take
    turns over the epochs. A pure function of (seed, epoch): to go on in the middle needs no state.

    Args:
        strata: stratum of each row, such as its class.
        seed: of the run.
        epoch: number of the pass, from 0.

    Returns:
        Row numbers, (S * ceil(N / S),) int64 for N rows of S strata, one stratum after the other.
    """
    _, stratum_of = np.unique(np.asarray(strata, dtype=str), return_inverse=True)
    members = [np.flatnonzero(stratum_of == stratum) for stratum in range(stratum_of.max() + 1)]
    quota = -(-len(stratum_of) // len(members))
    drawn = []
    for stratum, rows in enumerate(members):
        passes, places = np.divmod(np.arange(epoch * quota, (epoch + 1) * quota), len(rows))
        for number in np.unique(passes):
            key = (seed * 1_000_003 + int(number)) * len(members) + stratum
            drawn.append(rows[permute(places[passes == number], size=len(rows), key=key)])
    return np.concatenate(drawn)
