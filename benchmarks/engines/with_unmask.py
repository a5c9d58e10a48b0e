"""The product's own kernels: its predictor gets all texts in one call and cuts batches itself."""

from pathlib import Path

import numpy as np
import torch

from unmask.data.batching import Features, sorted_batches
from unmask.predict import Predictor

LIBRARIES = ("unmask", "torch")
ORDERS = ("file",)
BATCH_SIZE = None


class Engine:
    """What `Predictor.run` does behind the tokenizer."""

    def __init__(self, model: Path, precision: str, prepared: Path, threads: int) -> None:
        self.predictor = Predictor.load(model, engine="native", precision=precision, threads=threads)

    @torch.inference_mode()
    def run(self, ids: list[np.ndarray]) -> np.ndarray:
        """Logits (N, C) of N texts, in the caller's order."""
        task = self.predictor.task
        features = [Features(input_ids=one, row=row) for row, one in enumerate(ids)]
        found: list[np.ndarray] = [np.empty(0)] * len(ids)
        lengths = np.array([len(one) for one in ids])
        for chosen in sorted_batches(lengths, max_tokens=self.predictor.max_tokens):
            together = [features[index] for index in chosen]
            for index, part in zip(chosen, task.answer(task.collate(together), together), strict=True):
                found[index] = part
        return np.stack(found)
