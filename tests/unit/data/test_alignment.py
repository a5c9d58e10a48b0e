"""Words and pieces of one text: no piece reaches over the edge of a word, nothing of the text is lost."""

import functools
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.data.texts import PARTS, texts
from tests.unit.tokenizer import samples
from unmask.data.alignment import encode_words, piece_ranges
from unmask.data.spans import units
from unmask.tokenizer.load import Tokenizer
from unmask.tokenizer.train import train

ZH = "\u6211\u4eec\u7231\u5317\u4eac\uff0c\u5317\u4eac\u7231\u6211\u4eec"


@functools.cache
def merging() -> Tokenizer:
    """A byte-level BPE with pieces of several Chinese characters, of parts of characters, of marks, and with spaces."""
    return train([f"{ZH} ...\u201c{ZH[::-1]}", *PARTS] * 60, vocab_size=600, isolate_han=False)


def ranges(text: str, rule: str = "characters") -> np.ndarray:
    return np.array(units(text, rule), dtype=np.int32).reshape(-1, 2)


@settings(deadline=None)
@given(texts(), st.sampled_from(["characters", "runs"]))
def test_pieces_stand_on_one_word_and_spell_the_text(text: str, rule: str) -> None:
    words = ranges(text, rule)
    (pieces,) = encode_words(merging(), [text], [words])
    for start, end in pieces.offsets:
        assert sum(bool(low < end and start < high) for low, high in words) <= 1
    assert merging().decode(pieces.ids) == text
    places = piece_ranges(pieces, words)
    for (low, high), (first, end) in zip(words, places, strict=True):
        assert first < end
        assert [bool(start < high and low < stop) for start, stop in pieces.offsets[first:end]] == [True] * (
            end - first
        )
    assert all(a[1] <= b[0] for a, b in pairwise(places))


def test_a_text_whose_pieces_fit_is_left_as_it_is() -> None:
    text = "Anna saw New York ... today"
    (plain,) = merging().encode([text])
    (found,) = encode_words(merging(), [text], [np.array([[0, 4], [9, 17]], dtype=np.int32)])
    assert found.ids.tolist() == plain.ids.tolist()


def test_pieces_of_several_words_are_cut_and_keep_their_space() -> None:
    text = f"so ... {ZH}"
    (plain,) = merging().encode([text])
    assert " ..." in [merging().piece(int(id)) for id in plain.ids]
    (found,) = encode_words(merging(), [text], [ranges(text, "runs")])
    assert "..." not in "|".join(merging().piece(int(id)) for id in found.ids)
    assert merging().decode(found.ids) == text
    assert len(plain.ids) < len(found.ids)


@pytest.mark.parametrize("family", ["xlm-roberta", "bert"])
def test_the_other_families_too(family: str, tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(samples.folder_of(family, tmp_path / family))
    text = "The quick brown fox \u5317\u4eac jumps, unbelievable!"
    words = ranges(text)
    (pieces,) = encode_words(tokenizer, [text], [words])
    places = piece_ranges(pieces, words)
    assert (places[:, 0] < places[:, 1]).mean() > 0.9
    assert all(a[1] <= b[0] for a, b in pairwise(places))
