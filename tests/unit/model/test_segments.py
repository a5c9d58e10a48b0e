"""Softmax over segments: the readable twin, with gradients, and values that overflow."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.model.segments import segment_logsumexp, segment_max

TOLERANCE = 1e-5


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=6), columns=st.integers(1, 3), seed=st.integers(0, 99))
def test_both_equal_one_segment_at_a_time(lengths: list[int], columns: int, seed: int) -> None:
    values = torch.randn(sum(lengths), columns, generator=torch.Generator().manual_seed(seed)) * 5
    segments = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    for fast, slow in ((segment_logsumexp, torch.logsumexp), (segment_max, torch.amax)):
        ours, theirs = values.clone().requires_grad_(), values.clone().requires_grad_()
        found = fast(ours, segments, len(lengths))
        wanted = torch.stack([slow(part, 0) for part in theirs.split(lengths)])
        torch.testing.assert_close(found, wanted)
        weights = torch.arange(1.0, found.numel() + 1).view_as(found)
        (found * weights).sum().backward()
        (wanted * weights).sum().backward()
        torch.testing.assert_close(ours.grad, theirs.grad, atol=TOLERANCE, rtol=TOLERANCE)


def test_segments_need_not_stand_together() -> None:
    values = torch.tensor([[1.0], [10.0], [3.0], [20.0]])
    assert segment_max(values, torch.tensor([0, 1, 0, 1]), 2).tolist() == [[3.0], [20.0]]


def test_large_values_do_not_overflow() -> None:
    found = segment_logsumexp(torch.tensor([[1000.0], [1000.0], [-1000.0]]), torch.tensor([0, 0, 1]), 2)
    torch.testing.assert_close(found, torch.tensor([[1000.0 + 0.6931472], [-1000.0]]))
