"""OpenVINO in its throughput mode: a stream for each core, a batch on each, so that no core waits for the other."""

from pathlib import Path

import numpy as np
import openvino

from . import BOTH_ORDERS
from .with_openvino import HINTS
from .workloads import NAMES, padded

LIBRARIES = ("openvino",)
ORDERS = BOTH_ORDERS
BATCH_SIZE = None
TEXTS = 32


class Engine:
    """As with_openvino, with batches of 32 that run beside each other."""

    def __init__(self, model: Path, precision: str, prepared: Path, threads: int) -> None:
        settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": threads, **HINTS[precision]}
        self.queue = openvino.AsyncInferQueue(openvino.compile_model(prepared / "model.xml", "CPU", settings), threads)
        self.queue.set_callback(
            lambda request, place: self.found.__setitem__(place, request.get_output_tensor(0).data.copy())
        )
        self.found: dict[int, np.ndarray] = {}

    def run(self, ids: list[np.ndarray]) -> np.ndarray:
        """Logits (N, C) of N texts, in batches as they stand, each padded to its longest."""
        self.found.clear()
        for place in range(0, len(ids), TEXTS):
            inputs = dict(zip(NAMES, padded(ids[place : place + TEXTS]), strict=True))
            self.queue.start_async(inputs, place)
        self.queue.wait_all()
        return np.concatenate([self.found[place] for place in sorted(self.found)])
