"""The small parts of the network: layers that compute in the format of their input, dropout, the random start."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

_HAS_ONEDNN: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
_LEVELS = 1 << 16  # a dropout decision takes 16 random bits


class Linear(nn.Linear):
    """A linear layer that casts its fp32 weights to the format of its input."""

    def reset_parameters(self) -> None:
        """Draw random weights, but for a layer without memory, whose weights are put into it later."""
        if not self.weight.is_meta:
            super().reset_parameters()

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(..., in) to (..., out)."""
        return F.linear(input, self.weight.to(input.dtype), self.bias.to(input.dtype))


def times_table(hidden: torch.Tensor, table: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Logits of a whole vocabulary; where nothing is trained on a CPU, by oneDNN, on AMD faster than torch's MKL.

    Args:
        hidden: (M, D).
        table: (V, D), of the same format.
        bias: (V,), likewise.

    Returns:
        (M, V) of that format.
    """
    is_learning = torch.is_grad_enabled() and (hidden.requires_grad or table.requires_grad or bias.requires_grad)
    is_exact = hidden.device.type == "cpu" and hidden.dtype == torch.float32
    if is_exact and len(hidden) and not is_learning and _HAS_ONEDNN:
        logits: torch.Tensor = torch.ops.mkldnn._linear_pointwise(hidden, table, bias, "none", [], "")
        return logits
    return F.linear(hidden, table, bias)


class Embedding(nn.Embedding):
    """A table of vectors."""

    def reset_parameters(self) -> None:
        """Draw random vectors, but for a table without memory."""
        if not self.weight.is_meta:
            super().reset_parameters()


class LayerNorm(nn.LayerNorm):
    """A LayerNorm with fp32 weights and statistics, whatever the format of its input."""

    def reset_parameters(self) -> None:
        """Set weights to 1 and biases to 0, but for a layer without memory."""
        if not self.weight.is_meta:
            super().reset_parameters()

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(..., D) to (..., D)."""
        if input.is_cuda and input.dtype != self.weight.dtype:  # the CPU kernel takes fp32 weights with bf16 input
            wide = F.layer_norm(input.float(), self.normalized_shape, self.weight, self.bias, self.eps)
            return wide.to(input.dtype)
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)


class Dropper:
    """Dropout masks for one forward pass on a CPU, from a generator many times faster than torch's `bernoulli_`.

    It is seeded from torch's own generator, so `torch.manual_seed` fixes it. The rate is rounded to a multiple of
    2**-16 and what is kept is scaled by exactly that rate, so the expectation is unbiased.
    """

    def __init__(self) -> None:
        self._source = np.random.SFC64(int(torch.randint(1 << 62, ()).item()))

    def keep(self, like: torch.Tensor, rate: float) -> tuple[torch.Tensor, float]:
        """Draw a mask.

        Args:
            like: gives shape and format.
            rate: share of zeros.

        Returns:
            Ones and zeros of the shape of `like`, and the factor by which the kept values grow.
        """
        dropped = round(rate * _LEVELS)
        words = self._source.random_raw(-(-like.numel() // 4))
        bits = torch.from_numpy(words).view(torch.int16)[: like.numel()].view(like.shape)
        mask = torch.empty_like(like, memory_format=torch.contiguous_format)
        return torch.ge(bits, dropped - _LEVELS // 2, out=mask), _LEVELS / (_LEVELS - dropped)


def dropout(hidden: torch.Tensor, rate: float, dropper: Dropper | None) -> torch.Tensor:
    """Set a share of values to 0 and scale the rest; with no dropper, torch's own way."""
    if dropper is None or rate == 0:
        return F.dropout(hidden, rate)
    mask, scale = dropper.keep(hidden, rate)
    return hidden * mask.mul_(scale)


def add_norm(
    update: torch.Tensor, residual: torch.Tensor, norm: LayerNorm, rate: float, dropper: Dropper | None = None
) -> torch.Tensor:
    """Post-LN: norm(residual + dropout(update)).

    Args:
        update: (T, D), what a block computed.
        residual: (T, D), what went into the block.
        norm: the LayerNorm that follows.
        rate: of dropout; 0 outside training.
        dropper: source of masks on a CPU; None takes torch's own dropout.
    """
    if dropper is None or rate == 0:
        return norm(residual + F.dropout(update, rate))
    mask, scale = dropper.keep(update, rate)
    rest = (norm.weight, norm.bias, norm.eps, mask, scale)
    out: torch.Tensor = _DropAddNorm.apply(update, residual, *rest)  # type: ignore[no-untyped-call]
    return out


def compute_dtype(weight: torch.Tensor) -> torch.dtype:
    """The format to compute in: autocast's where it is on, else that of the weights."""
    kind = weight.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype


def init_weights(module: nn.Module, *, std: float, seed: int) -> None:
    """Start at random as BERT does: N(0, std), biases 0, LayerNorms 1 and 0.

    Args:
        module: what to fill; its matrices are drawn in the order of its parameter names.
        std: standard deviation.
        seed: of a generator of its own, so that nothing else is disturbed.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.empty(parameter.shape).normal_(0, std, generator=generator))
            else:
                parameter.fill_(1.0 if name.endswith("norm.weight") else 0.0)


class _DropAddNorm(torch.autograd.Function):
    """norm(residual + scale * mask * update) in two kernels, and three on the way back."""

    @staticmethod
    def forward(ctx: Any, update: torch.Tensor, residual: torch.Tensor, *rest: Any) -> torch.Tensor:
        weight, bias, eps, mask, ctx.scale = rest
        total = torch.addcmul(residual, update, mask, value=ctx.scale)
        out, mean, rstd = torch.native_layer_norm(total, weight.shape, weight, bias, eps)
        ctx.save_for_backward(total, mean, rstd, weight, bias, mask)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        total, mean, rstd, weight, bias, mask = ctx.saved_tensors
        d_total, d_weight, d_bias = torch.ops.aten.native_layer_norm_backward(
            grad.contiguous(), total, weight.shape, mean, rstd, weight, bias, [True, True, True]
        )
        d_update = torch.addcmul(d_total.new_zeros(()), d_total, mask, value=ctx.scale)
        return d_update, d_total, d_weight, d_bias, None, None, None
