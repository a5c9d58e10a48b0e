"""From encoded texts to packed batches: no padding token enters a batch, unless fixed shapes are asked for.

T packed tokens, B texts, M masked tokens; N blocks of pre-training, which may be several texts each.
"""

from collections.abc import Sequence as Seq
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unmask.data.features import IGNORED as IGNORED
from unmask.data.features import Features as Features
from unmask.data.features import sorted_batches as sorted_batches
from unmask.data.features import units_of as units_of
from unmask.data.order import permute
from unmask.runtime import upload


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Texts laid end to end.

    Attributes:
        input_ids: (T,) int64.
        position_ids: (T,) int64, counted from the network's offset in each text.
        cu_seqlens: where each text begins, and the end, (B + 1,) int32, always on the host.
        token_type_ids: (T,) int64 or `None`.
        labels: (B,) or (B, n) int64 or float32 for labelled texts, (M,) int64 for masked tokens; `None` when only
            predicting.
        positions: places of the masked tokens in the batch, (M,) int64; `None` for other tasks.
        pair_labels: class of each pair in pre-training, (N,) int64: 1 where the second text is not the next one, or
            where the two are swapped.
        block_starts: where each block of pre-training begins, and the end, (N + 1,) int32, on the host.
        sample_ids: corpus and number of each block, (N, 2) int64, on the host.
        epochs: pass over its corpus that each block belongs to, (N,) int64, on the host.
        num_filler_tokens: tokens at the end that only fill the batch up to a fixed shape.
        num_filler_targets: labels that are -100 and no target: of masked places at the end that fill a fixed shape, or
            of texts from which nothing can be learned.
        rows: number of the row that each text belongs to, (B,) int64, on the host.
    """

    input_ids: Tensor
    position_ids: Tensor
    cu_seqlens: np.ndarray
    token_type_ids: Tensor | None = None
    labels: Tensor | None = None
    positions: Tensor | None = None
    pair_labels: Tensor | None = None
    block_starts: np.ndarray | None = None
    sample_ids: np.ndarray | None = None
    epochs: np.ndarray | None = None
    num_filler_tokens: int = 0
    num_filler_targets: int = 0
    rows: np.ndarray | None = None

    @property
    def num_tokens(self) -> int:
        """Real tokens of the batch: T without filler."""
        return int(self.cu_seqlens[-1]) - self.num_filler_tokens

    @property
    def num_targets(self) -> int:
        """Labels that the loss is averaged over."""
        return 0 if self.labels is None else len(self.labels) - self.num_filler_targets

    @property
    def counts(self) -> tuple[int, ...]:
        """Targets of each part of the loss: labels; and pairs, where there are any."""
        return (self.num_targets,) if self.pair_labels is None else (self.num_targets, len(self.pair_labels))

    def to(self, device: torch.device) -> "Batch":
        """The same batch, made on the host, with its tensors on `device`."""
        if device.type == "cpu":
            return self
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        moved: dict[str, Any] = {
            name: upload(value, device) for name, value in values.items() if isinstance(value, Tensor)
        }
        return replace(self, **moved)


def pack(features: Seq[Features], *, position_offset: int) -> Batch:
    """Lay encoded texts end to end.

    Args:
        features: the texts, in the order in which they shall stand.
        position_offset: position id of a text's first token: 2 for RoBERTa, 0 for the BERT form.
    """
    lengths = np.array([len(one) for one in features], dtype=np.int32)
    cu_seqlens = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    types = [one.token_type_ids for one in features if one.token_type_ids is not None]
    labels, positions = _labels(features, cu_seqlens)
    return Batch(
        input_ids=_int64(np.concatenate([one.input_ids for one in features])),
        position_ids=positions_of(cu_seqlens, position_offset),
        cu_seqlens=cu_seqlens,
        token_type_ids=_int64(np.concatenate(types)) if types else None,
        labels=labels,
        positions=positions,
        rows=np.array([one.row for one in features], dtype=np.int64),
    )


def positions_of(cu_seqlens: np.ndarray, offset: int | np.ndarray) -> Tensor:
    """Position ids of packed texts, (T,) int64: `offset`, `offset` + 1, ... in each text; one offset, or one a text."""
    starts = np.repeat(cu_seqlens[:-1] - offset, np.diff(cu_seqlens))
    return _int64(np.arange(cu_seqlens[-1], dtype=np.int64) - starts)


def fill_up(batch: Batch, *, round_tokens: int, round_targets: int, pad_id: int) -> Batch:
    """Bring a batch of pre-training to a fixed shape, for kernels that are made for one.

    Pad tokens at the end, in texts of their own no longer than the longest real one, are attended to by no real token;
    the filler among the masked places points to place 0 and has the label -100, which no loss counts.

    Args:
        batch: masked, without filler.
        round_tokens: T becomes a multiple of it; 0 leaves T.
        round_targets: M becomes a multiple of it; 0 leaves M.
        pad_id: id of the filling tokens.
    """
    tokens = -len(batch.input_ids) % (round_tokens or 1)
    if tokens:
        longest = int(np.diff(batch.cu_seqlens).max())
        ends = len(batch.input_ids) + np.append(np.arange(longest, tokens, longest), tokens)
        places = torch.arange(tokens) % longest + int(batch.position_ids[0])
        types = batch.token_type_ids
        batch = replace(
            batch,
            input_ids=torch.cat([batch.input_ids, torch.full((tokens,), pad_id)]),
            position_ids=torch.cat([batch.position_ids, places]),
            token_type_ids=None if types is None else torch.cat([types, types.new_zeros(tokens)]),
            cu_seqlens=np.append(batch.cu_seqlens, ends).astype(np.int32),
            num_filler_tokens=tokens,
        )
    if batch.labels is None or batch.positions is None:
        return batch
    targets = -len(batch.labels) % (round_targets or 1)
    return replace(
        batch,
        labels=torch.cat([batch.labels, torch.full((targets,), IGNORED)]),
        positions=torch.cat([batch.positions, batch.positions.new_zeros(targets)]),
        num_filler_targets=targets,
    )


def shuffled_batches(
    lengths: np.ndarray, *, batch_size: int, seed: int, epoch: int, pool: int = 50
) -> list[np.ndarray]:
    """The batches of one epoch: texts of like length together, everything else in random order.

    A pure function of (seed, epoch): the texts are permuted, each run of `pool` batches is sorted by length and cut,
    and the batches are permuted again.

    Args:
        lengths: tokens of each text, (N,).
        batch_size: texts of a batch; the last one of a pool may be smaller.
        seed: of the run.
        epoch: number of the pass over the data, from 0.
        pool: batches that are sorted together.
    """
    size = len(lengths)
    order = permute(np.arange(size), size=size, key=_key(seed, epoch, 0))
    batches = []
    for start in range(0, size, pool * batch_size):
        chunk = order[start : start + pool * batch_size]
        chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
        batches += [chunk[at : at + batch_size] for at in range(0, len(chunk), batch_size)]
    places = permute(np.arange(len(batches)), size=len(batches), key=_key(seed, epoch, 1))
    return [batches[place] for place in places]


def _key(seed: int, epoch: int, use: int) -> int:
    return (seed * 1_000_003 + epoch) * 2 + use


def _labels(features: Seq[Features], cu_seqlens: np.ndarray) -> tuple[Tensor | None, Tensor | None]:
    if any(one.targets is not None for one in features):
        pairs = [
            (one.targets, start) for one, start in zip(features, cu_seqlens, strict=False) if one.targets is not None
        ]
        positions = np.concatenate([targets[0] + start for targets, start in pairs])
        return _int64(np.concatenate([targets[1] for targets, _ in pairs])), _int64(positions)
    if any(one.label is None for one in features):
        return None, None
    labels = np.array([one.label for one in features])
    return torch.from_numpy(labels.astype(np.float32 if labels.dtype.kind == "f" else np.int64)), None


def _int64(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.int64, copy=False))
