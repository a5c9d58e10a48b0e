"""The rows of a file that a task can use."""

from collections.abc import Sequence

import torch

from unmask.checkpoint import Model
from unmask.config import Settings
from unmask.data.rows import Reject, Table
from unmask.errors import DataError
from unmask.model.config import EncoderConfig
from unmask.tasks.base import Row, Task, text_of
from unmask.tasks.rows import text_columns
from unmask.tokenizer.train import train

_SAMPLE = 100
_VOCAB_SIZE = 512
_CHUNK = 1000  # rows whose features are in memory at once
_BEGINNING = 8  # characters that stand for a text


def filled_rows(table: Table, columns: Sequence[str], reject: Reject, *, label: str | None = None) -> Table:
    """Rows with something in each of the columns; `reject` is told of the others; `label` is that of the label."""
    kept = []
    for index, row in enumerate(table.rows):
        try:
            for column in columns:
                if isinstance(row.get(column), str):
                    text_of(row, column, table.place(index), what="label" if column == label else "text")
        except DataError as error:
            reject(error)
        else:
            kept.append(index)
    return table.part(kept)


def checker(kind: type[Task], options: Settings, start: Model | None, table: Table) -> Task:
    """A task that can encode rows and do nothing else, for it has no weights.

    Args:
        kind: the task.
        options: its settings.
        start: model whose tokenizer is used; without one a small tokenizer is trained on the first rows.
        table: the rows.
    """
    if start is not None:
        config, tokenizer = start.config, start.tokenizer
    else:
        texts = [text for row in table.rows[:_SAMPLE] for text in kind.texts(row, options)]
        tokenizer = train(texts, vocab_size=_VOCAB_SIZE)
        config = EncoderConfig(vocab_size=tokenizer.vocab_size, pad_token_id=tokenizer.pad_id)
    with torch.device("meta"):
        return kind(config, tokenizer, options)


def sound_rows(task: Task, table: Table, reject: Reject, *, has_texts: bool = True) -> Table:
    """Labelled rows that the task can encode; `reject` is told of the others.

    Args:
        task: that encodes them.
        table: the rows.
        reject: is told of each that it cannot take.
        has_texts: read the texts to their ends; else their beginnings stand for them, which costs little and is enough
            where a row is refused for its label or for an empty cell alone, as in tables.
    """
    kept: list[int] = []
    for start in range(0, len(table.rows), _CHUNK):
        indices = range(start, min(start + _CHUNK, len(table.rows)))
        rows = [table.rows[at] for at in indices]
        kept += _sound(task, table, rows if has_texts else [_begun(row, task) for row in rows], indices, reject)
    return table.part(kept)


def _begun(row: Row, task: Task) -> Row:
    """The row with the beginnings of its texts."""
    texts = {name: row.get(name) for name in text_columns(task.settings)}
    return {**row, **{name: text.strip()[:_BEGINNING] for name, text in texts.items() if isinstance(text, str)}}


def _sound(task: Task, table: Table, rows: Sequence[Row], indices: range, reject: Reject) -> list[int]:
    """Halve the rows until those that are wrong stand alone: few errors cost few passes."""
    try:
        task.encode(rows, place=lambda at: table.place(indices[at]), is_training=True)
        return list(indices)
    except DataError as error:
        if len(indices) == 1:
            reject(error)
            return []
    half = len(indices) // 2
    halves = ((rows[:half], indices[:half]), (rows[half:], indices[half:]))
    return [at for some, places in halves for at in _sound(task, table, some, places, reject)]
