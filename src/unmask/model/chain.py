"""Answers of a linear-chain conditional random field: the best path, and each word's share of all paths; in numpy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Chain:
    """Scores of a chain, in numpy.

    Attributes:
        transitions: of tag j behind tag i, (C, C) float32 at [i, j].
        start: of the first tag, (C,).
        end: of the last tag, (C,).
    """

    transitions: np.ndarray
    start: np.ndarray
    end: np.ndarray

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "Chain":
        """The chain that `to_json` has written."""
        return cls(**{name: np.array(content[name], np.float32) for name in ("transitions", "start", "end")})

    def to_json(self) -> dict[str, Any]:
        """Its numbers as lists, exactly."""
        return {name: getattr(self, name).tolist() for name in ("transitions", "start", "end")}

    def best_path(self, emissions: np.ndarray) -> list[int]:
        """The most probable tags of one text by Viterbi's algorithm, for emissions (n, C)."""
        if not len(emissions):
            return []
        score, back = self.start + emissions[0], []
        for row in emissions[1:]:
            reached = score[:, None] + self.transitions
            back.append(reached.argmax(axis=0))
            score = reached.max(axis=0) + row
        path = [int((score + self.end).argmax())]
        for choices in reversed(back):
            path.append(int(choices[path[-1]]))
        return path[::-1]

    def marginals(self, emissions: np.ndarray) -> np.ndarray:
        """Probability of each tag of each word over all paths, (n, C), by the forward-backward algorithm."""
        size = len(emissions)
        before, behind = np.zeros_like(emissions), np.zeros_like(emissions)
        for at in range(size):
            step = self.start if not at else _log_sum(before[at - 1][:, None] + self.transitions, axis=0)
            before[at] = step + emissions[at]
        for at in reversed(range(size)):
            if at == size - 1:
                behind[at] = self.end
            else:
                behind[at] = _log_sum(self.transitions + emissions[at + 1] + behind[at + 1], axis=1)
        total = before + behind
        return np.exp(total - _log_sum(total, axis=1)[:, None]) if size else emissions


def _log_sum(values: np.ndarray, axis: int) -> np.ndarray:
    """log(sum(exp(values))) along an axis; scipy's takes ten times as long for so few values."""
    greatest = values.max(axis=axis, keepdims=True)
    return (np.log(np.exp(values - greatest).sum(axis=axis, keepdims=True)) + greatest).squeeze(axis)
