"""Special tokens around one or two texts, and which text is cut."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.tokenizer.samples import FAMILIES, folder_of
from unmask.errors import UsageError
from unmask.tokenizer.load import Pieces, Sequence, Tokenizer


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    base = tmp_path_factory.mktemp("tokenizers")
    return {family: Tokenizer.load(folder_of(family, base / family)) for family in FAMILIES}


def pieces(count: int, first_id: int) -> Pieces:
    ids = np.arange(first_id, first_id + count, dtype=np.int32)
    return Pieces(ids, np.stack([ids, ids + 1], axis=1), np.ones(count, bool))


def slow_longest_first(first: list[int], second: list[int], room: int) -> tuple[list[int], list[int]]:
    """Take one piece at a time from the longer text; once they are equal, from the one that was shorter (or first)."""
    shorter = first if len(first) <= len(second) else second
    while len(first) + len(second) > room:
        (shorter if len(first) == len(second) else max(first, second, key=len)).pop()
    return first, second


def assert_types(sequence: Sequence) -> None:
    assert sequence.input_ids.dtype == sequence.offsets.dtype == np.int32
    assert sequence.token_type_ids.dtype == sequence.sequence_ids.dtype == np.int8
    count = len(sequence.input_ids)
    assert sequence.offsets.shape == (count, 2)
    assert sequence.token_type_ids.shape == sequence.sequence_ids.shape == (count,)


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta"])
def test_roberta_templates(family: str, loaded: dict[str, Tokenizer]) -> None:
    tokenizer = loaded[family]
    one = tokenizer.assemble(pieces(2, 10), max_length=9)
    assert one.input_ids.tolist() == [0, 10, 11, 2]
    assert one.sequence_ids.tolist() == [-1, 0, 0, -1]
    assert one.offsets.tolist() == [[0, 0], [10, 11], [11, 12], [0, 0]]
    two = tokenizer.assemble(pieces(2, 10), pieces(1, 20), max_length=9)
    assert two.input_ids.tolist() == [0, 10, 11, 2, 2, 20, 2]
    assert two.sequence_ids.tolist() == [-1, 0, 0, -1, -1, 1, -1]
    assert two.token_type_ids.tolist() == [0] * 7
    for sequence in (one, two):
        assert_types(sequence)
        assert sequence.num_truncated == 0
    assert (tokenizer.num_special(False), tokenizer.num_special(True)) == (2, 4)


def test_bert_template_has_token_types(loaded: dict[str, Tokenizer]) -> None:
    tokenizer = loaded["bert"]
    two = tokenizer.assemble(pieces(2, 10), pieces(1, 20), max_length=9)
    assert two.input_ids.tolist() == [tokenizer.cls_id, 10, 11, tokenizer.sep_id, 20, tokenizer.sep_id]
    assert two.token_type_ids.tolist() == [0, 0, 0, 0, 1, 1]
    assert two.sequence_ids.tolist() == [-1, 0, 0, -1, 1, -1]
    assert_types(two)
    assert (tokenizer.num_special(False), tokenizer.num_special(True)) == (2, 3)


@pytest.mark.parametrize("family", FAMILIES)
@given(n_first=st.integers(0, 30), n_second=st.integers(0, 30), room=st.integers(0, 40))
def test_longest_first_agrees_with_the_slow_way(
    family: str, n_first: int, n_second: int, room: int, loaded: dict[str, Tokenizer]
) -> None:
    tokenizer = loaded[family]
    first, second = pieces(n_first, 100), pieces(n_second, 200)
    sequence = tokenizer.assemble(first, second, max_length=room + tokenizer.num_special(True))
    expected = slow_longest_first(first.ids.tolist(), second.ids.tolist(), room)
    for index, ids in enumerate(expected):
        assert sequence.input_ids[sequence.sequence_ids == index].tolist() == ids
    assert sequence.num_truncated == n_first + n_second - sum(map(len, expected))
    assert len(sequence.input_ids) <= room + tokenizer.num_special(True)


def test_one_text_is_cut_at_its_end(loaded: dict[str, Tokenizer]) -> None:
    for tokenizer in loaded.values():
        sequence = tokenizer.assemble(pieces(10, 100), max_length=5)
        assert sequence.input_ids.tolist() == [tokenizer.cls_id, 100, 101, 102, tokenizer.sep_id]
        assert sequence.num_truncated == 7


def test_no_room_for_the_special_tokens(loaded: dict[str, Tokenizer]) -> None:
    for tokenizer in loaded.values():
        least = tokenizer.num_special(True)
        assert len(tokenizer.assemble(pieces(3, 9), pieces(3, 9), max_length=least).input_ids) == least
        with pytest.raises(UsageError, match=f"at least {least}"):
            tokenizer.assemble(pieces(3, 9), pieces(3, 9), max_length=least - 1)
        with pytest.raises(UsageError, match="at least 2"):
            tokenizer.assemble(pieces(3, 9), max_length=1)
