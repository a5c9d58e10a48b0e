"""Masks against their slow twin, and the shares that they must have."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.unit.data.test_order import slow_hash, slow_mix
from unmask.data.masking import Masked, MaskingSettings, mask

MASK_ID = 99
ALLOWED = np.array([5, 6, 7, 8, 20, 21, 90])
GOLDEN, BITS = 0x9E3779B97F4A7C15, (1 << 64) - 1


def slow_stream(key: int, counter: int) -> int:
    return slow_mix((key + (counter + 1) * GOLDEN) & BITS)


def slow_unit(bits: int) -> float:
    return (bits >> 11) * 2.0**-53


def slow_mask_one(
    ids: list[int], special: list[bool], *, sample: int, epoch: int, seed: int, config: MaskingSettings
) -> tuple[list[int], list[int], list[int]]:
    """Mask one sample, token by token; returns what the model sees, the positions and the labels."""
    key = slow_hash(seed, epoch, sample)
    choice, fate, replacement = (slow_hash(key, use) for use in (1, 2, 3))
    ordinary = [position for position, is_special in enumerate(special) if not is_special]
    count = math.floor(config.mask_prob * len(ordinary) + slow_unit(slow_hash(key, 0)))
    ranked = sorted(ordinary, key=lambda position: (slow_stream(choice, position) >> 32, position))
    positions = sorted(ranked[:count])
    seen = list(ids)
    for position in positions:
        draw = slow_unit(slow_stream(fate, position))
        if draw < config.random_token_prob:
            high = slow_stream(replacement, position) >> 32
            seen[position] = int(ALLOWED[high * len(ALLOWED) >> 32])
        elif draw >= config.random_token_prob + config.keep_prob:
            seen[position] = MASK_ID
    return seen, positions, [ids[position] for position in positions]


def batch(lengths: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids, boundaries and special tokens of samples with `lengths` tokens."""
    rng = np.random.default_rng(seed)
    cu_seqlens = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    ids = rng.integers(5, 90, cu_seqlens[-1]).astype(np.int32)
    special = rng.random(len(ids)) < 0.1
    special[cu_seqlens[:-1]] = special[cu_seqlens[1:] - 1] = True
    ids[special] = 2
    return ids, cu_seqlens, special


def run(
    lengths: list[int], samples: list[int], epochs: list[int], config: MaskingSettings, seed: int = 4
) -> tuple[Masked, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    packed = batch(lengths)
    masked = mask(
        *packed,
        sample_ids=np.array(samples),
        epochs=np.array(epochs),
        seed=seed,
        config=config,
        mask_id=MASK_ID,
        allowed_ids=ALLOWED,
    )
    return masked, packed


@given(
    rows=st.lists(st.tuples(st.integers(2, 60), st.integers(0, 10**12), st.integers(0, 50)), min_size=1, max_size=8),
    seed=st.integers(0, 1 << 62),
    prob=st.floats(0.01, 1),
    share=st.floats(0, 0.5),
)
def test_mask_is_its_slow_twin(rows: list[tuple[int, int, int]], seed: int, prob: float, share: float) -> None:
    config = MaskingSettings(mask_prob=prob, random_token_prob=share, keep_prob=share / 2)
    lengths, samples, epochs = (list(column) for column in zip(*rows, strict=True))
    masked, (ids, cu_seqlens, special) = run(lengths, samples, epochs, config, seed)
    seen, positions, labels = [], [], []
    for (start, stop), sample, epoch in zip(itertools.pairwise(cu_seqlens.tolist()), samples, epochs, strict=True):
        one = slow_mask_one(
            ids[start:stop].tolist(),
            special[start:stop].tolist(),
            sample=sample,
            epoch=epoch,
            seed=seed,
            config=config,
        )
        seen += one[0]
        positions += [start + position for position in one[1]]
        labels += one[2]
    assert masked.input_ids.tolist() == seen
    assert masked.positions.tolist() == positions
    assert masked.labels.tolist() == labels
    assert (masked.input_ids.dtype, masked.positions.dtype, masked.labels.dtype) == (np.int32, np.int64, np.int64)


def test_a_sample_does_not_see_its_batch() -> None:
    ids, cu_seqlens, special = batch([40, 17, 60])
    together = mask(
        ids,
        cu_seqlens,
        special,
        sample_ids=np.array([7, 1000, 3]),
        epochs=np.array([2, 0, 1]),
        seed=1,
        config=MaskingSettings(),
        mask_id=MASK_ID,
        allowed_ids=ALLOWED,
    )
    alone = mask(
        ids[40:57],
        np.array([0, 17]),
        special[40:57],
        sample_ids=np.array([1000]),
        epochs=np.array([0]),
        seed=1,
        config=MaskingSettings(),
        mask_id=MASK_ID,
        allowed_ids=ALLOWED,
    )
    inside = (together.positions >= 40) & (together.positions < 57)
    assert np.array_equal(together.input_ids[40:57], alone.input_ids)
    assert np.array_equal(together.positions[inside] - 40, alone.positions)


def test_the_input_is_not_changed() -> None:
    ids, cu_seqlens, special = batch([50])
    before = ids.copy()
    run([50], [0], [0], MaskingSettings())
    mask(
        ids,
        cu_seqlens,
        special,
        sample_ids=np.array([0]),
        epochs=np.array([0]),
        seed=0,
        config=MaskingSettings(mask_prob=1),
        mask_id=MASK_ID,
        allowed_ids=ALLOWED,
    )
    assert np.array_equal(ids, before)


def test_shares_over_many_samples() -> None:
    samples = list(range(3000))
    masked, (ids, cu_seqlens, special) = run([100] * 3000, samples, [0] * 3000, MaskingSettings())
    num_ordinary = np.array([np.count_nonzero(~special[a:b]) for a, b in itertools.pairwise(cu_seqlens)])
    counts = np.bincount(np.searchsorted(cu_seqlens, masked.positions, side="right") - 1, minlength=3000)
    assert np.all((counts == np.floor(0.15 * num_ordinary)) | (counts == np.floor(0.15 * num_ordinary) + 1))
    assert abs(counts.sum() / num_ordinary.sum() - 0.15) < 0.001
    seen = masked.input_ids[masked.positions]
    assert abs(np.mean(seen == MASK_ID) - 0.8) < 0.01
    # A random token is by chance the old one in 1 of 85 draws or so.
    assert abs(np.mean(seen == masked.labels) - 0.1) < 0.01
    assert set(seen[(seen != MASK_ID) & (seen != masked.labels)]) == set(ALLOWED)
    assert not special[masked.positions].any()
    assert np.array_equal(masked.labels, ids[masked.positions])


def test_every_position_is_chosen_alike() -> None:
    masked, (_, _, special) = run([64] * 4000, list(range(4000)), [0] * 4000, MaskingSettings())
    chosen = np.bincount(masked.positions % 64, minlength=64)
    possible = (~special).reshape(4000, 64).sum(axis=0)
    rates = chosen[1:-1] / possible[1:-1]
    assert chosen[0] == chosen[63] == 0
    assert np.abs(rates - 0.15).max() < 5 * math.sqrt(0.15 * 0.85 / possible[1:-1].min())


def test_masks_change_with_epoch_seed_and_sample() -> None:
    base, _ = run([200], [5], [0], MaskingSettings())
    for other in (
        run([200], [5], [1], MaskingSettings()),
        run([200], [6], [0], MaskingSettings()),
        run([200], [5], [0], MaskingSettings(), seed=5),
    ):
        assert not np.array_equal(base.positions, other[0].positions)


def test_sample_without_ordinary_tokens() -> None:
    masked = mask(
        np.array([0, 2, 0, 7, 2]),
        np.array([0, 2, 5]),
        np.array([True, True, True, False, True]),
        sample_ids=np.arange(2),
        epochs=np.zeros(2, np.int64),
        seed=0,
        config=MaskingSettings(mask_prob=1, random_token_prob=0, keep_prob=0),
        mask_id=MASK_ID,
        allowed_ids=ALLOWED,
    )
    assert masked.input_ids.tolist() == [0, 2, 0, MASK_ID, 2]
    assert masked.positions.tolist() == [3]


@pytest.mark.parametrize(
    "wrong", [{"mask_prob": 0}, {"mask_prob": 1.1}, {"keep_prob": 0.6, "random_token_prob": 0.5}, {"prob": 0.1}]
)
def test_settings_are_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        MaskingSettings(**wrong)
