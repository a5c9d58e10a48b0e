"""Byte-level BPE against a slow, readable twin: split, turn into byte characters, merge the best pair, repeat."""

import itertools
import json
from pathlib import Path

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.tokenizer.samples import CHINESE, ENGLISH, NASTY, SCRIPTS, roberta_folder, small
from unmask.tokenizer.formats import byte_alphabet
from unmask.tokenizer.load import Tokenizer

# GPT-2's pattern; `\p{White_Space}` is what the tokenizers library means by `\s`.
WORDS = regex.compile(
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+"
    r"|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+"
)
HAN = regex.compile(r"(\p{Han})")
OLD_CHARACTERS = st.characters(max_codepoint=0x2FFFF, exclude_categories=["Cs", "Cn"])
"""No unassigned ones: two libraries may know of different versions of Unicode."""


class SlowBPE:
    """Byte-level BPE as in GPT-2's first code, without its cache."""

    def __init__(self, vocab: dict[str, int], merges: list[list[str]], isolate_han: bool) -> None:
        self.vocab = vocab
        self.ranks = {tuple(pair): rank for rank, pair in enumerate(merges)}
        self.characters = {byte: char for char, byte in byte_alphabet().items()}
        self.isolate_han = isolate_han

    def encode(self, text: str) -> list[int]:
        parts = HAN.split(text) if self.isolate_han else [text]
        words = [word for part in parts for word in WORDS.findall(part)]
        return [self.vocab[piece] for word in words for piece in self.merge(word)]

    def merge(self, word: str) -> list[str]:
        pieces = [self.characters[byte] for byte in word.encode("utf-8")]
        while True:
            pairs = list(itertools.pairwise(pieces))
            known = [pair for pair in pairs if pair in self.ranks]
            if not known:
                return pieces
            at = pairs.index(min(known, key=self.ranks.__getitem__))
            pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]


def twin_of(tokenizer: Tokenizer, folder: Path, isolate_han: bool) -> SlowBPE:
    tokenizer.save(folder)
    model = json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]
    return SlowBPE(model["vocab"], model["merges"], isolate_han)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Tokenizer, SlowBPE]]:
    base = tmp_path_factory.mktemp("twins")
    published = Tokenizer.load(roberta_folder(base / "published"))
    made = [(small(), True), (small(isolate_han=False), False), (published, False)]
    return [
        (tokenizer, twin_of(tokenizer, base / str(index), isolate_han))
        for index, (tokenizer, isolate_han) in enumerate(made)
    ]


@pytest.mark.parametrize("text", [*ENGLISH, *CHINESE, *SCRIPTS, *NASTY])
def test_fixed_strings(text: str, pairs: list[tuple[Tokenizer, SlowBPE]]) -> None:
    for tokenizer, twin in pairs:
        assert tokenizer.encode_ids([text])[0].tolist() == twin.encode(text)


@given(st.lists(st.sampled_from([*"aet hrs", " the", "walk", "'s", "\n", "  ", "12", "\u5929"]), max_size=20))
def test_random_words(pairs: list[tuple[Tokenizer, SlowBPE]], parts: list[str]) -> None:
    text = "".join(parts)
    for tokenizer, twin in pairs:
        assert tokenizer.encode_ids([text])[0].tolist() == twin.encode(text)


@given(st.text(OLD_CHARACTERS, max_size=30))
def test_random_characters(pairs: list[tuple[Tokenizer, SlowBPE]], text: str) -> None:
    for tokenizer, twin in pairs:
        assert tokenizer.encode_ids([text])[0].tolist() == twin.encode(text)
