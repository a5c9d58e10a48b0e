"""Texts that are the same, or nearly: equal after normalising, or with most of their character shingles in common.

Near ones are looked for by MinHash and locality-sensitive hashing (Broder 1997; Leskovec et al. 2014, chapter 3) and
then compared exactly, so that nothing is called near that is not.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np

SHINGLE = 4
"""Characters of a shingle."""
THRESHOLD = 0.8
"""Texts with so great a share of their shingles in common are near (Jaccard)."""
# Two texts of similarity 0.8 meet in one of 16 bands of 5 hashes with probability 0.998, of 0.5 with 0.4.
_BANDS, _HASHES = 16, 5
_SLACK = 0.2
_CHUNK_CHARS = 1 << 21
_MOST_IN_BUCKET = 32
_LONGEST = 20_000


@dataclass(frozen=True)
class Copies:
    """Which texts are like an earlier one.

    Attributes:
        equal: for each text the first one that is equal to it after normalising, itself if there is none before, (N,)
            int64.
        near: pairs of texts that are not equal but near, the earlier one first, each the first of its equals, with
            their similarity, ascending.
    """

    equal: np.ndarray
    near: list[tuple[int, int, float]]


def normal(text: str) -> str:
    """A text without what does not make it another one: case, width of letters, runs of white space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def find_copies(texts: Sequence[str], *, threshold: float = THRESHOLD) -> Copies:
    """Find equal and near texts.

    Args:
        texts: of any length; of very long ones the first 20,000 characters count.
        threshold: least similarity of near ones, 0 to 1.
    """
    firsts: dict[str, int] = {}
    equal = np.array([firsts.setdefault(normal(text), at) for at, text in enumerate(texts)], np.int64)
    keys = [key[:_LONGEST] for key in firsts if key]
    places = [at for key, at in firsts.items() if key]
    near = [
        (places[first], places[second], similarity)
        for first, second in sorted(_candidates(keys, threshold))
        if (similarity := jaccard(keys[first], keys[second])) >= threshold
    ]
    return Copies(equal, near)


def jaccard(one: str, other: str) -> float:
    """Share of the shingles of two texts that both have."""
    first, second = shingles(one), shingles(other)
    return len(first & second) / max(1, len(first | second))


def shingles(text: str) -> set[str]:
    """All runs of characters of a text; those at its end are shorter, so that short texts have some too."""
    return {text[at : at + SHINGLE] for at in range(len(text))}


def _candidates(keys: Sequence[str], threshold: float) -> set[tuple[int, int]]:
    """Pairs that share a band and are near by the estimate of their signatures."""
    if len(keys) < 2:
        return set()
    signatures = np.concatenate(list(_signatures(keys)))
    pairs: set[tuple[int, int]] = set()
    for band in range(_BANDS):
        part = np.ascontiguousarray(signatures[:, band * _HASHES : (band + 1) * _HASHES])
        _, buckets = np.unique(part.view(np.dtype((np.void, part.itemsize * _HASHES))).ravel(), return_inverse=True)
        order = np.argsort(buckets, kind="stable")
        ends = np.flatnonzero(np.diff(buckets[order])) + 1
        for start, stop in pairwise([0, *ends.tolist(), len(order)]):
            if stop - start > 1:
                pairs.update(_pairs(order[start:stop].tolist()))
    if not pairs:
        return set()
    found = np.array(sorted(pairs))
    estimates = np.concatenate(
        [
            (signatures[part[:, 0]] == signatures[part[:, 1]]).mean(1)
            for part in np.array_split(found, 1 + len(found) // 65536)
        ]
    )
    return set(map(tuple, found[estimates >= threshold - _SLACK].tolist()))


def _pairs(members: list[int]) -> Iterator[tuple[int, int]]:
    """All pairs of a bucket; of a large one each member with the first few."""
    yield from combinations(members[:_MOST_IN_BUCKET], 2)
    for late in members[_MOST_IN_BUCKET:]:
        yield from ((early, late) for early in members[:_MOST_IN_BUCKET])


def _signatures(keys: Sequence[str]) -> Iterator[np.ndarray]:
    """The least of each hash function over the shingles of each text, (n, bands * hashes) uint32, in chunks."""
    functions = np.random.default_rng(0).integers(1, 1 << 63, _BANDS * _HASHES, dtype=np.uint64) | np.uint64(1)
    for chunk in _chunks(keys):
        # Zeros between the texts end their last shingles, so that none spans two texts.
        joined = ("\0" * (SHINGLE - 1)).join([*chunk, ""])
        codes = np.frombuffer(joined.encode("utf-32-le"), np.uint32).astype(np.uint64)
        hashes = np.zeros(len(codes) - SHINGLE + 1, np.uint64)
        for offset in range(SHINGLE):
            hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + codes[offset : offset + len(hashes)]
        lengths = np.array([len(key) for key in chunk])
        starts = np.concatenate([[0], np.cumsum(lengths + SHINGLE - 1)[:-1]])
        is_text = np.zeros(len(hashes), bool)
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
            is_text[start : start + length] = True
        kept, edges = hashes[is_text], np.concatenate([[0], np.cumsum(lengths)[:-1]])
        kept = (kept ^ (kept >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
        columns = [np.minimum.reduceat((kept * one) >> np.uint64(32), edges) for one in functions]
        yield np.stack(columns, 1).astype(np.uint32)


def _chunks(keys: Sequence[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    for key in keys:
        chunk.append(key)
        size += len(key)
        if size > _CHUNK_CHARS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
