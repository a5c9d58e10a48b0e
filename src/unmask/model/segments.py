"""Softmax over parts of a packed axis: the tokens of a text, the choices of a question, without padding."""

import torch
from torch import Tensor


def segment_max(values: Tensor, segments: Tensor, count: int) -> Tensor:
    """Greatest value of each segment and column.

    Args:
        values: (N, C) float.
        segments: number of the segment that each row belongs to, (N,) int64; every one of `count` has a row.
        count: number of segments.

    Returns:
        (count, C); equal greatest values share the gradient.
    """
    start = values.new_full((count, values.shape[1]), -torch.inf)
    return start.scatter_reduce(0, segments[:, None].expand_as(values), values, "amax")


def segment_logsumexp(values: Tensor, segments: Tensor, count: int) -> Tensor:
    """Logarithm of the summed exponentials of each segment and column, the norm of a softmax over it.

    Args:
        values: (N, C) float.
        segments: as in `segment_max`.
        count: number of segments.

    Returns:
        (count, C).
    """
    top = segment_max(values.detach(), segments, count)
    total = torch.zeros_like(top).index_add(0, segments, (values - top[segments]).exp())
    return top + total.log()
