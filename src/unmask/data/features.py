"""Encoded texts, and how they are shared out to batches; without torch."""

from collections.abc import Sequence as Seq
from dataclasses import dataclass

import numpy as np

# The label that torch's losses leave out.
IGNORED = -100


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """One text, pair or window of a long text as ids, ready to be packed.

    Attributes:
        input_ids: with special tokens, (n,) int32.
        token_type_ids: 0 or 1 for each token, (n,) int8; `None` where all are 0.
        offsets: characters of each token in its text, (n, 2) int32; (0, 0) at special tokens.
        label: class id or number, or an array where a text has several; `None` outside training and scoring.
        targets: positions and ids to be predicted in a masked text, (m,) int64 each; `None` for other tasks.
        num_truncated: pieces that did not fit into `max_length`.
        row: number of the row that it belongs to, among those that were encoded together.
    """

    input_ids: np.ndarray
    token_type_ids: np.ndarray | None = None
    offsets: np.ndarray | None = None
    label: float | np.ndarray | None = None
    targets: tuple[np.ndarray, np.ndarray] | None = None
    num_truncated: int = 0
    row: int = 0

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def truncated_share(self) -> float:
        """Part of the text's tokens that did not fit."""
        return self.num_truncated / (self.num_truncated + len(self))


def units_of(features: Seq[Features], *, is_coupled: bool) -> list[np.ndarray]:
    """What a batch may not cut: each text alone, or the texts of a row together.

    Args:
        features: of rows, in order.
        is_coupled: whether the texts of a row are compared with each other, such as choices.

    Returns:
        Indices into `features`, one array a unit.
    """
    if not is_coupled:
        return [np.array([index]) for index in range(len(features))]
    rows = np.array([one.row for one in features])
    return np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows)) + 1)


def sorted_batches(lengths: np.ndarray, *, max_tokens: int) -> list[np.ndarray]:
    """Cut texts, longest first, into batches of at most `max_tokens` tokens (a longer text stands alone).

    Args:
        lengths: tokens of each text, (N,).
        max_tokens: limit of a batch, counted as its longest text times its number of texts.

    Returns:
        Indices of the texts of each batch.
    """
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        size = max(1, max_tokens // max(1, int(lengths[order[start]])))
        batches.append(order[start : start + size])
        start += size
    return batches


def padded(features: Seq[Features]) -> dict[str, np.ndarray]:
    """What an exported graph reads of a batch, by name: int64, padding 0, which the mask hides.

    Returns:
        `input_ids`, `attention_mask` and `token_type_ids`, (B, S); `needed`, the targets' rows of B * S, (N,).
    """
    lengths = np.array([len(one) for one in features])
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids, types = np.zeros((2, *mask.shape), np.int64)
    ids[mask] = np.concatenate([one.input_ids for one in features])
    if features[0].token_type_ids is not None:
        types[mask] = np.concatenate([one.token_type_ids for one in features if one.token_type_ids is not None])
    starts = np.arange(len(features)) * mask.shape[1]
    needed = [one.targets[0] + start for one, start in zip(features, starts, strict=True) if one.targets is not None]
    return {
        "input_ids": ids,
        "attention_mask": mask.astype(np.int64),
        "token_type_ids": types,
        "needed": np.concatenate(needed or [np.zeros(0, np.int64)]),
    }
