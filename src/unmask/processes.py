"""Work shared out among processes of this machine: in order, in bounded memory; none outlives its parent."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any, NoReturn, TypeVar

from unmask.errors import ResourceError, UnmaskError

Item = TypeVar("Item")
Result = TypeVar("Result")
_LOOK_AHEAD = 3

# The function of a worker process, which it makes once, when it starts.
_worker: list[Callable[[Any], Any]] = []


def in_order(
    items: Iterable[Item], submit: Callable[[Item], Callable[[], Result]], size: int
) -> Iterator[tuple[Item, Result]]:
    """Hand items over and give each with its result, in the order of the items.

    Args:
        items: read no further ahead than three for each worker.
        submit: hands an item over; what it returns waits for the result.
        size: number of workers; 0 if `submit` itself does the work.
    """
    waiting: deque[tuple[Item, Callable[[], Result]]] = deque()
    for item in items:
        waiting.append((item, submit(item)))
        if len(waiting) >= _LOOK_AHEAD * size:
            first, result = waiting.popleft()
            yield first, result()
    for first, result in waiting:
        yield first, result()


@contextlib.contextmanager
def workers(
    count: int, make: Callable[[], Callable[[Item], Result]], *, remedy: str, saved: str | None = None
) -> Iterator[Callable[[Item], Callable[[], Result]]]:
    """Processes that are started afresh (spawned) and end with this one.

    Args:
        count: of them.
        make: called once in each; makes the function that does the work. Both it and the items travel pickled. What
            fails in it comes out of the first result.
        remedy: for the error, should one die.
        saved: what is kept then.

    Yields:
        `submit` of `in_order`.

    Raises:
        ResourceError: a process died inside the block.
    """
    pool = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), initializer=_start, initargs=(make,))
    try:
        yield lambda item: pool.submit(_call, item).result
    except BrokenProcessPool:
        raise ResourceError(
            "worker-died",
            "a process that does part of the work has died; perhaps the memory was full",
            value=f"{count} processes",
            remedy=remedy,
            saved=saved,
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _start(make: Callable[[], Callable[[Any], Any]]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The processes share the cores already; a pool of threads in each would only make them wait for each other.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _worker[:] = [make()]
    except (UnmaskError, OSError, MemoryError, RuntimeError) as error:
        # An initialiser that fails breaks the pool, and what was wrong is lost: the first call tells it.
        _worker[:] = [partial(_fail, error)]


def _end_with_parent() -> None:
    """A killed parent cannot tell its workers; without this they would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _fail(error: Exception, _item: Any) -> NoReturn:
    raise error


def _call(item: Any) -> Any:
    return _worker[0](item)
