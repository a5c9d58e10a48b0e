"""A task's whole network as one ONNX graph: the encoder, and the head that stands on it, in float32."""

from collections.abc import Mapping, Sequence

import torch

from unmask.engine.onnx_graph import FUSED, Graph, Needed, build
from unmask.errors import UsageError
from unmask.model.crf import CrfHead
from unmask.model.heads import ClassificationHead, MaskedLMHead, TokenHead
from unmask.tasks.base import Task
from unmask.tasks.embedding import Embedding

_FLOAT = 1  # onnx.TensorProto.FLOAT
Output = tuple[str, Sequence[str | int]]
_EXPORTED = "classification, regression, zero_shot, tagging, span_qa, multiple_choice, masked_lm and embedding"


def task_graph(task: Task, precision: str, *, keep: Mapping[str, str] | None = None) -> bytes:
    """Write a task's network as an ONNX model with the output `logits`, float32.

    Of a classifier, a regression and multiple choice (B, C); of a tagger and of spans (B, S, C), also at padding; of a
    masked language model (N, V) at the rows `needed` of B * S; of an embedding the vectors (B, D), not normalized.

    Args:
        task: float32 weights.
        precision: of the encoder's products: float32 or int8.
        keep: products in another format, such as {"3.down": "float32"}.

    Raises:
        UsageError: the task's head has no place in such a graph, or the package onnx is not installed.
    """
    if isinstance(task, Embedding):
        return _vectors(task, precision, keep)
    head = task.head
    needed: Needed
    if isinstance(head, ClassificationHead):
        needed = "first"
    elif isinstance(head, MaskedLMHead):
        needed = "given"
    elif isinstance(head, TokenHead | CrfHead):  # the chain is the reader's
        needed = "all"
    else:
        raise UsageError("no-export", f"the head of this '{task.name}' is not written as ONNX", expected=_EXPORTED)
    graph, states = build(task.encoder, precision, needed=needed, keep=keep)
    if isinstance(head, ClassificationHead):
        logits = _classes(graph, head, states[-1])
    elif isinstance(head, MaskedLMHead):
        logits = _pieces(graph, head, states[-1], task.encoder.embeddings.word.weight)
    else:
        logits = graph.padded(graph.linear(states[-1], head.out)), ("batch", "length", head.out.out_features)
    return graph.model({"logits": logits})


def _classes(graph: Graph, head: ClassificationHead, hidden: str) -> Output:
    hidden = graph.node("Tanh", graph.linear(hidden, head.dense))
    return graph.linear(hidden, head.out), ("batch", head.out.out_features)


def _pieces(graph: Graph, head: MaskedLMHead, hidden: str, table: torch.Tensor) -> Output:
    hidden = graph.node("MatMul", hidden, graph.weight(head.dense.weight.t()))
    hidden = graph.node("BiasGelu", hidden, graph.weight(head.dense.bias), domain=FUSED)
    given = (graph.weight(head.norm.weight), graph.weight(head.norm.bias))
    hidden = graph.node("LayerNormalization", hidden, *given, epsilon=head.norm.eps)
    logits = graph.node("Gemm", hidden, graph.weight(table, "words"), graph.weight(head.bias), transB=1)
    return logits, ("needed", len(table))


def _vectors(task: Embedding, precision: str, keep: Mapping[str, str] | None) -> bytes:
    """The mean of some layers' states over the text's tokens, or that of its first one."""
    graph, states = build(task.encoder, precision, keep=keep)
    chosen = [states[layer] for layer in task.settings.layers]
    hidden = chosen[0] if len(chosen) == 1 else graph.node("Mean", *chosen)
    if task.settings.pooling == "cls":
        vectors = graph.node("Gather", hidden, graph.first_rows())
    else:
        mask = graph.node("Cast", graph.node("Unsqueeze", "attention_mask", graph.numbers(2)), to=_FLOAT)
        sums, counts = (
            graph.node("ReduceSum", values, graph.numbers(1), keepdims=0)
            for values in (graph.node("Mul", graph.padded(hidden), mask), mask)
        )
        vectors = graph.node("Div", sums, counts)
    return graph.model({"logits": (vectors, ("batch", task.config.hidden_size))})
