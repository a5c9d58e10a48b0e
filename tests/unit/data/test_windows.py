"""Windows: every piece is seen, overlaps are as asked for, and the readable twin agrees."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import tiny
from unmask.data.windows import Window, fixed_room, part, windows
from unmask.errors import UsageError
from unmask.tokenizer.load import Pieces

TEXT = "The cat sat on the mat and looked at the moon, while nobody saw it there in the morning."


def pieces(count: int) -> Pieces:
    """`count` pieces with ids from 100 on."""
    numbers = np.arange(count, dtype=np.int32)
    return Pieces(numbers + 100, np.stack([numbers, numbers + 1], axis=1), np.ones(count, bool))


def twin(count: int, max_length: int, stride: int, num_fixed: int | None) -> list[tuple[int, int]]:
    """First piece and piece behind the last one of each window, in plain steps."""
    specials = 2 if num_fixed is None else 4
    held = 0 if num_fixed is None else min(num_fixed, (max_length - specials) // 2)
    room = max_length - specials - held
    found = [(0, min(count, room))]
    while found[-1][1] < count:
        start = found[-1][0] + min(stride, room)
        found.append((start, min(count, start + room)))
    return found


@settings(max_examples=150, deadline=None)
@given(
    count=st.integers(0, 60),
    max_length=st.integers(7, 24),
    stride=st.integers(1, 30),
    num_fixed=st.none() | st.integers(0, 30),
    is_last=st.booleans(),
)
def test_windows_equal_the_twin_and_lose_no_piece(
    count: int, max_length: int, stride: int, num_fixed: int | None, is_last: bool
) -> None:
    text, fixed = pieces(count), None if num_fixed is None else pieces(num_fixed)
    found = list(windows(tiny.tokenizer(), text, max_length=max_length, stride=stride, fixed=fixed, is_last=is_last))
    assert [(one.start, one.end) for one in found] == twin(count, max_length, stride, num_fixed)
    assert set().union(*(range(one.start, one.end) for one in found)) == set(range(count))
    for one in found:
        assert len(one.sequence.input_ids) <= max_length
        assert one.sequence.num_truncated == 0
        size = one.end - one.start
        shown = one.sequence.input_ids[one.first : one.first + size]
        assert shown.tolist() == list(range(100 + one.start, 100 + one.end))


def test_the_fixed_text_stands_whole_in_every_window_before_or_behind() -> None:
    fixed, text = tiny.tokenizer().encode(["Where?", TEXT])
    held = fixed.ids.tolist()
    for is_last in (True, False):
        found = list(windows(tiny.tokenizer(), text, max_length=24, stride=8, fixed=fixed, is_last=is_last))
        assert len(found) > 2
        for one in found:
            ids = one.sequence.input_ids.tolist()
            assert (ids[1 : 1 + len(held)] if is_last else ids[-1 - len(held) : -1]) == held


def test_a_long_fixed_text_leaves_half_of_the_room() -> None:
    (one, *_) = windows(tiny.tokenizer(), pieces(40), max_length=20, stride=5, fixed=pieces(30))
    assert fixed_room(tiny.tokenizer(), 20) == 8
    assert (one.start, one.end, one.first) == (0, 8, 11)


@pytest.mark.parametrize("num_fixed", [None, 6])
def test_by_default_windows_begin_half_an_input_apart_and_a_cut_text_is_its_first_one(num_fixed: int | None) -> None:
    text, fixed = pieces(40), None if num_fixed is None else pieces(num_fixed)
    found = [(one.start, one.end) for one in windows(tiny.tokenizer(), text, max_length=16, fixed=fixed)]
    assert found == twin(40, 16, 8, num_fixed)
    (cut,) = windows(tiny.tokenizer(), text, max_length=16, fixed=fixed, long_texts="cut")
    assert (cut.start, cut.end) == found[0]


def test_a_short_text_is_one_window_whatever_the_stride() -> None:
    found: list[Window] = list(windows(tiny.tokenizer(), pieces(5), max_length=20, stride=1))
    assert [(one.start, one.end, one.first) for one in found] == [(0, 5, 1)]


@pytest.mark.parametrize(("max_length", "fixed"), [(2, None), (4, pieces(3))])
def test_no_room_is_an_error(max_length: int, fixed: Pieces | None) -> None:
    with pytest.raises(UsageError, match="no room") as caught:
        list(windows(tiny.tokenizer(), pieces(3), max_length=max_length, stride=1, fixed=fixed))
    assert caught.value.details["expected"] == f"at least {max_length + 1}"


def test_a_part_keeps_the_offsets_of_the_whole() -> None:
    (text,) = tiny.tokenizer().encode([TEXT])
    some = part(text, 2, 5)
    assert some.ids.tolist() == text.ids[2:5].tolist()
    assert some.offsets.tolist() == text.offsets[2:5].tolist()
    assert some.word_starts.tolist() == text.word_starts[2:5].tolist()
