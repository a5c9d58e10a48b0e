"""Which engine computes, in which precision: as asked, as the processor can, and as measured."""

import json
import logging
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from unmask.data.batching import positions_of
from unmask.engine.compiled import VARIANTS, library
from unmask.engine.cuda_graphs import GraphedEncoder
from unmask.engine.native import NativeEncoder
from unmask.engine.onnx_size import fits
from unmask.engine.portable import change_products
from unmask.errors import ResourceError, UsageError
from unmask.model.config import EncoderConfig
from unmask.model.encoder import Encoder
from unmask.model.layout import Layout
from unmask.runtime import Machine, cache_folder, machine, processor
from unmask.storage import write_text
from unmask.tasks.base import Task

log = logging.getLogger("unmask")

Name = Literal["auto", "native", "onnx", "torch"]
Precision = Literal["auto", "float32", "bfloat16", "int8"]
NAMES: tuple[Name, ...] = ("native", "onnx", "torch")
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "int8")
_CARD_PRECISIONS = ("float32", "bfloat16")
_ONNX_PRECISIONS = ("float32", "int8")
_LENGTHS = (64, 48, 40, 32, 24, 16, 12, 8) * 4  # tokens of the texts that engines are measured on


@dataclass(frozen=True)
class Engine:
    """How a model's encoder is computed.

    Attributes:
        name: `native` (kernels of our own), `onnx` (onnxruntime) or `torch` (torch's operators).
        precision: format of the products: float32, bfloat16 or int8.
        threads: of one pass.
        note: why this one.
        keep: products in another format, such as {"3.down": "bfloat16"}.
    """

    name: str
    precision: str
    threads: int
    note: str
    keep: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        kept = f", {len(self.keep)} products kept more exact" if self.keep else ""
        return f"{self.name} {self.precision}{kept}, {self.threads} threads: {self.note}"


def choose(
    config: EncoderConfig,
    *,
    name: str = "auto",
    precision: str = "auto",
    certified: Mapping[str, str] = MappingProxyType({}),
    threads: int | None = None,
) -> Engine:
    """Choose an engine for a network.

    float32 is always right; a lower precision is taken without being asked for only in the engine that `certified`
    names for it, and only where a measurement of one layer (kept for the next time) says that it is faster here. In
    float32 the kernels are taken unmeasured where they run; without them, the other engines are measured.

    Args:
        config: shape of the network.
        name: `auto`, `native`, `onnx` or `torch`.
        precision: `auto`, `float32`, `bfloat16` or `int8`.
        certified: precisions whose accuracy has been measured for this model and found good, each with the engine that
            computed then.
        threads: of one pass; by default as many as torch has.

    Raises:
        UsageError: there is no such engine or precision.
        ResourceError: the engine, or the precision in it, does not run on this processor.
    """
    _check(name, NAMES, "engine")
    _check(precision, PRECISIONS, "precision")
    threads = threads or torch.get_num_threads()
    names = NAMES if name == "auto" else (name,)
    asked = [(one, "float32" if precision == "auto" else precision) for one in names]
    proven = [(one, kind) for kind, one in certified.items() if one in names and precision == "auto"]
    options = [one for one in (*asked, *proven) if runs(*one, config)]
    if not options:
        raise ResourceError(
            "no-engine",
            f"the engine '{name}' cannot compute in {precision} here: {why_not(name)}",
            remedy="take --engine auto --precision auto",
        )
    if ("native", "float32") in options:
        options = [one for one in options if one == ("native", "float32") or one[1] != "float32"]
    if len(options) == 1:
        return Engine(*options[0], threads, "as asked" if "auto" not in (name, precision) else "exact")
    speeds = _speeds(config, options, threads)
    best = max(options, key=lambda one: speeds[one])
    others = ", ".join(f"{one} {kind} {speeds[one, kind]:,.0f}" for one, kind in options if (one, kind) != best)
    return Engine(*best, threads, f"{speeds[best]:,.0f} tokens/s in one layer ({others})")


def choose_card(
    precision: str = "auto", *, certified: Mapping[str, str] = MappingProxyType({})
) -> tuple[Engine, Machine]:
    """Choose how a GPU computes: products in float32 or bfloat16, everything else in float32, as on the CPU.

    A certificate of bfloat16 from the compiled kernels holds here: their attention multiplies in bfloat16 too.

    Args:
        precision: `auto`, `float32` or `bfloat16`; `auto` takes bfloat16 where it is certified and the card has it.
        certified: as for `choose`.

    Returns:
        The engine, and the machine that computes what it leaves as it is.

    Raises:
        ResourceError: there is no GPU, or none that computes in this precision.
    """
    if precision not in ("auto", *_CARD_PRECISIONS):
        raise ResourceError(
            "no-engine",
            f"a GPU does not compute in {precision} here",
            remedy="take --precision bfloat16, or --device cpu",
        )
    where = machine("float32", "cuda")
    if precision == "auto":
        is_better = certified.get("bfloat16") == "native" and machine("auto", "cuda").dtype == torch.bfloat16
        precision = "bfloat16" if is_better else "float32"
    return Engine("torch", precision, where.threads, f"on {where.name}"), where


def runs(name: str, precision: str, config: EncoderConfig) -> bool:
    """Whether an engine can compute a network in a precision here."""
    if name == "torch":
        return True
    if name == "onnx":
        is_there = precision in _ONNX_PRECISIONS and all(find_spec(one) is not None for one in ("onnx", "onnxruntime"))
        return is_there and fits(config, precision)
    found = library()
    return found is not None and found.runs(precision)


def why_not(name: str = "native") -> str:
    """What the compiled kernels or onnxruntime lack here, in words."""
    if name == "onnx":
        return (
            f"it computes in {' and '.join(_ONNX_PRECISIONS)}, networks of up to 2 GB, if it is installed: "
            "pip install 'unmask[onnx]'"
        )
    found = library()
    if found is None:
        return "its kernels were not compiled, or the processor has neither AVX-512 nor AVX2"
    kind, missing = VARIANTS[found.variant], ", ".join(one for one in PRECISIONS if not found.runs(one))
    return f"{kind} has no instructions for {missing} here" if missing else f"everything is there, by {kind}"


def install(task: Task, engine: Engine) -> None:
    """Let an engine compute a task's encoder from now on; the task cannot be trained any more.

    Raises:
        ResourceError: the engine does not run here, or there is not enough memory.
    """
    encoder = task.encoder
    if engine.name == "torch":
        is_on_card = encoder.embeddings.word.weight.is_cuda
        change_products(encoder, engine.precision, keep=engine.keep, is_narrow=is_on_card)
        if is_on_card:
            if engine.precision == "bfloat16":  # sums are float32; torch can be told so for the whole process alone
                torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
            task.encoder = GraphedEncoder(encoder)  # type: ignore[assignment]
        return
    if engine.name == "onnx":
        task.encoder = _onnx_encoder(  # type: ignore[assignment]
            encoder, engine.precision, threads=engine.threads, keep=engine.keep, has_states=task.reads_all_layers
        )
        return
    found = library()
    if found is None:
        raise ResourceError(
            "no-kernels", f"the engine 'native' does not run: {why_not()}", remedy="take --engine torch"
        )
    task.encoder = NativeEncoder(encoder, found, engine.precision, threads=engine.threads, keep=engine.keep)  # type: ignore[assignment]


def _onnx_encoder(encoder: Encoder, precision: str, **options: Any) -> nn.Module:
    from unmask.engine.onnx import OnnxEncoder

    return OnnxEncoder(encoder, precision, **options)


def _check(value: str, known: Sequence[str], what: str) -> None:
    if value not in ("auto", *known):
        raise UsageError("unknown-engine", f"there is no {what} '{value}'", expected=f"auto, {', '.join(known)}")


def _speeds(config: EncoderConfig, options: Sequence[tuple[str, str]], threads: int) -> dict[tuple[str, str], float]:
    """Tokens a second of each option in one layer of this shape, from an earlier measurement where there is one."""
    place = cache_folder() / "engines.json"
    shape = (config.hidden_size, config.num_attention_heads, config.intermediate_size)
    prefix = f"{processor()} {_versions()} {threads} {shape}"
    stored: dict[str, float] = {}
    with suppress(OSError, ValueError, KeyError, TypeError):  # none yet, damaged, or not of this network
        stored = dict(json.loads(place.read_text("utf-8")))
        return {one: float(stored[f"{prefix} {one}"]) for one in options}
    found = {one: _measure(config, one, threads) for one in options}
    with suppress(OSError, ResourceError):
        place.parent.mkdir(parents=True, exist_ok=True)
        stored |= {f"{prefix} {one}": round(speed, 1) for one, speed in found.items()}
        write_text(place, json.dumps(stored, indent=1))
    return found


def _versions() -> str:
    """What else decides how fast an engine is."""
    kernels, runtime = library(), "none"
    with suppress(PackageNotFoundError):  # also where another package of its makers has the module
        runtime = version("onnxruntime")
    return f"{torch.__version__} {kernels and f'{kernels.variant}-{kernels.source}'} {runtime}"


@torch.inference_mode()
def _measure(config: EncoderConfig, option: tuple[str, str], threads: int, repeats: int = 5) -> float:
    """Median of a few passes through one layer, tokens a second; a tenth of a second for a base-size network."""
    name, precision = option
    small = config.model_copy(update={"num_hidden_layers": 1, "vocab_size": 64})
    encoder = Encoder(small).eval()
    encoder.init_weights(0)
    found = library()
    if name == "onnx":
        encoder = _onnx_encoder(encoder, precision, threads=threads)  # type: ignore[assignment]
    elif name == "native" and found is not None:
        encoder = NativeEncoder(encoder, found, precision, threads=threads)  # type: ignore[assignment]
    else:
        change_products(encoder, precision)
    starts = np.concatenate([[0], np.cumsum([min(one, config.max_length) for one in _LENGTHS])])
    ids, positions, layout = (
        torch.full((int(starts[-1]),), 5),
        positions_of(starts, config.position_offset),
        Layout.of(starts),
    )
    taken = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        encoder(ids, positions, layout)
        taken.append(time.perf_counter() - start)
    return float(starts[-1] / statistics.median(taken[1:]))
