"""CTranslate2's encoder, which leaves out padding inside; the head is in numpy."""

from pathlib import Path

import ctranslate2
import numpy as np

from . import BOTH_ORDERS
from .workloads import padded

LIBRARIES = ("ctranslate2",)
ORDERS = BOTH_ORDERS
BATCH_SIZE = 32


class Engine:
    """The encoder, then the head on the first token's state."""

    def __init__(self, model: Path, precision: str, prepared: Path, threads: int) -> None:
        path = str(prepared / "encoder")
        self.encoder = ctranslate2.Encoder(path, device="cpu", compute_type=precision, intra_threads=threads)
        self.head = dict(np.load(prepared / "head.npz"))

    def run(self, ids: list[np.ndarray]) -> np.ndarray:
        """Logits (N, C) of N texts."""
        tokens = ctranslate2.StorageView.from_array(padded(ids)[0].astype(np.int32))
        lengths = ctranslate2.StorageView.from_array(np.array([len(one) for one in ids], np.int32))
        first = np.array(self.encoder.forward_batch(tokens, lengths).last_hidden_state)[:, 0]
        dense = np.tanh(first @ self.head["dense.weight"].T + self.head["dense.bias"])
        return dense @ self.head["out_proj.weight"].T + self.head["out_proj.bias"]
