"""Threads that work ahead: order, bounds, errors and ends."""

import itertools
import threading
import time

import pytest

from unmask.data.prefetch import in_order


def names() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("unmask-data")]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_items_come_in_order_whatever_they_take(workers: int) -> None:
    def make(number: int) -> int:
        time.sleep((number * 7 % 3) / 1000)
        return number * number

    stream = in_order(make, 5, workers=workers)
    assert list(itertools.islice(stream, 40)) == [number * number for number in range(5, 45)]
    stream.close()
    assert not names()


def test_work_ahead_is_bounded() -> None:
    made = []
    stream = in_order(lambda number: made.append(number) or number, 0, workers=2)
    for number in range(10):
        assert next(stream) == number
        time.sleep(0.005)
        assert len(made) <= number + 3
    assert len(made) > 10
    stream.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_comes_at_its_place(workers: int) -> None:
    def make(number: int) -> int:
        if number == 3:
            raise ValueError("number three")
        return number

    stream = in_order(make, 0, workers=workers)
    assert list(itertools.islice(stream, 3)) == [0, 1, 2]
    with pytest.raises(ValueError, match="number three"):
        next(stream)
    assert not names()


def test_an_iterator_that_is_given_up_ends_its_threads() -> None:
    stream = in_order(lambda number: number, 0, workers=2)
    next(stream)
    assert names()
    del stream
    assert not names()
