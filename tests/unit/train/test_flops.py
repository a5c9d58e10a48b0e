"""The arithmetic of training, counted by hand and against a count of every product that torch makes."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests import tiny
from unmask.model.config import EncoderConfig
from unmask.train.fit import Step
from unmask.train.flops import pretraining_flops, step_flops

BASE = EncoderConfig(vocab_size=50265)


def test_roberta_base_takes_what_the_formula_of_the_field_says() -> None:
    # 12 layers of 4 D^2 + 2 D F weights, attention over 128 tokens, 15 % through the head, six operations each;
    # less the last layer behind its attention for the other 85 %
    whole = 6 * 12 * (4 * 768**2 + 2 * 768 * 3072) + 12 * 12 * 128 * 768 + 0.15 * 6 * (768 * 50265 + 768**2)
    saved = 0.85 * 6 * (768**2 + 2 * 768 * 3072)
    assert pretraining_flops(BASE, length=128, mask_prob=0.15) == pytest.approx(whole - saved)
    assert whole / 1e6 == pytest.approx(559, rel=0.01), "559 MFLOP a token: the published figure"


def test_it_counts_what_torch_computes() -> None:
    task = tiny.masked_lm()
    batch = task.collate(task.encode(tiny.rows_of(task), is_training=True))
    with FlopCounterMode(display=False) as counter:
        torch.autograd.backward(task.loss(task(batch), batch))
    step = Step(
        step=1, loss=0.0, lr=0.0, grad_norm=0.0, num_texts=len(batch.cu_seqlens) - 1, num_tokens=batch.num_tokens,
        num_targets=batch.num_targets, seconds=1.0, data_seconds=0.0,
    )  # fmt: skip
    assert counter.get_total_flops() == pytest.approx(step_flops(task.config, step), rel=0.2)
