"""Pieces added to a tokenizer: old ids stay, and new ones are those of a slow, readable twin."""

import functools
import itertools
import json
from collections import Counter
from pathlib import Path

import pytest
import regex
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.tokenizer.samples import (
    CHINESE,
    ENGLISH,
    NASTY,
    SCRIPTS,
    TEXTS,
    bert_folder,
    roberta_folder,
    small,
    xlmr_folder,
)
from unmask.errors import DataError, UsageError
from unmask.tokenizer.extend import extend, is_held_out, old_ids
from unmask.tokenizer.formats import byte_alphabet
from unmask.tokenizer.load import Tokenizer
from unmask.tokenizer.merging import PairTable, is_whole, learn_merges

DOMAIN = (
    "The patient presented with acute myocardial infarction and was treated with thrombolysis.",
    "Myocardial biopsy of the patient showed lymphocytic myocarditis; thrombolysis was not repeated.",
    "Patients with myocarditis were randomised to thrombolysis or placebo, \u00fcber 3\u20ac per patient.",
    "\u60a3\u8005\u60a3\u6709\u5fc3\u808c\u6897\u6b7b\uff0c\u60a3\u8005\u5fc3\u808c\u708e\u3002",
)
LINES = [f"{line} {number % 7}" for number, line in enumerate(DOMAIN * 12)]
PIECES = 30


def tokenizers(base: Path) -> dict[str, Tokenizer]:
    """One of each form that can be extended."""
    return {
        "han": small(),
        "no-han": small(isolate_han=False),
        "published": Tokenizer.load(roberta_folder(base / "roberta")),
        "bert": Tokenizer.load(bert_folder(base / "bert")),
    }


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    return tokenizers(tmp_path_factory.mktemp("old"))


@pytest.fixture(scope="module")
def new(old: dict[str, Tokenizer]) -> dict[str, Tokenizer]:
    return {name: extend(tokenizer, ["\n".join(LINES)], num_pieces=PIECES)[0] for name, tokenizer in old.items()}


NAMES = ("han", "no-han", "published", "bert")


@pytest.mark.parametrize("name", NAMES)
def test_old_ids_and_merges_stay(name: str, old: dict[str, Tokenizer], new: dict[str, Tokenizer]) -> None:
    before, after = old[name].description()[0]["model"], new[name].description()[0]["model"]
    assert new[name].vocab_size == old[name].vocab_size + PIECES
    assert before["vocab"].items() <= after["vocab"].items()
    assert sorted(after["vocab"].values())[-PIECES:] == list(range(old[name].vocab_size, new[name].vocab_size))
    if name != "bert":
        assert after["merges"][: len(before["merges"])] == before["merges"]
        assert len(after["merges"]) == len(before["merges"]) + PIECES
    for role in ("cls_id", "sep_id", "pad_id", "unk_id", "mask_id", "mask_token", "family"):
        assert getattr(new[name], role) == getattr(old[name], role)
    assert new[name].special_ids.tolist() == old[name].special_ids.tolist()
    assert new[name].fingerprint != old[name].fingerprint


def slow_merges(tokenizer: Tokenizer, lines: list[str], count: int) -> list[tuple[str, str]]:
    """Recount all pairs before each merge."""
    vocab = tokenizer.description()[0]["model"]["vocab"]
    names = {id: piece for piece, id in vocab.items()}
    words = Counter(word for line in lines for word in tokenizer.words(line))
    cut = {word: [names[id] for id in tokenizer.word_ids(word)] for word in words}
    ids, merges = dict(vocab), []
    while len(merges) < count:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, pieces in cut.items():
            for pair in itertools.pairwise(pieces):
                pairs[pair] += words[word]
        allowed = [(-n, ids[a], ids[b]) for (a, b), n in pairs.items() if a + b not in ids and slow_is_whole(a + b)]
        _, left, right = min(allowed)
        merge = next((a, b) for a, b in pairs if (ids[a], ids[b]) == (left, right))
        merges.append(merge)
        ids["".join(merge)] = tokenizer.vocab_size + len(merges) - 1
        for word in words:
            cut[word] = slow_merge(cut[word], merge)
    return merges


def slow_merge(pieces: list[str], merge: tuple[str, str]) -> list[str]:
    found = list(pieces)
    while True:
        pairs = list(itertools.pairwise(found))
        if merge not in pairs:
            return found
        at = pairs.index(merge)
        found[at : at + 2] = ["".join(merge)]


@functools.cache
def slow_is_whole(piece: str) -> bool:
    table = byte_alphabet()
    text = bytes(table[char] for char in piece).decode("utf-8", "surrogateescape")
    is_part = regex.search("[\udc80-\udcff]", text) is not None
    if is_part:
        return regex.fullmatch("[\udcc0-\udcff]?[\udc80-\udcbf]*", text) is not None
    return regex.fullmatch(r"\p{Han}|\P{Han}+", text) is not None


@pytest.mark.parametrize("name", ["han", "no-han", "published"])
def test_merges_are_those_of_the_slow_twin(name: str, old: dict[str, Tokenizer], new: dict[str, Tokenizer]) -> None:
    learned = [line for number, line in enumerate(LINES, 1) if not is_held_out(number)]
    found = [tuple(pair) for pair in new[name].description()[0]["model"]["merges"][-PIECES:]]
    assert found == slow_merges(old[name], learned, PIECES)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=50)
@given(st.lists(st.sampled_from([*"aemyo t", " myocard", "itis", "\u60a3", "\u5fc3", "\u00fc", "\n"]), max_size=20))
def test_cutting_is_cutting_as_before_and_going_on(
    name: str, old: dict[str, Tokenizer], new: dict[str, Tokenizer], parts: list[str]
) -> None:
    text = "".join(parts)
    found, expected = new[name].encode_ids([text])[0].tolist(), old[name].encode_ids([text])[0].tolist()
    if name == "bert":
        added = {
            word for word, id in new[name].description()[0]["model"]["vocab"].items() if id >= old[name].vocab_size
        }
        if not any(word.startswith(piece) for word in old[name].words(text) for piece in added):
            assert found == expected
        return
    names = {id: piece for piece, id in new[name].description()[0]["model"]["vocab"].items()}
    merges = [tuple(pair) for pair in new[name].description()[0]["model"]["merges"][-PIECES:]]
    slow = []
    for word in old[name].words(text):
        pieces = [names[id] for id in old[name].word_ids(word)]
        for merge in merges:
            pieces = slow_merge(pieces, merge)
        slow += pieces
    assert [names[id] for id in found] == slow


@pytest.mark.parametrize("name", NAMES)
def test_transformers_cuts_the_same_way(name: str, new: dict[str, Tokenizer], tmp_path: Path) -> None:
    new[name].save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in (*DOMAIN, *ENGLISH, *CHINESE, *SCRIPTS, *(text for text in NASTY if "<s>" not in text)):
        ids = theirs(text, add_special_tokens=False)["input_ids"]
        assert new[name].encode_ids([text])[0].tolist() == ids
    assert Tokenizer.load(tmp_path).fingerprint == new[name].fingerprint


@pytest.mark.parametrize("name", ["han", "no-han", "published"])
def test_text_comes_back(name: str, new: dict[str, Tokenizer]) -> None:
    for text in (*DOMAIN, *TEXTS, *NASTY):
        assert new[name].decode(new[name].encode_ids([text])[0]) == text


def test_no_piece_spans_two_han_characters(old: dict[str, Tokenizer]) -> None:
    tokenizer, _ = extend(old["no-han"], [DOMAIN[3] * 9], num_pieces=PIECES)
    added = [tokenizer.piece(id) for id in range(old["no-han"].vocab_size, tokenizer.vocab_size)]
    assert any(regex.search(r"\p{Han}", piece) for piece in added)
    assert not any(regex.search(r"\p{Han}.|.\p{Han}", piece) for piece in added)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" myo", True),
        ("\u60a3", True),
        (" \u60a3", False),
        ("\u60a3\u5fc3", False),
        ("\u00fcb", True),
        ("\u3002a", True),
    ],
)
def test_whole_characters(text: str, expected: bool) -> None:
    characters = {byte: char for char, byte in byte_alphabet().items()}
    piece = "".join(characters[byte] for byte in text.encode())
    assert is_whole(piece) is slow_is_whole(piece) is expected
    assert is_whole(characters[0xE6] + characters[0x82])
    assert is_whole(characters[0x82] + characters[0xA3])
    assert not is_whole(characters[0x20] + characters[0xE6])
    assert not is_whole(characters[0xA3] + characters[0xE5])


def test_wordpiece_gets_the_words_that_save_most(old: dict[str, Tokenizer], new: dict[str, Tokenizer]) -> None:
    learned = [line for number, line in enumerate(LINES, 1) if not is_held_out(number)]
    words = Counter(word for line in learned for word in old["bert"].words(line))
    saved = {}
    for word, count in words.items():
        pieces = old["bert"].encode_ids([word])[0].tolist()
        if pieces == [old["bert"].unk_id] or len(pieces) > 1:
            saved[word] = count * max(len(pieces) - 1, 1)
    expected = sorted(saved, key=lambda word: (-saved[word], word))[:PIECES]
    first = old["bert"].vocab_size
    assert [new["bert"].piece(first + at) for at in range(len(expected))] == expected
    for word in expected:
        assert len(new["bert"].encode_ids([word])[0]) == 1


def test_old_ids_are_what_a_piece_was(old: dict[str, Tokenizer], new: dict[str, Tokenizer]) -> None:
    for name in NAMES:
        before = old_ids(old[name], new[name])
        assert len(before) == PIECES
        for at, ids in enumerate(before):
            piece = new[name].piece(old[name].vocab_size + at)
            if name == "bert" or not piece.startswith("\\x"):
                assert ids == old[name].encode_ids([piece])[0].tolist()


def test_report_measures_the_held_out_lines(old: dict[str, Tokenizer], new: dict[str, Tokenizer]) -> None:
    tokenizer, report = extend(old["han"], ["\n".join(LINES)], num_pieces=PIECES)
    held_out = [line for number, line in enumerate(LINES, 1) if is_held_out(number)]
    before, after = (sum(map(len, one.encode_ids(held_out))) for one in (old["han"], tokenizer))
    assert (report.before.tokens, report.after.tokens) == (before, after)
    assert report.saved_share == 1 - after / before > 0.1
    assert report.bytes_used == sum(len(line.encode()) for line in LINES) - sum(len(line.encode()) for line in held_out)
    assert report.first_id == 400
    assert report.pieces == tuple(tokenizer.piece(id) for id in range(400, 400 + PIECES))
    for part in ("30 new pieces", "ids 400 to 429", f"{before:,} -> {after:,} tokens", "fertility"):
        assert part in str(report)


def test_too_little_text_is_said(old: dict[str, Tokenizer]) -> None:
    _, report = extend(old["han"], ["thrombolysis thrombolysis"], num_pieces=99)
    assert report.before is report.after is None
    assert len(report.pieces) < 99
    assert str(report).count("warning") == 2


def test_added_tokens_outside_of_the_model_keep_their_ids(tmp_path: Path) -> None:
    spec, _ = small().description()
    spec["added_tokens"].append(
        {"id": 400, "content": "<drug>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        | {"special": True}
    )
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    before = Tokenizer.load(tmp_path)
    assert before.vocab_size == 401
    after, _ = extend(before, LINES, num_pieces=5)
    after.save(tmp_path / "after")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "after")
    assert theirs.convert_tokens_to_ids("<drug>") == 400
    assert theirs("<drug> thrombolysis")["input_ids"][1] == 400
    assert 400 in after.special_ids
    assert min(after.encode_ids(["<drug> thrombolysis"])[0]) >= 0
    assert 400 not in after.encode_ids(["<drug> thrombolysis"])[0]


def test_counts_have_no_upper_bound() -> None:
    # The pair (0, 1) stands in each word: more often than 32 or 64 bits can count.
    table = PairTable([[0, 1, 2], [0, 1, 3], [2, 3]], [2**62, 2**62 + 1, 2**63])
    assert table.take() == ((0, 1), 2**63 + 1)
    table.merge((0, 1), 4)
    assert table.take() == ((2, 3), 2**63)
    assert table.take() == ((4, 3), 2**62 + 1)


def test_rare_and_long_pieces_are_not_learned() -> None:
    vocab = {"a": 0, "b": 1, "c": 2, "ab": 3}
    options = {"num_pieces": 9, "first_id": 4, "min_frequency": 2, "max_piece_bytes": 3}
    assert learn_merges([([1, 2], 1)], vocab, **options) == []
    assert learn_merges([([0, 1], 9)], vocab, **options) == []
    assert learn_merges([([1, 2, 1, 2], 2)], vocab, **options) == [("b", "c")]


def test_unigram_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no-extension"):
        extend(Tokenizer.load(xlmr_folder(tmp_path / "x")), LINES, num_pieces=5)


def test_nothing_to_learn(old: dict[str, Tokenizer]) -> None:
    for texts, code in (([], "no-text"), ([""], "no-text"), (["a b c"], "nothing-to-add")):
        with pytest.raises(DataError, match=code):
            extend(old["han"], texts, num_pieces=5)
    with pytest.raises(UsageError, match="bad-extension"):
        extend(old["han"], LINES, num_pieces=0)
    with pytest.raises(DataError, match="lone-surrogate"):
        extend(old["han"], ["\ud800"], num_pieces=5)
