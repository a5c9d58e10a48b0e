"""Answers for any number of rows, in order and in constant memory, by one process or by several."""

import contextlib
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from unmask.errors import DataError, ResourceError, UnmaskError, is_out_of_memory
from unmask.predict import Predictor
from unmask.processes import in_order, workers
from unmask.tasks.base import Row

log = logging.getLogger("unmask")

Placed = tuple[object, Row | DataError]
"""Where a row comes from, for errors, and the row; or what kept it from being read."""
Chunk = list[Placed]
Answers = tuple[list[Any], UnmaskError | None]
"""Of a chunk's rows; of those before one that ends the work, and its error."""


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
        Each row with its prediction, in order; a row that cannot be answered with its `DataError`, which names it.

    Raises:
        ResourceError: a process died; or the memory does not suffice for a single text, and all rows before it have
            been given. Where it does not for a pass of many, the passes become smaller.
        UnmaskError: what `predictor` raises, made in a process.
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
        try:
            return self._answers(chunk), None
        except (ResourceError, MemoryError, RuntimeError) as error:
            if not (isinstance(error, ResourceError) or is_out_of_memory(error)):
                raise
            lack = error if isinstance(error, ResourceError) else _no_memory(error)
        except UnmaskError as error:
            places = [place for place, _ in chunk]
            bad = places.index(error.details["place"]) if error.details["place"] in places else 0
            answers, failed = self(chunk[:bad])
            return answers, failed or error
        lack.__cause__ = lack.__context__ = None  # what it came from holds the tensors of the pass that failed
        return self._with_less(chunk, lack.with_traceback(None))

    def _with_less(self, chunk: Chunk, error: ResourceError) -> Answers:
        """Answer in smaller batches from now on; when a batch is one text, answer up to the row that is too large."""
        limit = self._predictor.max_tokens
        if limit > self._predictor.task.config.max_length:
            self._predictor.max_tokens = limit // 2
            log.warning("the memory does not suffice for passes of %d tokens: going on with %d", limit, limit // 2)
            return self(chunk)
        if len(chunk) == 1:
            error.details["place"] = chunk[0][0]
            return [], error
        half = len(chunk) // 2
        first, failed = self(chunk[:half])
        if failed is not None:
            return first, failed
        second, failed = self(chunk[half:])
        return [*first, *second], failed

    def _answers(self, chunk: Chunk) -> list[Any]:
        """A prediction of each row, or its error."""
        found: dict[int, Any] = {at: row for at, (_, row) in enumerate(chunk) if isinstance(row, DataError)}
        sound = [at for at in range(len(chunk)) if at not in found]
        try:
            answers = self._predict(chunk, sound)
        except DataError:
            found |= self._faults(chunk, sound)
            sound = [at for at in sound if at not in found]
            answers = self._predict(chunk, sound)
        found |= zip(sound, answers, strict=True)
        return [found[at] for at in range(len(chunk))]

    def _predict(self, chunk: Chunk, indices: Sequence[int]) -> list[Any]:
        rows: list[Any] = [chunk[at][1] for at in indices]
        return self._predictor.predict_rows(rows, place=lambda at: chunk[indices[at]][0])

    def _faults(self, chunk: Chunk, indices: Sequence[int]) -> dict[int, DataError]:
        """Halve the rows until those that cannot be encoded stand alone: few of them cost few passes."""
        rows: list[Any] = [chunk[at][1] for at in indices]
        try:
            self._predictor.task.encode(rows, place=lambda at: chunk[indices[at]][0])
        except DataError as error:
            if len(indices) == 1:
                return {indices[0]: error}
            half = len(indices) // 2
            return self._faults(chunk, indices[:half]) | self._faults(chunk, indices[half:])
        return {}


def _no_memory(error: Exception) -> ResourceError:
    return ResourceError(
        "no-memory",
        "the memory does not suffice for this text",
        value=str(error).partition("\n")[0] or None,
        remedy="take a smaller model or a machine with more memory",
    )


class _Make:
    """Makes it there, where the network is loaded."""

    def __init__(self, load: Callable[[], Predictor]) -> None:
        self._load = load

    def __call__(self) -> _Answer:
        return _Answer(self._load())
