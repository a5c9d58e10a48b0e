"""A trained network as the start of a wider, deeper or longer one that computes nearly the same."""

import re
from collections.abc import Mapping

import torch

from unmask.errors import UsageError
from unmask.model.config import EncoderConfig
from unmask.model.convert import StateDict
from unmask.model.places import with_continued

SIZES = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size", "max_length")
POSITIONS = "encoder.embeddings.position.weight"
_TABLES = ("encoder.embeddings.word.weight", POSITIONS, "encoder.embeddings.token_type.weight")
_TRANSFORM = ("head.dense.weight", "head.dense.bias")
_WRITERS = ("attention_out.weight", "down.weight")
_READERS = ("qkv", "up")
_LAYER = re.compile(r"encoder\.layers\.(\d+)\.(.+)")


def grow(
    small: Mapping[str, torch.Tensor],
    fresh: Mapping[str, torch.Tensor],
    *,
    old: EncoderConfig,
    new: EncoderConfig,
    places: int | None = None,
) -> StateDict:
    """Put the weights of a small network into a larger one, so that it begins where the small one ended.

    New coordinates, heads and units read with random weights and write zeros: they change nothing at first, and learn
    from the first step. Three places need more than that:

    * A LayerNorm with zeros among its inputs is scaled by sqrt(d / D). That is exact where the mean of the old inputs
      is 0, as it nearly is within the layers. Behind the embeddings and GELU it is not: there the new inputs are copies
      of old ones (Net2Net, Chen et al. 2016), which keep mean and variance, exactly where D is a multiple of d; the
      norm's new weights are 0.
    * An added layer copies the one below it but for what that writes (LLaMA Pro, Wu et al. 2024). Behind a norm of its
      own a post-LN layer gives back only what is normalised: so the weights of the norm below move into those that read
      it, and into the norm of the last layer that was added. Depth alone changes nothing.
    * Positions behind the old ones go on as these turn, see `unmask.model.places`.

    Args:
        small: weights of the encoder, and of its masked-language-model head if it has one, under the names of memory.
        fresh: all weights of the larger network, drawn at random; neither argument is changed.
        old: sizes of the small one, of width d.
        new: sizes of the large one, of width D.
        places: how many of the old places were learned; all by default.

    Returns:
        Weights of the large one, float32; names that the small one lacks are left out.

    Raises:
        UsageError: a size would shrink, or the width of an attention head change.
    """
    _refuse_misfits(old, new)
    deep = _deepened(small, old.num_hidden_layers, new.num_hidden_layers)
    known = old.max_length if places is None else places
    if new.max_length > known:
        added = range(known, new.max_length)
        deep[POSITIONS] = with_continued(deep[POSITIONS], offset=old.position_offset, places=added)
    return {
        name: _enlarged(name, deep[name].float(), canvas.float(), old, new)
        for name, canvas in fresh.items()
        if name in deep
    }


def _deepened(small: Mapping[str, torch.Tensor], old: int, new: int) -> StateDict:
    """The same function with more layers, which lie evenly spread: each behind the old one that it copies."""
    origins = [layer * old // new for layer in range(new)]
    deep = {name: tensor for name, tensor in small.items() if not _LAYER.fullmatch(name)}
    for layer, origin in enumerate(origins):
        is_added = layer > 0 and origins[layer - 1] == origin
        is_last = layer + 1 == new or origins[layer + 1] != origin
        prefix = f"encoder.layers.{origin}."
        parts = {name.removeprefix(prefix): tensor for name, tensor in small.items() if name.startswith(prefix)}
        made = (_silent(parts) if is_added else dict(parts)) | (_plain("norm", parts) if not is_last else {})
        deep |= {f"encoder.layers.{layer}.{part}": tensor for part, tensor in made.items()}
    return deep


def _silent(parts: Mapping[str, torch.Tensor]) -> StateDict:
    """A copy of a layer that writes nothing and reads normalised states, where the layer read those behind its norm."""
    made = dict(parts) | _plain("attention_norm", parts)
    weight, bias = parts["norm.weight"].float(), parts["norm.bias"].float()
    for name in _READERS:
        matrix = parts[f"{name}.weight"].float()
        made |= {f"{name}.weight": matrix * weight, f"{name}.bias": parts[f"{name}.bias"].float() + matrix @ bias}
    for name in ("attention_out", "down"):
        made |= {f"{name}.{kind}": torch.zeros_like(parts[f"{name}.{kind}"]) for kind in ("weight", "bias")}
    return made


def _plain(norm: str, parts: Mapping[str, torch.Tensor]) -> StateDict:
    """A norm that normalises and does no more."""
    weight, bias = f"{norm}.weight", f"{norm}.bias"
    return {weight: torch.ones_like(parts[weight]), bias: torch.zeros_like(parts[bias])}


def _enlarged(
    name: str, source: torch.Tensor, canvas: torch.Tensor, old: EncoderConfig, new: EncoderConfig
) -> torch.Tensor:
    """One tensor in its new size: the old values at the front, and behind them what the rules of `grow` say."""
    copies = _copies(old.hidden_size, new.hidden_size)
    if name in _TABLES:
        return source[:, copies]
    if name in _TRANSFORM:
        return _placed(source[copies], torch.zeros_like(canvas))
    if name.endswith("norm.weight"):
        if not name.startswith("encoder.layers."):
            return _placed(source, torch.zeros_like(canvas))
        scaled = source * (old.hidden_size / new.hidden_size) ** 0.5
        # as large as the old ones: with larger ones gradients grow from layer to layer on their way down
        return _placed(scaled, torch.full_like(canvas, float(scaled.mean())))
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


def _refuse_misfits(old: EncoderConfig, new: EncoderConfig) -> None:
    faults = [
        f"{name} {getattr(new, name)} is below the model's {getattr(old, name)}"
        for name in SIZES
        if getattr(new, name) < getattr(old, name)
    ]
    width = old.hidden_size // old.num_attention_heads
    if not faults and new.hidden_size != width * new.num_attention_heads:
        faults.append(f"num_attention_heads {new.num_attention_heads} where heads as wide as the model's need "
                      f"{new.hidden_size / width:g} of hidden_size {new.hidden_size}")  # fmt: skip
    if faults:
        raise UsageError(
            "cannot-grow",
            f"a network can only grow, and its heads stay as wide as they are: {'; '.join(faults)}",
            place="[model]",
            remedy="give larger sizes; or none, with a recipe that has none, such as --recipe continue",
        )
