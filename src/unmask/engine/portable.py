"""The encoder by torch's operators, in any precision, on any processor: twin and stand-in of the kernels."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

from unmask.model.encoder import Encoder, Layer

PRODUCTS = ("qkv", "attention_out", "up", "down")
_READERS = {"qkv": "attention_out", "up": "down"}  # products, by the one whose result they read
_LEVELS = 127
_LEAST = 1e-32
_STEPS = 254  # of a row; a byte has one more, in case both of its ends are rounded outwards


class Bfloat16Linear(nn.Module):
    """A linear layer whose product is of bfloat16 numbers; its sums are float32.

    Args:
        linear: float32 weights.
        is_narrow: give the output in bfloat16, to which it is rounded anyway, and not in the format of the input.
    """

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, linear: nn.Linear, *, is_narrow: bool = False) -> None:
        super().__init__()
        self.is_narrow = is_narrow
        self.register_buffer("weight", linear.weight.detach().bfloat16())
        self.register_buffer("bias", linear.bias.detach().bfloat16())

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(..., in) to (..., out)."""
        product = F.linear(input.bfloat16(), self.weight, self.bias)
        return product if self.is_narrow else product.to(input.dtype)


class Int8Linear(nn.Module):
    """A linear layer of int8 numbers: weights by a scale an output, rows by their own, sums in int32.

    A row's bytes reach from its least number to its greatest, for what GELU gives is hardly ever negative. No row's
    scale depends on another row, so an answer does not depend on its neighbours in the batch.

    Args:
        linear: float32 weights.
    """

    weight: torch.Tensor
    scale: torch.Tensor
    sums: torch.Tensor
    bias: torch.Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()
        scale = weight.abs().amax(1).div(_LEVELS)
        scale = torch.where(scale > 0, scale, torch.ones(()))
        self.register_buffer("weight", torch.round(weight / scale[:, None]).to(torch.int8).t())
        self.register_buffer("sums", self.weight.sum(0, dtype=torch.int32))
        self.register_buffer("scale", scale)
        self.register_buffer("bias", linear.bias.detach().clone())

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(T, in) to (T, out)."""
        low, high = input.amin(1, keepdim=True).clamp(max=0), input.amax(1, keepdim=True).clamp(min=0)
        scale = (high - low).div(_STEPS)
        factor = torch.where(scale > _LEAST, scale.reciprocal(), torch.zeros(()))
        zero = torch.round(-low * factor) - 128  # the byte of 0, in signed bytes
        given = torch.round(input * factor) + zero
        sums = torch._int_mm(given.to(torch.int8), self.weight) - zero.to(torch.int32) * self.sums
        return torch.addcmul(self.bias, sums.to(input.dtype), scale * self.scale)


_KINDS: dict[str, type[Bfloat16Linear | Int8Linear]] = {"bfloat16": Bfloat16Linear, "int8": Int8Linear}


def lowered(linear: nn.Linear, precision: str) -> nn.Module:
    """A float32 linear layer in bfloat16 or int8."""
    return _KINDS[precision](linear)


def change_products(
    encoder: Encoder, precision: str, *, keep: Mapping[str, str] | None = None, is_narrow: bool = False
) -> Encoder:
    """Replace an encoder's linear layers by ones of another precision, in place; everything else stays float32.

    Args:
        encoder: float32 weights; those that are replaced are freed.
        precision: float32, bfloat16 or int8.
        keep: products in another format, such as {"3.down": "bfloat16"}: number of the layer, name in `Layer`.
        is_narrow: leave what passes between two bfloat16 products in bfloat16, as a card's flash attention wants it.
            It was rounded to that already; new is that attention multiplies in it too, as the kernels' does.
    """
    for number, layer in enumerate(encoder.layers):
        assert isinstance(layer, Layer), "the encoder is made of these alone"
        kinds = {name: (keep or {}).get(f"{number}.{name}", precision) for name in PRODUCTS}
        for name, kind in kinds.items():
            product = getattr(layer, name)
            if is_narrow and kind == kinds.get(_READERS.get(name, "")) == "bfloat16":
                setattr(layer, name, Bfloat16Linear(product, is_narrow=True))
            elif kind != "float32":
                setattr(layer, name, lowered(product, kind))
    return encoder
