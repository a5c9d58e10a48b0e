"""Texts for a regression, and its outputs as numbers; without torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from unmask.config import Settings
from unmask.data.classes import number_in
from unmask.data.features import Features
from unmask.data.windows import LongTexts
from unmask.errors import DataError
from unmask.tasks.reader import Reader
from unmask.tasks.rows import Place, Prediction, Row, row_number, text_of
from unmask.tasks.text_rows import text_features, truncated_share


class RegressionSettings(Settings):
    """Columns and range of a regression task."""

    labels: Annotated[tuple[str, ...], Field(min_length=1, max_length=1)] = ("score",)
    """Name of the number."""
    text_column: str = "text"
    """Column that holds the text."""
    pair_column: str | None = None
    """Column that holds the second text of a pair."""
    label_column: str = "score"
    """Column that holds the number."""
    low: float = 0.0
    """The network learns numbers that are scaled so that this one is 0; by default the least of the training rows."""
    high: float = 1.0
    """And this one is 1; by default the greatest."""
    max_length: int | None = None
    """Longest input in tokens; by default the model's."""
    stride: Annotated[int, Field(ge=1)] | None = None
    """Pieces between the starts of two windows of a long text; by default half of the input."""
    long_texts: LongTexts = "window"
    """Read a long text in overlapping windows, each with the row's number in training, or cut off its end."""
    head_dropout: float = 0.1
    """Dropout before both layers of the head; fairseq's fine-tuning used 0."""

    @model_validator(mode="after")
    def _is_range(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        return self


@dataclass(frozen=True)
class NumberPrediction(Prediction):
    """The answer of a regression.

    Attributes:
        value: the number, in the unit of the training rows; it may lie a little outside their range.
        truncated_share: part of the text's tokens that did not fit into the model.
        num_windows: inputs that the text was read in.
    """

    value: float
    truncated_share: float = 0.0
    num_windows: int = 1

    def summary(self) -> str:
        """The number."""
        return f"{self.value:.4f}"


@dataclass(frozen=True)
class NumberReader(Reader):
    """Reads texts or pairs, and numbers."""

    settings: RegressionSettings

    def encode(self, rows: Sequence[Row], *, place: Place = row_number, is_training: bool = False) -> list[Features]:
        """Encode texts or pairs; each window of a long one carries the row's scaled number."""
        low, column = self.settings.low, self.settings.label_column
        labels = None
        if is_training:
            numbers = [number_of(row, column, place(at)) for at, row in enumerate(rows)]
            labels = [(number - low) / (self.settings.high - low) for number in numbers]
        return text_features(self, self.settings, rows, place=place, labels=labels)

    def decode(self, parts: Sequence[np.ndarray], features: Sequence[Features], row: Row) -> NumberPrediction:
        """Mean of the windows' outputs, in the unit of the rows."""
        del row
        low, high = self.settings.low, self.settings.high
        value = low + float(np.mean([part[0] for part in parts])) * (high - low)
        return NumberPrediction(value, truncated_share(features), len(features))


def number_of(row: Row, column: str, where: object) -> float:
    """The number in a column of a row.

    Raises:
        DataError: there is no such column, or no finite number in it.
    """
    text = text_of(row, column, where, what="label")
    number = number_in(text)
    if number is None or not np.isfinite(number):
        raise DataError(
            "not-a-number",
            f"'{text}' in column '{column}' is not a number",
            place=where,
            value=text,
            expected="a finite number with a decimal point, such as 3.25",
            remedy="mend the row, or leave such rows out: --data.skip-bad (evaluate: --skip-bad); "
            "for classes: --task classification",
        )
    return number


def numbers_of(rows: Sequence[Row], column: str, place: Place, *, skip_bad: bool = False) -> list[float]:
    """The numbers in a column; with `skip_bad` of those rows that have one, if any has.

    Raises:
        DataError: a row has none; its place is named.
    """
    found = [number_in(str(row.get(column))) for row in rows] if skip_bad else []
    return [one for one in found if one is not None] or [
        number_of(row, column, place(at)) for at, row in enumerate(rows)
    ]
