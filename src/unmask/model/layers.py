"""The small parts of the network: layers that compute in the format of their input, dropout, the random start."""

import torch
import torch.nn.functional as F
from torch import nn


class Linear(nn.Linear):
    """A linear layer that casts its fp32 weights to the format of its input."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(..., in) to (..., out)."""
        return F.linear(input, self.weight.to(input.dtype), self.bias.to(input.dtype))


class LayerNorm(nn.LayerNorm):
    """A LayerNorm with fp32 weights and statistics, whatever the format of its input."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(..., D) to (..., D)."""
        if input.is_cuda and input.dtype != self.weight.dtype:  # the CPU kernel takes fp32 weights with bf16 input
            wide = F.layer_norm(input.float(), self.normalized_shape, self.weight, self.bias, self.eps)
            return wide.to(input.dtype)
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)


def add_norm(update: torch.Tensor, residual: torch.Tensor, norm: LayerNorm, dropout: float) -> torch.Tensor:
    """Post-LN: norm(residual + dropout(update)), rows of shape (T, D)."""
    return norm(residual + F.dropout(update, dropout))


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
