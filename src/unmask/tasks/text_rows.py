"""Rows of one or two texts as features: whole where they fit, else as overlapping windows, or cut if asked for."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from unmask.data.features import Features
from unmask.data.windows import LongTexts, windows
from unmask.model.config import EncoderConfig
from unmask.tasks.rows import Place, Row, text_of
from unmask.tokenizer.load import Pieces, Tokenizer
from unmask.tokenizer.load import Sequence as Tokens

Label = float | np.ndarray | None


class Reach(Protocol):
    """The settings that say how much of a text a task reads at once."""

    @property
    def max_length(self) -> int | None:
        """Longest input in tokens."""

    @property
    def stride(self) -> int | None:
        """Pieces between the starts of two windows."""

    @property
    def long_texts(self) -> LongTexts:
        """What to do with a longer text."""


class Asked(Protocol):
    """What a text is encoded for: a task, or its reader."""

    @property
    def config(self) -> EncoderConfig:
        """Of the encoder."""

    @property
    def tokenizer(self) -> Tokenizer:
        """Goes with the weights."""

    @property
    def text_columns(self) -> tuple[str, ...]:
        """Columns of the texts, in order."""


def text_features(
    task: Asked, reach: Reach, rows: Sequence[Row], *, place: Place, labels: Sequence[Label] | None = None
) -> list[Features]:
    """Encode the texts of rows.

    Args:
        task: names the text columns, one or two.
        reach: length, stride and what to do with long texts.
        rows: as they stand in the file.
        place: says where row number i comes from, for errors.
        labels: one a row; each window of a row carries it.

    Raises:
        DataError: a column is missing or a text is empty.
    """
    columns = [[text_of(row, name, place(at)) for at, row in enumerate(rows)] for name in task.text_columns]
    pieces = zip(*(task.tokenizer.encode(column) for column in columns), strict=True)
    limit = input_limit(task, reach.max_length)
    has_types = task.config.type_vocab_size > 1
    return [
        Features(
            input_ids=one.input_ids,
            token_type_ids=one.token_type_ids if has_types else None,
            label=None if labels is None else labels[at],
            num_truncated=one.num_truncated,
            row=at,
        )
        for at, texts in enumerate(pieces)
        for one in inputs(task.tokenizer, texts, reach, max_length=limit)
    ]


def input_limit(task: Asked, max_length: int | None) -> int:
    """The most tokens of one input: what the settings say, at most what the network takes."""
    return min(max_length or task.config.max_length, task.config.max_length)


def inputs(tokenizer: Tokenizer, texts: Sequence[Pieces], reach: Reach, *, max_length: int) -> Iterator[Tokens]:
    """One or two texts as the model takes them: once if they fit or are cut, else window by window.

    Of a pair the longer text moves, and the shorter one stands in every window; of more than half the room it is cut.
    """
    room = max_length - tokenizer.num_special(len(texts) > 1)
    if reach.long_texts == "cut" or sum(len(one.ids) for one in texts) <= room:
        yield tokenizer.assemble(*texts, max_length=max_length)
        return
    is_last = len(texts) > 1 and len(texts[1].ids) >= len(texts[0].ids)
    moving = texts[is_last]
    fixed = texts[not is_last] if len(texts) > 1 else None
    for one in windows(tokenizer, moving, max_length=max_length, stride=reach.stride, fixed=fixed, is_last=is_last):
        tokens = one.sequence
        if fixed is None:
            yield tokens
        else:  # the lost end of the fixed text counts once a row
            held = int((tokens.sequence_ids == int(not is_last)).sum())
            yield replace(tokens, num_truncated=(len(fixed.ids) - held) * (one.start == 0))


def truncated_share(features: Sequence[Features]) -> float:
    """Part of a row's tokens that did not fit into its inputs."""
    lost = sum(one.num_truncated for one in features)
    return lost / (lost + sum(len(one) for one in features))
