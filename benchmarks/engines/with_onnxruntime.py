"""onnxruntime on the fused graph, all optimisations of the runtime on."""

from pathlib import Path

import numpy as np
import onnxruntime

from . import BOTH_ORDERS
from .workloads import NAMES, padded

LIBRARIES = ("onnxruntime",)
ORDERS = BOTH_ORDERS
BATCH_SIZE = 32


class Engine:
    """One graph, one pool of threads."""

    def __init__(self, model: Path, precision: str, prepared: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        path = str(prepared / f"{precision}.onnx")
        self.graph = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(self, ids: list[np.ndarray]) -> np.ndarray:
        """Logits (N, C) of N texts, padded to the longest."""
        return self.graph.run(None, dict(zip(NAMES, padded(ids), strict=True)))[0]
