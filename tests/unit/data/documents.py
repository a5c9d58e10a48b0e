"""Documents as lists, and the shards and corpora that they would be on disk."""

from types import SimpleNamespace

import numpy as np

from unmask.data.shards import Shard

CLS, SEP = 0, 2
# A sentence is a list of tokens, each a pair of id and "begins a word".
Sentence = list[tuple[int, bool]]
Documents = list[list[Sentence]]


def make_shard(documents: Documents) -> Shard:
    """A shard in memory."""
    sentences = [sentence for document in documents for sentence in document]
    tokens = [token for sentence in sentences for token in sentence]
    lengths = np.cumsum([0] + [len(sentence) for sentence in sentences])
    counts = np.cumsum([0] + [len(document) for document in documents])
    return Shard(
        np.array([id for id, _ in tokens], np.uint16),
        lengths.astype(np.uint64),
        counts.astype(np.uint64),
        np.packbits(np.array([start for _, start in tokens], bool), bitorder="little"),
    )


def make_corpus(shards: list[Documents]) -> SimpleNamespace:
    """What the formats ask of a corpus; five bytes a token."""
    made = tuple(make_shard(shard) for shard in shards)
    num_tokens = sum(len(shard.ids) for shard in made)
    return SimpleNamespace(
        shards=made, num_tokens=num_tokens, meta=SimpleNamespace(total={"num_bytes": 5 * num_tokens}.__getitem__)
    )


def pieces_of(sentence: Sentence, longest: int) -> list[Sentence]:
    """A long sentence in parts of at most `longest` tokens, cut before the last word start that fits."""
    pieces = []
    while len(sentence) > longest:
        cut = next((place for place in range(longest, 0, -1) if sentence[place][1]), longest)
        pieces.append(sentence[:cut])
        sentence = sentence[cut:]
    return [*pieces, sentence]
