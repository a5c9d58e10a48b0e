"""Train a byte-level BPE tokenizer as RoBERTa's, in bounded memory, from a stream of texts of any size.

The vocabulary is RoBERTa's in form: `<s>` 0, `<pad>` 1, `</s>` 2, `<unk>` 3, all 256 bytes, the merges, and `<mask>`
last. Han characters are pre-tokens of their own, so that Chinese is not glued to whole clauses; the rule is part of
`tokenizer.json`, so every library that reads that file follows it.
"""

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import tokenizers
import xxhash
from tokenizers import models, pre_tokenizers, trainers

from unmask.errors import DataError, UsageError
from unmask.tokenizer import formats
from unmask.tokenizer.load import Tokenizer, check_text
from unmask.tokenizer.report import SplitWord, WordCounts, split_words

DEFAULT_MAX_BYTES = 1 << 30
HARD_MAX_BYTES = 2**31 - 1
MIN_VOCAB_SIZE = 256 + len(formats.ROLES)
MAX_TOKEN_BYTES = 64
_CHUNK_CHARS = 1 << 18
_CHECK_BYTES = 16 << 20
_FULL_RATE_SHARE = 0.9
_SINGLE_WORD_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """What a tokenizer was trained on, and whether its most frequent words came out whole.

    Attributes:
        texts_seen: texts in the stream, each part of a cut long text counted once.
        texts_used: texts that were trained on.
        bytes_seen: UTF-8 bytes in the stream.
        bytes_used: UTF-8 bytes that were trained on, never above `max_bytes`.
        seconds: wall time.
        vocab_size: size that was asked for.
        learned: size that came out; smaller when the text has no more pairs that are frequent enough.
        checked_words: how many of the most frequent words were checked.
        split_words: those of them that are not one piece.
    """

    texts_seen: int
    texts_used: int
    bytes_seen: int
    bytes_used: int
    seconds: float
    vocab_size: int
    learned: int
    checked_words: int
    split_words: tuple[SplitWord, ...]

    def to_lines(self) -> list[str]:
        """The report as lines of readable text; warnings begin with "warning"."""
        lines = [
            f"trained on {self.bytes_used:,} of {self.bytes_seen:,} bytes ({self.texts_used:,} of {self.texts_seen:,} "
            f"texts) in {self.seconds:.1f} s: {self.learned:,} ids"
        ]
        if self.learned < self.vocab_size:
            lines.append(
                f"warning: {self.learned:,} instead of {self.vocab_size:,} ids, for the text has no more frequent pairs"
            )
        if self.split_words:
            words = ", ".join(f"{found.word} ({found.count:,})" for found in self.split_words)
            lines.append(f"warning: of the {self.checked_words} most frequent words these are not one piece: {words}")
        return lines

    def __str__(self) -> str:
        return "\n".join(self.to_lines())


class Sample:
    """A deterministic, evenly spaced choice of texts that stays below a number of bytes.

    Text `i` is taken when a hash of `i` lies below a rate, so the choice depends on nothing but the texts' order and
    needs no memory. The rate comes from `total_bytes`. When that was an underestimate, or is not known, texts are
    taken at the full rate until 90 % of `max_bytes` are used and ever more thinly after that (with the square of what
    is left): the end of the stream counts less, but the bound holds and the stream is not cut off.

    Args:
        max_bytes: the most bytes to take.
        total_bytes: estimate of the bytes of the whole stream.
        key: another key gives another choice.

    Attributes:
        texts_seen: texts offered so far; likewise texts_used, bytes_seen, bytes_used.
    """

    def __init__(self, max_bytes: int, total_bytes: int | None = None, *, key: int = 0) -> None:
        self.texts_seen = self.texts_used = self.bytes_seen = self.bytes_used = 0
        self._max_bytes = max_bytes
        self._total_bytes = total_bytes
        self._key = key
        is_small = total_bytes is None or total_bytes <= _FULL_RATE_SHARE * max_bytes
        self._rate = 1.0 if is_small else _FULL_RATE_SHARE * max_bytes / float(total_bytes or 1)

    @property
    def budget(self) -> int | None:
        """Bytes that will be taken in all, as far as the estimate tells."""
        return None if self._total_bytes is None else min(self._total_bytes, self._max_bytes)

    def takes(self, num_bytes: int) -> bool:
        """Whether the next text of the stream, of so many bytes, is taken."""
        place = xxhash.xxh3_64_intdigest(self.texts_seen.to_bytes(8, "little"), self._key) / 2**64
        left = self._max_bytes - self.bytes_used
        rate = self._rate * min(1.0, left / ((1 - _FULL_RATE_SHARE) * self._max_bytes)) ** 2
        is_taken = place < rate and num_bytes <= left
        self.texts_seen += 1
        self.bytes_seen += num_bytes
        if is_taken:
            self.texts_used += 1
            self.bytes_used += num_bytes
        return is_taken


def train(
    texts: Iterable[str],
    *,
    vocab_size: int,
    min_frequency: int = 2,
    max_bytes: int = DEFAULT_MAX_BYTES,
    total_bytes: int | None = None,
    max_token_bytes: int = MAX_TOKEN_BYTES,
    isolate_han: bool = True,
) -> Tokenizer:
    """Train a byte-level BPE tokenizer; see `train_with_report` for the arguments and errors."""
    tokenizer, _ = train_with_report(
        texts,
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        max_bytes=max_bytes,
        total_bytes=total_bytes,
        max_token_bytes=max_token_bytes,
        isolate_han=isolate_han,
    )
    return tokenizer


def train_with_report(
    texts: Iterable[str],
    *,
    vocab_size: int,
    min_frequency: int = 2,
    max_bytes: int = DEFAULT_MAX_BYTES,
    total_bytes: int | None = None,
    max_token_bytes: int = MAX_TOKEN_BYTES,
    isolate_han: bool = True,
) -> tuple[Tokenizer, TrainingReport]:
    """Train a byte-level BPE tokenizer and say on what.

    Args:
        texts: the texts, read once; the same texts in the same order give the same tokenizer.
        vocab_size: number of ids, special tokens included (RoBERTa: 50,265).
        min_frequency: pairs seen less often are not merged.
        max_bytes: train on a sample of at most so many UTF-8 bytes; below 2**31, since the trainer counts pairs in
            32 bits and there are fewer pairs than bytes.
        total_bytes: estimate of the bytes of all texts, for an evenly spaced sample; see `Sample`.
        max_token_bytes: the longest piece, in bytes; keeps rulers such as "=====" from filling the vocabulary.
        isolate_han: make each Han character a pre-token; False gives RoBERTa's own pre-tokenizer.

    Raises:
        UsageError: `vocab_size` or `max_bytes` is out of range.
        DataError: there is no text, or one holds half of a surrogate pair.
    """
    _check_sizes(vocab_size, max_bytes)
    started = time.monotonic()
    engine = tokenizers.Tokenizer(models.BPE())
    spec = formats.bpe_spec({}, [], isolate_han=isolate_han)
    engine.pre_tokenizer = tokenizers.Tokenizer.from_str(json.dumps(spec)).pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,
        min_frequency=min_frequency,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=max_token_bytes,
        show_progress=False,
    )
    sample, counts = Sample(max_bytes, total_bytes), WordCounts()
    engine.train_from_iterator(_chosen(texts, sample, counts), trainer)
    if not sample.bytes_used:
        raise DataError("no-text", "there is no text to train on", remedy="give files with some text")
    model = json.loads(engine.to_str())["model"]
    tokenizer = Tokenizer(formats.bpe_spec(model["vocab"], model["merges"], isolate_han=isolate_han))
    common = [
        (word, count)
        for word, count in counts.top(int(_SINGLE_WORD_SHARE * (vocab_size - MIN_VOCAB_SIZE)))
        if count >= min_frequency
    ]
    return tokenizer, TrainingReport(
        texts_seen=sample.texts_seen,
        texts_used=sample.texts_used,
        bytes_seen=sample.bytes_seen,
        bytes_used=sample.bytes_used,
        seconds=time.monotonic() - started,
        vocab_size=vocab_size,
        learned=tokenizer.vocab_size,
        checked_words=len(common),
        split_words=tuple(split_words(tokenizer, common)),
    )


def _check_sizes(vocab_size: int, max_bytes: int) -> None:
    if vocab_size < MIN_VOCAB_SIZE:
        raise UsageError(
            "vocab-size",
            "the vocabulary has no room for the 256 bytes and the 5 special tokens",
            value=vocab_size,
            expected=f"at least {MIN_VOCAB_SIZE}",
        )
    if not 0 < max_bytes <= HARD_MAX_BYTES:
        raise UsageError(
            "max-bytes",
            "the trainer counts pairs in 32 bits, so the sample must stay below 2 GiB",
            value=max_bytes,
            expected=f"1 to {HARD_MAX_BYTES}",
        )


def _chosen(texts: Iterable[str], sample: Sample, counts: WordCounts) -> Iterator[str]:
    """The texts of the sample; the words of an evenly spaced part of them are counted on the way."""
    checked = Sample(_CHECK_BYTES, sample.budget, key=1)
    for number, text in enumerate(texts, 1):
        check_text(text, f"text {number}")
        for part in parts_of(text):
            num_bytes = len(part.encode("utf-8"))
            if not sample.takes(num_bytes):
                continue
            if checked.takes(num_bytes):
                counts.add(part)
            yield part


def parts_of(text: str) -> Iterator[str]:
    """A text in parts of bounded length, cut before white space where there is some, so that words stay whole."""
    start = 0
    while len(text) - start > _CHUNK_CHARS:
        limit = start + _CHUNK_CHARS
        end = max(text.rfind(" ", start + 1, limit), text.rfind("\n", start + 1, limit))
        end = end if end > start else limit
        yield text[start:end]
        start = end
    if start < len(text):
        yield text[start:]
