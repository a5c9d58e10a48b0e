"""One table between the names in memory (fused qkv) and the published names, read in both directions."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch

from unmask.errors import ArtefactError
from unmask.model.config import EncoderConfig, Family, Head

StateDict = dict[str, torch.Tensor]

_EMBEDDINGS = {
    "word.weight": "word_embeddings.weight",
    "position.weight": "position_embeddings.weight",
    "token_type.weight": "token_type_embeddings.weight",
    "norm.weight": "LayerNorm.weight",
    "norm.bias": "LayerNorm.bias",
}
_LAYER = {
    "attention_out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "norm": "output.LayerNorm",
}
_DECODER_LAYER = _LAYER | {
    "cross_query": "crossattention.self.query",
    "cross_out": "crossattention.output.dense",
    "cross_norm": "crossattention.output.LayerNorm",
}
_DECODER = "decoder."
_DECODER_LAYERS = re.compile(r"(?:head\.layers|decoder\.\w+\.encoder\.layer)\.(\d+)\.")
_HEADS: dict[tuple[bool, Head], dict[str, str]] = {  # by (BERT form?, head)
    (False, "masked_lm"): {"dense": "lm_head.dense", "norm": "lm_head.layer_norm", "bias": "lm_head.bias"},
    (True, "masked_lm"): {
        "dense": "cls.predictions.transform.dense",
        "norm": "cls.predictions.transform.LayerNorm",
        "bias": "cls.predictions.bias",
    },
    (False, "classification"): {"dense": "classifier.dense", "out": "classifier.out_proj"},
    (True, "classification"): {"dense": "pooler.dense", "out": "classifier"},
    (False, "tagging"): {"out": "classifier"},
    (True, "tagging"): {"out": "classifier"},
    (False, "span_qa"): {"out": "qa_outputs"},
    (True, "span_qa"): {"out": "qa_outputs"},
    (False, "multiple_choice"): {"dense": "pooler.dense", "out": "classifier"},
    (True, "multiple_choice"): {"dense": "pooler.dense", "out": "classifier"},
}
# Heads on the mean of all states. Under a published name they would be read as heads on the first state.
_MEAN_HEADS: dict[Head, dict[str, str]] = {
    "classification": {"dense": "mean_classifier.dense", "out": "mean_classifier.out_proj"},
    "multiple_choice": {"dense": "mean_choice.dense", "out": "mean_choice.out_proj"},
}
# A conditional random field on a tagger's words, where there is one; transformers has no place for it.
_CHAIN = ("transitions", "start", "end")
_BODIES: dict[Family, str] = {"roberta": "roberta.", "xlm-roberta": "roberta.", "bert": "bert."}
_BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")
_OTHER_HEADS = ("lm_head.", "cls.", "classifier.", "mean_classifier.", "mean_choice.", "qa_outputs.", "crf.")
_OTHER_PARTS = ("pooler.", *_OTHER_HEADS, _DECODER)
_OLD_NAMES = {".gamma": ".weight", ".beta": ".bias"}  # TensorFlow's names of LayerNorm's two vectors


@dataclass(frozen=True, slots=True)
class Converted:
    """Weights under the names of memory, and what did not fit.

    Attributes:
        state_dict: fp32 tensors, `encoder.*` whole, `head.*` as far as it was found.
        head: the head that was looked for or found; None for an encoder alone.
        missing: names in memory that the file has no weights for; only ever of the head.
        unused: published names of other parts of the model, such as the head of another task.
        unknown: published names that belong to no known part.
    """

    state_dict: StateDict
    head: Head | None
    missing: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def published_names(config: EncoderConfig, head: Head | None, held: Iterable[str] = ()) -> dict[str, tuple[str, ...]]:
    """The table: name in memory -> its published name, or the three that are fused into it, without `roberta.`/`bert.`.

    Args:
        config: gives the number of layers and the family.
        head: whose names to add; None for the encoder alone.
        held: all names of the weights, of either kind, which tell how many layers a decoder has.
    """
    names = _embedding_names("encoder.embeddings", "embeddings")
    for index in range(config.num_hidden_layers):
        names |= _layer_names(f"encoder.layers.{index}", f"encoder.layer.{index}", _LAYER)
    if head == "seq2seq":
        return names | _decoder_names(config, list(held))
    for a, b in _head_names(config, head).items():
        if a == "bias":
            names["head.bias"] = (b,)
        else:
            names |= {f"head.{a}.{kind}": (f"{b}.{kind}",) for kind in ("weight", "bias")}
    if head == "tagging" and any(name.endswith("crf.transitions") for name in held):
        names |= {f"head.crf.{part}": (f"crf.{part}",) for part in _CHAIN}
    return names


def to_hf(state_dict: Mapping[str, torch.Tensor], config: EncoderConfig, head: Head | None = None) -> StateDict:
    """Give the weights their published names, fp32, each with its own memory.

    A decoder is written under the names that it has in transformers' EncoderDecoderModel, beside a bare encoder.

    Args:
        state_dict: all of `encoder.*`, and `head.*` of the given head.
        config: of the encoder.
        head: which head the weights hold; None leaves out the prefix, as a bare published encoder does.

    Raises:
        KeyError: a weight is missing.
        ValueError: a weight has a name that is not in the table.
    """
    names = published_names(config, head, state_dict)
    if extra := sorted(set(state_dict) - set(names)):
        raise ValueError(f"no published name for {', '.join(extra)}")
    body = _BODIES[config.family] if head not in (None, "seq2seq") else ""
    published = {}
    for ours, theirs in names.items():
        for name, part in zip(theirs, state_dict[ours].detach().chunk(len(theirs)), strict=True):
            is_body = name.startswith(("embeddings.", "encoder.", "pooler."))
            published[body + name if is_body else name] = part.to("cpu", torch.float32, copy=True).contiguous()
    return published


def from_hf(
    published: Mapping[str, torch.Tensor], config: EncoderConfig, head: Head | None = None, *, place: object = None
) -> Converted:
    """Read published weights of any of the three families, with or without prefix, also under old names.

    Args:
        published: tensors as a model.safetensors holds them.
        config: what config.json says.
        head: the head that is wanted; None takes the one that the weights have.
        place: the file, for error messages.

    Raises:
        ArtefactError: a weight of the encoder is missing, or has no place in the network, shapes differ from
            config.json, or the MLM head is not tied to the word table.
    """
    weights = {_plain(name): tensor for name, tensor in published.items()}
    if head is None:
        head = found_head(weights, config)
    _untie(weights, config, place)
    if head == "seq2seq" and not _has_decoder(weights):  # the output begins as the masked language model's
        masked_lm = tuple(_head_names(config, "masked_lm").values())
        weights |= {_DECODER + name: weights.pop(name) for name in list(weights) if name.startswith(masked_lm)}
    names = published_names(config, head, weights)
    absent = {ours: theirs for ours, theirs in names.items() if not all(name in weights for name in theirs)}
    if lost := [name for ours, theirs in absent.items() if ours.startswith("encoder.") for name in theirs]:
        raise ArtefactError(
            "missing-weights",
            f"{len(lost)} weights of the encoder are missing: {', '.join(lost[:10])}",
            place=place,
            remedy="copy the published folder again; config.json and the weights must belong together",
        )
    known = {ours: theirs for ours, theirs in names.items() if ours not in absent}
    _check_shapes(weights, known, config, place)
    state_dict = {ours: _fuse([weights.pop(name) for name in theirs]) for ours, theirs in known.items()}
    rest = sorted(name for name in weights if name not in _BUFFERS)
    if extra := [name for name in rest if name.startswith(("encoder.", "embeddings."))]:
        raise ArtefactError(
            "unknown-weights",
            f"{len(extra)} weights of the encoder have no place in this network: {', '.join(extra[:10])}",
            place=place,
            remedy="use the config.json that belongs to these weights; without them the answers would be others",
        )
    unused = [name for name in rest if name.startswith(_OTHER_PARTS)]
    return Converted(state_dict, head, list(absent), unused, [name for name in rest if name not in unused])


def found_head(weights: Mapping[str, torch.Tensor], config: EncoderConfig) -> Head | None:
    """The head that published weights hold: a decoder, the MLM head, a classifier of this family, or none."""
    if _has_decoder(weights):
        return "seq2seq"
    parts: dict[Head, str] = {"masked_lm": "dense", "classification": "out"}
    if config.pools_mean("multiple_choice"):  # elsewhere its names are those of other heads too
        parts["multiple_choice"] = "out"
    for head, part in parts.items():
        if f"{_head_names(config, head)[part]}.weight" in weights:
            return head
    return None


def _head_names(config: EncoderConfig, head: Head | None) -> dict[str, str]:
    if head is not None and config.pools_mean(head):
        return _MEAN_HEADS[head]
    return _HEADS[config.family == "bert", head] if head else {}


def _embedding_names(mine: str, theirs: str) -> dict[str, tuple[str, ...]]:
    return {f"{mine}.{a}": (f"{theirs}.{b}",) for a, b in _EMBEDDINGS.items()}


def _layer_names(mine: str, theirs: str, parts: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    names: dict[str, tuple[str, ...]] = {}
    for kind in ("weight", "bias"):
        names[f"{mine}.qkv.{kind}"] = tuple(f"{theirs}.attention.self.{a}.{kind}" for a in ("query", "key", "value"))
        names |= {f"{mine}.{a}.{kind}": (f"{theirs}.{b}.{kind}",) for a, b in parts.items()}
    return names


def _decoder_names(config: EncoderConfig, held: list[str]) -> dict[str, tuple[str, ...]]:
    body = _DECODER + _BODIES[config.family]
    names: dict[str, tuple[str, ...]] = {}
    if any(name.startswith(("head.embeddings.", f"{body}embeddings.")) for name in held):
        names |= _embedding_names("head.embeddings", f"{body}embeddings")
    depth = 1 + max((int(found[1]) for name in held if (found := _DECODER_LAYERS.match(name))), default=-1)
    for index in range(depth):
        mine, theirs = f"head.layers.{index}", f"{body}encoder.layer.{index}"
        names |= _layer_names(mine, theirs, _DECODER_LAYER)
        for kind in ("weight", "bias"):
            pair = (f"{theirs}.crossattention.self.{part}.{kind}" for part in ("key", "value"))
            names[f"{mine}.cross_kv.{kind}"] = tuple(pair)
    for a, b in _head_names(config, "masked_lm").items():
        kinds = ("",) if a == "bias" else (".weight", ".bias")
        names |= {f"head.lm.{a}{kind}": (f"{_DECODER}{b}{kind}",) for kind in kinds}
    return names


def _has_decoder(weights: Iterable[str]) -> bool:
    return any(name.startswith(_DECODER) for name in weights)


def _plain(name: str) -> str:
    """A published name without prefix, under today's spelling."""
    for prefix in ("module.", "roberta.", "bert."):
        name = name.removeprefix(prefix)
    for old, new in _OLD_NAMES.items():
        if name.endswith(old):
            name = name.removesuffix(old) + new
    return name


def _fuse(parts: list[torch.Tensor]) -> torch.Tensor:
    wide = [part.to(torch.float32) for part in parts]
    return wide[0] if len(wide) == 1 else torch.cat(wide)


def _untie(weights: StateDict, config: EncoderConfig, place: object) -> None:
    """Drop the copies that the tied head keeps of the word table and of its bias, after a look at them."""
    bias = _HEADS[config.family == "bert", "masked_lm"]["bias"]
    stem = f"{bias.removesuffix('bias')}decoder"
    pairs = ((f"{stem}.weight", "embeddings.word_embeddings.weight"), (f"{stem}.bias", bias))
    for copied, original in pairs:
        copy = weights.pop(copied, None)
        if copy is None:
            continue
        if not torch.equal(copy, weights.setdefault(original, copy)):
            raise ArtefactError(
                "untied-head",
                f"{copied} differs from {original}, and this network has one tensor for both",
                place=place,
                remedy="use weights whose MLM head is tied to the word table, as RoBERTa's is",
            )


def _check_shapes(weights: StateDict, names: dict[str, tuple[str, ...]], config: EncoderConfig, place: object) -> None:
    faults = []
    for ours, theirs in names.items():
        want = _shape(ours, config)
        for name in theirs:
            have = tuple(weights[name].shape)
            if len(have) != len(want) or any(w not in (-1, h) for w, h in zip(want, have, strict=True)):
                faults.append(f"{name}: {list(have)}, config.json says {['any' if w < 0 else w for w in want]}")
    if faults:
        raise ArtefactError(
            "shape-mismatch",
            f"{len(faults)} weights have another shape than config.json says:\n    " + "\n    ".join(faults[:10]),
            place=place,
            remedy="use the config.json that belongs to these weights",
        )


def _shape(name: str, config: EncoderConfig) -> tuple[int, ...]:
    """The published shape of a weight; -1 for the number of classes, which config.json need not say."""
    width, inner = config.hidden_size, config.intermediate_size
    layer, _, kind = name.rpartition(".")
    if layer == "head.crf":
        return (-1, -1) if kind == "transitions" else (-1,)
    part = layer.rpartition(".")[2]
    others = {
        "word": config.vocab_size,
        "position": config.num_positions,
        "token_type": config.type_vocab_size,
        "head": config.vocab_size,
        "lm": config.vocab_size,
        "up": inner,
        "out": -1,
    }
    rows = others.get(part, width)
    if kind == "bias" or part in ("norm", "attention_norm", "cross_norm"):
        return (rows,)
    return (rows, inner if part == "down" else width)
