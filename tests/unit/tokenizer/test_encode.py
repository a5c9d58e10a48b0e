"""Encoding: literal special strings, masks, offsets, word starts, and back to text."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.tokenizer.samples import ENGLISH, FAMILIES, NASTY, SCRIPTS, folder_of, small
from unmask.errors import DataError, UsageError
from unmask.tokenizer.load import Pieces, Tokenizer

SPECIAL_STRINGS = ["<s>", "</s>", "<pad>", "<unk>", "<mask>", "[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]"]
WORDS = st.sampled_from([*SPECIAL_STRINGS, "a", " ", "\n", "<", "s>", "\uff1cs\uff1e", "the ", "[", "MASK]", "\u5929"])
TEXT_WITH_SPECIALS = st.lists(WORDS | st.text(max_size=4), max_size=12).map("".join)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    base = tmp_path_factory.mktemp("tokenizers")
    return {family: Tokenizer.load(folder_of(family, base / family)) for family in FAMILIES}


def surface(text: str, pieces: Pieces) -> list[str]:
    return [text[start:end] for start, end in pieces.offsets]


@given(st.text(max_size=60))
def test_byte_level_round_trip(text: str) -> None:
    tokenizer = small()
    assert tokenizer.decode(tokenizer.encode_ids([text])[0]) == text


@pytest.mark.parametrize("text", NASTY)
def test_byte_level_round_trip_of_nasty_strings(text: str, loaded: dict[str, Tokenizer]) -> None:
    for tokenizer in (small(), small(isolate_han=False), loaded["roberta"]):
        assert tokenizer.decode(tokenizer.encode_ids([text])[0]) == text


@pytest.mark.parametrize("family", FAMILIES)
@given(text=TEXT_WITH_SPECIALS)
def test_special_strings_in_text_are_literal(family: str, text: str, loaded: dict[str, Tokenizer]) -> None:
    tokenizer = loaded[family]
    control = set(tokenizer.special_ids.tolist()) - {tokenizer.unk_id}
    assert not control & set(tokenizer.encode_ids([text])[0].tolist())
    masked = tokenizer.encode_masked(text)
    assert not (control - {tokenizer.mask_id}) & set(masked.ids.tolist())


@pytest.mark.parametrize("family", FAMILIES)
def test_literal_special_strings_keep_their_letters(family: str, loaded: dict[str, Tokenizer]) -> None:
    tokenizer = loaded[family]
    for text in ("<s>", "a</s>b", "x <s> y", "[MASK]", "[SEP]", "\uff1cs\uff1e"):
        pieces = tokenizer.encode([text])[0]
        covered = {at for start, end in pieces.offsets for at in range(start, end)}
        assert covered == {at for at, char in enumerate(text) if not char.isspace()}


@pytest.mark.parametrize("family", FAMILIES)
@given(text=st.text(max_size=40) | TEXT_WITH_SPECIALS)
def test_offsets_are_valid_and_monotone(family: str, text: str, loaded: dict[str, Tokenizer]) -> None:
    for pieces in (loaded[family].encode([text])[0], loaded[family].encode_masked(text)):
        starts, ends = pieces.offsets[:, 0], pieces.offsets[:, 1]
        assert len(pieces.ids) == len(pieces.offsets) == len(pieces.word_starts)
        assert (starts >= 0).all()
        assert (starts <= ends).all()
        assert (ends <= len(text)).all()
        assert (np.diff(starts) >= 0).all()
        assert (np.diff(ends) >= 0).all()
        assert pieces.word_starts[:1].all()


def test_offsets_of_words_leave_out_their_space(loaded: dict[str, Tokenizer]) -> None:
    text = "the harbour  was\tquiet"
    for family in FAMILIES:
        pieces = loaded[family].encode([text])[0]
        assert not any(part[:1].isspace() for part in surface(text, pieces) if part.strip())
        words = np.split(pieces.offsets, np.flatnonzero(pieces.word_starts)[1:])
        found = [text[word[0, 0] : word[-1, 1]] for word in words]
        assert [word for word in found if word.strip()] == text.split()


def test_space_that_sentencepiece_counts_to_a_piece_is_left_out(tmp_path: Path) -> None:
    """Some Unigram files have no WhitespaceSplit: then a piece covers the space before it in the library's offsets."""
    folder = folder_of("xlm-roberta", tmp_path / "published")
    path = folder / "tokenizer.json"
    path.write_text(path.read_text("utf-8").replace('{"type":"WhitespaceSplit"},', ""), "utf-8")
    tokenizer = Tokenizer.load(folder)
    text = "the harbour was"
    pieces = tokenizer.encode([text])[0]
    words = np.split(pieces.offsets, np.flatnonzero(pieces.word_starts)[1:])
    assert [text[word[0, 0] : word[-1, 1]] for word in words] == text.split()


@pytest.mark.parametrize("family", FAMILIES)
def test_fast_ids_are_the_same(family: str, loaded: dict[str, Tokenizer]) -> None:
    texts = [*NASTY, *ENGLISH, *SCRIPTS]
    slow, fast = loaded[family].encode(texts), loaded[family].encode_ids(texts)
    for pieces, ids in zip(slow, fast, strict=True):
        assert pieces.ids.dtype == ids.dtype == np.int32
        assert pieces.ids.tolist() == ids.tolist()


def test_types_of_an_empty_text(loaded: dict[str, Tokenizer]) -> None:
    for tokenizer in loaded.values():
        pieces = tokenizer.encode([""])[0]
        assert (pieces.ids.shape, pieces.offsets.shape, pieces.word_starts.shape) == ((0,), (0, 2), (0,))
        assert (pieces.ids.dtype, pieces.offsets.dtype, pieces.word_starts.dtype) == (np.int32, np.int32, np.bool_)
        assert tokenizer.encode([]) == []


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta"])
@pytest.mark.parametrize("text", ["She likes <mask>.", "She likes<mask>.", "<mask>", "a  <mask> <mask>"])
def test_mask_eats_the_space_before_it_and_keeps_its_own_offsets(
    family: str, text: str, loaded: dict[str, Tokenizer]
) -> None:
    tokenizer = loaded[family]
    pieces = tokenizer.encode_masked(text)
    at = np.flatnonzero(pieces.ids == tokenizer.mask_id)
    assert [text[start:end] for start, end in pieces.offsets[at]] == ["<mask>"] * text.count("<mask>")
    assert pieces.word_starts[at].all()
    before = tokenizer.encode_ids([text[: text.index("<mask>")].rstrip()])[0]
    assert pieces.ids[: at[0]].tolist() == before.tolist()


def test_mask_that_eats_space_on_both_sides_keeps_its_own_offsets(tmp_path: Path, loaded: dict[str, Tokenizer]) -> None:
    loaded["bert"].save(tmp_path)
    path = tmp_path / "tokenizer.json"
    spec = json.loads(path.read_text("utf-8"))
    spec["added_tokens"][-1] |= {"lstrip": True, "rstrip": True}
    path.write_text(json.dumps(spec), "utf-8")
    tokenizer = Tokenizer.load(tmp_path)
    pieces = tokenizer.encode_masked("a  [MASK]  b")
    assert pieces.offsets[pieces.ids == tokenizer.mask_id].tolist() == [[3, 9]]


def test_mask_strings_of_the_other_family_stay_literal(loaded: dict[str, Tokenizer]) -> None:
    assert loaded["roberta"].mask_id not in loaded["roberta"].encode_masked("a [MASK] b").ids
    assert loaded["bert"].mask_id not in loaded["bert"].encode_masked("a <mask> b").ids
    assert loaded["bert"].encode_masked("a [MASK] b").ids.tolist().count(loaded["bert"].mask_id) == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_half_a_surrogate_pair_is_named_with_its_place(family: str, loaded: dict[str, Tokenizer]) -> None:
    tokenizer = loaded[family]
    for half in map(chr, (0xD800, 0xDBFF, 0xDC00, 0xDFFF)):
        for encode in (tokenizer.encode, tokenizer.encode_ids):
            with pytest.raises(DataError, match="text 2, character 4") as caught:
                encode(["fine", f"abc{half}d"])
            assert caught.value.code == "lone-surrogate"
        with pytest.raises(DataError, match="text 1, character 1"):
            tokenizer.encode_masked(half)


def test_word_starts_of_each_family(loaded: dict[str, Tokenizer]) -> None:
    text = "the 12 \u5929\u6c14!"
    pieces = small().encode([text])[0]
    words = np.split(pieces.offsets, np.flatnonzero(pieces.word_starts)[1:])
    assert [text[word[0, 0] : word[-1, 1]] for word in words] == ["the", "12", "", "\u5929", "\u6c14", "!"]
    bert = loaded["bert"].encode(["walkings"])[0]
    assert bert.word_starts.tolist() == [True, *[False] * (len(bert.ids) - 1)]
    assert len(bert.ids) > 1


def test_pieces_are_readable(loaded: dict[str, Tokenizer]) -> None:
    roberta = loaded["roberta"]
    assert roberta.piece(roberta.encode_ids([" the"])[0][0]) == " the"
    assert [roberta.piece(id) for id in roberta.encode_ids(["\U0010ffff"])[0]] == [r"\xf4", r"\x8f", r"\xbf", r"\xbf"]
    unigram = loaded["xlm-roberta"]
    assert "".join(unigram.piece(id) for id in unigram.encode_ids(["the harbour"])[0]) == " the harbour"
    bert = loaded["bert"]
    assert bert.piece(bert.encode_ids(["walkings"])[0][1]).startswith("##")
    for id in (-1, roberta.vocab_size):
        with pytest.raises(UsageError, match="unknown-id"):
            roberta.piece(id)


def test_decode_leaves_special_tokens_out(loaded: dict[str, Tokenizer]) -> None:
    for family, text in (("roberta", " the harbour"), ("xlm-roberta", "the harbour"), ("bert", "the harbour")):
        tokenizer = loaded[family]
        sequence = tokenizer.assemble(tokenizer.encode([text])[0], max_length=99)
        assert tokenizer.decode(sequence.input_ids) == tokenizer.decode(iter(sequence.input_ids.tolist())) == text
