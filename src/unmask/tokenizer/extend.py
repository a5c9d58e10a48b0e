"""Pieces for a new language or field, added to a tokenizer that a model was trained with.

All ids and merges that are there keep their meaning; the new ones stand behind them. Byte-level BPE goes on merging
where it had stopped. WordPiece, which takes the longest piece that fits, gets the whole words that save most pieces.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import xxhash

from unmask.errors import DataError, UsageError
from unmask.tokenizer import formats
from unmask.tokenizer.load import Tokenizer, check_text
from unmask.tokenizer.merging import learn_merges
from unmask.tokenizer.report import TokenizerReport, WordCounts, report
from unmask.tokenizer.train import MAX_TOKEN_BYTES, Sample, parts_of

DEFAULT_MAX_BYTES = 1 << 28
MAX_WORDS = 1_000_000
HELD_OUT_BYTES = 16 << 20
_HELD_OUT_EVERY = 20
# Longer pre-tokens are rulers, encoded files and the like.
_MAX_WORD_CHARS = 500
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class ExtensionReport:
    """What was added to a tokenizer, and what it saves on lines of the text that were not learned from.

    Attributes:
        pieces: the new pieces as readable text, in the order of their ids.
        first_id: id of the first of them.
        asked: how many were asked for.
        bytes_seen: UTF-8 bytes in the stream, line ends left out.
        bytes_used: bytes that were learned from.
        seconds: wall time.
        before: the old tokenizer on the held-out lines; None where the text is too short to hold any out.
        after: the new one on the same lines.
    """

    pieces: tuple[str, ...]
    first_id: int
    asked: int
    bytes_seen: int
    bytes_used: int
    seconds: float
    before: TokenizerReport | None
    after: TokenizerReport | None

    @property
    def saved_share(self) -> float:
        """Share of the held-out text's tokens that the new pieces save."""
        if self.before is None or self.after is None:
            return 0.0
        return 1 - self.after.tokens / max(self.before.tokens, 1)

    def to_lines(self) -> list[str]:
        """The report as lines of readable text; warnings begin with "warning"."""
        shown = [repr(piece) for piece in self.pieces if "\\x" not in piece][:_SHOWN]
        last = self.first_id + len(self.pieces) - 1
        lines = [
            f"{len(self.pieces):,} new pieces from {self.bytes_used:,} of {self.bytes_seen:,} bytes in "
            f"{self.seconds:.1f} s, ids {self.first_id:,} to {last:,}: {' '.join(shown)}"
        ]
        if len(self.pieces) < self.asked:
            lines.append(f"warning: {self.asked:,} were asked for, but the text has no more frequent ones")
        if self.before is None or self.after is None:
            lines.append("warning: the text is too short to hold lines out, so what the pieces save is not known")
            return lines
        lines.append(
            f"held-out text   {self.before.bytes:,} bytes: {self.before.tokens:,} -> {self.after.tokens:,} tokens, "
            f"{self.saved_share:.1%} saved"
        )
        lines.append(f"fertility       {self.before.fertility:.3f} -> {self.after.fertility:.3f} tokens per word")
        lines.append(f"unknown         {self.before.unknown_share:.4%} -> {self.after.unknown_share:.4%} of the tokens")
        return lines

    def __str__(self) -> str:
        return "\n".join(self.to_lines())


def extend(
    tokenizer: Tokenizer,
    texts: Iterable[str],
    *,
    num_pieces: int,
    min_frequency: int = 2,
    max_bytes: int = DEFAULT_MAX_BYTES,
    total_bytes: int | None = None,
    max_piece_bytes: int = MAX_TOKEN_BYTES,
) -> tuple[Tokenizer, ExtensionReport]:
    """Learn new pieces from texts and put them behind those that a tokenizer has.

    About one line in twenty is not learned from but measured on, before and after.

    Args:
        tokenizer: of RoBERTa's family (byte-level BPE) or in BERT form (WordPiece).
        texts: of the new language or field, read once; the same texts give the same pieces.
        num_pieces: how many to add at most; each one costs the model one row.
        min_frequency: pairs (WordPiece: words) seen less often give no piece.
        max_bytes: learn from a sample of at most so many UTF-8 bytes.
        total_bytes: estimate of the bytes of all texts, for an evenly spaced sample; see `Sample`.
        max_piece_bytes: the longest new piece, in bytes.

    Raises:
        UsageError: a Unigram tokenizer, or a number out of range.
        DataError: there is no text, it has nothing to add, or it holds half of a surrogate pair.
    """
    _check(tokenizer, num_pieces, max_bytes)
    started = time.monotonic()
    sample, table = Sample(max_bytes, total_bytes), WordCounts(MAX_WORDS, split=tokenizer.words)
    held_out: list[str] = []
    held_out_bytes = 0
    for line, num_bytes, is_held_out in _lines(texts, sample):
        if not is_held_out:
            table.add(line)
        elif held_out_bytes < HELD_OUT_BYTES:
            held_out.append(line)
            held_out_bytes += num_bytes
    if not table.total:
        raise DataError("no-text", "there is no text to learn from", remedy="give files with some text")
    words = [(word, count) for word, count in table.top(MAX_WORDS) if len(word) <= _MAX_WORD_CHARS]
    learn = _with_words if tokenizer.family == "bert" else _with_merges
    extended = learn(
        tokenizer, words, num_pieces=num_pieces, min_frequency=min_frequency, max_piece_bytes=max_piece_bytes
    )
    new_ids = range(tokenizer.vocab_size, extended.vocab_size)
    if not new_ids:
        raise DataError(
            "nothing-to-add",
            "the text has no frequent pieces that the tokenizer lacks",
            remedy="give more text of the new language or field, or go on with the tokenizer as it is",
        )
    return extended, ExtensionReport(
        pieces=tuple(extended.piece(id) for id in new_ids),
        first_id=tokenizer.vocab_size,
        asked=num_pieces,
        bytes_seen=sample.bytes_seen,
        bytes_used=sample.bytes_used - held_out_bytes,
        seconds=time.monotonic() - started,
        before=report(tokenizer, held_out, top=0) if held_out else None,
        after=report(extended, held_out, top=0) if held_out else None,
    )


def old_ids(old: Tokenizer, extended: Tokenizer) -> list[list[int]]:
    """For each piece that `extended` has more, in the order of ids, the ids of the pieces that it was before."""
    names = {id: piece for piece, id in formats.vocabulary(extended.description()[0]).items()}
    return [old.word_ids(names[id]) for id in range(old.vocab_size, extended.vocab_size)]


def is_held_out(number: int) -> bool:
    """Whether line `number` of the sample, from 1, is measured on; by a hash, for files repeat what they hold."""
    return xxhash.xxh3_64_intdigest(number.to_bytes(8, "little")) % _HELD_OUT_EVERY == 0


def _check(tokenizer: Tokenizer, num_pieces: int, max_bytes: int) -> None:
    if tokenizer.family == "xlm-roberta":
        raise UsageError(
            "no-extension",
            "a Unigram tokenizer cannot be extended: the scores of its pieces were learned together, so that new ones "
            "would cut old text anew",
            value=tokenizer.family,
            expected="a tokenizer of RoBERTa (byte-level BPE) or in BERT form (WordPiece)",
            remedy="go on with it as it is, or train one: unmask tokenizer train",
        )
    if num_pieces < 1 or max_bytes < 1:
        raise UsageError(
            "bad-extension",
            "the number of new pieces and the bytes to learn from must be at least 1",
            value=f"{num_pieces} pieces, {max_bytes} bytes",
        )


def _lines(texts: Iterable[str], sample: Sample) -> Iterator[tuple[str, int, bool]]:
    """The lines of the sample with their size in bytes, and whether each is held out."""
    for number, text in enumerate(texts, 1):
        check_text(text, f"text {number}")
        for line in text.split("\n"):
            for part in parts_of(line):
                num_bytes = len(part.encode("utf-8"))
                if sample.takes(num_bytes):
                    yield part, num_bytes, is_held_out(sample.texts_used)


def _with_merges(
    tokenizer: Tokenizer, words: list[tuple[str, int]], *, num_pieces: int, min_frequency: int, max_piece_bytes: int
) -> Tokenizer:
    spec, config = _whole_spec(tokenizer)
    model = spec["model"]
    merges = learn_merges(
        [(tokenizer.word_ids(word), count) for word, count in words],
        model["vocab"],
        num_pieces=num_pieces,
        first_id=tokenizer.vocab_size,
        min_frequency=min_frequency,
        max_piece_bytes=max_piece_bytes,
    )
    old = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
    model["merges"] = [*old, *map(list, merges)]
    return _with_pieces(spec, config, [left + right for left, right in merges], tokenizer.vocab_size)


def _with_words(
    tokenizer: Tokenizer, words: list[tuple[str, int]], *, num_pieces: int, min_frequency: int, max_piece_bytes: int
) -> Tokenizer:
    spec, config = _whole_spec(tokenizer)
    limit = spec["model"].get("max_input_chars_per_word") or 100
    saved: dict[str, int] = {}
    for word, count in words:
        ids = tokenizer.word_ids(word)
        is_known = len(ids) == 1 and ids[0] != tokenizer.unk_id
        if count >= min_frequency and not is_known and len(word) <= limit and len(word.encode()) <= max_piece_bytes:
            # A word that was unknown stays one piece, but is told from others by it.
            saved[word] = count * max(len(ids) - 1, 1)
    best = sorted(saved, key=lambda word: (-saved[word], word))[:num_pieces]
    return _with_pieces(spec, config, best, tokenizer.vocab_size)


def _whole_spec(tokenizer: Tokenizer) -> tuple[formats.Spec, dict[str, Any]]:
    """The tokenizer's description with all its ids in the vocabulary of the model.

    The tokenizers library numbers added tokens that stand outside of it anew, behind the model's last id.
    """
    spec, config = tokenizer.description()
    spec["model"]["vocab"] = formats.vocabulary(spec)
    return spec, config


def _with_pieces(spec: formats.Spec, config: dict[str, Any], pieces: list[str], first_id: int) -> Tokenizer:
    spec["model"]["vocab"] |= {piece: first_id + number for number, piece in enumerate(pieces)}
    return Tokenizer(spec, config)
