"""transformers' own module: what users get who ask for nothing more."""

from pathlib import Path

import numpy as np
import torch
import transformers

from . import BOTH_ORDERS
from .workloads import padded

LIBRARIES = ("transformers", "torch")
ORDERS = BOTH_ORDERS
BATCH_SIZE = 32


class Engine:
    """RobertaForSequenceClassification with its default attention (torch's SDPA)."""

    def __init__(self, model: Path, precision: str, prepared: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        kind = transformers.RobertaForSequenceClassification
        self.network = kind.from_pretrained(model, dtype=getattr(torch, precision)).eval()

    @torch.inference_mode()
    def run(self, ids: list[np.ndarray]) -> np.ndarray:
        """Logits (N, C) of N texts, padded to the longest."""
        tokens, mask = (torch.from_numpy(one) for one in padded(ids))
        return self.network(input_ids=tokens, attention_mask=mask).logits.float().numpy()
