"""Batches of texts that are compared with each other: windows, their pooled states, and what counts as another text.

B windows of N texts, T tokens, D numbers a vector, R rows of texts that belong together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unmask.data.batching import Batch
from unmask.errors import UsageError
from unmask.model.config import EncoderConfig
from unmask.model.encoder import Encoder
from unmask.model.layout import Layout
from unmask.tasks.base import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class TextBatch(Batch):
    """N texts as B windows, row after row; `labels` has one target for each of R rows.

    Attributes:
        text_ids: number of the text that each window belongs to, (B,) int64.
        keys: the same number for the same text, (N,) int64.
        parts: which text of its row each is, (N,) int64: 0 the text, 1 its pair, from 2 on what means something else.
    """

    text_ids: Tensor
    keys: Tensor
    parts: Tensor


def check_layers(layers: Sequence[int], config: EncoderConfig) -> None:
    """Refuse layers that the network does not have.

    Raises:
        UsageError: there are none, or one is out of range.
    """
    depth = config.num_hidden_layers
    if not layers or any(not -depth - 1 <= layer <= depth for layer in layers):
        raise UsageError(
            "bad-layers",
            "the network has no such layer",
            place="layers",
            value=list(layers),
            expected=f"numbers from 0, what goes into the first layer, to {depth}, or from the end: -1, -2 ...",
        )


def mixed_states(task: Task, batch: Batch, layers: Sequence[int]) -> Tensor:
    """Mean of the hidden states of some layers, (T, D).

    Raises:
        UsageError: the network has no such layer.
    """
    check_layers(layers, task.config)
    states = task.encoder.hidden_states(
        batch.input_ids,
        batch.position_ids,
        Layout.of(batch.cu_seqlens, batch.input_ids.device),
        token_type_ids=batch.token_type_ids,
    )
    return torch.stack([states[layer] for layer in layers]).mean(dim=0)


def merge(vectors: Tensor, batch: TextBatch) -> Tensor:
    """Mean of the windows of each text, weighted by their tokens, (B, D) to (N, D)."""
    if len(batch.keys) == len(vectors):
        return vectors
    weights = torch.from_numpy(np.diff(batch.cu_seqlens).astype(np.float32)).to(vectors.device)[:, None]
    sums = vectors.new_zeros(len(batch.keys), vectors.shape[1]).index_add(0, batch.text_ids, vectors * weights)
    return sums / weights.new_zeros(len(batch.keys), 1).index_add(0, batch.text_ids, weights)


def same_texts(rows: Tensor, candidates: Tensor) -> Tensor:
    """Candidates that are no wrong answers: the same text as one of the row's own, or the pair of an equal text.

    Args:
        rows: numbers of the text and its pair, (R, 2).
        candidates: numbers of the texts, (C,); number n is the pair of row n.

    Returns:
        (R, C) bool.
    """
    found = (rows[:, :, None] == candidates).any(dim=1)
    found[:, : len(rows)] |= rows[:, :1] == rows[:, 0]
    found.fill_diagonal_(False)
    return found


def has_dropout(task: Task) -> bool:
    """Whether two passes in training differ; those of an engine other than torch never do."""
    encoder = getattr(task.encoder, "encoder", task.encoder)  # behind the recorded passes of a card
    if not isinstance(encoder, Encoder):
        return False
    rates = [getattr(layer, name) for layer in encoder.layers for name in ("dropout", "attention_dropout")]
    return any(rate > 0 for rate in (encoder.dropout, *rates))
