"""The rows of a file that a task can use."""

from collections.abc import Sequence

from unmask.data.rows import Reject, Table
from unmask.errors import DataError
from unmask.tasks.base import Task, text_of


def filled_rows(table: Table, columns: Sequence[str], reject: Reject) -> Table:
    """Rows with something in each of the columns; `reject` is told of the others."""
    kept = []
    for index, row in enumerate(table.rows):
        try:
            for column in columns:
                if isinstance(row[column], str):
                    text_of(row, column, table.place(index))
        except DataError as error:
            reject(error)
        else:
            kept.append(index)
    return table.part(kept)


def sound_rows(task: Task, table: Table, reject: Reject) -> Table:
    """Labelled rows that the task can encode; `reject` is told of the others."""
    return table.part(_sound(task, table, range(len(table.rows)), reject))


def _sound(task: Task, table: Table, indices: range, reject: Reject) -> list[int]:
    """Halve the rows until those that are wrong stand alone: few errors cost few passes."""
    try:
        task.encode([table.rows[at] for at in indices], place=lambda at: table.place(indices[at]), is_training=True)
        return list(indices)
    except DataError as error:
        if len(indices) == 1:
            reject(error)
            return []
    half = len(indices) // 2
    return [at for part in (indices[:half], indices[half:]) for at in _sound(task, table, part, reject)]
