"""One label for a text or a pair of texts (Liu et al. 2019, section 5.1: GLUE)."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import special
from torch import Tensor
from torch.nn import functional as F

from unmask.config import Settings
from unmask.data.batching import Batch, Features
from unmask.data.infer import infer_columns
from unmask.data.rows import Table
from unmask.errors import DataError
from unmask.metrics.classes import classification
from unmask.model.heads import ClassificationHead
from unmask.tasks.base import Mistake, Place, Prediction, Row, Task, Understood, first_tokens, row_number, text_of


class ClassificationSettings(Settings):
    """Columns and classes of a classification task."""

    labels: tuple[str, ...]
    """Names of the classes, in the order of the logits."""
    text_column: str = "text"
    """Column that holds the text."""
    pair_column: str | None = None
    """Column that holds the second text of a pair."""
    label_column: str = "label"
    """Column that holds the class."""
    max_length: int | None = None
    """Longest input in tokens; by default the model's."""
    head_dropout: float = 0.1
    """Dropout before both layers of the head; fairseq's fine-tuning used 0."""


@dataclass(frozen=True)
class ClassPrediction(Prediction):
    """The answer of a classifier.

    Attributes:
        label: the most probable class.
        score: its probability.
        scores: probability of every class.
        truncated_share: part of the text's tokens that did not fit into the model.
    """

    label: str
    score: float
    scores: dict[str, float]
    truncated_share: float = 0.0

    def summary(self) -> str:
        """Label and probability."""
        return f"{self.label}\t{self.score:.4f}"


class Classification(Task):
    """Classifier on the first token's state: dropout, dense, tanh, dropout, projection."""

    name = "classification"
    head_name = "classification"
    settings_class = ClassificationSettings
    main_metric = "accuracy"
    settings: ClassificationSettings

    @classmethod
    def understand(cls, table: Table, named: Mapping[str, str]) -> Understood:
        """Infer text and label columns and the classes."""
        columns = infer_columns(
            table,
            text=named.get("text_column"),
            pair=named.get("pair_column"),
            label=named.get("label_column"),
        )
        texts = " + ".join(name for name in (columns.text, columns.pair) if name is not None)
        names = ", ".join(columns.labels[:6]) + (f" and {len(columns.labels) - 6} more" * (len(columns.labels) > 6))
        return Understood(
            {
                "labels": columns.labels,
                "text_column": columns.text,
                "pair_column": columns.pair,
                "label_column": columns.label,
            },
            [f"text: {texts} | label: {columns.label} | {len(columns.labels)} classes: {names}"],
        )

    @classmethod
    def stratum(cls, row: Row, settings: Settings) -> str:
        """Rows of one class."""
        assert isinstance(settings, ClassificationSettings), "the settings of this task"
        return str(row[settings.label_column])

    @property
    def labels(self) -> list[str]:
        """Names of the classes, in the order of the logits."""
        return list(self.settings.labels)

    def build_head(self) -> ClassificationHead:
        """RoBERTa's classification head, or BERT's pooler and classifier."""
        return ClassificationHead(self.config, len(self.settings.labels), self.settings.head_dropout)

    def encode(self, rows: Sequence[Row], *, place: Place = row_number, is_training: bool = False) -> list[Features]:
        """Encode texts or pairs, cut to the model's length from the longer one."""
        limit = min(self.settings.max_length or self.config.max_length, self.config.max_length)
        texts = [[text_of(row, column, place(at)) for at, row in enumerate(rows)] for column in self.text_columns]
        pieces = [self.tokenizer.encode(column) for column in texts]
        features = []
        for at, row in enumerate(rows):
            sequence = self.tokenizer.assemble(*(column[at] for column in pieces), max_length=limit)
            features.append(
                Features(
                    input_ids=sequence.input_ids,
                    token_type_ids=sequence.token_type_ids if self.config.type_vocab_size > 1 else None,
                    label=self._label(row, place(at)) if is_training else None,
                    num_truncated=sequence.num_truncated,
                    row=at,
                )
            )
        return features

    def needed(self, batch: Batch) -> Tensor:
        """The first token of each text."""
        return first_tokens(batch)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy, summed over the texts."""
        assert batch.labels is not None, "a batch without labels has no loss"
        return F.cross_entropy(logits.float(), batch.labels.long(), reduction="sum")

    def decode(self, parts: Sequence[np.ndarray], features: Sequence[Features], row: Row) -> ClassPrediction:
        """Probabilities by softmax, the greatest one as the answer."""
        del row
        scores = special.softmax(parts[0]).tolist()
        best = max(range(len(scores)), key=scores.__getitem__)
        return ClassPrediction(
            label=self.settings.labels[best],
            score=scores[best],
            scores=dict(zip(self.settings.labels, scores, strict=True)),
            truncated_share=features[0].truncated_share,
        )

    def score(self, predictions: Sequence[ClassPrediction], rows: Sequence[Row]) -> dict[str, Any]:
        """Accuracy with its interval, MCC, macro F1, per-class scores and the confusion matrix."""
        gold = [row[self.settings.label_column] for row in rows]
        return asdict(classification(gold, [one.label for one in predictions], self.labels))

    def row_scores(self, predictions: Sequence[ClassPrediction], rows: Sequence[Row]) -> list[float]:
        """1 for a right answer."""
        column = self.settings.label_column
        return [float(answer.label == row[column]) for answer, row in zip(predictions, rows, strict=True)]

    def mistakes(self, predictions: Sequence[ClassPrediction], rows: Sequence[Row]) -> list[Mistake]:
        """Rows that got another class than theirs."""
        column = self.settings.label_column
        return [
            Mistake(" | ".join(row[name] for name in self.text_columns), row[column], answer.label, answer.score)
            for answer, row in zip(predictions, rows, strict=True)
            if answer.label != row[column]
        ]

    def _label(self, row: Row, where: object) -> int:
        column = self.settings.label_column
        value = text_of(row, column, where)
        if value not in self.settings.labels:
            near = difflib.get_close_matches(value, self.settings.labels, n=1)
            raise DataError(
                "unknown-label",
                f"the label '{value}' in column '{column}' is none of the model's classes"
                + (f"; did you mean '{near[0]}'?" if near else ""),
                place=where,
                value=value,
                expected=f"one of {', '.join(self.settings.labels)}",
                remedy="mend the label, or train on data that has this class",
            )
        return self.settings.labels.index(value)
