"""How much arithmetic training takes: the products of the network, forward and backward, padding never counted."""

import functools
import time

import torch

from unmask.model.config import EncoderConfig
from unmask.runtime import Machine
from unmask.train.fit import Step


def pretraining_flops(config: EncoderConfig, *, length: float, mask_prob: float) -> float:
    """Floating-point operations for each token of pre-training.

    Two for each weight and token forward, four backward; the head, and the last layer behind its attention, only where
    a token is predicted. Embeddings, norms, dropout and the optimizer are not counted.

    Args:
        config: of the network.
        length: tokens of a block, which every token of it looks at.
        mask_prob: share of the tokens that is predicted.
    """
    width, inner = config.hidden_size, config.intermediate_size
    attention = 3 * width**2 + 2 * width * length
    behind = width**2 + 2 * width * inner
    body = config.num_hidden_layers * (attention + behind) - (1 - mask_prob) * behind
    head = mask_prob * width * (width + config.vocab_size)
    return 6 * (body + head)


def step_flops(config: EncoderConfig, step: Step) -> float:
    """Operations of one optimizer step of pre-training, all ranks together."""
    length, mask_prob = step.num_tokens / step.num_texts, step.num_targets / step.num_tokens
    return step.num_tokens * pretraining_flops(config, length=length, mask_prob=mask_prob)


@functools.cache
def peak_flops(where: Machine, repeats: int = 3) -> float:
    """Operations a second of a large product in the machine's number format, measured: the best of some tries."""
    size = 8192 if where.device.type == "cuda" else 1024
    left, right = (torch.ones(size, size, dtype=where.dtype, device=where.device) for _ in range(2))
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        torch.nn.functional.linear(left, right).flatten()[0].item()
        taken.append(time.perf_counter() - start)
    return 2 * size**3 / min(taken)
