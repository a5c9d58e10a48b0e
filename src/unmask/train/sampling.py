"""Class-balanced sampling: which rows an epoch draws so that all strata are equally frequent."""

from collections.abc import Sequence

import numpy as np

from unmask.data.order import permute


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
