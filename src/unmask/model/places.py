"""Learned positions beyond the longest text that a network was trained on."""

import torch

_SHARE = 0.94  # of the variance: what is left turns by no common rule
_ENDS = (16, 8)  # a 16th at the front, an 8th at the back: what begins and ends a text sits there, or little is learned


def with_continued(table: torch.Tensor, *, offset: int, places: range) -> torch.Tensor:
    """A position table in which some places go on from those before them.

    Args:
        table: (R, D), from the rows of padding, `offset` of them, to the last place.
        offset: row of place 0.
        places: whose rows are changed, or added behind the table; those before them are known.

    Returns:
        (max(R, offset + places.stop), D) float32; the argument is not changed.
    """
    start, stop = offset + places.start, offset + places.stop
    known = table[:start].float()
    return torch.cat([known, continued(known[offset:], len(places)), table[stop:].float()])


def continued(places: torch.Tensor, num: int) -> torch.Tensor:
    """The rows that follow a learned position table, as if it had been longer.

    Learned places lie near a curve in few dimensions that turns from each place to the next in the same way: heads that
    look some tokens to the left read it so, at every place alike. The rotation that best leads from each place to
    the next (orthogonal Procrustes, Schönemann 1966) is found in the principal components of the table and applied
    again and again from its end. Copies of the old places (Longformer, Beltagy et al. 2020) give several tokens of one
    text the same place, which a network without local attention cannot bear.

    Args:
        places: (P, D), row i for place i.
        num: N, how many rows are wanted.

    Returns:
        (N, D) float32; their distance from the mean of the table is that of its inner rows.
    """
    front, back = len(places) // _ENDS[0], len(places) // _ENDS[1]
    inner = places[front : len(places) - back].double()
    mean = inner.mean(0)
    _, sizes, axes = torch.linalg.svd(inner - mean, full_matrices=False)
    variance = sizes.square().cumsum(0)
    axes = axes[: 1 + int((variance < _SHARE * variance[-1]).sum())]
    known = (inner - mean) @ axes.T
    left, _, right = torch.linalg.svd(known[:-1].T @ known[1:])
    turn, last = left @ right, known[-1]
    found = []
    for _ in range(back + num):
        last = last @ turn
        found.append(last)
    return (mean + torch.stack(found[back:]) @ axes).float()
