"""Make the next items of a numbered stream in threads, and give them in order."""

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def in_order(make: Callable[[int], T], first: int, *, workers: int) -> Generator[T, None, None]:
    """Give `make(first)`, `make(first + 1)`, ... without end.

    Args:
        make: a pure function of the number, safe in threads.
        first: number of the first item.
        workers: threads that work ahead, one item each and one more; 0 makes each item when it is asked for. An error
            comes out where its item would. The threads end when the iterator is closed.
    """
    if not workers:
        while True:
            yield make(first)
            first += 1
    pool = ThreadPoolExecutor(workers, thread_name_prefix="unmask-data")
    try:
        waiting: deque[Future[T]] = deque()
        while True:
            while len(waiting) <= workers:
                waiting.append(pool.submit(make, first))
                first += 1
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
