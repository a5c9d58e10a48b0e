"""The ONNX graph of an encoder, written node by node in the fused form that onnxruntime computes: nothing is traced.

B texts, S padded length, T = B * S rows, N needed rows, D width. All but attention works on rows, so that products of
int8 numbers can have a scale a row: no answer depends on its neighbours in the batch.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from unmask.engine import onnx_size
from unmask.engine.onnx_run import missing_extra, saturates
from unmask.errors import ResourceError
from unmask.model.encoder import Encoder, Layer
from unmask.model.heads import MaskedLMHead
from unmask.model.layers import LayerNorm

try:
    import onnx
except ImportError:
    onnx = None

OPSET, IR_VERSION = 18, 8  # onnxruntime reads both since 1.15
FUSED = "com.microsoft"
FUSED_VERSION = 1
Needed = Literal["all", "first", "given"]
_LEVELS = 127
_STEPS = 254  # of a row's bytes, as in `portable`
_LEAST = 1e-30
HIDDEN = float(np.finfo(np.float32).min)
Output = tuple[str, Sequence[str | int]]
"""The name of a node's output, and its axes."""


@dataclass
class Graph:
    """An ONNX graph while it is written.

    Args:
        width: D.
        eps: of every LayerNorm.
        inputs: names of the graph's inputs and their axes; int64, but for those in `floats`.
        levels: greatest weight of int8 products: 127, or 63 for processors whose int8 products overflow.
    """

    width: int
    eps: float
    inputs: dict[str, Sequence[str | int]]
    levels: int = _LEVELS
    floats: set[str] = field(default_factory=set)
    nodes: list[Any] = field(default_factory=list)
    numbered: Iterator[int] = field(default_factory=itertools.count)
    weights: dict[str, Any] = field(default_factory=dict)

    def node(self, kind: str, *inputs: str, domain: str = "", outputs: int = 1, **attributes: Any) -> Any:
        """Add a node; gives the name of its output, or the names of several."""
        number = next(self.numbered)
        names = [f"{kind}_{number}_{at}" for at in range(outputs)]
        self.nodes.append(onnx.helper.make_node(kind, inputs, names, names[0], domain=domain, **attributes))
        return names[0] if outputs == 1 else names

    def weight(self, values: torch.Tensor | np.ndarray | np.generic, name: str | None = None) -> str:
        """Add constant numbers; gives their name."""
        array = values.detach().float().cpu().numpy() if isinstance(values, torch.Tensor) else values
        name = name or f"weight_{len(self.weights)}"
        if name not in self.weights:
            self.weights[name] = onnx.numpy_helper.from_array(np.asarray(array, order="C"), name)
        return name

    def numbers(self, *values: int) -> str:
        """Integers, such as axes or a shape."""
        return self.weight(np.array(values, np.int64), "numbers_" + "_".join(map(str, values)))

    def rows(self, values: str) -> str:
        """(B, S) or (B, S, D) as rows: (T,) or (T, D)."""
        shape = (-1,) if values in self.inputs else (-1, self.width)
        return str(self.node("Reshape", values, self.numbers(*shape)))

    def padded(self, rows: str) -> str:
        """(T, X) rows as (B, S, X)."""
        shape = self.node("Concat", self.node("Shape", "input_ids"), self.numbers(-1), axis=0)
        return str(self.node("Reshape", rows, shape))

    def linear(self, rows: str, layer: nn.Linear) -> str:
        """A float32 linear layer with its bias."""
        return str(self.node("Gemm", rows, self.weight(layer.weight), self.weight(layer.bias), transB=1))

    def add_norm(self, update: str, residual: str, norm: LayerNorm, bias: torch.Tensor | None) -> str:
        """norm(update + bias + residual)."""
        given = [update, residual, self.weight(norm.weight), self.weight(norm.bias)]
        given += [] if bias is None else [self.weight(bias)]
        return str(self.node("SkipLayerNormalization", *given, domain=FUSED, epsilon=self.eps))

    def product(self, rows: "Rows", weight: torch.Tensor, precision: str) -> str:
        """Rows times a weight of (out, in), without a bias, in float32 or int8."""
        if precision != "int8":
            return str(self.node("MatMul", rows.name, self.weight(weight.detach().t())))
        values, scale = weights_int8(weight, self.levels)
        levels, scales, lows = rows.quantised(self)
        given = (levels, self.weight(values), self.weight(np.float32(1), "one"), self.weight(scale))
        above = self.node("Mul", self.node("MatMulIntegerToFloat", *given, domain=FUSED), scales)
        totals = self.weight((values.sum(0, dtype=np.int32) * scale)[None].astype(np.float32))
        return str(self.node("Gemm", lows, totals, above))

    def pieces(self, hidden: str, head: MaskedLMHead, table: torch.Tensor, name: str) -> str:
        """Hidden states (N, D) to the logits of all pieces (N, V); the word table stands in the graph as `name`."""
        hidden = self.node("MatMul", hidden, self.weight(head.dense.weight.t()))
        hidden = self.node("BiasGelu", hidden, self.weight(head.dense.bias), domain=FUSED)
        given = (self.weight(head.norm.weight), self.weight(head.norm.bias))
        hidden = self.node("LayerNormalization", hidden, *given, epsilon=head.norm.eps)
        return str(self.node("Gemm", hidden, self.weight(table, name), self.weight(head.bias), transB=1))

    def mask(self) -> str:
        """The mask of padding, as attention takes it: (B, S) int32."""
        return str(self.node("Cast", "attention_mask", to=onnx.TensorProto.INT32))

    def branch(self, name: str, outputs: Sequence[Output]) -> Any:
        """All nodes so far as a branch of an `If`, taken out of this graph; the weights stay, for all branches."""
        nodes, self.nodes = self.nodes, []
        helper, kind = onnx.helper, onnx.TensorProto.FLOAT
        told = [helper.make_tensor_value_info(inner, kind, axes) for inner, axes in outputs]
        return helper.make_graph(nodes, name, [], told)

    def first_rows(self) -> str:
        """Numbers of the first row of each text, (B,)."""
        shape = self.node("Shape", "input_ids")
        batch, length = (self.node("Gather", shape, self.weight(np.int64(at), f"axis_{at}")) for at in (0, 1))
        start = self.weight(np.int64(0), "axis_0")
        return str(self.node("Range", start, self.node("Mul", batch, length), length))

    def model(self, outputs: Mapping[str, Output]) -> bytes:
        """The finished file; each output has a name, the name of its node's output, and its axes.

        Raises:
            ResourceError: the weights are more than one ONNX file holds.
        """
        size = sum(tensor.ByteSize() for tensor in self.weights.values())
        if size > onnx_size.MAX_BYTES:
            raise ResourceError(
                "graph-too-large",
                f"the weights take {size / 1e9:.1f} GB in an ONNX file",
                expected=f"at most {onnx_size.MAX_BYTES / 1e9:.1f} GB, for weights in further files are refused",
                remedy="take --precision int8, or the engine native or torch",
            )
        made, helper = onnx.TensorProto, onnx.helper
        for name, (inner, _) in outputs.items():
            self.nodes.append(helper.make_node("Identity", [inner], [name]))
        graph = helper.make_graph(
            self.nodes,
            "unmask",
            [
                helper.make_tensor_value_info(name, made.FLOAT if name in self.floats else made.INT64, axes)
                for name, axes in self.inputs.items()
            ],
            [helper.make_tensor_value_info(name, made.FLOAT, axes) for name, (_, axes) in outputs.items()],
            list(self.weights.values()),
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(FUSED, FUSED_VERSION)]
        content: bytes = helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="unmask"
        ).SerializeToString()
        return content


@dataclass
class Rows:
    """Hidden states of a graph, (T, D), quantised once for all products that read them."""

    name: str
    int8: tuple[str, str, str] | None = None

    def quantised(self, graph: Graph) -> tuple[str, str, str]:
        """uint8 numbers from the least of each row to its greatest, their unit, and what 0 among them is, (T, 1)."""
        if self.int8 is None:
            axis, nothing = graph.numbers(1), graph.weight(np.float32(0), "nothing_yet")
            low = graph.node("Min", graph.node("ReduceMin", self.name, axis, keepdims=0), nothing)
            high = graph.node("Max", graph.node("ReduceMax", self.name, axis, keepdims=0), nothing)
            scale = graph.node("Div", graph.node("Sub", high, low), graph.weight(np.float32(_STEPS), "steps"))
            scale = graph.node("Max", scale, graph.weight(np.float32(_LEAST), "least"))
            zeros = graph.node("Round", graph.node("Div", graph.node("Neg", low), scale))
            to_bytes = {"to": onnx.TensorProto.UINT8}
            levels = graph.node("QuantizeLinear", self.name, scale, graph.node("Cast", zeros, **to_bytes), axis=0)
            lows = graph.node("Neg", graph.node("Mul", zeros, scale))
            self.int8 = (levels, *(graph.node("Unsqueeze", one, axis) for one in (scale, lows)))
        return self.int8


def weight_levels() -> int:
    """The greatest weight of an int8 product that is right on this processor."""
    return 63 if saturates() else _LEVELS


def weights_int8(weight: torch.Tensor, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """A weight of (out, in) as int8 numbers (in, out) and a scale for each output, (out,)."""
    values = weight.detach().float().cpu().numpy()
    scale = np.abs(values).max(1) / np.float32(levels)
    scale[scale == 0] = 1
    return np.rint(values / scale[:, None]).astype(np.int8).T, scale


def build(
    encoder: Encoder,
    precision: str,
    *,
    needed: Needed = "all",
    keep: Mapping[str, str] | None = None,
) -> tuple[Graph, list[str]]:
    """Write the nodes of an encoder.

    Inputs are `input_ids` and `attention_mask` (B, S) int64, 1 at real tokens; `token_type_ids` (B, S) where the
    network has several; `needed` (N,) int64 where they are given. Positions are counted from the mask.

    Args:
        encoder: float32 weights.
        precision: of the products: float32 or int8.
        needed: rows that the last layer gives: all T, the first of each text, or those of the input `needed`.
        keep: products in another format, such as {"3.down": "float32"}.

    Returns:
        The graph, and the names of its states: what goes into the first layer (T, D), then each layer's output, the
        last one (N, D).

    Raises:
        UsageError: the package onnx is not installed.
    """
    if onnx is None:
        raise missing_extra("onnx")
    config = encoder.config
    names = ["input_ids", "attention_mask"] + ["token_type_ids"] * (config.type_vocab_size > 1)
    inputs: dict[str, Sequence[str | int]] = dict.fromkeys(names, ("batch", "length"))
    inputs |= {"needed": ("needed",)} if needed == "given" else {}
    graph = Graph(config.hidden_size, config.layer_norm_eps, inputs, levels=weight_levels())
    places = graph.first_rows() if needed == "first" else "needed" if needed == "given" else None
    mask = graph.mask()
    states = [_embed(graph, encoder)]
    for number, layer in enumerate(encoder.layers):
        assert isinstance(layer, Layer), "the encoder is made of these alone"
        kinds = {
            name: (keep or {}).get(f"{number}.{name}", precision) for name in ("qkv", "attention_out", "up", "down")
        }
        is_last = number == config.num_hidden_layers - 1
        states.append(_layer(graph, layer, kinds, states[-1], mask, places if is_last else None))
    return graph, states


def _embed(graph: Graph, encoder: Encoder) -> str:
    """Words, positions and types, then LayerNorm: (T, D)."""
    tables, config = encoder.embeddings, encoder.config
    counted = graph.node("CumSum", "attention_mask", graph.weight(np.int64(1), "axis_1"))
    positions = graph.node("Add", counted, graph.weight(np.int64(config.position_offset - 1), "before_first"))
    places = graph.node("Reshape", positions, graph.numbers(-1))
    words = graph.node("Gather", graph.weight(tables.word.weight, "words"), graph.rows("input_ids"))
    where = graph.node("Gather", graph.weight(tables.position.weight, "positions"), places)
    if config.type_vocab_size == 1:
        return graph.add_norm(words, where, tables.norm, tables.token_type.weight[0])
    kinds = graph.node("Gather", graph.weight(tables.token_type.weight, "types"), graph.rows("token_type_ids"))
    return graph.add_norm(graph.node("Add", words, where), kinds, tables.norm, None)


def _layer(graph: Graph, layer: Layer, kinds: Mapping[str, str], hidden: str, mask: str, needed: str | None) -> str:
    """(T, D) to (T, D), or to (N, D)."""
    qkv = graph.padded(graph.product(Rows(hidden), layer.qkv.weight, kinds["qkv"]))
    parts = graph.node("Split", qkv, outputs=3, axis=-1, num_outputs=3)
    context = graph.node(
        "MultiHeadAttention", *parts, graph.weight(layer.qkv.bias), mask, domain=FUSED,
        num_heads=layer.num_heads, mask_filter_value=HIDDEN,
    )  # fmt: skip
    context = graph.rows(context)
    if needed is not None:
        context, hidden = (graph.node("Gather", rows, needed) for rows in (context, hidden))
    update = graph.product(Rows(context), layer.attention_out.weight, kinds["attention_out"])
    hidden = graph.add_norm(update, hidden, layer.attention_norm, layer.attention_out.bias)
    wide = graph.product(Rows(hidden), layer.up.weight, kinds["up"])
    wide = graph.node("BiasGelu", wide, graph.weight(layer.up.bias), domain=FUSED)
    update = graph.product(Rows(wide), layer.down.weight, kinds["down"])
    return graph.add_norm(update, hidden, layer.norm, layer.down.bias)
