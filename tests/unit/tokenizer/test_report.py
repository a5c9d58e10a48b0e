"""The report's counts, checked against counts by hand, and its bound on memory."""

from collections import Counter
from pathlib import Path

import pytest

from tests.unit.tokenizer.samples import CHINESE, ENGLISH, TEXTS, bert_folder, small
from unmask.errors import DataError
from unmask.tokenizer.load import Tokenizer
from unmask.tokenizer.report import WordCounts, report
from unmask.tokenizer.train import train


def test_counts_agree_with_counts_by_hand() -> None:
    tokenizer = small()
    texts = [*ENGLISH, "", "don't 12 \u5929\u6c14"]
    found = report(tokenizer, iter(texts))
    ids = [id for text in texts for id in tokenizer.encode_ids([text])[0].tolist()]
    assert (found.texts, found.tokens, found.used_ids) == (6, len(ids), len(set(ids)))
    assert found.bytes == sum(len(text.encode()) for text in texts)
    assert found.characters == sum(map(len, texts))
    letters = ["".join(char if char.isalnum() else " " for char in text).split() for text in ENGLISH]
    assert found.words == sum(map(len, letters)) + len(["don", "t", "12", "\u5929", "\u6c14"])
    assert found.fertility == found.tokens / found.words
    assert found.tokens_per_character == found.tokens / found.characters
    assert found.bytes_per_token == found.bytes / found.tokens
    assert found.coverage == found.used_ids / 400
    assert found.unknown_share == 0


def test_split_words_are_the_most_frequent_ones_that_are_not_one_piece() -> None:
    tokenizer = train(["harbour harbour"] * 50, vocab_size=300)
    found = report(tokenizer, ["harbour sailor sailor", "harbour zebra", "sailor harbour harbour"], top=2)
    assert [(word.word, word.count) for word in found.split_words] == [("sailor", 3), ("zebra", 1)]
    assert "".join(found.split_words[0].pieces).strip() == "sailor"


def test_a_han_character_is_a_word_and_vowel_signs_stay_in_theirs() -> None:
    counts = WordCounts()
    counts.add("\u5929\u6c14\u5929, \u0928\u092e\u0938\u094d\u0924\u0947! cafe\u0301_x")
    expected = {"\u5929": 2, "\u6c14": 1, "\u0928\u092e\u0938\u094d\u0924\u0947": 1, "cafe\u0301": 1, "x": 1}
    assert dict(counts.top(9)) == expected
    assert counts.total == 6


def test_chinese_fertility_is_tokens_per_character() -> None:
    tokenizer = train(CHINESE * 20, vocab_size=330)
    found = report(tokenizer, ["\u5929\u6c14\u5f88\u597d"])
    assert (found.words, found.tokens, found.fertility) == (4, 4, 1.0)


def test_longest_pieces() -> None:
    tokenizer = train(["understood"] * 9 + ["walking"] * 9, vocab_size=400)
    assert report(tokenizer, [], top=2).longest_pieces == ("understood", "walking")
    special = {"<s>", "</s>", "<pad>", "<unk>", "<mask>"}
    assert not special & set(report(tokenizer, [], top=1000).longest_pieces)


def test_unknown_tokens_are_counted(tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(bert_folder(tmp_path / "published"))
    found = report(tokenizer, ["the \u9f98"])
    assert (found.unknown_tokens, found.unknown_share) == (1, 1 / found.tokens)


def test_no_text_gives_zeros() -> None:
    found = report(small(), [])
    assert (found.tokens, found.fertility, found.coverage, found.split_words) == (0, 0.0, 0.0, ())


def test_text_form_names_every_number() -> None:
    found = report(small(), TEXTS)
    lines = found.to_lines()
    assert str(found) == "\n".join(lines)
    for part in ("roberta, 400 ids", f"{found.fertility:.3f} tokens per word", "0.0000% of the tokens"):
        assert part in str(found)
    assert f"{found.split_words[0].word} ({found.split_words[0].count:,}:" in lines[-1]


def test_word_counts_are_bounded_and_keep_what_is_frequent() -> None:
    counts = WordCounts(limit=100)
    true = Counter({f"rare{index}": 1 for index in range(3000)})
    for index in range(3000):
        counts.add(f"rare{index} the")
        true["the"] += 1
    kept = dict(counts.top(10**6))
    assert len(kept) <= 100
    assert 0 < counts.floor < 3000
    assert true["the"] - counts.floor <= kept["the"] <= true["the"]
    assert counts.total == 6000


def test_half_a_surrogate_pair_is_an_error() -> None:
    with pytest.raises(DataError, match="lone-surrogate"):
        report(small(), ["\ud800"])
