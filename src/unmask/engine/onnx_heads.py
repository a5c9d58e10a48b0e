"""A task's whole network as one ONNX graph: the encoder, and the head that stands on it, in float32."""

from collections.abc import Mapping

from unmask.engine.onnx_decoder import writer_graph
from unmask.engine.onnx_graph import Graph, Needed, Output, build
from unmask.errors import UsageError
from unmask.model.crf import CrfHead
from unmask.model.heads import ClassificationHead, MaskedLMHead, TokenHead
from unmask.tasks.base import Task
from unmask.tasks.embedding import Embedding
from unmask.tasks.seq2seq import Seq2Seq

_FLOAT = 1  # onnx.TensorProto.FLOAT
_EXPORTED = "one of the package's own tasks"


def task_graph(task: Task, precision: str, *, keep: Mapping[str, str] | None = None) -> bytes:
    """Write a task's network as an ONNX model with the output `logits`, float32.

    Of a classifier, a regression and multiple choice (B, C); of a tagger and of spans (B, S, C), also at padding; of a
    masked language model (N, V) at the rows `needed` of B * S; of an embedding the vectors (B, D), not normalized. A
    writer of texts has two ends, see `model.writing`.

    Args:
        task: float32 weights.
        precision: of the encoder's products: float32 or int8.
        keep: products in another format, such as {"3.down": "float32"}.

    Raises:
        UsageError: the task's head has no place in such a graph, or the package onnx is not installed.
    """
    if isinstance(task, Embedding):
        return _vectors(task, precision, keep)
    if isinstance(task, Seq2Seq):
        return writer_graph(task, precision, keep=keep)
    head = task.head
    needed: Needed
    if isinstance(head, ClassificationHead):
        needed = "all" if task.config.pools_mean(task.head_name) else "first"
    elif isinstance(head, MaskedLMHead):
        needed = "given"
    elif isinstance(head, TokenHead | CrfHead):  # the chain is the reader's
        needed = "all"
    else:
        raise UsageError("no-export", f"the head of this '{task.name}' is not written as ONNX", expected=_EXPORTED)
    graph, states = build(task.encoder, precision, needed=needed, keep=keep)
    if isinstance(head, ClassificationHead):
        logits = _classes(graph, head, _means(graph, states[-1]) if needed == "all" else states[-1])
    elif isinstance(head, MaskedLMHead):
        table = task.encoder.embeddings.word.weight
        logits = graph.pieces(states[-1], head, table, "words"), ("needed", len(table))
    else:
        logits = graph.padded(graph.linear(states[-1], head.out)), ("batch", "length", head.out.out_features)
    return graph.model({"logits": logits})


def _classes(graph: Graph, head: ClassificationHead, hidden: str) -> Output:
    hidden = graph.node("Tanh", graph.linear(hidden, head.dense))
    return graph.linear(hidden, head.out), ("batch", head.out.out_features)


def _vectors(task: Embedding, precision: str, keep: Mapping[str, str] | None) -> bytes:
    """The mean of some layers' states over the text's tokens, or that of its first one."""
    graph, states = build(task.encoder, precision, keep=keep)
    chosen = [states[layer] for layer in task.settings.layers]
    hidden = chosen[0] if len(chosen) == 1 else graph.node("Mean", *chosen)
    if task.settings.pooling == "cls":
        vectors = graph.node("Gather", hidden, graph.first_rows())
    else:
        vectors = _means(graph, hidden)
    return graph.model({"logits": (vectors, ("batch", task.config.hidden_size))})


def _means(graph: Graph, hidden: str) -> str:
    """Mean of each text's states, padding left out, (B, D)."""
    mask = graph.node("Cast", graph.node("Unsqueeze", "attention_mask", graph.numbers(2)), to=_FLOAT)
    sums, counts = (
        graph.node("ReduceSum", values, graph.numbers(1), keepdims=0)
        for values in (graph.node("Mul", graph.padded(hidden), mask), mask)
    )
    return graph.node("Div", sums, counts)
