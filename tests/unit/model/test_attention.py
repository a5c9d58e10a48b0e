"""Layouts and attention against one loop over texts."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unmask.model import attention
from unmask.model.attention import attend, suits_varlen
from unmask.model.layers import Dropper
from unmask.model.layout import MAX_GAP_TOKENS, MIN_FILL, Layout

HEADS, WIDTH = 2, 16
TOLERANCE = 1e-5
MIXED = [5, 17, 1, 9, 30, 64, 31, 8, 8]
SHAPES = {"mixed": MIXED, "uniform": [12] * 5, "falling": [9, 9, 4, 4], "one": [7], "single token": [1]}


def _cu(lengths: list[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)])


def _slow(qkv: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    """One text and one head at a time."""
    out = torch.empty(len(qkv), WIDTH)
    step = WIDTH // HEADS
    for start, stop in zip(_cu(lengths)[:-1], _cu(lengths)[1:], strict=True):
        for head in range(HEADS):
            query, key, value = (qkv[start:stop, part * WIDTH + head * step :][:, :step] for part in range(3))
            shares = torch.softmax(query @ key.T / step**0.5, -1)
            out[start:stop, head * step : (head + 1) * step] = shares @ value
    return out


@pytest.mark.parametrize("lengths", SHAPES.values(), ids=SHAPES)
def test_both_cpu_paths_equal_a_loop_over_texts(lengths: list[int]) -> None:
    qkv = torch.randn(sum(lengths), 3 * WIDTH, requires_grad=True)
    layout, weight = Layout.of(_cu(lengths)), torch.randn(sum(lengths), WIDTH)
    want = _slow(qkv, lengths)
    with torch.no_grad():
        torch.testing.assert_close(attend(qkv, layout, HEADS), want, atol=TOLERANCE, rtol=0)
    trained = attend(qkv, layout, HEADS)
    torch.testing.assert_close(trained, want, atol=TOLERANCE, rtol=0)
    (found,) = torch.autograd.grad((trained * weight).sum(), qkv)
    (slow,) = torch.autograd.grad((want * weight).sum(), qkv)
    torch.testing.assert_close(found, slow, atol=TOLERANCE, rtol=TOLERANCE)


def test_the_flash_path_gives_the_same_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    qkv = torch.randn(sum(MIXED), 3 * WIDTH, requires_grad=True)
    layout, weight = Layout.of(_cu(MIXED)), torch.randn(sum(MIXED), WIDTH)
    (products,) = torch.autograd.grad((attend(qkv, layout, HEADS) * weight).sum(), qkv)
    monkeypatch.setattr("unmask.model.attention._MAX_KEPT", 0)
    (flash,) = torch.autograd.grad((attend(qkv, layout, HEADS) * weight).sum(), qkv)
    torch.testing.assert_close(products, flash, atol=TOLERANCE, rtol=TOLERANCE)


def test_attention_dropout_equals_its_twin_with_the_same_mask() -> None:
    lengths, rate = [12] * 5, 0.3
    qkv = torch.randn(60, 3 * WIDTH, requires_grad=True)
    torch.manual_seed(9)
    fast = attend(qkv, Layout.of(_cu(lengths)), HEADS, rate, Dropper())
    torch.manual_seed(9)
    mask, scale = Dropper().keep(torch.empty(5 * HEADS, 12, 12), rate)
    query, key, value = qkv.view(5, 12, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
    shares = torch.softmax(query @ key.transpose(2, 3) * (WIDTH // HEADS) ** -0.5, -1)
    slow = (shares * mask.view_as(shares) * scale) @ value
    slow = slow.transpose(1, 2).reshape(60, WIDTH)
    torch.testing.assert_close(fast, slow, atol=TOLERANCE, rtol=0)
    weight = torch.randn(60, WIDTH)
    (found,) = torch.autograd.grad((fast * weight).sum(), qkv)
    (want,) = torch.autograd.grad((slow * weight).sum(), qkv)
    torch.testing.assert_close(found, want, atol=TOLERANCE, rtol=TOLERANCE)


def test_attention_dropout_is_unbiased() -> None:
    qkv = torch.randn(24, 3 * WIDTH, requires_grad=True)
    layout = Layout.of(_cu([24]))
    mean = torch.stack([attend(qkv, layout, HEADS, 0.1, Dropper()).detach() for _ in range(2000)]).mean(0)
    torch.testing.assert_close(mean, attend(qkv, layout, HEADS).detach(), atol=0.05, rtol=0)


@given(st.lists(st.integers(1, 70), min_size=1, max_size=30))
def test_groups_hold_each_token_once_and_little_padding(lengths: list[int]) -> None:
    layout = Layout.of(_cu(lengths))
    groups = layout.groups
    assert (layout.num_texts, layout.num_tokens, layout.max_seqlen) == (len(lengths), sum(lengths), max(lengths))
    rows = groups.parts[-1].stop
    assert [part.start for part in groups.parts[1:]] == [part.stop for part in groups.parts[:-1]]
    if groups.gather is None:
        assert rows == sum(lengths)
        assert all(part.key_mask is None for part in groups.parts)
    else:
        assert torch.equal(groups.gather[groups.restore], torch.arange(sum(lengths)))
        assert len(groups.gather) == rows
    for part in groups.parts:
        if part.key_mask is not None:
            shortest = int(part.key_mask.sum(-1).min())
            assert shortest >= min(part.length * MIN_FILL, part.length - MAX_GAP_TOKENS)


@pytest.mark.parametrize("bad", [[0], [1, 2], [0, 3, 3], [0, 4, 2], [[0, 1]]])
def test_bad_bounds_are_refused(bad: list) -> None:
    with pytest.raises(ValueError, match="cu_seqlens"):
        Layout.of(np.array(bad))


@pytest.mark.parametrize(
    ("dtype", "width", "suits"),
    [
        (torch.bfloat16, 64, True), (torch.float16, 256, True), (torch.float32, 64, False),
        (torch.bfloat16, 20, False), (torch.bfloat16, 264, False),
    ],
)  # fmt: skip
def test_heads_that_flash_attention_does_not_take_go_through_groups(
    dtype: torch.dtype, width: int, suits: bool
) -> None:
    assert suits_varlen(dtype, width) == suits


@pytest.mark.gpu
@pytest.mark.parametrize("width", [32, 20], ids=["flash", "groups"])
@torch.inference_mode()
def test_a_card_gives_what_the_processor_gives_whatever_the_neighbours(width: int) -> None:
    device, qkv = torch.device("cuda"), torch.randn(sum(MIXED), 3 * HEADS * width)
    expected = attend(qkv, Layout.of(_cu(MIXED)), HEADS)
    rows = qkv.to(device, torch.bfloat16)
    found = attend(rows, Layout.of(_cu(MIXED), device), HEADS)
    torch.testing.assert_close(found.float().cpu(), expected, atol=0.05, rtol=0)
    if width % 8 == 0:
        alone = attend(rows[: MIXED[0]].clone(), Layout.of(_cu(MIXED[:1]), device), HEADS)
        assert torch.equal(alone, found[: MIXED[0]])


@pytest.mark.parametrize(
    ("capability", "refusal", "expected"),
    [
        ((9, 0), None, [{"num_splits": 1}]),
        ((8, 0), TypeError, [{"num_splits": 1}, {}]),
        ((8, 0), RuntimeError, [{"num_splits": 1}, {}]),
        ((7, 5), None, []),
    ],
    ids=["new build", "no such argument", "refused", "old card"],
)
def test_neighbours_are_kept_out_of_a_sum_where_the_build_can(
    monkeypatch: pytest.MonkeyPatch,
    capability: tuple[int, int],
    refusal: type[Exception] | None,
    expected: list[dict[str, int]],
) -> None:
    calls = []

    def kernel(query: torch.Tensor, *others: object, **options: int) -> torch.Tensor:
        calls.append(options)
        if options and refusal is not None:
            raise refusal("num_splits")
        return query

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", kernel)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    attention._varlen.cache_clear()
    found = attention._varlen(torch.device("cpu"))
    attention._varlen.cache_clear()
    assert calls == expected
    assert (found is None) == (capability < (8, 0))
    if found is not None:
        found(torch.zeros(1))
        assert calls[-1] == expected[-1], "what was found out is what is used"
