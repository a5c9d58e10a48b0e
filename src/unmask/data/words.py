"""Where words begin in text without spaces: pieces against the words of a segmenter, for whole-word masking."""

import re
from typing import Protocol

import numpy as np

from unmask.errors import UsageError
from unmask.tokenizer.load import Pieces

_HAN = re.compile(
    "[\u2e80-\u2fd5\u3005\u3007\u3021-\u3029\u3038-\u303b\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufad9\U00020000-\U000323af]+"
)


class Segmenter(Protocol):
    """Cuts runs of Han characters into words; its class must be importable by name, for it goes to other processes."""

    @property
    def name(self) -> str:
        """Name and version: two segmenters of one name give the same words."""

    def __call__(self, run: str) -> list[str]:
        """Cut a run of Han characters into its words, which together are the run."""


def word_starts(text: str, pieces: Pieces, segmenter: Segmenter | None) -> np.ndarray:
    """Say which pieces of a text begin a word.

    Outside of Chinese the tokenizer's pre-tokens are the words. Within a run of Han characters a piece begins a word if
    its first character does, and of several pieces of one character only the first; so it does not matter whether the
    tokenizer keeps Han characters apart, and pieces of several characters are never cut.

    Args:
        text: that the pieces are of.
        pieces: n of them.
        segmenter: for runs of Han characters; None takes the pre-tokens there too.

    Returns:
        (n,) bool.

    Raises:
        UsageError: the words of the segmenter are not the text that it was given.
    """
    runs = [] if segmenter is None else list(_HAN.finditer(text))
    if segmenter is None or not runs:
        return pieces.word_starts
    is_han, is_cut = np.zeros((2, len(text) + 1), bool)
    for run in runs:
        words = segmenter(run.group())
        if "".join(words) != run.group():
            raise UsageError(
                "bad-segmenter",
                f"the words of {segmenter.name} are not the text that it was given",
                value=run.group(),
                expected="words that are the text when they are joined",
            )
        is_han[run.start() : run.end()] = True
        is_cut[run.start()] = True
        is_cut[run.start() + np.cumsum([len(word) for word in words])] = True
    begins = pieces.offsets[:, 0]
    is_first = np.diff(begins, prepend=-1) != 0
    return (pieces.word_starts & ~is_han[begins]) | (is_cut[begins] & is_first)
