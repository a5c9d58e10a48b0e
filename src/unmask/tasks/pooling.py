"""What heads read of a batch: places of tokens, and the mean of the tokens of each text."""

import numpy as np
import torch
from torch import Tensor

from unmask.data.batching import Batch
from unmask.runtime import upload


def first_tokens(batch: Batch) -> Tensor:
    """Places of the first token of each text of a batch, (B,) int64."""
    return upload(torch.from_numpy(batch.cu_seqlens[:-1].astype(np.int64)), batch.input_ids.device)


def all_tokens(batch: Batch) -> Tensor:
    """Places of all tokens of a batch, (T,) int64."""
    return torch.arange(len(batch.input_ids), device=batch.input_ids.device)


def mean_of_texts(hidden: Tensor, batch: Batch) -> Tensor:
    """Mean of the packed states of each text, special tokens included, (T, D) to (B, D)."""
    lengths = upload(torch.from_numpy(np.diff(batch.cu_seqlens).astype(np.int64)), hidden.device)
    owners = torch.repeat_interleave(lengths, output_size=len(hidden))
    return hidden.new_zeros(len(lengths), hidden.shape[1]).index_add(0, owners, hidden) / lengths[:, None]
