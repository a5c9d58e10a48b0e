"""A number for a text or a pair of texts, such as how like two sentences are (STS-B, Liu et al. 2019, table 10).

A long text is read window by window, and its number is the mean of the windows'.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from unmask.config import Settings
from unmask.data.batching import Batch, Features
from unmask.data.classes import number_in
from unmask.data.infer import infer_columns
from unmask.data.rows import Table
from unmask.errors import DataError
from unmask.metrics.numbers import regression
from unmask.model.heads import ClassificationHead
from unmask.tasks.base import Mistake, Place, Row, Task, Understood, row_number
from unmask.tasks.number_reader import NumberPrediction, NumberReader, RegressionSettings, number_of, numbers_of
from unmask.tasks.pooling import first_tokens

_STRATA = 10


class Regression(Task):
    """One output on the first token's state, learnt by mean squared error."""

    name = "regression"
    head_name = "classification"
    num_outputs = 1
    settings_class = RegressionSettings
    main_metric = "spearman"
    falling_metrics = frozenset({"rmse", "mae"})
    has_probabilities = False
    settings: RegressionSettings

    @classmethod
    def understand(cls, table: Table, named: Mapping[str, Any]) -> Understood:
        """Infer text columns and the column of numbers, and their range."""
        columns = infer_columns(
            table,
            text=named.get("text_column"),
            pair=named.get("pair_column"),
            label=named.get("label_column"),
            is_number=True,
        )
        numbers = numbers_of(table.rows, columns.label, table.place, skip_bad=named.get("skip_bad", False))
        low, high = min(numbers), max(numbers)
        if low == high:
            raise DataError(
                "one-number",
                f"all rows have the same number in column '{columns.label}'",
                place=table.path,
                value=low,
                expected="different numbers",
            )
        texts = " + ".join(name for name in (columns.text, columns.pair) if name is not None)
        return Understood(
            {
                "labels": (columns.label,),
                "text_column": columns.text,
                "pair_column": columns.pair,
                "label_column": columns.label,
                "low": low,
                "high": high,
            },
            [f"text: {texts} | number: {columns.label}, {low:g} to {high:g}, mean {np.mean(numbers):.3g}"],
        )

    @classmethod
    def stratum(cls, row: Row, settings: Settings) -> str:
        """Rows of about the same number."""
        assert isinstance(settings, RegressionSettings), "the settings of this task"
        value = number_in(row[settings.label_column]) or 0.0
        return str(int((value - settings.low) / (settings.high - settings.low) * _STRATA))

    @property
    def labels(self) -> list[str]:
        """The name of the number, for transformers counts outputs by names."""
        return list(self.settings.labels)

    @property
    def problem_type(self) -> str:
        """A loss of its own."""
        return "regression"

    @property
    def reader(self) -> NumberReader:
        """Reads rows and outputs."""
        return NumberReader(self.config, self.tokenizer, self.settings)

    def build_head(self) -> ClassificationHead:
        """The classification head with one output."""
        return ClassificationHead(self.config, 1, self.settings.head_dropout)

    def encode(self, rows: Sequence[Row], *, place: Place = row_number, is_training: bool = False) -> list[Features]:
        """Encode texts or pairs; each window of a long one carries the row's scaled number."""
        return self.reader.encode(rows, place=place, is_training=is_training)

    def needed(self, batch: Batch) -> Tensor:
        """The first token of each text."""
        return first_tokens(batch)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Squared errors of the scaled numbers, summed."""
        assert batch.labels is not None, "a batch without labels has no loss"
        return F.mse_loss(logits.float()[:, 0], batch.labels.float(), reduction="sum")

    def decode(self, parts: Sequence[np.ndarray], features: Sequence[Features], row: Row) -> NumberPrediction:
        """Mean of the windows' outputs, in the unit of the rows."""
        return self.reader.decode(parts, features, row)

    def score(
        self, predictions: Sequence[NumberPrediction], rows: Sequence[Row], *, has_interval: bool = True
    ) -> dict[str, Any]:
        """Spearman's and Pearson's correlations, root mean squared and mean absolute error."""
        given = np.array([one.value for one in predictions])
        return asdict(regression(self._gold(rows), given, has_interval=has_interval))

    def mistakes(self, predictions: Sequence[NumberPrediction], rows: Sequence[Row]) -> list[Mistake]:
        """All rows with their errors; the largest are shown."""
        return [
            Mistake(" | ".join(self.texts(row, self.settings)), f"{gold:g}", f"{one.value:.3f}", abs(one.value - gold))
            for one, row, gold in zip(predictions, rows, self._gold(rows).tolist(), strict=True)
        ]

    def _gold(self, rows: Sequence[Row]) -> np.ndarray:
        return np.array([number_of(row, self.settings.label_column, row_number(at)) for at, row in enumerate(rows)])
