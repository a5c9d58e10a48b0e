"""Masked language modelling as a pure function of (seed, epoch, sample, position): no random state anywhere.

Section 3.1 of the RoBERTa paper, dynamic masking, with the counting rule of its code: a fixed number of tokens of
each sample is chosen, not each token by itself; special tokens are neither chosen nor drawn.
"""

from dataclasses import dataclass

import numpy as np
from pydantic import Field, model_validator

from unmask.config import Settings
from unmask.data.order import hash_u64, stream_u64

# What the keyed numbers are for; each use has a stream of its own.
_COUNT, _CHOICE, _FATE, _REPLACEMENT = range(4)
_POSITION_BITS = 16


class MaskingSettings(Settings):
    """How tokens are chosen and what they turn into."""

    mask_prob: float = Field(default=0.15, gt=0, le=1)
    """Share of the tokens of a sample that is predicted."""
    random_token_prob: float = Field(default=0.1, ge=0, le=1)
    """Share of the predicted tokens that is replaced by a random token."""
    keep_prob: float = Field(default=0.1, ge=0, le=1)
    """Share of the predicted tokens that is left as it is; the rest becomes the mask token."""

    @model_validator(mode="after")
    def _shares_fit(self) -> "MaskingSettings":
        if self.random_token_prob + self.keep_prob > 1:
            raise ValueError("random_token_prob and keep_prob must not exceed 1 together")
        return self


@dataclass(frozen=True, slots=True)
class Masked:
    """A masked batch.

    Attributes:
        input_ids: what the model sees, (T,) int32.
        positions: places of the predicted tokens, ascending, (M,) int64.
        labels: the ids that stood there, (M,) int64.
    """

    input_ids: np.ndarray
    positions: np.ndarray
    labels: np.ndarray


def mask(
    ids: np.ndarray,
    cu_seqlens: np.ndarray,
    special: np.ndarray,
    *,
    sample_ids: np.ndarray,
    epochs: np.ndarray,
    seed: int,
    config: MaskingSettings,
    mask_id: int,
    allowed_ids: np.ndarray,
) -> Masked:
    """Choose and replace tokens in a packed batch.

    A sample of n ordinary tokens has floor(mask_prob * n + u) of them predicted, u uniform in [0, 1): those with the
    smallest keyed scores. Each becomes the mask token, a random token or stays, by a keyed number of its own. What
    happens to a sample does not depend on the others in the batch.

    Args:
        ids: packed token ids, (T,).
        cu_seqlens: where each sample begins, and the end, (B + 1,).
        special: True at tokens that are never chosen, (T,) bool.
        sample_ids: number of each sample in the corpus, (B,).
        epochs: pass over the data that each sample belongs to, (B,).
        seed: of the run.
        config: the shares.
        mask_id: id of the mask token.
        allowed_ids: ids from which random tokens are drawn; no special ones.
    """
    keys = hash_u64(seed, epochs, sample_ids)
    places, ranks, counts = _by_score(keys, cu_seqlens, special)
    chosen = ranks < np.repeat(np.floor(config.mask_prob * counts + _unit(hash_u64(keys, _COUNT))), counts)
    positions = np.sort(places[chosen])
    labels = ids[positions].astype(np.int64)
    samples = np.searchsorted(cu_seqlens, positions, side="right") - 1
    offsets = positions - cu_seqlens[samples]
    fate = _unit(stream_u64(hash_u64(keys, _FATE)[samples], offsets))
    is_random = fate < config.random_token_prob
    is_kept = ~is_random & (fate < config.random_token_prob + config.keep_prob)
    # High half times length, shifted down: a draw without division, biased by less than 2**-32 * length.
    draws = stream_u64(hash_u64(keys, _REPLACEMENT)[samples], offsets) >> np.uint64(32)
    draws = draws * np.uint64(len(allowed_ids)) >> np.uint64(32)
    replaced = np.where(is_random, allowed_ids[draws.astype(np.int64)], np.where(is_kept, labels, mask_id))
    input_ids = ids.astype(np.int32, copy=True)
    input_ids[positions] = replaced
    return Masked(input_ids, positions, labels)


def _by_score(
    keys: np.ndarray, cu_seqlens: np.ndarray, special: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sort the ordinary tokens of each sample by keyed score: their places, their ranks, and the number in each."""
    lengths = np.diff(cu_seqlens)
    if len(keys) >= 1 << 16 or (len(lengths) and int(lengths.max()) > 1 << _POSITION_BITS):
        raise ValueError("a batch has at most 65,535 samples of at most 65,536 tokens")
    # The ordinary tokens of all samples, one after the other, as (sample, score, position in the sample).
    before = np.concatenate([[0], np.cumsum(~special)])[cu_seqlens]
    counts = np.diff(before)
    positions = np.flatnonzero(~special) - np.repeat(cu_seqlens[:-1].astype(np.int64), counts)
    scores = stream_u64(np.repeat(hash_u64(keys, _CHOICE), counts), positions)
    # In one number each: sorting values is several times faster than sorting indices.
    samples = np.repeat(np.arange(len(keys), dtype=np.uint64) << np.uint64(48), counts)
    packed = samples | scores >> np.uint64(32) << np.uint64(_POSITION_BITS) | positions.astype(np.uint64)
    packed.sort()
    first = (packed & np.uint64((1 << _POSITION_BITS) - 1)).astype(np.int64)
    places = first + np.repeat(cu_seqlens[:-1].astype(np.int64), counts)
    ranks = np.arange(len(places)) - np.repeat(before[:-1], counts)
    return places, ranks, counts


def _unit(bits: np.ndarray) -> np.ndarray:
    """Uniform numbers in [0, 1) from 64 bits, float64."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
