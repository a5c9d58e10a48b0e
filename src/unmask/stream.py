"""Answers for any number of rows, in order and in constant memory, by one process or by several."""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from unmask.errors import UnmaskError
from unmask.predict import Predictor
from unmask.processes import in_order, workers
from unmask.tasks.base import Row

Placed = tuple[object, Row]
"""Where a row comes from, for errors, and the row."""
Chunk = list[Placed]
Answers = tuple[list[Any], UnmaskError | None]
"""Of a chunk's rows; of those before a bad one, and its error."""


def stream(
    rows: Iterable[Placed], predictor: Predictor | Callable[[], Predictor], *, processes: int = 1, chunk: int = 1024
) -> Iterator[tuple[Placed, Any]]:
    """Answer rows as they come.

    Args:
        rows: each with its place; read a few chunks ahead.
        predictor: answers them; with several processes a function that makes one, and that can be pickled. Threads are
            for an answer soon, processes for many answers: the Python around a small network runs in each of them.
        processes: that answer.
        chunk: rows that are sorted by length and batched together.

    Yields:
        Each row with its prediction, in order.

    Raises:
        DataError: a row cannot be answered; its place is named, and all rows before it have been given.
        ResourceError: a process died.
    """
    with _open(predictor, processes) as submit:
        for some, (answers, error) in in_order(_chunks(rows, chunk), submit, 0 if processes == 1 else processes):
            yield from zip(some, answers, strict=False)
            if error is not None:
                raise error


@contextlib.contextmanager
def _open(
    predictor: Predictor | Callable[[], Predictor], processes: int
) -> Iterator[Callable[[Chunk], Callable[[], Answers]]]:
    if processes == 1:
        answer = _Answer(predictor if isinstance(predictor, Predictor) else predictor())
        yield lambda chunk: lambda: answer(chunk)
        return
    assert not isinstance(predictor, Predictor), "a network does not travel between processes"
    with workers(processes, _Make(predictor), remedy="take fewer --processes, or lower --max-tokens") as submit:
        yield submit


def _chunks(rows: Iterable[Placed], size: int) -> Iterator[Chunk]:
    source = iter(rows)
    while some := list(itertools.islice(source, size)):
        yield some


class _Answer:
    """What a worker does with a chunk."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def __call__(self, chunk: Chunk) -> Answers:
        places, rows = [place for place, _ in chunk], [row for _, row in chunk]
        try:
            return self._predictor.predict_rows(rows, place=places.__getitem__), None
        except UnmaskError as error:
            bad = places.index(error.details["place"]) if error.details["place"] in places else 0
            return self._predictor.predict_rows(rows[:bad], place=places.__getitem__), error


class _Make:
    """Makes it there, where the network is loaded."""

    def __init__(self, load: Callable[[], Predictor]) -> None:
        self._load = load

    def __call__(self) -> _Answer:
        return _Answer(self._load())
