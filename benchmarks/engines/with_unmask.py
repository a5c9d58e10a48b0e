"""The product's own kernels: its predictor gets all texts in one call and cuts batches itself."""

from pathlib import Path

import numpy as np

from unmask.data.batching import Features
from unmask.predict import Predictor

LIBRARIES = ("unmask", "torch")
ORDERS = ("file",)
BATCH_SIZE = None


class Engine:
    """What `Predictor.run` does behind the tokenizer."""

    def __init__(self, model: Path, precision: str, prepared: Path, threads: int) -> None:
        self.predictor = Predictor.load(model, engine="native", precision=precision, threads=threads)

    def run(self, ids: list[np.ndarray]) -> np.ndarray:
        """Logits (N, C) of N texts, in the caller's order."""
        return np.stack(self.predictor.answer([Features(input_ids=one, row=row) for row, one in enumerate(ids)]))
