"""OpenVINO with dynamic shapes and one stream.

An int8 graph leaves the rest of the network in the runtime's own choice of format: bfloat16, where the CPU has it.
"""

from pathlib import Path

import numpy as np
import openvino

from . import BOTH_ORDERS
from .workloads import NAMES, padded

LIBRARIES = ("openvino",)
ORDERS = BOTH_ORDERS
BATCH_SIZE = 32
HINTS = {"float32": {"INFERENCE_PRECISION_HINT": "f32"}, "bfloat16": {"INFERENCE_PRECISION_HINT": "bf16"}, "int8": {}}


class Engine:
    """One compiled graph, one request at a time."""

    def __init__(self, model: Path, precision: str, prepared: Path, threads: int) -> None:
        settings = {"INFERENCE_NUM_THREADS": threads, **HINTS[precision]}
        self.request = openvino.compile_model(prepared / "model.xml", "CPU", settings).create_infer_request()

    def run(self, ids: list[np.ndarray]) -> np.ndarray:
        """Logits (N, C) of N texts, padded to the longest."""
        found = self.request.infer(dict(zip(NAMES, padded(ids), strict=True)), share_inputs=True)
        return np.array(found[0])
