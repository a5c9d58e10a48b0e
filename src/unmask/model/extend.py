"""Rows for new pieces in the tables of a trained network."""

from collections.abc import Mapping, Sequence

import torch

from unmask.model.convert import StateDict

# Tables with one row a piece: the word table, to which the masked-language-model head is tied, and that head's bias.
TABLES = ("encoder.embeddings.word.weight", "head.bias")


def extend_rows(state_dict: Mapping[str, torch.Tensor], parts: Sequence[Sequence[int]], *, first_id: int) -> StateDict:
    """Give the word table, and the bias of a masked-language-model head, one row more for each new piece.

    A new row is the mean of the rows of the pieces that the new one was cut into before; all other weights, and so the
    logits of the old pieces, stay as they are.

    Args:
        state_dict: weights under the names of memory; tables of (V, D) and (V,). It is not changed.
        parts: for each new piece the ids, at least one, of its pieces before.
        first_id: id of the first new piece; rows from there on that no id has used are overwritten.

    Returns:
        All weights, the tables with at least `first_id + len(parts)` rows.
    """
    return {
        name: _extended(tensor, parts, first_id) if name in TABLES else tensor for name, tensor in state_dict.items()
    }


def _extended(table: torch.Tensor, parts: Sequence[Sequence[int]], first_id: int) -> torch.Tensor:
    size = max(len(table), first_id + len(parts))
    rows = torch.zeros(size, *table.shape[1:], dtype=table.dtype)
    rows[: len(table)] = table
    for at, ids in enumerate(parts, first_id):
        rows[at] = table[list(ids)].double().mean(0)
    return rows
