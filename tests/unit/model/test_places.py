"""Learned places, continued."""

import numpy as np
import pytest
import torch

from unmask.model.places import continued


def waves(num: int, *, of: int = 104, width: int = 40, noise: float = 0.0) -> torch.Tensor:
    """(num, width) places of whole waves in `of` places, in random directions around a mean, as networks learn them."""
    random = np.random.default_rng(3)
    angles = 2 * np.pi * np.outer(np.arange(num), [1, 3, 8, 20]) / of
    directions, _ = np.linalg.qr(random.normal(size=(width, 8)))
    table = np.hstack([np.cos(angles), np.sin(angles)]) @ directions.T + random.normal(size=width)
    return torch.from_numpy(table + noise * random.normal(size=table.shape)).float()


def test_waves_go_on() -> None:
    torch.testing.assert_close(continued(waves(128), 384), waves(512)[128:], rtol=0, atol=1e-4)


def test_noise_is_left_out() -> None:
    found, wanted = continued(waves(128, noise=0.05), 64), waves(192)[128:]
    assert torch.cosine_similarity(found - wanted.mean(0), wanted - wanted.mean(0), dim=1).min() > 0.9


def test_odd_ends_have_no_part() -> None:
    """The first and the last places of a text hold its marks, and are unlike all others."""
    odd = waves(128)
    odd[:4], odd[-8:] = 3.0, -5.0
    torch.testing.assert_close(continued(odd, 100), waves(228)[128:], rtol=0, atol=1e-4)


@pytest.mark.parametrize("num_places", [1, 2, 3, 9])
def test_tables_of_few_places(num_places: int) -> None:
    table = torch.randn(num_places, 6, generator=torch.Generator().manual_seed(1))
    found = continued(table, 5)
    assert found.shape == (5, 6)
    reach = (table - table.mean(0)).norm(dim=1).max()
    assert (found - table.mean(0)).norm(dim=1).max() <= 3 * reach + 1e-5


def test_places_that_are_all_alike_stay_so() -> None:
    torch.testing.assert_close(continued(torch.ones(8, 4), 3), torch.ones(3, 4))
