"""Who encodes the documents of a corpus: this process, or several on this machine; in order, in bounded memory."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from unmask.data.encoding import Encoded, Encoder
from unmask.data.files import Document
from unmask.processes import in_order, workers

Handle = Callable[[], Encoded]
"""Waits for one batch and gives it."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Documents that are encoded together.

    Attributes:
        documents: about a mebibyte of text.
        places: number of its file and its own number in it, 1-based, of each document, (d, 2) int64.
    """

    documents: list[Document]
    places: np.ndarray


@dataclass(frozen=True)
class Pool:
    """Workers that encode.

    Attributes:
        size: how many there are; 0 if `submit` itself does the work.
        submit: hands documents over.
    """

    size: int
    submit: Callable[[list[Document]], Handle]


OpenPool = Callable[[Encoder], contextlib.AbstractContextManager[Pool]]
"""Starts workers that have an encoder; they end with the block."""


def encode_in_order(batches: Iterable[Batch], pool: Pool) -> Iterator[tuple[np.ndarray, Encoded]]:
    """Encode batches and give the results, with the places of their documents, in the order of the batches.

    Args:
        batches: read no further ahead than three for each worker.
        pool: does the work.

    Raises:
        DataError: a document cannot be encoded.
        ResourceError: a worker died.
    """

    def submit(batch: Batch) -> Handle:
        return pool.submit(batch.documents)

    for batch, result in in_order(batches, submit, pool.size):
        yield batch.places, result


def in_processes(count: int) -> OpenPool:
    """Encode in `count` processes of this machine; 1 is this process itself."""
    return _here if count == 1 else lambda encoder: _processes(count, encoder)


@contextlib.contextmanager
def _here(encoder: Encoder) -> Iterator[Pool]:
    def submit(documents: list[Document]) -> Handle:
        found = encoder(documents)
        return lambda: found

    yield Pool(0, submit)


@contextlib.contextmanager
def _processes(count: int, encoder: Encoder) -> Iterator[Pool]:
    remedy = (
        "start the same command again with fewer --processes (a Python script that builds a corpus needs"
        " `if __name__ == '__main__':`)"
    )
    saved = "the shards that were finished; the same command goes on from there"
    with workers(count, partial(_same, encoder), remedy=remedy, saved=saved) as submit:
        yield Pool(count, submit)


def _same(encoder: Encoder) -> Encoder:
    return encoder
