"""ONNX graphs as they are run: on the CPU, from bytes in memory, without torch."""

import platform
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from unmask.errors import ArtefactError, ResourceError, UsageError

try:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as _state
except ImportError:
    onnxruntime, _state = None, object  # the latter names no errors

# All errors of onnxruntime are children of Exception, and of no class of their own.
_ERRORS = tuple(
    kind for kind in vars(_state or object).values() if isinstance(kind, type) and issubclass(kind, Exception)
)

_INT8_INSTRUCTIONS = ("avx512_vnni", "avx_vnni", "amx_int8")

# Where tensors stand in a model file: message -> number of a field -> message in it (onnx.proto3).
_TREE: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_EXTERNAL_FIELDS = (13, 14)  # of a tensor: `external_data`, and `data_location` where it is not in the file
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Runner:
    """A graph that is ready to be computed.

    Its memory does not ratchet: what a large batch took is given back behind it, and waiting threads sleep.

    Args:
        content: a model file's bytes, with all weights in them.
        threads: of one pass.

    Attributes:
        inputs: names of what it reads.
        outputs: names of what it gives.

    Raises:
        UsageError: onnxruntime is not installed.
        ArtefactError: onnxruntime cannot read the graph.
    """

    def __init__(self, content: bytes, threads: int) -> None:
        if onnxruntime is None:
            raise missing_extra("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.enable_cpu_mem_arena = options.enable_mem_pattern = False
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._graph = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except _ERRORS as error:
            raise _bad_graph(str(error).splitlines()[0]) from None
        self.inputs = tuple(one.name for one in self._graph.get_inputs())
        self.outputs = tuple(one.name for one in self._graph.get_outputs())

    def __call__(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Compute all outputs.

        Raises:
            ResourceError: there is not enough memory, or the graph fails.
        """
        try:
            found: list[np.ndarray] = self._graph.run(None, {name: feeds[name] for name in self.inputs})
        except _ERRORS as error:
            raise ResourceError(
                "no-memory",
                f"onnxruntime failed: {str(error).splitlines()[0]}",
                remedy="lower max_tokens (--max-tokens), or take --engine torch",
            ) from None
        return found


def missing_extra(package: str) -> UsageError:
    """The error of a package that the engine needs and that is not installed."""
    return UsageError(
        "missing-extra",
        f"the engine 'onnx' needs the package {package}, which is not installed",
        remedy="pip install 'unmask[onnx]'",
    )


def saturates(described: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether int8 products of this processor overflow with weights of 8 bits: x86 without VNNI adds pairs in int16."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    try:
        flags = described.read_text("utf-8")
    except OSError:
        return True
    return not any(name in flags for name in _INT8_INSTRUCTIONS)


def read_graph(path: Path) -> bytes:
    """Read a model file whole.

    Raises:
        ArtefactError: it is missing or damaged, it leads out of its folder, or its weights are in other files, whose
            names could be those of any file of this machine.
    """
    if not path.is_file():
        raise ArtefactError(
            "no-graph", "the folder has no model.onnx", place=path, remedy="make one: unmask export MODEL"
        )
    if not path.resolve().is_relative_to(path.parent.resolve()):
        raise ArtefactError(
            "outside-folder",
            "the model file is a link that leads out of its folder",
            place=path,
            value=path.resolve(),
            remedy="copy the file itself into the folder",
        )
    content = path.read_bytes()
    try:
        is_external = any(_external(memoryview(content), "model"))
    except (IndexError, ValueError):
        raise ArtefactError(
            "bad-graph", "the file is cut or no ONNX model", place=path, remedy="copy it again"
        ) from None
    if is_external:
        raise ArtefactError(
            "external-data",
            "the model keeps weights in other files, which could be any file of this machine, so it is not opened",
            place=path,
            expected="an ONNX model of one file",
            remedy="make it anew: unmask export MODEL --output FOLDER",
        )
    return content


def _external(message: memoryview, kind: str) -> Iterator[bool]:
    """For each tensor at any depth, whether its values are in another file; damaged bytes are an error."""
    is_external = False
    for number, value in _fields(message):
        if kind == "tensor" and number in _EXTERNAL_FIELDS:
            is_external |= number == _EXTERNAL_FIELDS[0] or value != 0
        elif number in _TREE[kind] and isinstance(value, memoryview):
            yield from _external(value, _TREE[kind][number])
    if kind == "tensor":
        yield is_external


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Numbers and values of a message's fields (protobuf's wire format); those of fixed width are left out."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield number, value
        elif kind == _BYTES:
            size, at = _varint(message, at)
            yield number, message[at : at + size]
            at += size
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"a field of kind {kind}")
    if at > len(message):
        raise ValueError("the message is cut")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def _bad_graph(reason: str) -> ArtefactError:
    return ArtefactError(
        "bad-graph",
        f"onnxruntime cannot read the graph: {reason}",
        remedy="make it anew: unmask export MODEL --output FOLDER",
    )
