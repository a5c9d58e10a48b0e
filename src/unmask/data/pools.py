"""Who encodes the documents of a corpus: this process, or several on this machine; in order, in bounded memory."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import numpy as np

from unmask.data.encoding import Encoded, Encoder
from unmask.data.files import Document
from unmask.errors import ResourceError

Handle = Callable[[], Encoded]
"""Waits for one batch and gives it."""
_LOOK_AHEAD = 3

# The encoder of a worker process, which it gets once, when it starts.
_worker: list[Encoder] = []


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
    waiting: deque[tuple[np.ndarray, Handle]] = deque()
    for batch in batches:
        waiting.append((batch.places, pool.submit(batch.documents)))
        if len(waiting) >= _LOOK_AHEAD * pool.size:
            places, result = waiting.popleft()
            yield places, result()
    for places, result in waiting:
        yield places, result()


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
    """Processes that are started afresh (spawned) and end with this one."""
    pool = ProcessPoolExecutor(
        count, multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(encoder,)
    )
    try:
        yield Pool(count, lambda documents: pool.submit(_encode_in_worker, documents).result)
    except BrokenProcessPool:
        raise ResourceError(
            "worker-died",
            "a process that encodes text has died; perhaps the memory was full",
            value=f"{count} processes",
            remedy="start the same command again with fewer --processes (a Python script that builds a corpus needs"
            " `if __name__ == '__main__':`)",
            saved="the shards that were finished; the same command goes on from there",
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker(encoder: Encoder) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The processes share the cores already; a pool of threads in each would only make them wait for each other.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker[:] = [encoder]


def _end_with_parent() -> None:
    """A killed parent cannot tell its workers; without this they would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _encode_in_worker(documents: list[Document]) -> Encoded:
    return _worker[0](documents)
