"""Self-attention over packed tokens: one function, three ways through, by device, number format and dropout."""

import functools
import logging
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from unmask.errors import is_out_of_memory
from unmask.model.layers import Dropper
from unmask.model.layout import Group, Groups, Layout

log = logging.getLogger("unmask")

_VARLEN_DTYPES = (torch.bfloat16, torch.float16)
_VARLEN_WIDTH, _VARLEN_STEP = 256, 8  # the widest head that flash attention takes, and what its width is a multiple of
_MAX_KEPT = 1 << 26  # attention probabilities that one layer may keep for the way back; beyond, flash attention


def attend(
    qkv: torch.Tensor, layout: Layout, num_heads: int, rate: float = 0.0, dropper: Dropper | None = None
) -> torch.Tensor:
    """Let every token attend to all tokens of its own text.

    Args:
        qkv: (T, 3 * D) queries, keys and values side by side.
        layout: the texts.
        num_heads: H; it divides D.
        rate: share of attention probabilities set to 0; 0 outside training.
        dropper: source of masks on a CPU.

    Returns:
        (T, D) context.
    """
    if qkv.is_cuda and rate == 0 and suits_varlen(qkv.dtype, qkv.shape[1] // (3 * num_heads)):
        varlen = _varlen(qkv.device)
        if varlen is not None:
            query, key, value = qkv.view(len(qkv), 3, num_heads, -1).unbind(1)
            bounds, longest = layout.cu_seqlens, layout.max_seqlen
            packed: torch.Tensor = varlen(query, key, value, bounds, bounds, longest, longest)
            return packed.reshape(len(qkv), -1)
    if _trains_on_cpu(qkv, layout, num_heads) and (rate == 0 or dropper is not None):
        context = _Products.apply(qkv, layout.groups, num_heads, rate, dropper)  # type: ignore[no-untyped-call]
        return context
    return _attend_in_groups(qkv, layout.groups, num_heads, rate)


def suits_varlen(dtype: torch.dtype, head_width: int) -> bool:
    """Whether flash attention over texts of any length takes heads of this format and width; else groups do it."""
    return dtype in _VARLEN_DTYPES and head_width <= _VARLEN_WIDTH and head_width % _VARLEN_STEP == 0


@functools.cache
def _varlen(device: torch.device) -> Callable[..., Any] | None:
    """torch's attention over texts of any length, or `None` where the card is too old or the build has none.

    With one split of the keys, where the build can be told so, a text's numbers do not depend on its neighbours. Which
    arguments are known differs from release to release, and whether they are refused shows at the first call.
    """
    if torch.cuda.get_device_capability(device) < (8, 0):
        return None
    from torch.nn.attention.varlen import varlen_attn

    head = torch.zeros(_VARLEN_STEP, 1, _VARLEN_STEP, dtype=torch.bfloat16, device=device)
    bounds = torch.tensor([0, len(head)], dtype=torch.int32, device=device)
    choices: tuple[dict[str, Any], ...] = ({"num_splits": 1}, {})
    for options in choices:
        try:
            varlen_attn(head, head, head, bounds, bounds, len(head), len(head), **options)
        except (TypeError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise
            continue
        return functools.partial(varlen_attn, **options)
    log.warning("torch has no attention over texts of any length for this card: groups of like length compute it")
    return None


def _attend_in_groups(qkv: torch.Tensor, groups: Groups, num_heads: int, rate: float) -> torch.Tensor:
    if groups.gather is not None:
        qkv = _ToGroups.apply(qkv, groups.gather, groups.restore)  # type: ignore[no-untyped-call]
    parts = []
    for group in groups.parts:
        query, key, value = _by_head(qkv, group, num_heads)
        context = F.scaled_dot_product_attention(query, key, value, attn_mask=group.key_mask, dropout_p=rate)
        parts.append(context.transpose(1, 2).reshape(group.batch * group.length, -1))
    context = parts[0] if len(parts) == 1 else torch.cat(parts)
    if groups.restore is None:
        return context
    packed: torch.Tensor = _FromGroups.apply(context, groups.gather, groups.restore)  # type: ignore[no-untyped-call]
    return packed


def _trains_on_cpu(qkv: torch.Tensor, layout: Layout, num_heads: int) -> bool:
    if qkv.is_cuda or not (torch.is_grad_enabled() and qkv.requires_grad):
        return False
    return num_heads * sum(part.batch * part.length**2 for part in layout.groups.parts) <= _MAX_KEPT


def _by_head(qkv: torch.Tensor, group: Group, num_heads: int) -> torch.Tensor:
    """The rows of a group, seen as (3, batch, H, length, K)."""
    rows = qkv[group.start : group.stop].view(group.batch, group.length, 3, num_heads, -1)
    return rows.permute(2, 0, 3, 1, 4)


class _Products(torch.autograd.Function):
    """Attention as batched products that keep the probabilities.

    On a CPU the way back is three times as fast as through torch's flash kernel, and dropout costs little.
    """

    @staticmethod
    def forward(ctx: Any, qkv: torch.Tensor, groups: Groups, num_heads: int, *dropping: Any) -> torch.Tensor:
        rate, dropper = dropping
        rows = qkv if groups.gather is None else qkv.index_select(0, groups.gather)
        width = qkv.shape[1] // 3
        context = rows.new_empty(len(rows), width)
        ctx.groups, ctx.num_heads, ctx.scale, kept = groups, num_heads, 1.0, []
        for group in groups.parts:
            heads = _by_head(rows, group, num_heads).clone(memory_format=torch.contiguous_format).flatten(1, 2)
            heads[0].mul_((width // num_heads) ** -0.5)
            scores = torch.bmm(heads[0], heads[1].transpose(1, 2))
            if group.key_mask is not None:
                bias = scores.new_zeros(group.key_mask.shape).masked_fill_(~group.key_mask, -torch.inf)
                scores.view(group.batch, num_heads, group.length, -1).add_(bias)
            shares = torch.softmax(scores, -1)
            kept += [heads, shares]
            if rate > 0:
                mask, ctx.scale = dropper.keep(shares, rate)
                kept.append(mask)
                shares = shares * mask
            out = torch.bmm(shares, heads[2]).mul_(ctx.scale) if rate > 0 else torch.bmm(shares, heads[2])
            _rows(context, group, num_heads).copy_(out.view(group.batch, num_heads, group.length, -1))
        ctx.save_for_backward(*kept)
        ctx.has_masks = rate > 0
        return context if groups.restore is None else context.index_select(0, groups.restore)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        groups, num_heads, kept = ctx.groups, ctx.num_heads, iter(ctx.saved_tensors)
        if groups.restore is not None:
            grad = grad.new_zeros(len(groups.gather), grad.shape[1]).index_copy_(0, groups.restore, grad)
        grad = grad.contiguous()
        d_rows = grad.new_empty(len(grad), 3 * grad.shape[1])
        for group in groups.parts:
            heads, shares = next(kept), next(kept)
            mask = next(kept) if ctx.has_masks else None
            d_out = _rows(grad, group, num_heads).reshape(heads.shape[1:])
            d_heads = _products_backward(d_out * ctx.scale if ctx.has_masks else d_out, heads, shares, mask)
            _by_head(d_rows, group, num_heads).copy_(d_heads.view(3, group.batch, num_heads, group.length, -1))
        d_qkv = d_rows if groups.restore is None else d_rows.index_select(0, groups.restore)
        return d_qkv, None, None, None, None


def _rows(context: torch.Tensor, group: Group, num_heads: int) -> torch.Tensor:
    """The rows of a group, seen as (batch, H, length, K)."""
    return context[group.start : group.stop].view(group.batch, group.length, num_heads, -1).transpose(1, 2)


def _products_backward(
    d_out: torch.Tensor, heads: torch.Tensor, shares: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """Gradients of scaled queries, keys and values, (3, batch * H, length, K)."""
    query, key, value = heads
    d_heads = torch.empty_like(heads)
    dropped = shares if mask is None else shares * mask
    torch.bmm(dropped.transpose(1, 2), d_out, out=d_heads[2])
    d_shares = torch.bmm(d_out, value.transpose(1, 2))
    if mask is not None:
        d_shares.mul_(mask)
    d_scores = torch._softmax_backward_data(d_shares, shares, -1, shares.dtype)
    torch.bmm(d_scores, key, out=d_heads[0])
    d_heads[0].mul_(heads.shape[-1] ** -0.5)
    torch.bmm(d_scores.transpose(1, 2), query, out=d_heads[1])
    return d_heads


class _ToGroups(torch.autograd.Function):
    """Packed rows to padded groups. The gradient of a padding row is 0, so going back is a gather, not a sum."""

    @staticmethod
    def forward(ctx: Any, packed: torch.Tensor, gather: torch.Tensor, restore: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(restore)
        return packed.index_select(0, gather)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        (restore,) = ctx.saved_tensors
        return grad.index_select(0, restore), None, None


class _FromGroups(torch.autograd.Function):
    """Padded groups to packed rows; padding rows get a gradient of 0."""

    @staticmethod
    def forward(ctx: Any, padded: torch.Tensor, gather: torch.Tensor, restore: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(restore)
        ctx.num_rows = len(gather)
        return padded.index_select(0, restore)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        (restore,) = ctx.saved_tensors
        rows = grad.new_zeros(ctx.num_rows, grad.shape[1])
        return rows.index_copy_(0, restore, grad), None, None
