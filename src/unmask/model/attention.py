"""Self-attention over packed tokens: one function, three ways through, chosen by the layout."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from unmask.model.layout import Layout

_varlen: Callable[..., Any] | None
try:
    from torch.nn.attention.varlen import varlen_attn

    _varlen = varlen_attn
except ImportError:  # an older torch; groups of like length do the same
    _varlen = None

_VARLEN_DTYPES = (torch.bfloat16, torch.float16)


def attend(qkv: torch.Tensor, layout: Layout, num_heads: int, dropout: float = 0.0) -> torch.Tensor:
    """Let every token attend to all tokens of its own text.

    Args:
        qkv: (T, 3 * D) queries, keys and values side by side.
        layout: the texts.
        num_heads: H; it divides D.
        dropout: share of attention probabilities set to 0.

    Returns:
        (T, D) context.
    """
    if _varlen is not None and _takes_varlen(qkv, dropout):
        query, key, value = qkv.view(len(qkv), 3, num_heads, -1).unbind(1)
        bounds, longest = layout.cu_seqlens, layout.max_seqlen
        context: torch.Tensor = _varlen(query, key, value, bounds, bounds, longest, longest)
        return context.reshape(len(qkv), -1)
    groups = layout.groups
    if groups.gather is not None:
        qkv = _ToGroups.apply(qkv, groups.gather, groups.restore)
    parts = []
    for group in groups.parts:
        rows = qkv[group.start : group.stop].view(group.batch, group.length, 3, num_heads, -1)
        query, key, value = rows.permute(2, 0, 3, 1, 4)
        context = F.scaled_dot_product_attention(query, key, value, attn_mask=group.key_mask, dropout_p=dropout)
        parts.append(context.transpose(1, 2).reshape(group.batch * group.length, -1))
    context = parts[0] if len(parts) == 1 else torch.cat(parts)
    return context if groups.restore is None else _FromGroups.apply(context, groups.gather, groups.restore)


def _takes_varlen(qkv: torch.Tensor, dropout: float) -> bool:
    return qkv.is_cuda and dropout == 0 and qkv.dtype in _VARLEN_DTYPES


class _ToGroups(torch.autograd.Function):
    """Packed rows to padded groups. The gradient of a padding row is 0, so going back is a gather, not a sum."""

    @staticmethod
    def forward(ctx, packed, gather, restore):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(restore)
        return packed.index_select(0, gather)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        (restore,) = ctx.saved_tensors
        return grad.index_select(0, restore), None, None


class _FromGroups(torch.autograd.Function):
    """Padded groups to packed rows; padding rows get a gradient of 0."""

    @staticmethod
    def forward(ctx, padded, gather, restore):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(restore)
        ctx.num_rows = len(gather)
        return padded.index_select(0, restore)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        (restore,) = ctx.saved_tensors
        rows = grad.new_zeros(ctx.num_rows, grad.shape[1])
        return rows.index_copy_(0, restore, grad), None, None
