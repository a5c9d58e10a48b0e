"""One label for a text or a pair of texts (Liu et al. 2019, section 5.1: GLUE), or several.

A long text is read window by window, and its probabilities are the mean of the windows'.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from unmask.checkpoint import Model
from unmask.config import Settings
from unmask.data.batching import Batch, Features
from unmask.data.classes import SEPARATOR, Classes, find_classes, labels_in, quoted
from unmask.data.infer import infer_columns
from unmask.data.rows import Table
from unmask.metrics.calibration import fit_temperature
from unmask.model.config import EncoderConfig
from unmask.model.heads import ClassificationHead
from unmask.runtime import upload
from unmask.tasks.base import Fitted, Mistake, Place, Row, Task, Understood, row_number
from unmask.tasks.class_answers import ClassPrediction, LabelsPrediction, ManyLabels, OneLabel
from unmask.tasks.class_reader import ClassificationSettings, ClassReader
from unmask.tasks.pooling import first_tokens
from unmask.tokenizer.load import Tokenizer

MAX_WEIGHT = 100.0
_SHOWN = 6


class Classification(Task):
    """Classifier on a text's state: dropout, dense, tanh, dropout, projection."""

    name = "classification"
    head_name = "classification"
    settings_class = ClassificationSettings
    main_metric = "accuracy"
    falling_metrics = frozenset({"calibration_error"})
    other_numbers = frozenset({"coverage", "labels_per_row", "answers_per_row"})
    settings: ClassificationSettings

    def __init__(self, config: EncoderConfig, tokenizer: Tokenizer, settings: ClassificationSettings) -> None:
        super().__init__(config, tokenizer, settings)
        if settings.multi_label:
            self.main_metric = "micro_f1"

    @classmethod
    def understand(cls, table: Table, named: Mapping[str, Any]) -> Understood:
        """Infer text and label columns and the classes."""
        columns = infer_columns(
            table, text=named.get("text_column"), pair=named.get("pair_column"), label=named.get("label_column")
        )
        separator = named.get("label_separator", SEPARATOR)
        wanted = _is_true(named.get("multi_label"))
        classes = find_classes(table, columns.label, multi_label=wanted, separator=separator)
        # Labels that the user names have an order of their own; a row with yet another one is refused by `encode`.
        given = named.get("labels")
        labels = tuple(given) if isinstance(given, list | tuple) else classes.labels
        shares = dict(zip(classes.labels, classes.shares, strict=True))
        return Understood(
            {
                "labels": labels,
                "class_shares": tuple(shares.get(name, 0.0) for name in labels),
                "multi_label": classes.is_multi_label,
                "text_column": columns.text,
                "pair_column": columns.pair,
                "label_column": columns.label,
            },
            [_summary([columns.text, columns.pair], columns.label, classes), *classes.advice()],
        )

    @classmethod
    def stratum(cls, row: Row, settings: Settings) -> str:
        """Rows of one class; with several, of the rarest one."""
        assert isinstance(settings, ClassificationSettings), "the settings of this task"
        cell = row[settings.label_column]
        if not settings.multi_label:
            return str(cell)
        shares = dict(zip(settings.labels, settings.class_shares, strict=False))
        return min(
            labels_in(cell, settings.label_separator), key=lambda name: (shares.get(name, 0.0), name), default=""
        )

    @property
    def labels(self) -> list[str]:
        """Names of the classes, in the order of the logits."""
        return list(self.settings.labels)

    @property
    def problem_type(self) -> str | None:
        """The loss of several labels a row has a name of its own."""
        return "multi_label_classification" if self.settings.multi_label else None

    def asks_like(self, model: Model) -> bool:
        """Whether the classes are the same, and no number's name."""
        return super().asks_like(model) and not model.gives_number

    @property
    def reader(self) -> ClassReader:
        """Reads rows and logits."""
        return ClassReader(self.config, self.tokenizer, self.settings)

    @property
    def answers(self) -> OneLabel | ManyLabels:
        """How logits become answers and answers scores."""
        return self.reader.answers

    def build_head(self) -> ClassificationHead:
        """RoBERTa's classification head, or BERT's pooler and classifier."""
        return ClassificationHead(self.config, len(self.settings.labels), self.settings.head_dropout)

    def encode(self, rows: Sequence[Row], *, place: Place = row_number, is_training: bool = False) -> list[Features]:
        """Encode texts or pairs; each window of a long one carries the row's label."""
        return self.reader.encode(rows, place=place, is_training=is_training)

    def needed(self, batch: Batch) -> Tensor:
        """The first token of each text."""
        return first_tokens(batch)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy, or the mean of the classes' binary ones, summed over the texts."""
        assert batch.labels is not None, "a batch without labels has no loss"
        chosen, logits = self.settings, logits.float()
        weights = self._weights(logits.device)
        if not chosen.multi_label:
            return F.cross_entropy(
                logits, batch.labels.long(), weights, label_smoothing=chosen.label_smoothing, reduction="sum"
            )
        targets = batch.labels * (1 - chosen.label_smoothing) + chosen.label_smoothing / 2
        total = F.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights, reduction="sum")
        return total / logits.shape[1]

    def log_probs(self, logits: Tensor, batch: Batch) -> Tensor:
        """Of the classes; with several labels, of each being there and not being there."""
        if not self.settings.multi_label:
            return super().log_probs(logits, batch)
        return F.logsigmoid(torch.stack([logits.float(), -logits.float()], dim=-1))

    def decode(
        self, parts: Sequence[np.ndarray], features: Sequence[Features], row: Row
    ) -> ClassPrediction | LabelsPrediction:
        """Mean of the windows' probabilities: the greatest one, or all at or above their thresholds."""
        return self.reader.decode(parts, features, row)

    def score(self, predictions: Sequence[Any], rows: Sequence[Row], *, has_interval: bool = True) -> dict[str, Any]:
        """Accuracy or F1, how well probabilities are calibrated, and the scores of each class."""
        return self.answers.score(predictions, rows, has_interval=has_interval)

    def row_scores(self, predictions: Sequence[Any], rows: Sequence[Row]) -> list[float]:
        """1 for a right answer; the F1 of a set of labels."""
        return self.answers.row_scores(predictions, rows)

    def mistakes(self, predictions: Sequence[Any], rows: Sequence[Row]) -> list[Mistake]:
        """Rows that got other classes than theirs, with probabilities."""
        texts = [" | ".join(self.texts(row, self.settings)) for row in rows]
        return self.answers.mistakes(predictions, rows, texts)

    @property
    def is_chosen_by_fit(self) -> bool:
        """Thresholds decide how many labels are given; a temperature changes no answer."""
        return self.settings.multi_label

    def fit_to_dev(
        self, parts: Sequence[Sequence[Any]], features: Sequence[Sequence[Features]], rows: Sequence[Row]
    ) -> Fitted:
        """Fit the temperature by likelihood (Guo et al. 2017, section 4.2), and the thresholds if it is asked for."""
        del features
        answers, heat = self.answers, self.settings.temperature
        logits = np.concatenate([np.stack(one) for one in parts])
        starts = np.cumsum([0, *(len(one) for one in parts[:-1])])
        gold = answers.targets(rows, row_number)
        found = Fitted()
        if self.settings.calibrate and "temperature" not in self.settings.model_fields_set:
            heat = fit_temperature(lambda heat: answers.surprise(answers.probabilities(logits, starts, heat), gold))
            before = answers.calibration_error(answers.probabilities(logits, starts, 1.0), gold)
            found = Fitted({"temperature": heat}, {"temperature": heat, "calibration_error_before": before})
        how = self.settings.fit_thresholds
        is_asked = how == "each" or (how == "shared" and "thresholds" not in self.settings.model_fields_set)
        if isinstance(answers, ManyLabels) and is_asked:
            fitted = answers.fit(answers.probabilities(logits, starts, heat), gold, is_shared=how == "shared")
            found.settings.update({"thresholds": fitted} if fitted else {})
        return found

    def _weights(self, device: torch.device) -> Tensor | None:
        chosen = self.settings
        if chosen.class_weights == "none":
            return None
        weights = torch.tensor(chosen.class_shares if chosen.class_weights == "balanced" else chosen.class_weights)
        if chosen.class_weights == "balanced":
            weights = (1 - weights) / weights if chosen.multi_label else 1 / (len(weights) * weights)
        return upload(weights.clamp(max=MAX_WEIGHT), device)


def _is_true(value: object) -> bool | None:
    """What a flag says; what it should not say is found when all settings are checked."""
    return None if value is None else str(value).lower() in ("true", "1", "yes", "on")


def _summary(texts: Sequence[str | None], label: str, classes: Classes) -> str:
    named = " + ".join(name for name in texts if name is not None)
    more = len(classes.labels) - _SHOWN
    names = ", ".join(map(quoted, classes.labels[:_SHOWN])) + (f" and {more} more" if more > 0 else "")
    kind = f", {sum(classes.shares):.2f} a row" if classes.is_multi_label else ""
    return f"text: {named} | label: {label} | {len(classes.labels)} classes{kind}: {names}"
