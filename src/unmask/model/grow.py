"""A trained network as the start of a wider, deeper or longer one that computes nearly the same."""

import re
from collections.abc import Mapping

import torch

from unmask.errors import UsageError
from unmask.model.config import EncoderConfig
from unmask.model.convert import StateDict

SIZES = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size", "max_length")
_POSITIONS = "encoder.embeddings.position.weight"
_TABLES = ("encoder.embeddings.word.weight", _POSITIONS, "encoder.embeddings.token_type.weight")
_TRANSFORM = ("head.dense.weight", "head.dense.bias")
_WRITERS = ("attention_out.weight", "down.weight")
_LAYER = re.compile(r"encoder\.layers\.(\d+)\.(.+)")


def grow(
    small: Mapping[str, torch.Tensor], fresh: Mapping[str, torch.Tensor], *, old: EncoderConfig, new: EncoderConfig
) -> StateDict:
    """Put the weights of a small network into a larger one, so that it begins where the small one ended.

    New coordinates, heads and units read with random weights and write zeros: they change nothing at first, and learn
    from the first step. Three places need more than that:

    * A LayerNorm with zeros among its inputs is scaled by sqrt(d / D). That is exact where the mean of the old inputs
      is 0, as it nearly is within the layers. Behind the embeddings and GELU it is not: there the new inputs are copies
      of old ones, which keep mean and variance (Net2Net, Chen et al. 2016), and the norm's new weights are 0.
    * An added layer copies the one below it but for what that writes (LLaMA Pro, Wu et al. 2024), and its norms are
      uniform, with the size that gives them back what they get.
    * Positions behind the old ones are copies of these, block by block (Longformer, Beltagy et al. 2020, section 5).

    Args:
        small: weights of the encoder, and of its masked-language-model head if it has one, under the names of memory.
        fresh: all weights of the larger network, drawn at random; neither argument is changed.
        old: sizes of the small one, of width d.
        new: sizes of the large one, of width D.

    Returns:
        Weights of the large one, float32; names that the small one lacks are left out.

    Raises:
        UsageError: a size would shrink, or the width of an attention head change.
    """
    _refuse_misfits(old, new)
    grown = {}
    for name, canvas in fresh.items():
        origin, is_added = _origin(name, old, new)
        if origin in small:
            source = _quiet(origin, small) if is_added else small[origin]
            grown[name] = _enlarged(name, source.float(), canvas.float(), old, new)
    return grown


def _enlarged(
    name: str, source: torch.Tensor, canvas: torch.Tensor, old: EncoderConfig, new: EncoderConfig
) -> torch.Tensor:
    """One tensor in its new size: the old values at the front, and behind them what the rules of `grow` say."""
    copies = _copies(old.hidden_size, new.hidden_size)
    if name in _TABLES:
        rows = source[_old_positions(old, new)] if name == _POSITIONS else source
        return rows[:, copies]
    if name in _TRANSFORM:
        return _placed(source[copies], torch.zeros_like(canvas))
    if name.endswith("norm.weight"):
        is_within = name.startswith("encoder.layers.")
        scale = (old.hidden_size / new.hidden_size) ** 0.5 if is_within else 1.0
        return _placed(source * scale, canvas if is_within else torch.zeros_like(canvas))
    if ".qkv." in name:  # three matrices, one below the other
        return torch.cat([_placed(*pair) for pair in zip(source.chunk(3), canvas.chunk(3), strict=True)])
    return _placed(source, torch.zeros_like(canvas) if name.endswith(_WRITERS) else canvas)


def _placed(source: torch.Tensor, canvas: torch.Tensor) -> torch.Tensor:
    """A copy of the canvas with the source in its corner."""
    canvas = canvas.clone()
    canvas[tuple(slice(size) for size in source.shape)] = source
    return canvas


def _copies(old: int, new: int) -> torch.Tensor:
    """(new,) int64, the old coordinate of each: all of them, then copies in a random order."""
    order = torch.randperm(old, generator=torch.Generator().manual_seed(0))
    return torch.cat([torch.arange(old), order[torch.arange(new - old) % old]])


def _old_positions(old: EncoderConfig, new: EncoderConfig) -> torch.Tensor:
    """(new.num_positions,) int64, the row of the old position table for each row of the new one."""
    offset = old.position_offset
    return torch.cat([torch.arange(offset), offset + torch.arange(new.max_length) % old.max_length])


def _origin(name: str, old: EncoderConfig, new: EncoderConfig) -> tuple[str, bool]:
    """The name of the tensor that this one comes from, and whether its layer is added; new layers lie evenly spread."""
    found = _LAYER.fullmatch(name)
    if not found:
        return name, False
    layer = int(found[1])
    below, here = ((at * old.num_hidden_layers) // new.num_hidden_layers for at in (layer - 1, layer))
    return f"encoder.layers.{here}.{found[2]}", below == here


def _quiet(origin: str, small: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """A tensor of a layer that gives back what it gets: it writes zeros, and its norms undo their own division."""
    source = small[origin]
    layer, _, part = origin.rpartition("layers.")[2].partition(".")
    if part.startswith(("attention_out.", "down.")):
        return torch.zeros_like(source)
    if "norm." not in part:
        return source
    weight, bias = (small[f"encoder.layers.{layer}.norm.{kind}"].float() for kind in ("weight", "bias"))
    size = (weight.square().mean() + bias.var()).sqrt() if part.endswith("weight") else bias.mean()
    return size.expand_as(source)


def _refuse_misfits(old: EncoderConfig, new: EncoderConfig) -> None:
    sizes = [(name, getattr(old, name), getattr(new, name)) for name in SIZES]
    heads = [config.hidden_size // config.num_attention_heads for config in (old, new)]
    faults = [f"{name} {after}, the model has {before}" for name, before, after in sizes if after < before]
    if heads[0] != heads[1]:
        faults.append(f"attention heads of width {heads[1]}, the model's have {heads[0]}")
    if faults:
        raise UsageError(
            "cannot-grow",
            f"a network grows in its sizes, and keeps the width of its heads: {'; '.join(faults)}",
            place="[model]",
            remedy="ask for larger sizes with hidden_size / num_attention_heads as it is, or leave the shape out",
        )
