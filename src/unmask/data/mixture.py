"""Several corpora as one stream of samples: evenly interleaved, exact, entered anywhere."""

from collections.abc import Sequence

import numpy as np

_BITS = np.uint64(32)
_LOW = np.uint64((1 << 32) - 1)


class Mixture:
    """Deals the samples of a stream out to corpora by their weights.

    The corpora are split in two halves, and the halves again. Of the first n samples of a split floor(n w) go to its
    left half, w being the left half's share of the weight, so that every corpus is spread evenly at every scale, and
    is never more than a few samples from its share.

    Args:
        weights: of the corpora, above 0.
    """

    def __init__(self, weights: Sequence[float]) -> None:
        self.shares = np.asarray(weights, dtype=np.float64) / np.sum(weights)

    def locate(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find the corpus of each sample and its number in that corpus' own stream.

        Args:
            numbers: places in the mixed stream, from 0, (n,) int64.

        Returns:
            Corpus and number of each, (n,) int64 both.
        """
        corpora = np.zeros(len(numbers), dtype=np.int64)
        own = np.array(numbers, dtype=np.int64)
        self._deal(0, len(self.shares), np.arange(len(numbers)), corpora, own)
        return corpora, own

    def _deal(self, first: int, stop: int, here: np.ndarray, corpora: np.ndarray, own: np.ndarray) -> None:
        """Deal the samples at `here` out to the corpora `first` to `stop`."""
        if stop - first == 1 or not len(here):
            corpora[here] = first
            return
        middle = (first + stop) // 2
        share = self.shares[first:middle].sum() / self.shares[first:stop].sum()
        numbers = own[here].astype(np.uint64)
        before, behind = _floor(numbers, share), _floor(numbers + np.uint64(1), share)
        is_left = behind > before
        own[here] = np.where(is_left, before, numbers - before)
        self._deal(first, middle, here[is_left], corpora, own)
        self._deal(middle, stop, here[~is_left], corpora, own)


def _floor(numbers: np.ndarray, share: float) -> np.ndarray:
    """floor(n share) in whole numbers, with the share in units of 2**-32: floating point would skip at large n."""
    units = np.uint64(round(share * 2.0**32))
    return (numbers >> _BITS) * units + ((numbers & _LOW) * units >> _BITS)
