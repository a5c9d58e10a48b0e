"""Rows for new pieces: the mean of their old ones, and nothing else changed."""

import pytest
import torch

from unmask.model.extend import TABLES, extend_rows


def tables(rows: int = 6) -> dict[str, torch.Tensor]:
    """The two tables, and a weight that is none."""
    torch.manual_seed(0)
    return {
        "encoder.embeddings.word.weight": torch.randn(rows, 4),
        "head.bias": torch.randn(rows),
        "head.norm.bias": torch.randn(rows),
    }


def test_new_rows_are_exact_means() -> None:
    old = tables()
    parts = [[0, 1, 5], [3], [2, 2, 4, 1]]
    new = extend_rows(old, parts, first_id=6)
    for name in TABLES:
        assert torch.equal(new[name][:6], old[name])
        for at, ids in enumerate(parts):
            exact = sum(old[name][id].double() for id in ids) / len(ids)
            assert torch.equal(new[name][6 + at], exact.float())
        assert len(new[name]) == 9
        assert new[name].dtype == torch.float32
    assert new["head.norm.bias"] is old["head.norm.bias"]
    assert len(old["head.bias"]) == 6


@pytest.mark.parametrize(("first_id", "rows"), [(4, 6), (5, 7), (8, 10)])
def test_rows_that_no_id_has_used_are_taken(first_id: int, rows: int) -> None:
    old = tables()
    new = extend_rows(old, [[0, 1], [2]], first_id=first_id)["head.bias"]
    assert len(new) == rows
    assert torch.equal(new[: min(first_id, 6)], old["head.bias"][:first_id])
    assert new[first_id + 1] == old["head.bias"][2]
    assert torch.equal(new[first_id + 2 :], old["head.bias"][first_id + 2 :])


def test_a_model_without_a_head_for_masks() -> None:
    old = {"encoder.embeddings.word.weight": tables()["encoder.embeddings.word.weight"]}
    assert list(extend_rows(old, [[0]], first_id=6)) == list(old)
