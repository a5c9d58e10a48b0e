"""Word vectors: their ranges on any Unicode, their alignment to pieces, layers, and long texts."""

import unicodedata

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import tiny
from unmask.data.batching import Features, pack
from unmask.errors import DataError, UsageError
from unmask.model.layout import Layout
from unmask.study.vectors import find_words, pool_words, word_vectors

TOLERANCE = 1e-5
MIXED = "naïve e\u0301clair 你好, 🙂👩\u200d👩 don't re-do \tשלום\u00a0नमस्ते x"
TEXTS = st.text(
    st.sampled_from([*"ab 'é-_.7", "\u0301", "\u200d", "你", "好", "🙂", "ש", "न", "\u093f", "\t", "\u00a0"]),
    max_size=40,
)


class Halves:
    """A segmenter that cuts a run behind its first two characters."""

    name = "halves"

    def __call__(self, run: str) -> list[str]:
        return [part for part in (run[:2], run[2:]) if part]


def states_of(text: str, layer: int) -> tuple[np.ndarray, np.ndarray]:
    """States and offsets of the pieces of one short text, the simple way."""
    task = tiny.masked_lm()
    (pieces,) = task.tokenizer.encode([text])
    batch = pack([Features(input_ids=np.array([0, *pieces.ids, 2], np.int32))], position_offset=2)
    with torch.inference_mode():
        found = task.eval().encoder.hidden_states(batch.input_ids, batch.position_ids, Layout.of(batch.cu_seqlens))
    return found[layer][1:-1].numpy(), pieces.offsets


@given(TEXTS)
def test_words_are_ranges_of_letters_marks_and_digits(text: str) -> None:
    spans = find_words(text)
    ends = [0, *(end for _, end in spans)]
    assert all(before <= start < end for before, (start, end) in zip(ends, spans, strict=False))
    inside = {at for start, end in spans for at in range(start, end)}
    for at, char in enumerate(text):
        if unicodedata.category(char)[0] in "LN":
            assert at in inside, f"{char!r} is in no word"
        if char.isspace() or char in "._🙂":
            assert at not in inside


def test_words_of_many_scripts() -> None:
    words = [MIXED[start:end] for start, end in find_words(MIXED)]
    assert words[:6] == ["naïve", "e\u0301clair", "你", "好", "don't", "re-do"]
    assert words[6:] == ["שלום", "नमस्ते", "x"]
    assert [MIXED[a:b] for a, b in find_words(MIXED, Halves())][2] == "你好"


@settings(max_examples=25)
@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_each_word_has_the_mean_of_the_pieces_that_overlap_it(texts: list[str]) -> None:
    for text, found in zip(texts, word_vectors(tiny.masked_lm(), texts, layers=(1,)), strict=True):
        assert found.words == [text[start:end] for start, end in find_words(text)]
        states, offsets = states_of(text, 1)
        for (start, end), vector in zip(found.spans.tolist(), found.vectors, strict=True):
            chars = set(range(start, end))
            mine = [state for state, (a, b) in zip(states, offsets.tolist(), strict=True) if chars & set(range(a, b))]
            np.testing.assert_allclose(vector, np.mean(mine, axis=0), atol=TOLERANCE)


def test_layers_are_mixed_and_the_first_piece_can_stand_for_a_word() -> None:
    text = "wonderful nobody"
    (mixed,) = word_vectors(tiny.masked_lm(), [text], layers=(0, -1))
    (first,) = word_vectors(tiny.masked_lm(), [text], layers=(2,), pooling="first")
    low, high = states_of(text, 0), states_of(text, 2)
    assert len(low[0]) > 3, "words of several pieces"
    begins = [int(np.flatnonzero(low[1][:, 1] > start)[0]) for start, _ in find_words(text)]
    np.testing.assert_allclose(first.vectors, high[0][begins], atol=TOLERANCE)
    spans = np.array(find_words(text))
    np.testing.assert_allclose(mixed.vectors, pool_words((low[0] + high[0]) / 2, low[1], spans, "mean"), atol=TOLERANCE)
    with pytest.raises(UsageError, match="no such layer"):
        next(word_vectors(tiny.masked_lm(), [text], layers=(3,)))


def test_a_word_of_which_the_tokenizer_keeps_nothing_is_nan_and_given_ranges_are_kept() -> None:
    pieces = np.array([[0, 3], [3, 3], [4, 6]])
    found = pool_words(np.arange(6, dtype=np.float32).reshape(3, 2), pieces, np.array([[3, 4], [2, 5]]), "mean")
    assert np.isnan(found[0]).all()
    assert found[1].tolist() == [2, 3]
    (one,) = word_vectors(tiny.masked_lm(), ["a fine film"], words=[[(2, 6), (0, 1)]])
    assert one.words == ["fine", "a"]
    for span in ((2, 2), (5, 20), (-1, 2)):
        with pytest.raises(DataError, match="outside of its text"):
            list(word_vectors(tiny.masked_lm(), ["a fine film"], words=[[span]]))


def test_in_a_long_text_each_piece_comes_from_the_window_that_shows_most_around_it() -> None:
    text = " ".join([*tiny.GOOD, *tiny.BAD] * 3)
    task = tiny.masked_lm()
    (pieces,) = task.tokenizer.encode([text])
    room, stride, count = 62, 32, len(pieces.ids)
    starts = [0]
    while starts[-1] + room < count:
        starts.append(starts[-1] + stride)
    best: dict[int, tuple[int, np.ndarray]] = {}
    for start in starts:
        end = min(start + room, count)
        batch = pack([Features(input_ids=np.array([0, *pieces.ids[start:end], 2], np.int32))], position_offset=2)
        with torch.inference_mode():
            layout = Layout.of(batch.cu_seqlens)
            states = task.eval().encoder(batch.input_ids, batch.position_ids, layout)[1:-1].numpy()
        for at in range(start, end):
            left = count if start == 0 else at - start
            right = count if end == count else end - 1 - at
            if at not in best or min(left, right) > best[at][0]:
                best[at] = min(left, right), states[at - start]
    assert len(starts) > 2
    want = pool_words(
        np.array([best[at][1] for at in range(count)]), pieces.offsets, np.array(find_words(text)), "mean"
    )
    (found,) = word_vectors(task, [text])
    np.testing.assert_allclose(found.vectors, want, atol=TOLERANCE)
