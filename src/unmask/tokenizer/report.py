"""What a tokenizer does to a text: how many pieces, which words it splits, what it does not know.

One pass over the texts in bounded memory.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from tokenizers import Regex, pre_tokenizers

from unmask.tokenizer.load import Tokenizer

_BATCH_CHARS = 1 << 20
_SEARCHED_WORDS = 20_000
_WORDS = pre_tokenizers.Split(Regex(r"\p{Han}|[\p{L}\p{M}\p{N}]+"), "removed", invert=True)


@dataclass(frozen=True, slots=True)
class SplitWord:
    """A frequent word that is more than one piece.

    Attributes:
        word: the word.
        count: how often it was seen; where memory was bounded, at least this often.
        pieces: its pieces after a space, as readable text.
    """

    word: str
    count: int
    pieces: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TokenizerReport:
    """Counts of one pass over a text; a word is a run of letters, marks and digits, or one Han character.

    Attributes:
        family: family of the tokenizer.
        vocab_size: number of ids.
        texts: number of texts.
        bytes: size as UTF-8.
        characters: number of code points.
        words: number of words.
        tokens: number of pieces, without special tokens.
        unknown_tokens: number of pieces that are the unknown token.
        used_ids: number of different ids that occurred.
        longest_pieces: the longest pieces of the vocabulary, as readable text.
        split_words: the most frequent words that are not one piece, most frequent first.
    """

    family: str
    vocab_size: int
    texts: int
    bytes: int
    characters: int
    words: int
    tokens: int
    unknown_tokens: int
    used_ids: int
    longest_pieces: tuple[str, ...]
    split_words: tuple[SplitWord, ...]

    @property
    def fertility(self) -> float:
        """Tokens for each word; in Chinese, tokens for each Han character."""
        return self.tokens / max(self.words, 1)

    @property
    def tokens_per_character(self) -> float:
        """Tokens for each code point, white space and punctuation included."""
        return self.tokens / max(self.characters, 1)

    @property
    def bytes_per_token(self) -> float:
        """UTF-8 bytes that a token stands for."""
        return self.bytes / max(self.tokens, 1)

    @property
    def unknown_share(self) -> float:
        """Share of the tokens that are the unknown token."""
        return self.unknown_tokens / max(self.tokens, 1)

    @property
    def coverage(self) -> float:
        """Share of the vocabulary that occurred."""
        return self.used_ids / max(self.vocab_size, 1)

    def to_lines(self) -> list[str]:
        """The report as lines of readable text."""
        split = [f"{found.word} ({found.count:,}: {'|'.join(found.pieces)})" for found in self.split_words]
        return [
            f"tokenizer       {self.family}, {self.vocab_size:,} ids",
            f"text            {self.texts:,} texts, {self.bytes:,} bytes, {self.characters:,} characters, "
            f"{self.words:,} words",
            f"tokens          {self.tokens:,}",
            f"fertility       {self.fertility:.3f} tokens per word, {self.tokens_per_character:.3f} per character, "
            f"{self.bytes_per_token:.2f} bytes per token",
            f"unknown         {self.unknown_share:.4%} of the tokens",
            f"coverage        {self.coverage:.1%} of the vocabulary is used",
            f"longest pieces  {' '.join(repr(piece) for piece in self.longest_pieces) or 'none'}",
            f"split words     {', '.join(split) or 'none'}",
        ]

    def __str__(self) -> str:
        return "\n".join(self.to_lines())


class WordCounts:
    """Counts of words in bounded memory (lossy counting).

    When the table is full, the rarer half goes. A word that was seen more than `floor` times is always listed, and
    a count is too low by at most `floor`.

    Args:
        limit: the most different words that are kept.
        split: gives the words of a text; by default runs of letters, marks and digits, and single Han characters.

    Attributes:
        total: number of words seen.
        floor: the most occurrences that a count may lack; 0 while nothing was dropped.
    """

    def __init__(self, limit: int = 500_000, *, split: Callable[[str], list[str]] | None = None) -> None:
        self.total = 0
        self.floor = 0
        self._limit = limit
        self._split = split or _words
        self._counts: Counter[str] = Counter()

    def add(self, text: str) -> None:
        """Count the words of one text."""
        found = self._split(text)
        self.total += len(found)
        for start in range(0, len(found), self._limit):
            self._counts.update(found[start : start + self._limit])
            if len(self._counts) > self._limit:
                self._drop()

    def top(self, count: int) -> list[tuple[str, int]]:
        """The most frequent words with their counts; equal counts in the order of the words."""
        return sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))[:count]

    def _drop(self) -> None:
        cut = sorted(self._counts.values(), reverse=True)[self._limit // 2]
        self.floor += cut
        self._counts = Counter({word: count for word, count in self._counts.items() if count > cut})


def report(tokenizer: Tokenizer, texts: Iterable[str], *, top: int = 20) -> TokenizerReport:
    """Measure a tokenizer on texts, in one pass and bounded memory.

    Args:
        tokenizer: the tokenizer.
        texts: any number of texts; best ones that the tokenizer was not trained on.
        top: how many of the longest pieces and of the split words to list.

    Raises:
        DataError: a text holds half of a surrogate pair.
    """
    counts = WordCounts()
    used = np.zeros(tokenizer.vocab_size, np.int64)
    num_texts = num_bytes = num_characters = 0
    for batch in _batches(texts):
        ids = np.concatenate(tokenizer.encode_ids(batch))
        used += np.bincount(ids, minlength=tokenizer.vocab_size)
        num_texts += len(batch)
        for text in batch:
            num_bytes += len(text.encode("utf-8"))
            num_characters += len(text)
            counts.add(text)
    return TokenizerReport(
        family=tokenizer.family,
        vocab_size=tokenizer.vocab_size,
        texts=num_texts,
        bytes=num_bytes,
        characters=num_characters,
        words=counts.total,
        tokens=int(used.sum()),
        unknown_tokens=int(used[tokenizer.unk_id]),
        used_ids=int(np.count_nonzero(used)),
        longest_pieces=tuple(_longest_pieces(tokenizer, top)),
        split_words=tuple(_most_frequent_split(tokenizer, counts, top)),
    )


def split_words(tokenizer: Tokenizer, words: list[tuple[str, int]]) -> list[SplitWord]:
    """Keep of some words with their counts those that are more than one piece, with a space before and without."""
    bare = tokenizer.encode_ids([word for word, _ in words])
    spaced = tokenizer.encode_ids([f" {word}" for word, _ in words])
    return [
        SplitWord(word, count, tuple(tokenizer.piece(id) for id in (after if len(after) <= len(alone) else alone)))
        for (word, count), alone, after in zip(words, bare, spaced, strict=True)
        if len(alone) != 1 and len(after) != 1
    ]


def _words(text: str) -> list[str]:
    return [word for word, _ in _WORDS.pre_tokenize_str(text)]


def _most_frequent_split(tokenizer: Tokenizer, counts: WordCounts, top: int) -> list[SplitWord]:
    words = counts.top(_SEARCHED_WORDS)
    found: list[SplitWord] = []
    for start in range(0, len(words), 1000):
        if len(found) >= top:
            break
        found += split_words(tokenizer, words[start : start + 1000])
    return found[:top]


def _longest_pieces(tokenizer: Tokenizer, top: int) -> list[str]:
    special = set(tokenizer.special_ids.tolist())
    lengths = {id: len(tokenizer.decode([id])) for id in tokenizer.ids() if id not in special}
    return [tokenizer.piece(id) for id in sorted(lengths, key=lambda id: (-lengths[id], id))[:top]]


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text) + 1
        if size >= _BATCH_CHARS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
