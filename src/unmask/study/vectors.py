"""Contextual vectors of words: hidden states aligned to character ranges, from any layer or mix of layers.

Works on any model folder, for only its encoder and its tokenizer are used.
"""

import itertools
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

import numpy as np
import torch

from unmask.data.batching import Batch, Features, pack, sorted_batches
from unmask.data.windows import Window, windows
from unmask.data.words import Segmenter
from unmask.errors import DataError
from unmask.runtime import Machine
from unmask.tasks.base import Task
from unmask.tasks.vector_batches import check_layers, mixed_states
from unmask.tokenizer.load import Pieces

Pooling = Literal["mean", "first"]
Span = tuple[int, int]

_CHUNK = 256
_JOINERS = "'\u2019\u00b7\u200c\u200d-"  # apostrophes, middle dot, Persian's and the Indic scripts' joiners, hyphen
_HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"


@dataclass(frozen=True)
class WordVectors:
    """The words of a text.

    Attributes:
        text: the text.
        spans: characters [start, end) of each word, (W, 2) int64.
        vectors: (W, D) float32; NaN for a word of which the tokenizer keeps nothing.
    """

    text: str
    spans: np.ndarray
    vectors: np.ndarray

    @property
    def words(self) -> list[str]:
        """The words as they stand in the text."""
        return [self.text[start:end] for start, end in self.spans]


@dataclass
class _Open:
    """A text whose windows are being computed: each piece takes its state from the window that shows most around it."""

    pieces: Pieces
    states: np.ndarray
    margins: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.margins = np.full(len(self.pieces.ids), -1, np.int64)

    def take(self, window: Window, states: np.ndarray) -> None:
        """Take over the states of a window's pieces, (n, D), where it shows more than those before it."""
        places = np.arange(window.start, window.end)
        left = np.where(window.start == 0, len(self.margins), places - window.start)
        right = np.where(window.end == len(self.margins), len(self.margins), window.end - 1 - places)
        margins = np.minimum(left, right)
        is_better = margins > self.margins[places]
        self.margins[places[is_better]] = margins[is_better]
        self.states[places[is_better]] = states[is_better]


def find_words(text: str, segmenter: Segmenter | None = None) -> list[Span]:
    """Character ranges of the words of a text: letters and digits with their marks, joined by apostrophes and hyphens.

    Args:
        text: any.
        segmenter: cuts runs of Han characters into words; without one each character is a word.
    """
    found: list[Span] = []
    for match in _pattern().finditer(text):
        start, end = match.span()
        if match["han"] is None:
            found.append((start, end))
            continue
        parts = list(match.group()) if segmenter is None else segmenter(match.group())
        ends = start + np.cumsum([len(part) for part in parts])
        found += zip([start, *ends[:-1].tolist()], ends.tolist(), strict=True)
    return found


@torch.inference_mode()
def word_vectors(
    task: Task,
    texts: Iterable[str],
    *,
    words: Iterable[Sequence[Span]] | None = None,
    layers: Sequence[int] = (-1,),
    pooling: Pooling = "mean",
    machine: Machine | None = None,
    max_tokens: int = 8192,
) -> Iterator[WordVectors]:
    """Give the vectors of the words of each text.

    A word's vector is that of its pieces: those whose characters overlap its own. In a text longer than the input each
    piece is taken from the window that shows the most text on its shorter side.

    Args:
        task: any; its encoder is used as it is.
        texts: read as they are needed.
        words: character ranges for each text, in any order; by default those of `find_words`.
        layers: their mean is taken; 0 is what goes into the first layer, -1 the output of the last one.
        pooling: mean of a word's pieces, or the first one alone.
        machine: device and number format; by default the CPU and float32, the exact one.
        max_tokens: limit of one batch.

    Raises:
        UsageError: the network has no such layer.
        DataError: a range is empty or outside of its text.
    """
    check_layers(layers, task.config)
    task.eval()
    given = iter(words) if words is not None else None
    for chunk in _chunks(texts, _CHUNK):
        ranges = [list(next(given)) if given is not None else find_words(text) for text in chunk]
        for text, spans in zip(chunk, ranges, strict=True):
            _check(text, spans)
        states = _piece_states(task, task.tokenizer.encode(chunk), layers, machine, max_tokens)
        for text, spans, one in zip(chunk, ranges, states, strict=True):
            places = np.array(spans, np.int64).reshape(-1, 2)
            yield WordVectors(text, places, pool_words(one.states, one.pieces.offsets, places, pooling))


def pool_words(states: np.ndarray, offsets: np.ndarray, spans: np.ndarray, pooling: Pooling) -> np.ndarray:
    """Vectors of words from those of pieces.

    Args:
        states: of n pieces, (n, D) float32.
        offsets: characters of each piece, (n, 2), in order.
        spans: characters of each word, (W, 2).
        pooling: mean of the pieces that overlap a word, or the first of them.

    Returns:
        (W, D) float32; NaN where no piece overlaps the word.
    """
    vectors = np.full((len(spans), states.shape[1]), np.nan, np.float32)
    for at, (start, end) in enumerate(spans):
        mine = np.flatnonzero((offsets[:, 0] < end) & (offsets[:, 1] > start))
        if len(mine):
            vectors[at] = states[mine[0]] if pooling == "first" else states[mine].mean(axis=0)
    return vectors


def _piece_states(
    task: Task, pieces: list[Pieces], layers: Sequence[int], machine: Machine | None, max_tokens: int
) -> list[_Open]:
    """States of the pieces of each text."""
    limit, width = task.config.max_length, task.config.hidden_size
    texts = [_Open(one, np.zeros((len(one.ids), width), np.float32)) for one in pieces]
    jobs = [(text, one) for text in texts for one in windows(task.tokenizer, text.pieces, max_length=limit)]
    lengths = np.array([len(window.sequence.input_ids) for _, window in jobs])
    device = next(task.parameters()).device if machine is None else machine.device
    task.to(device)
    for chosen in sorted_batches(lengths, max_tokens=max_tokens):
        mine = [jobs[at] for at in chosen]
        batch = _batch(task, [window for _, window in mine]).to(device)
        if machine is None:
            hidden = mixed_states(task, batch, layers)
        else:
            with machine.autocast():
                hidden = mixed_states(task, batch, layers)
        found = hidden.float().cpu().numpy()
        for (text, window), start in zip(mine, batch.cu_seqlens, strict=False):
            first = int(start) + window.first
            text.take(window, found[first : first + window.end - window.start])
    return texts


def _batch(task: Task, chosen: Sequence[Window]) -> Batch:
    has_types = task.config.type_vocab_size > 1
    features = [
        Features(input_ids=one.sequence.input_ids, token_type_ids=one.sequence.token_type_ids if has_types else None)
        for one in chosen
    ]
    return pack(features, position_offset=task.config.position_offset)


def _check(text: str, spans: Sequence[Span]) -> None:
    for start, end in spans:
        if not 0 <= start < end <= len(text):
            raise DataError(
                "bad-span",
                "the range of a word is empty or outside of its text",
                value=f"[{start}, {end}) of {len(text)} characters: {text[:60]}",
            )


def _chunks(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    rest = iter(texts)
    while chunk := list(itertools.islice(rest, size)):
        yield chunk


@cache
def _pattern() -> re.Pattern[str]:
    """Runs of Han characters, or words of other letters, digits and the marks on them, which `\\w` does not know."""
    marks = [code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code))[0] == "M"]
    letter = f"(?![{_HAN}_])\\w"
    part = f"{letter}(?:{letter}|[{_ranges(marks)}])*"
    return re.compile(f"(?P<han>[{_HAN}]+)|{part}(?:[{_JOINERS}]{part})*")


def _ranges(codes: Sequence[int]) -> str:
    """A character class of ascending code points."""
    borders = [0, *(at for at in range(1, len(codes)) if codes[at] != codes[at - 1] + 1), len(codes)]
    runs = ((codes[a], codes[b - 1]) for a, b in itertools.pairwise(borders))
    return "".join(f"\\U{low:08x}-\\U{high:08x}" for low, high in runs)
