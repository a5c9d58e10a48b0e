"""What is in a corpus folder: counts, lengths, the most frequent pieces and words, duplicates, examples."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import xxhash

from unmask.data.corpus import Corpus
from unmask.data.shards import Shard
from unmask.study.show import SENTENCE, histogram, readable
from unmask.tokenizer.load import Tokenizer

BLOCK_LENGTHS = (64, 128, 256, 512)
# Words are counted in so many tokens, evenly spread, which is enough for the most frequent ones.
_WORD_TOKENS = 2_000_000
_EXAMPLE_TOKENS = 60


@dataclass(frozen=True)
class CorpusView:
    """A corpus in figures.

    Attributes:
        num_documents, num_sentences, num_tokens, num_bytes: totals; bytes are those of the text in UTF-8.
        vocabulary: ids of the tokenizer.
        num_unused: ids that never occur, special ones among them.
        document_lengths: tokens of each document, (D,) int64.
        sentence_lengths: tokens of each sentence, (S,) int64.
        cut: for each usual block length the share of the sentences that do not fit into a block, and are cut.
        pieces: the most frequent pieces with their counts.
        words: the most frequent words with their shares of all words of a sample.
        duplicates: documents that are equal to an earlier one, token by token.
        examples: where each begins, as a share of the documents, and its first tokens as text.
        sources: name and size in bytes of each input file.
    """

    num_documents: int
    num_sentences: int
    num_tokens: int
    num_bytes: int
    vocabulary: int
    num_unused: int
    document_lengths: np.ndarray
    sentence_lengths: np.ndarray
    cut: dict[int, float]
    pieces: list[tuple[str, int]]
    words: list[tuple[str, float]]
    duplicates: int
    examples: list[tuple[str, str]]
    sources: list[tuple[str, int]]

    def to_lines(self) -> Iterator[str]:
        """The figures as lines of text."""
        yield f"documents         {self.num_documents:,}, {self.duplicates:,} of them equal to an earlier one"
        yield f"sentences         {self.num_sentences:,}"
        yield f"tokens            {self.num_tokens:,}"
        yield f"bytes             {self.num_bytes:,}, {self.num_tokens / self.num_bytes:.4f} tokens a byte"
        yield f"vocabulary        {self.vocabulary:,} ids, {self.num_unused:,} of them never used"
        yield from (f"source            {name}, {size:,} bytes" for name, size in self.sources)
        yield "sentences longer than a block, which are cut"
        yield from (f"  blocks of {length:<5} {share:.3%}" for length, share in self.cut.items())
        for name, lengths in (("document", self.document_lengths), ("sentence", self.sentence_lengths)):
            edge = int(np.quantile(lengths, 0.99))
            yield f"tokens of a {name}: median {np.median(lengths):,.0f}, longest {lengths.max():,}; the shorter 99 %:"
            yield from histogram(lengths[lengths <= edge])
        yield "most frequent pieces: " + "  ".join(
            f"{piece!r} {count / self.num_tokens:.2%}" for piece, count in self.pieces
        )
        yield "most frequent words: " + "  ".join(f"{word!r} {share:.2%}" for word, share in self.words)
        yield from (f"{place}: {text}" for place, text in self.examples)

    def to_json(self) -> dict[str, object]:
        """The figures as JSON values; lengths become quantiles."""
        quantiles = (0.0, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)
        lengths = {"document_lengths": self.document_lengths, "sentence_lengths": self.sentence_lengths}
        found = {
            name: dict(zip(map(str, quantiles), np.quantile(one, quantiles), strict=True))
            for name, one in lengths.items()
        }
        return {**vars(self), **found, "tokens_a_byte": self.num_tokens / self.num_bytes}


def inspect_corpus(corpus: Corpus, tokenizer: Tokenizer, *, top: int = 20) -> CorpusView:
    """Read a whole corpus once.

    Args:
        corpus: to be read.
        tokenizer: of the corpus.
        top: number of pieces and words.
    """
    counts = np.zeros(corpus.meta.vocab_size, np.int64)
    hashes: set[bytes] = set()
    documents, sentences = [], []
    for shard in corpus.shards:
        counts += np.bincount(shard.ids, minlength=len(counts))
        edges = shard.sentence_starts[shard.document_starts].astype(np.int64)
        hashes.update(xxhash.xxh3_128_digest(shard.ids[start:stop].tobytes()) for start, stop in pairwise(edges))
        documents.append(np.diff(edges))
        sentences.append(np.diff(shard.sentence_starts.astype(np.int64)))
    document_lengths, sentence_lengths = np.concatenate(documents), np.concatenate(sentences)
    best = np.argsort(-counts, kind="stable")[:top].tolist()
    return CorpusView(
        num_documents=len(document_lengths),
        num_sentences=len(sentence_lengths),
        num_tokens=corpus.num_tokens,
        num_bytes=corpus.meta.total("num_bytes"),
        vocabulary=tokenizer.vocab_size,
        num_unused=int((counts == 0).sum()),
        document_lengths=document_lengths,
        sentence_lengths=sentence_lengths,
        cut={length: float((sentence_lengths > length - 2).mean()) for length in BLOCK_LENGTHS},
        pieces=[("".join(readable(tokenizer, one)), int(counts[one])) for one in best if counts[one]],
        words=_words(corpus, tokenizer, top),
        duplicates=len(document_lengths) - len(hashes),
        examples=_examples(corpus, tokenizer),
        sources=[(one.name, one.size_bytes) for one in corpus.meta.sources],
    )


def _words(corpus: Corpus, tokenizer: Tokenizer, top: int) -> list[tuple[str, float]]:
    """The most frequent words of a sample of tokens, the same part of each shard's stretches."""
    found: Counter[bytes] = Counter()
    for shard in corpus.shards:
        ids = np.asarray(shard.ids)
        for start, stop in _sample(len(ids), _WORD_TOKENS // len(corpus.shards)):
            begins = np.flatnonzero(shard.word_starts(start, stop)) + start
            found.update(ids[first:last].tobytes() for first, last in pairwise(begins.tolist()))
    total = max(1, found.total())
    dtype = np.dtype(corpus.meta.dtype).newbyteorder("<")
    return [
        (
            "".join("".join(readable(tokenizer, one)) for one in np.frombuffer(word, dtype).tolist()).strip(),
            count / total,
        )
        for word, count in found.most_common(top)
    ]


def _sample(size: int, wanted: int, stretches: int = 16) -> list[tuple[int, int]]:
    """Stretches of `range(size)`, evenly spread, of about `wanted` numbers in all."""
    if size <= wanted:
        return [(0, size)]
    length = wanted // stretches
    return [
        (at * (size - length) // (stretches - 1), at * (size - length) // (stretches - 1) + length)
        for at in range(stretches)
    ]


def _examples(corpus: Corpus, tokenizer: Tokenizer) -> list[tuple[str, str]]:
    """How the first document begins, and those in the middle and at three quarters."""
    found = []
    for place in (0.0, 0.5, 0.75):
        number = int(place * corpus.num_documents)
        for shard in corpus.shards:
            count = len(shard.document_starts) - 1
            if number < count:
                found.append((f"document at {place:.0%}", _beginning(shard, number, tokenizer)))
                break
            number -= count
    return found


def _beginning(shard: Shard, document: int, tokenizer: Tokenizer) -> str:
    """The first sentences of a document, cut after some tokens."""
    first, last = shard.document_starts[document : document + 2].tolist()
    texts, room = [], _EXAMPLE_TOKENS
    for sentence in range(first, last):
        start, stop = shard.sentence_starts[sentence : sentence + 2].tolist()
        texts.append(tokenizer.decode(shard.ids[start : min(stop, start + room)].tolist()).strip())
        room -= stop - start
        if room <= 0:
            texts[-1] += " ..." if room < 0 or sentence + 1 < last else ""
            break
    return "".join(one if one.isprintable() else " " for one in f" {SENTENCE} ".join(texts))
