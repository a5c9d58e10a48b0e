"""Dropout masks and the fused post-LN against their plain twins."""

import pytest
import torch
import torch.nn.functional as F

from unmask.model.layers import Dropper, LayerNorm, Linear, add_norm, dropout, init_weights, times_table


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_masks_have_the_asked_rate_and_the_exact_scale(rate: float, dtype: torch.dtype) -> None:
    like = torch.empty(1001, 999, dtype=dtype)
    mask, scale = Dropper().keep(like, rate)
    assert mask.dtype == dtype
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    num, share = mask.numel(), 1 - mask.float().mean().item()
    assert abs(share - rate) < 5 * (rate * (1 - rate) / num) ** 0.5
    assert scale == pytest.approx(1 / (1 - rate), rel=2e-5)


def test_masks_differ_between_calls_and_follow_the_seed() -> None:
    like = torch.empty(64, 64)
    torch.manual_seed(5)
    first = Dropper()
    one, two = first.keep(like, 0.3)[0], first.keep(like, 0.3)[0]
    torch.manual_seed(5)
    again = Dropper().keep(like, 0.3)[0]
    other = Dropper().keep(like, 0.3)[0]
    assert torch.equal(one, again)
    assert not torch.equal(one, two)
    assert not torch.equal(one, other)


def test_neighbouring_decisions_are_independent() -> None:
    mask, _ = Dropper().keep(torch.empty(1 << 20), 0.5)
    for shift in (1, 2, 3, 4, 5, 64):
        both = (mask[shift:] * mask[:-shift]).mean().item()
        assert abs(both - 0.25) < 0.003


def test_dropout_keeps_the_mean() -> None:
    dropped = dropout(torch.ones(500, 2000), 0.1, Dropper())
    assert dropped.mean().item() == pytest.approx(1, abs=2e-3)
    assert dropout(torch.ones(3), 0.0, Dropper()).tolist() == [1, 1, 1]


def _plain(update, residual, norm, rate, seed):  # type: ignore[no-untyped-def]
    torch.manual_seed(seed)
    mask, scale = Dropper().keep(update, rate)
    return norm(residual + update * mask * scale)


def test_fused_post_ln_equals_its_plain_twin_with_gradients() -> None:
    norm = LayerNorm(24, 1e-5)
    torch.nn.init.normal_(norm.weight)
    update = torch.randn(7, 24, requires_grad=True)
    residual = torch.randn(7, 24, requires_grad=True)
    leaves = (update, residual, norm.weight, norm.bias)
    slow = _plain(update, residual, norm, 0.2, seed=3)
    torch.manual_seed(3)
    fast = add_norm(update, residual, norm, 0.2, Dropper())
    torch.testing.assert_close(fast, slow, atol=1e-6, rtol=1e-6)
    weight = torch.randn(7, 24)
    for one, other in zip(
        torch.autograd.grad((fast * weight).sum(), leaves),
        torch.autograd.grad((slow * weight).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_fused_post_ln_in_bfloat16_stays_near_fp32() -> None:
    norm = LayerNorm(64, 1e-5)
    update, residual = torch.randn(2, 32, 64)
    torch.manual_seed(3)
    rough = add_norm(update.bfloat16(), residual.bfloat16(), norm, 0.1, Dropper())
    assert rough.dtype == torch.bfloat16
    torch.testing.assert_close(rough.float(), _plain(update, residual, norm, 0.1, 3), atol=0.05, rtol=0)


def test_without_dropout_post_ln_is_the_norm_of_the_sum() -> None:
    norm = LayerNorm(8, 1e-5)
    update, residual = torch.randn(2, 3, 8)
    torch.testing.assert_close(add_norm(update, residual, norm, 0.0, Dropper()), norm(update + residual))


def test_init_is_a_function_of_the_seed_alone() -> None:
    def weights(seed: int) -> list[torch.Tensor]:
        module = torch.nn.ModuleDict({"dense": Linear(400, 300), "norm": LayerNorm(300, 1e-5)})
        init_weights(module, std=0.02, seed=seed)
        return [parameter.detach() for parameter in module.parameters()]

    dense, bias, norm_weight, norm_bias = weights(7)
    assert torch.equal(weights(7)[0], dense)
    assert not torch.equal(weights(8)[0], dense)
    assert dense.std().item() == pytest.approx(0.02, rel=0.02)
    assert not bias.any()
    assert not norm_bias.any()
    assert norm_weight.eq(1).all()
    assert norm_weight.shape == (300,)


@pytest.mark.parametrize("rows", [0, 1, 3, 65])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_times_table_is_the_plain_product_and_can_be_learned_through(rows: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(rows)
    hidden, table, bias = (
        torch.randn(shape, generator=generator).to(dtype) for shape in ((rows, 2, 24), (301, 24), (301,))
    )
    hidden = hidden[:, 1]
    assert rows < 2 or not hidden.is_contiguous()
    torch.testing.assert_close(times_table(hidden, table, bias), F.linear(hidden, table, bias))
    table.requires_grad_()
    given = torch.randn((rows, 301), generator=generator).to(dtype)
    (found,) = torch.autograd.grad(times_table(hidden, table, bias), table, given)
    torch.testing.assert_close(found, given.T @ hidden)
