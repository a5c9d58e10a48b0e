"""How attention sees packed tokens: uniform blocks, CUDA varlen, or groups of like length. Made once per batch."""

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from unmask.runtime import upload

# A text joins the group of a longer one while it fills this share of the longest, or lacks this many tokens.
MIN_FILL = 0.75
MAX_GAP_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Group:
    """Texts of like length, padded to the longest of them: rows `start : start + batch * length` of the padded buffer.

    Attributes:
        start: first row.
        batch: number of texts.
        length: padded length in tokens.
        key_mask: (batch, 1, 1, length) bool, True at real tokens, or (batch, 1, length, length), True where a token is
            of the same text; None where nothing is padded.
    """

    start: int
    batch: int
    length: int
    key_mask: torch.Tensor | None

    @property
    def stop(self) -> int:
        """One past the last row."""
        return self.start + self.batch * self.length


@dataclass(frozen=True, slots=True)
class Groups:
    """All groups of a batch.

    Attributes:
        gather: (P,) int64, the packed token that fills each row of the padded buffer (padding repeats a real token);
            None where the buffer is the packed tokens themselves.
        restore: (T,) int64, the row of the padded buffer that holds each packed token; None as above.
        parts: the groups, their rows one after the other.
    """

    gather: torch.Tensor | None
    restore: torch.Tensor | None
    parts: tuple[Group, ...]


@dataclass(frozen=True)
class Layout:
    """The texts of one packed batch, as attention needs them.

    Attributes:
        lengths: (B,) int64, on the host.
        cu_seqlens: (B + 1,) int32 on the device: where each text begins, then T.
        max_seqlen: the longest text in tokens.
        is_uniform: whether all texts have the same length.
    """

    lengths: np.ndarray
    cu_seqlens: torch.Tensor
    max_seqlen: int
    is_uniform: bool

    @classmethod
    def of(cls, cu_seqlens: np.ndarray | torch.Tensor, device: torch.device | str = "cpu") -> "Layout":
        """Look at a batch once.

        Args:
            cu_seqlens: (B + 1,) integers on the host, from 0, rising by at least 1.
            device: where the model runs.

        Raises:
            ValueError: not such numbers.
        """
        starts = np.asarray(cu_seqlens, dtype=np.int64)
        lengths = np.diff(starts)
        if starts.ndim != 1 or not len(lengths) or starts[0] != 0 or lengths.min() < 1:
            raise ValueError("cu_seqlens must start with 0 and rise: every text has at least one token")
        on_device = upload(torch.from_numpy(starts.astype(np.int32)), device)
        longest = int(lengths.max())
        return cls(lengths, on_device, longest, bool(lengths.min() == longest))

    @property
    def num_texts(self) -> int:
        """B."""
        return len(self.lengths)

    @property
    def num_tokens(self) -> int:
        """T."""
        return int(self.lengths.sum())

    @cached_property
    def groups(self) -> Groups:
        """The groups of like length; computed at the first use, in numpy, without a loop over texts."""
        if self.is_uniform:
            return Groups(None, None, (Group(0, self.num_texts, self.max_seqlen, None),))
        return _group(self.lengths, self.cu_seqlens.device)


@dataclass(frozen=True)
class FixedLayout(Layout):
    """Texts whose borders stand in a buffer of the device alone, to be read anew by a pass that is played back.

    `lengths` and `max_seqlen` are those of the buffer, not of the texts; texts may be empty. Where attention goes by
    groups, all tokens are one, and a mask keeps the texts apart: right for a few hundred tokens.
    """

    @cached_property
    def groups(self) -> Groups:
        """One group of all tokens; its mask is computed on the device."""
        places = torch.arange(self.num_tokens, device=self.cu_seqlens.device)
        text = (places[:, None] >= self.cu_seqlens[1:]).sum(1)
        mask = text[:, None] == text
        return Groups(None, None, (Group(0, 1, self.num_tokens, mask[None, None]),))


def _group(lengths: np.ndarray, device: torch.device) -> Groups:
    order = np.argsort(-lengths, kind="stable")
    falling = lengths[order]
    bounds = _bounds(falling)
    widths = np.repeat(falling[bounds[:-1]], np.diff(bounds))  # padded length of each text, in sorted order
    rows = np.concatenate([[0], np.cumsum(widths)])  # first padded row of each text, in sorted order
    within = np.arange(rows[-1]) - np.repeat(rows[:-1], widths)
    real = within < np.repeat(falling, widths)
    starts = (np.cumsum(lengths) - lengths)[order]
    gather = np.repeat(starts, widths) + np.where(real, within, 0)
    restore = np.empty(int(lengths.sum()), dtype=np.int64)
    restore[gather[real]] = np.flatnonzero(real)
    mask = upload(torch.from_numpy(real), device)
    parts = []
    for first, last in itertools.pairwise(bounds):
        start, stop, length = int(rows[first]), int(rows[last]), int(falling[first])
        is_full = int(falling[last - 1]) == length
        key_mask = None if is_full else mask[start:stop].view(last - first, 1, 1, length)
        parts.append(Group(start, last - first, length, key_mask))
    if np.array_equal(gather, np.arange(len(gather))):
        return Groups(None, None, tuple(parts))
    index, back = (upload(torch.from_numpy(one), device) for one in (gather, restore))
    return Groups(index, back, tuple(parts))


def _bounds(falling: np.ndarray) -> list[int]:
    """Where each group begins among lengths sorted from long to short, then B; one turn a group, not a text."""
    bounds = [0]
    while bounds[-1] < len(falling):
        longest = int(falling[bounds[-1]])
        floor = min(longest * MIN_FILL, longest - MAX_GAP_TOKENS)
        bounds.append(int(np.searchsorted(-falling, -floor, side="right")))
    return bounds
