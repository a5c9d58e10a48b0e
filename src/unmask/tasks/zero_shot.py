"""Classes that the model was never trained on, asked as hypotheses to a model of inference (Yin et al. 2019).

For each class the premise is the text, and the hypothesis says that the text is about the class. A long text is read
window by window, the same ones for all classes, and its probabilities are the mean of the windows'.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from unmask.data.batching import Batch, Features
from unmask.data.rows import Table
from unmask.errors import UsageError
from unmask.model.heads import ClassificationHead
from unmask.tasks.base import Mistake, Place, Row, Task, Understood, row_number
from unmask.tasks.class_answers import ClassPrediction, LabelsPrediction, ManyLabels, OneLabel
from unmask.tasks.pooling import first_tokens
from unmask.tasks.zero_reader import ZeroReader, ZeroShotSettings


class ZeroShot(Task):
    """A classifier of (text, hypothesis) pairs, asked once for each class."""

    name = "zero_shot"
    head_name = "classification"
    settings_class = ZeroShotSettings
    main_metric = "accuracy"
    falling_metrics = frozenset({"calibration_error"})
    other_numbers = frozenset({"coverage", "labels_per_row", "answers_per_row"})
    settings: ZeroShotSettings

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        if self.settings.multi_label:
            self.main_metric = "micro_f1"

    @classmethod
    def understand(cls, table: Table, named: Mapping[str, Any]) -> Understood:
        """It is not trained on the classes that it is asked for.

        Raises:
            UsageError: always.
        """
        del table, named
        raise UsageError(
            "no-finetuning",
            "the task 'zero_shot' learns nothing from rows of your classes",
            remedy="fine-tune `--task classification` on pairs with the labels entailment, neutral and contradiction, "
            "and predict with `--task zero_shot`; or fine-tune `--task classification` on your classes",
        )

    @property
    def labels(self) -> list[str]:
        """Names of the inference model's classes, in the order of the logits."""
        return list(self.settings.labels)

    @property
    def reader(self) -> ZeroReader:
        """Reads rows and logits."""
        return ZeroReader(self.config, self.tokenizer, self.settings)

    @property
    def answers(self) -> OneLabel | ManyLabels:
        """How probabilities become answers and answers scores."""
        return self.reader.answers

    def build_head(self) -> ClassificationHead:
        """The head of the inference model."""
        return ClassificationHead(self.config, len(self.settings.labels), dropout=0.0)

    def encode(self, rows: Sequence[Row], *, place: Place = row_number, is_training: bool = False) -> list[Features]:
        """One input for each row, class and window, in this order; the windows of all classes of a row are the same."""
        return self.reader.encode(rows, place=place, is_training=is_training)

    def needed(self, batch: Batch) -> Tensor:
        """The first token of each pair."""
        return first_tokens(batch)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of inference: a right class follows from the text, any other contradicts it."""
        assert batch.labels is not None, "a batch without labels has no loss"
        return F.cross_entropy(logits.float(), batch.labels.long(), reduction="sum")

    def decode(
        self, parts: Sequence[np.ndarray], features: Sequence[Features], row: Row
    ) -> ClassPrediction | LabelsPrediction:
        """Softmax of entailment over the classes; with `multi_label`, of entailment against contradiction for each."""
        return self.reader.decode(parts, features, row)

    def score(self, predictions: Sequence[Any], rows: Sequence[Row], *, has_interval: bool = True) -> dict[str, Any]:
        """Accuracy or F1, how well probabilities are calibrated, and the scores of each class."""
        return self.answers.score(predictions, rows, has_interval=has_interval)

    def row_scores(self, predictions: Sequence[Any], rows: Sequence[Row]) -> list[float]:
        """1 for a right answer; the F1 of a set of labels."""
        return self.answers.row_scores(predictions, rows)

    def mistakes(self, predictions: Sequence[Any], rows: Sequence[Row]) -> list[Mistake]:
        """Rows that got other classes than theirs, with probabilities."""
        return self.answers.mistakes(predictions, rows, [row[self.settings.text_column] for row in rows])
