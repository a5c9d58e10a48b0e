"""The graph of a writer: an encoder's end and a decoder's end as two branches, which share their tables.

`model.writing` says what goes in and comes out.

B sources, S padded length, T = B * S rows, N hypotheses, W to each source, D width, H heads of width K, V ids.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from unmask.engine.onnx_graph import FUSED, HIDDEN, Graph, Output, Rows, build
from unmask.model.decoder import Decoder, DecoderLayer
from unmask.model.layers import LayerNorm
from unmask.model.writing import TARGET, layer_names, output_names
from unmask.tasks.seq2seq import Seq2Seq

PRODUCTS = ("qkv", "attention_out", "cross_query", "cross_kv", "cross_out", "up", "down")


def writer_graph(task: Seq2Seq, precision: str, *, keep: Mapping[str, str] | None = None) -> bytes:
    """Write encoder and decoder of a task from text to text as one ONNX model.

    Args:
        task: float32 weights.
        precision: of the products of both: float32 or int8; that with the word table stays float32.
        keep: products in another format, such as {"3.down": "float32"}, or {"decoder.0.up": "float32"}.
    """
    graph, states = build(task.encoder, precision, keep=keep)
    made = _Writer(graph, task.head, precision, keep or {})
    reads = graph.branch("sources", made.sources(Rows(states[-1])))
    writes = graph.branch("step", made.step())
    is_step = graph.node("Greater", graph.node("Size", TARGET), graph.weight(np.int64(0), "axis_0"))
    names = output_names(len(task.head.layers))
    found = graph.node("If", is_step, outputs=len(names), then_branch=writes, else_branch=reads)
    return graph.model(dict(zip(names, zip(found, made.outputs, strict=True), strict=True)))


@dataclass(frozen=True)
class _Writer:
    """A decoder's part of a graph that holds its encoder."""

    graph: Graph
    decoder: Decoder
    precision: str
    keep: Mapping[str, str]

    @property
    def layers(self) -> list[DecoderLayer]:
        return [layer for layer in self.decoder.layers if isinstance(layer, DecoderLayer)]

    @property
    def axes(self) -> tuple[int, int]:
        heads = self.decoder.config.num_attention_heads
        return heads, self.decoder.config.hidden_size // heads

    @property
    def outputs(self) -> list[Sequence[str | int]]:
        """Axes of the logits, then of each layer's keys and values."""
        heads, width = self.axes
        of_layers = [("texts", heads, "tokens", width)] * (2 * len(self.layers))
        return [("hypotheses", self.decoder.config.vocab_size), *of_layers]

    def sources(self, states: Rows) -> list[Output]:
        """No logits, and what each layer attends to, from the encoder's states (T, D)."""
        graph, (heads, width) = self.graph, self.axes
        nothing = graph.weight(np.zeros((0, self.decoder.config.vocab_size), np.float32), "nothing")
        found = [graph.node("Identity", nothing)]
        for at, layer in enumerate(self.layers):
            both = self.linear(states, layer.cross_kv, f"{at}.cross_kv")
            for rows in graph.node("Split", both, outputs=2, axis=-1, num_outputs=2):
                parted = graph.node("Reshape", graph.padded(rows), graph.numbers(0, 0, heads, width))
                found.append(graph.node("Transpose", parted, perm=[0, 2, 1, 3]))
        return list(zip(found, self.outputs, strict=True))

    def step(self) -> list[Output]:
        """From a token a hypothesis to the logits of the next one, and what each layer keeps."""
        graph = self.graph
        graph.inputs[TARGET] = ("hypotheses",)
        given: dict[str, list[str]] = {}
        for kind, axes in (("cross", ("batch", "length")), ("past", ("hypotheses", "past"))):
            given[kind] = layer_names(kind, len(self.layers))
            graph.inputs |= dict.fromkeys(given[kind], (axes[0], self.axes[0], axes[1], self.axes[1]))
            graph.floats |= set(given[kind])
        hidden, mask = self.embedded(), graph.mask()
        kept: list[str] = []
        for at, layer in enumerate(self.layers):
            past, cross = (given[kind][2 * at : 2 * at + 2] for kind in ("past", "cross"))
            hidden, *present = self.layer(at, layer, hidden, past, [*cross, "", mask])
            kept += present
        table = self.decoder.used_embeddings.word.weight
        logits = graph.pieces(hidden, self.decoder.lm, table, self.table("words"))
        return list(zip([logits, *kept], self.outputs, strict=True))

    def embedded(self) -> str:
        """The tokens at the place behind those before, (N, D)."""
        graph, tables = self.graph, self.decoder.used_embeddings
        shape = graph.node("Shape", layer_names("past", 1)[0], start=2, end=3)
        offset = graph.numbers(self.decoder.config.position_offset)
        places = graph.node("Expand", graph.node("Add", shape, offset), graph.node("Shape", TARGET))
        words, where = (
            graph.node("Gather", graph.weight(table.weight, self.table(name)), ids)
            for table, name, ids in ((tables.word, "words", TARGET), (tables.position, "positions", places))
        )
        return graph.add_norm(words, where, tables.norm, tables.token_type.weight[0])

    def layer(
        self, at: int, layer: DecoderLayer, hidden: str, past: Sequence[str], source: Sequence[str]
    ) -> tuple[str, str, str]:
        """(N, D) to (N, D), with the keys and values up to this token."""
        graph, heads = self.graph, self.axes[0]
        qkv = graph.product(Rows(hidden), layer.qkv.weight, self.kind(f"{at}.qkv"))
        row = graph.node("Reshape", qkv, graph.numbers(-1, 1, 3 * graph.width))
        parts = graph.node("Split", row, outputs=3, axis=-1, num_outputs=3)
        given = (*parts, graph.weight(layer.qkv.bias), "", "", *past)
        context, keys, values = graph.node("MultiHeadAttention", *given, outputs=3, domain=FUSED, num_heads=heads)
        hidden = self.added(context, layer.attention_out, layer.attention_norm, hidden, f"{at}.attention_out")
        query = self.linear(Rows(hidden), layer.cross_query, f"{at}.cross_query")
        batch = graph.node("Shape", "attention_mask", start=0, end=1)
        query = graph.node("Reshape", query, graph.node("Concat", batch, graph.numbers(-1, graph.width), axis=0))
        context = graph.node(
            "MultiHeadAttention", query, *source, domain=FUSED, num_heads=heads, mask_filter_value=HIDDEN
        )
        hidden = self.added(context, layer.cross_out, layer.cross_norm, hidden, f"{at}.cross_out")
        wide = graph.product(Rows(hidden), layer.up.weight, self.kind(f"{at}.up"))
        wide = graph.node("BiasGelu", wide, graph.weight(layer.up.bias), domain=FUSED)
        update = graph.product(Rows(wide), layer.down.weight, self.kind(f"{at}.down"))
        return graph.add_norm(update, hidden, layer.norm, layer.down.bias), keys, values

    def added(self, context: str, layer: nn.Linear, norm: LayerNorm, hidden: str, name: str) -> str:
        """What an attention found, (N, 1, D) or (B, W, D), joined to the hidden states, (N, D)."""
        update = self.graph.product(Rows(self.graph.rows(context)), layer.weight, self.kind(name))
        return self.graph.add_norm(update, hidden, norm, layer.bias)

    def linear(self, rows: Rows, layer: nn.Linear, name: str) -> str:
        if self.kind(name) == "float32":
            return self.graph.linear(rows.name, layer)
        product = self.graph.product(rows, layer.weight, self.kind(name))
        return str(self.graph.node("Add", product, self.graph.weight(layer.bias)))

    def kind(self, name: str) -> str:
        return self.keep.get(f"decoder.{name}", self.precision)

    def table(self, name: str) -> str:
        """The name of a table in the graph: the encoder's own where it is shared."""
        return name if self.decoder.embeddings is None else f"target_{name}"
