"""Masks against their slow twin, and the shares that they must have."""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from tests.unit.data.test_order import slow_hash, slow_mix
from unmask.data.masking import Masked, MaskingSettings, mask
from unmask.data.order import hash_u64

MASK_ID = 99
ALLOWED = np.array([5, 6, 7, 8, 20, 21, 90])
GOLDEN, BITS = 0x9E3779B97F4A7C15, (1 << 64) - 1


def slow_stream(key: int, counter: int) -> int:
    return slow_mix((key + (counter + 1) * GOLDEN) & BITS)


def slow_unit(bits: int) -> float:
    return (bits >> 11) * 2.0**-53


def slow_units(special: list[bool], word_starts: list[bool], unit: str) -> list[list[int]]:
    """The positions of each token or word; a word ends where the next one begins or a special token stands."""
    units: list[list[int]] = []
    for position, is_special in enumerate(special):
        if is_special:
            continue
        if unit == "token" or not units or word_starts[position] or special[position - 1]:
            units.append([])
        units[-1].append(position)
    return units


def slow_span_length(uniform: float, config: MaskingSettings) -> int:
    """The first length at which the summed, truncated geometric law passes the number."""
    weights = [(1 - config.span_prob) ** length for length in range(config.max_span)]
    passed = 0.0
    for length, weight in enumerate(weights[:-1], 1):
        passed += weight / sum(weights)
        if uniform < passed:
            return length
    return config.max_span


def slow_scores(
    special: list[bool], word_starts: list[bool], choice: int, length: int, config: MaskingSettings
) -> dict[int, int]:
    """The score of each ordinary position: that of its unit, or the lowest of the spans that cover its word."""
    words = slow_units(special, word_starts, config.unit)
    scores = {word[0]: slow_stream(choice, word[0]) for word in words}
    if config.unit != "span":
        return {position: scores[word[0]] for word in words for position in word}
    lowest: dict[int, int] = {}
    for first, word in enumerate(words):
        size = slow_span_length(slow_unit(slow_stream(length, word[0])), config)
        span = words[first : first + size]
        for number, one in enumerate(span):
            if number and one[0] != span[number - 1][-1] + 1:
                break  # A special token stands between.
            for position in one:
                lowest[position] = min(lowest.get(position, BITS), scores[word[0]])
    return lowest


def slow_mask_one(
    ids: list[int], special: list[bool], word_starts: list[bool], *, key: int, config: MaskingSettings
) -> tuple[list[int], list[int], list[int]]:
    """Mask one sample, token by token; returns what the model sees, the positions and the labels."""
    choice, fate, replacement, length = (slow_hash(key, use) for use in (1, 2, 3, 4))
    ordinary = [position for position, is_special in enumerate(special) if not is_special]
    count = math.floor(config.mask_prob * len(ordinary) + slow_unit(slow_hash(key, 0)))
    if config.count == "binomial":
        count = sum(slow_unit(slow_stream(choice, position)) < config.mask_prob for position in ordinary)
    scores = slow_scores(special, word_starts, choice, length, config)
    ranked = sorted(ordinary, key=lambda position: (scores[position] >> 32, position))
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


@dataclass(frozen=True)
class Packed:
    """Random samples of some lengths; words have 1 to 4 tokens or so."""

    ids: np.ndarray
    cu_seqlens: np.ndarray
    special: np.ndarray
    word_starts: np.ndarray


def batch(lengths: list[int], seed: int = 0, share_special: float = 0.1) -> Packed:
    rng = np.random.default_rng(seed)
    cu_seqlens = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    ids = rng.integers(5, 90, cu_seqlens[-1]).astype(np.int32)
    special = rng.random(len(ids)) < share_special
    special[cu_seqlens[:-1]] = special[cu_seqlens[1:] - 1] = True
    ids[special] = 2
    return Packed(ids, cu_seqlens, special, (rng.random(len(ids)) < 0.6) | special)


def run(packed: Packed, samples: list[int], config: MaskingSettings, seed: int = 4, **more: object) -> Masked:
    options = {"epochs": np.zeros(len(samples), np.int64), "mask_id": MASK_ID, "allowed_ids": ALLOWED} | more
    return mask(
        packed.ids, packed.cu_seqlens, packed.special, word_starts=packed.word_starts, sample_ids=np.array(samples),
        seed=seed, config=config, **options,
    )  # fmt: skip


@pytest.mark.parametrize("unit", ["token", "word", "span"])
@given(
    rows=st.lists(st.tuples(st.integers(2, 60), st.integers(0, 10**12), st.integers(0, 50)), min_size=1, max_size=6),
    seed=st.integers(0, 1 << 62),
    prob=st.floats(0.01, 1),
    share=st.floats(0, 0.5),
    count=st.sampled_from(["fixed", "binomial"]),
    span=st.tuples(st.floats(0.05, 1), st.integers(1, 12)),
    copies=st.integers(0, 3),
)
def test_mask_is_its_slow_twin(
    unit: str,
    rows: list[tuple[int, int, int]],
    seed: int,
    prob: float,
    share: float,
    count: str,
    span: tuple[float, int],
    copies: int,
) -> None:
    config = MaskingSettings(
        mask_prob=prob, random_token_prob=share, keep_prob=share / 2, unit=unit, count=count, span_prob=span[0],
        max_span=span[1], copies=copies,
    )  # fmt: skip
    lengths, samples, epochs = (list(column) for column in zip(*rows, strict=True))
    packed = batch(lengths)
    masked = run(packed, samples, config, seed, epochs=np.array(epochs))
    seen, positions, labels = [], [], []
    for (start, stop), sample, epoch in zip(
        itertools.pairwise(packed.cu_seqlens.tolist()), samples, epochs, strict=True
    ):
        here = slice(start, stop)
        one = slow_mask_one(
            packed.ids[here].tolist(),
            packed.special[here].tolist(),
            packed.word_starts[here].tolist(),
            key=slow_hash(seed, epoch % copies if copies else epoch, sample),
            config=config,
        )
        seen += one[0]
        positions += [start + position for position in one[1]]
        labels += one[2]
    assert masked.input_ids.tolist() == seen
    assert masked.positions.tolist() == positions
    assert masked.labels.tolist() == labels
    assert (masked.input_ids.dtype, masked.positions.dtype, masked.labels.dtype) == (np.int32, np.int64, np.int64)


@pytest.mark.parametrize("unit", ["token", "word", "span"])
def test_the_budget_is_exact_and_only_the_last_unit_is_cut(unit: str) -> None:
    packed = batch([120] * 400)
    masked = run(packed, list(range(400)), MaskingSettings(unit=unit))
    chosen = np.zeros(len(packed.ids), bool)
    chosen[masked.positions] = True
    cut = 0
    for start, stop in itertools.pairwise(packed.cu_seqlens):
        here = slice(start, stop)
        ordinary, taken = ~packed.special[here], chosen[here]
        assert taken.sum() - 0.15 * ordinary.sum() < 1
        assert 0.15 * ordinary.sum() - taken.sum() < 1
        words = slow_units(packed.special[here].tolist(), packed.word_starts[here].tolist(), unit)
        partly = [word for word in words if taken[word].any() and not taken[word].all()]
        assert len(partly) <= 1
        cut += len(partly)
    assert (cut > 0) == (unit != "token")


def test_span_lengths_follow_the_truncated_geometric_law() -> None:
    config = MaskingSettings(unit="span")
    uniform = hash_u64(hash_u64(hash_u64(4, 0, np.arange(20_000)), 4), 0)
    drawn = np.array([slow_span_length(slow_unit(int(bits)), config) for bits in uniform])
    law = 0.8 ** np.arange(10) / (0.8 ** np.arange(10)).sum()
    assert stats.chisquare(np.bincount(drawn, minlength=11)[1:], law * len(drawn)).pvalue > 1e-4
    # SpanBERT, section 3.1: 3.8 words in the mean.
    assert abs((law * np.arange(1, 11)).sum() - 3.8) < 0.01


def test_spans_are_runs_of_words() -> None:
    packed = batch([400] * 300, share_special=0)
    words = np.cumsum(packed.word_starts)
    means = {}
    for unit in ("word", "span"):
        masked = run(packed, list(range(300)), MaskingSettings(unit=unit, mask_prob=0.1))
        hit = np.unique(words[masked.positions])
        means[unit] = len(hit) / (1 + np.count_nonzero(np.diff(hit) > 1))
    # Where every word is chosen by itself, runs are as short as chance makes them; spans merge, and the last is cut.
    assert means["word"] == pytest.approx(1 / 0.9, abs=0.03)
    assert 3.5 < means["span"] < 4.5


@pytest.mark.parametrize("unit", ["token", "word", "span"])
def test_every_position_is_chosen_alike(unit: str) -> None:
    # One word in each place, so that words differ by nothing but their place.
    packed = batch([64] * 4000, share_special=0)
    packed.word_starts[:] = True
    masked = run(packed, list(range(4000)), MaskingSettings(unit=unit))
    chosen = np.bincount(masked.positions % 64, minlength=64)
    assert chosen[0] == chosen[63] == 0
    # A span cannot begin before the text, so its first words are covered by fewer.
    inner = chosen[11:-1] if unit == "span" else chosen[1:-1]
    assert stats.chisquare(inner).pvalue > 1e-4


def test_binomial_tokens_are_drawn_one_by_one() -> None:
    packed = batch([102] * 5000, share_special=0)
    masked = run(packed, list(range(5000)), MaskingSettings(count="binomial"))
    counts = np.bincount(np.searchsorted(packed.cu_seqlens, masked.positions, side="right") - 1, minlength=5000)
    bins = np.array([0, *range(9, 23), 101])
    observed = np.histogram(counts, bins)[0]
    law = np.diff(stats.binom.cdf(bins - 1, 100, 0.15))
    assert stats.chisquare(observed, law / law.sum() * 5000).pvalue > 1e-4
    # Whether one token is chosen says nothing about its neighbour.
    chosen = np.zeros(len(packed.ids), bool)
    chosen[masked.positions] = True
    rows = chosen.reshape(5000, 102)[:, 1:-1]
    both = (rows[:, :-1] & rows[:, 1:]).sum()
    assert stats.binomtest(int(both), 5000 * 99, 0.15**2).pvalue > 1e-4


def test_fates_are_as_set() -> None:
    for unit in ("token", "word", "span"):
        packed = batch([100] * 2000)
        masked = run(packed, list(range(2000)), MaskingSettings(unit=unit))
        seen = masked.input_ids[masked.positions]
        num_random = np.count_nonzero((seen != MASK_ID) & (seen != masked.labels))
        counts = np.array([np.count_nonzero(seen == MASK_ID), np.count_nonzero(seen == masked.labels), num_random])
        # A random token is the old one where the draw hits it, with the share of the labels that can be drawn.
        same = 0.1 * np.isin(masked.labels, ALLOWED).mean() / len(ALLOWED)
        law = np.array([0.8, 0.1 + same, 0.1 - same]) * len(seen)
        assert stats.chisquare(counts, law).pvalue > 1e-4
        drawn = seen[(seen != MASK_ID) & (seen != masked.labels)]
        assert set(drawn) == set(ALLOWED)
        assert stats.chisquare(np.unique(drawn, return_counts=True)[1]).pvalue > 1e-4
        assert not packed.special[masked.positions].any()
        assert np.array_equal(masked.labels, packed.ids[masked.positions])


@pytest.mark.parametrize("unit", ["token", "word", "span"])
def test_a_sample_does_not_see_its_batch(unit: str) -> None:
    packed, config = batch([40, 17, 60]), MaskingSettings(unit=unit)
    together = run(packed, [7, 1000, 3], config, epochs=np.array([2, 0, 1]))
    here = slice(40, 57)
    single = Packed(packed.ids[here], np.array([0, 17]), packed.special[here], packed.word_starts[here])
    alone = run(single, [1000], config)
    inside = (together.positions >= 40) & (together.positions < 57)
    assert np.array_equal(together.input_ids[here], alone.input_ids)
    assert np.array_equal(together.positions[inside] - 40, alone.positions)


def test_the_input_is_not_changed() -> None:
    packed = batch([50])
    before = packed.ids.copy(), packed.word_starts.copy()
    run(packed, [0], MaskingSettings(mask_prob=1, unit="span"))
    assert np.array_equal(packed.ids, before[0])
    assert np.array_equal(packed.word_starts, before[1])


def test_masks_change_with_epoch_seed_and_sample() -> None:
    packed = batch([200])
    base = run(packed, [5], MaskingSettings()).positions
    for other in (
        run(packed, [5], MaskingSettings(), epochs=np.array([1])),
        run(packed, [6], MaskingSettings()),
        run(packed, [5], MaskingSettings(), seed=5),
    ):
        assert not np.array_equal(base, other.positions)


def test_static_masks_come_back_after_their_copies() -> None:
    packed, config = batch([200]), MaskingSettings(copies=3)
    epochs = [run(packed, [5], config, epochs=np.array([epoch])).input_ids.tolist() for epoch in range(7)]
    assert epochs[0] == epochs[3] == epochs[6]
    assert epochs[1] == epochs[4]
    assert len({tuple(ids) for ids in epochs[:3]}) == 3
    assert epochs[:3] == [
        run(packed, [5], MaskingSettings(), epochs=np.array([epoch])).input_ids.tolist() for epoch in range(3)
    ]


def test_probability_moves_in_a_straight_line() -> None:
    config = MaskingSettings(mask_prob=0.3, mask_prob_end=0.15)
    assert [config.prob_at(progress) for progress in (0, 0.5, 1, 2)] == pytest.approx([0.3, 0.225, 0.15, 0.15])
    assert MaskingSettings(mask_prob=0.4).prob_at(0.7) == 0.4
    packed = batch([100])
    halfway = run(packed, [1], config, mask_prob=config.prob_at(0.5))
    assert halfway.positions.tolist() == run(packed, [1], MaskingSettings(mask_prob=0.225)).positions.tolist()


def test_words_without_word_starts_are_refused() -> None:
    packed = batch([20])
    with pytest.raises(ValueError, match="need word_starts"):
        mask(
            packed.ids, packed.cu_seqlens, packed.special, sample_ids=np.arange(1), epochs=np.arange(1), seed=0,
            config=MaskingSettings(unit="word"), mask_id=MASK_ID, allowed_ids=ALLOWED,
        )  # fmt: skip


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
    "wrong",
    [
        {"mask_prob": 0},
        {"mask_prob": 1.1},
        {"mask_prob_end": 0},
        {"keep_prob": 0.6, "random_token_prob": 0.5},
        {"prob": 0.1},
        {"max_span": 0},
        {"unit": "sentence"},
        {"copies": -1},
    ],
)
def test_settings_are_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        MaskingSettings(**wrong)
