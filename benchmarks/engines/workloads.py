"""The texts that all engines read, as ready token ids: the same ones in each process, from a seed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

START, PAD, END, FIRST_WORD = 0, 1, 2, 5
MIXED = None
# of the inputs of an exported network, as `padded` gives them
NAMES = ("input_ids", "attention_mask")
LONGEST_MIXED = 256


@dataclass(frozen=True)
class Workload:
    """Texts to be answered.

    Attributes:
        count: number of texts.
        length: tokens of each text with the two special ones; `MIXED` draws lengths from a log-normal distribution.
        is_latency: ask for one text at a time and time each, instead of all of them.
    """

    count: int
    length: int | None
    is_latency: bool = False


WORKLOADS = {
    "mixture": Workload(256, MIXED),
    "short": Workload(256, 12),
    "128": Workload(64, 128),
    "512": Workload(16, 512),
    "latency-12": Workload(50, 12, is_latency=True),
    "latency-48": Workload(50, 48, is_latency=True),
    "latency-128": Workload(30, 128, is_latency=True),
}


def texts_of(workload: Workload, vocab_size: int, *, seed: int = 0) -> list[np.ndarray]:
    """Token ids of each text, (n,) int32: `<s>`, random words, `</s>`.

    Mixed lengths have a mean of about 48 tokens, at least 5 and at most 256.
    """
    random = np.random.default_rng(seed)
    if workload.length is MIXED:
        lengths = np.clip(random.lognormal(3.6, 0.75, workload.count), 5, LONGEST_MIXED).astype(int)
    else:
        lengths = np.full(workload.count, workload.length)
    words = [random.integers(FIRST_WORD, vocab_size, length - 2) for length in lengths]
    return [np.array([START, *one, END], np.int32) for one in words]


def order_of(texts: Sequence[np.ndarray], order: str) -> np.ndarray:
    """Indices of the texts in the order in which they are answered: `file` or `sorted`, shortest first."""
    lengths = np.array([len(text) for text in texts])
    return np.argsort(lengths, kind="stable") if order == "sorted" else np.arange(len(texts))


def padded(texts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Ids (N, longest) int64 filled up with `<pad>`, and the mask of real tokens (N, longest) int64."""
    lengths = np.array([len(text) for text in texts])
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.full(mask.shape, PAD, np.int64)
    ids[mask] = np.concatenate(texts)
    return ids, mask.astype(np.int64)
