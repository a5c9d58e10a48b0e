"""Rows dealt out to folds."""

from collections.abc import Hashable, Sequence

import numpy as np

from unmask.data.order import permute


def deal(
    strata: Sequence[str], num_folds: int, *, seed: int, groups: Sequence[Hashable | None] = ()
) -> list[list[int]]:
    """Deal rows out to folds, stratum by stratum and in random order, as a pure function of the seed.

    Args:
        strata: one a row; a group belongs to the stratum of its first row.
        num_folds: number of parts.
        seed: of the order.
        groups: one a row; rows of one group stay together, and `None`, like no groups at all, is a row alone.

    Returns:
        Row numbers of each fold, ascending; with fewer groups than folds, some are empty.
    """
    members: dict[Hashable, list[int]] = {}
    for row in range(len(strata)):
        group = groups[row] if groups else None
        members.setdefault(("alone", row) if group is None else ("group", group), []).append(row)
    units = list(members.values())
    order = permute(np.arange(len(units)), size=len(units), key=seed)
    dealt = sorted((units[at] for at in order), key=lambda rows: strata[rows[0]])
    return [sorted(row for unit in dealt[fold::num_folds] for row in unit) for fold in range(num_folds)]
