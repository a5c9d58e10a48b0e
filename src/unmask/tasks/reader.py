"""The half of a task that needs no network and no torch: rows to features, and what a network says to answers."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unmask.config import Settings
from unmask.data.features import Features, padded
from unmask.model.config import EncoderConfig
from unmask.model.writing import Network
from unmask.tasks.rows import Place, Row, row_number, text_columns
from unmask.tokenizer.load import Tokenizer


@dataclass(frozen=True)
class Reader(ABC):
    """Reads rows for a network, and its numbers for the user.

    Attributes:
        config: shape of the encoder.
        tokenizer: the one that the encoder was trained with.
        settings: the task's own.
    """

    config: EncoderConfig
    tokenizer: Tokenizer
    settings: Settings

    @property
    def text_columns(self) -> tuple[str, ...]:
        """Columns of a row that hold its texts, in order."""
        return text_columns(self.settings)

    @abstractmethod
    def encode(self, rows: Sequence[Row], *, place: Place = row_number, is_training: bool = False) -> list[Features]:
        """Turn rows into features; see `Task.encode`."""

    def logits(self, network: Network, features: Sequence[Features]) -> np.ndarray:
        """One pass over a padded batch: the first output of the exported graph, float32."""
        logits, *_ = network(padded(features))
        return logits

    def answer(self, network: Network, features: Sequence[Features]) -> list[Any]:
        """What a network says about each feature of a batch, as `decode` takes it: by default `parts` of the logits."""
        return self.parts(self.logits(network, features), features)

    def parts(self, logits: np.ndarray, features: Sequence[Features]) -> list[Any]:
        """What a padded batch says about each of its features, as `decode` takes it; by default its row of the logits.

        Args:
            logits: float32, (B, C), or (B, S, C) where the head reads every token.
            features: of the batch, B of them.
        """
        del features
        return list(logits)

    def numbers(self, logits: np.ndarray, features: Sequence[Features]) -> np.ndarray:
        """What a padded batch says in numbers that can be compared: by default those of all parts, end to end."""
        return np.concatenate([np.ravel(part) for part in self.parts(logits, features)])

    @abstractmethod
    def decode(self, parts: Sequence[Any], features: Sequence[Features], row: Row) -> Any:
        """Turn the parts of one row into one prediction."""
