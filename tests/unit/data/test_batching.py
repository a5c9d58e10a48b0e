"""Packing and the order of batches."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unmask.data.batching import (
    IGNORED,
    Batch,
    Features,
    fill_up,
    pack,
    positions_of,
    shuffled_batches,
    sorted_batches,
)


def feature(length: int, **more: object) -> Features:
    return Features(input_ids=np.arange(length, dtype=np.int32) + 10, **more)


def test_packed_texts_stand_end_to_end_with_positions_of_their_own() -> None:
    batch = pack([feature(3, label=1), feature(2, label=0)], position_offset=2)
    assert batch.input_ids.tolist() == [10, 11, 12, 10, 11]
    assert batch.position_ids.tolist() == [2, 3, 4, 2, 3]
    assert batch.cu_seqlens.tolist() == [0, 3, 5]
    assert batch.labels is not None
    assert batch.labels.tolist() == [1, 0]
    assert (batch.num_tokens, batch.num_targets) == (5, 2)


def test_targets_move_with_their_text() -> None:
    first = feature(3, targets=(np.array([1]), np.array([7])))
    second = feature(4, targets=(np.array([0, 3]), np.array([8, 9])))
    batch = pack([first, second], position_offset=0)
    assert batch.positions is not None
    assert batch.positions.tolist() == [1, 3, 6]
    assert batch.labels is not None
    assert batch.labels.tolist() == [7, 8, 9]


def test_one_text_without_a_label_leaves_the_batch_without() -> None:
    assert pack([feature(3, label=1), feature(2)], position_offset=2).labels is None


def masked(lengths: list[int]) -> Batch:
    """A masked batch of pre-training with two targets a text."""
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    places = np.sort(np.concatenate([starts[:-1], starts[1:] - 1]))
    return Batch(
        input_ids=torch.arange(10, 10 + int(starts[-1])),
        position_ids=positions_of(starts, 2),
        cu_seqlens=starts,
        labels=torch.from_numpy(places + 100),
        positions=torch.from_numpy(places.astype(np.int64)),
        token_type_ids=torch.ones(int(starts[-1]), dtype=torch.int64),
    )


@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    round_tokens=st.integers(0, 70),
    round_targets=st.integers(0, 9),
)
def test_filler_has_texts_of_its_own_and_counts_nothing(
    lengths: list[int], round_tokens: int, round_targets: int
) -> None:
    batch = masked(lengths)
    filled = fill_up(batch, round_tokens=round_tokens, round_targets=round_targets, pad_id=1)
    assert batch.labels is not None
    assert filled.labels is not None
    assert filled.positions is not None
    assert filled.token_type_ids is not None
    total, targets = sum(lengths), 2 * len(lengths)
    assert len(filled.input_ids) == len(filled.position_ids) == len(filled.token_type_ids) == filled.cu_seqlens[-1]
    assert len(filled.input_ids) == (-(-total // round_tokens) * round_tokens if round_tokens else total)
    assert len(filled.labels) == len(filled.positions)
    assert len(filled.labels) == (-(-targets // round_targets) * round_targets if round_targets else targets)
    assert (filled.num_tokens, filled.num_targets, filled.counts) == (total, targets, (targets,))
    # The real part is untouched, and no text of the filler is longer than a real one or has positions of its own.
    assert filled.cu_seqlens[: len(lengths) + 1].tolist() == batch.cu_seqlens.tolist()
    assert torch.equal(filled.input_ids[:total], batch.input_ids)
    assert torch.equal(filled.labels[:targets], batch.labels)
    sizes = np.diff(filled.cu_seqlens)[len(lengths) :]
    assert not len(sizes) or (sizes.min() >= 1 and sizes.max() <= max(lengths))
    assert torch.equal(filled.position_ids, positions_of(filled.cu_seqlens, 2))
    assert (filled.input_ids[total:] == 1).all()
    assert (filled.labels[targets:] == IGNORED).all()
    assert (filled.positions[targets:] == 0).all()
    assert filled.cu_seqlens.dtype == np.int32


def test_pairs_count_as_targets_of_their_own() -> None:
    batch = replace(masked([4, 6]), pair_labels=torch.tensor([0, 1]))
    assert batch.counts == (4, 2)
    moved = batch.to(torch.device("meta"))
    assert moved.pair_labels is not None
    assert moved.pair_labels.device.type == "meta"


lengths_lists = st.lists(st.integers(1, 300), min_size=1, max_size=200).map(np.array)


@given(lengths_lists, st.integers(1, 600))
def test_sorted_batches_hold_each_text_once_within_the_limit(lengths: np.ndarray, limit: int) -> None:
    batches = sorted_batches(lengths, max_tokens=limit)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    for rows in batches:
        assert len(rows) == 1 or lengths[rows].max() * len(rows) <= limit


@given(lengths_lists, st.integers(1, 40), st.integers(0, 5))
def test_shuffled_batches_hold_each_text_once(lengths: np.ndarray, size: int, epoch: int) -> None:
    batches = shuffled_batches(lengths, batch_size=size, seed=1, epoch=epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert max(len(rows) for rows in batches) <= size


def test_shuffled_batches_are_a_pure_function_of_seed_and_epoch() -> None:
    lengths = np.random.default_rng(0).integers(5, 200, 1000)

    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate(shuffled_batches(lengths, batch_size=16, seed=seed, epoch=epoch)).tolist()

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


def test_texts_of_like_length_stand_together() -> None:
    lengths = np.random.default_rng(0).integers(5, 200, 3000)
    batches = shuffled_batches(lengths, batch_size=16, seed=0, epoch=0)
    padded = sum(lengths[rows].max() * len(rows) for rows in batches)
    assert padded / lengths.sum() < 1.06
    firsts = [lengths[rows].mean() for rows in batches]
    assert np.corrcoef(firsts[:-1], firsts[1:])[0, 1] == pytest.approx(0, abs=0.2)
