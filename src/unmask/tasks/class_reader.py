"""Texts for a classifier, and its logits as classes: one a row, or any number of them; without torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from unmask.config import Settings
from unmask.data.classes import SEPARATOR
from unmask.data.features import Features
from unmask.data.windows import LongTexts
from unmask.tasks.class_answers import ClassPrediction, LabelsPrediction, ManyLabels, OneLabel
from unmask.tasks.reader import Reader
from unmask.tasks.rows import Place, Row, row_number
from unmask.tasks.text_rows import text_features, truncated_share

Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(gt=0)]
Listed = BeforeValidator(lambda value: value.split(",") if isinstance(value, str) and "," in value else value)
"""A flag's list: `0.3,0.4`."""


def _how_to_fit(value: object) -> object:
    """Folders of before wrote whether each class is fitted."""
    return {"false": "none", "true": "each"}.get(str(value).lower(), value)


class ClassificationSettings(Settings):
    """Columns and classes of a classification task."""

    labels: tuple[str, ...]
    """Names of the classes, in the order of the logits."""
    text_column: str = "text"
    """Column that holds the text."""
    pair_column: str | None = None
    """Column that holds the second text of a pair."""
    label_column: str = "label"
    """Column that holds the class, or the classes."""
    max_length: int | None = None
    """Longest input in tokens; by default the model's."""
    stride: Annotated[int, Field(ge=1)] | None = None
    """Pieces between the starts of two windows of a long text; by default half of the input."""
    long_texts: LongTexts = "window"
    """Read a long text in overlapping windows, each with the row's label in training, or cut off its end."""
    head_dropout: float = 0.1
    """Dropout before both layers of the head; fairseq's fine-tuning used 0."""
    multi_label: bool = False
    """Whether a row may have several classes, or none."""
    label_separator: str = SEPARATOR
    """Stands between the classes of a row in a table, as in `a|b`; JSONL has lists too."""
    class_weights: Annotated[Literal["none", "balanced"] | tuple[Weight, ...], Listed] = "none"
    """Weight of each class in the loss; `balanced` makes all classes count alike, but none more than 100 times."""
    class_shares: tuple[Share, ...] = ()
    """Share of the rows of the training file that have each class."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target that is spread over all classes."""
    calibrate: bool = True
    """Fit `temperature` on the dev rows when training is done, unless it is set."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Divides the logits in use, so that probabilities mean what they say."""
    thresholds: Annotated[tuple[Share, ...], Listed] = (0.5,)
    """Probability from which a class is answered in a multi-label task: one for all, or one a class."""
    fit_thresholds: Annotated[Literal["none", "shared", "each"], BeforeValidator(_how_to_fit)] = "shared"
    """Fit on the dev rows one threshold for all classes, for micro F1, unless `thresholds` is set; or one for each of
    them, for its own F1, where at least 5 rows have it."""
    top_k: Annotated[int, Field(ge=0)] = 0
    """Most probable classes that are listed with each answer."""
    abstain_below: Share = 0.0
    """Below this probability there is no answer."""

    @model_validator(mode="after")
    def _one_a_class(self) -> Self:
        sizes = {"class_shares": (0,), "thresholds": (1,), "class_weights": ()}
        for name, others in sizes.items():
            values = getattr(self, name)
            if isinstance(values, tuple) and len(values) not in (*others, len(self.labels)):
                raise ValueError(f"{name} has {len(values)} values for {len(self.labels)} classes")
        if self.class_weights == "balanced" and not self.class_shares:
            raise ValueError("class_weights = 'balanced' needs class_shares, which `understand` finds in the rows")
        return self


@dataclass(frozen=True)
class ClassReader(Reader):
    """Reads texts or pairs, and classes."""

    settings: ClassificationSettings

    @property
    def answers(self) -> OneLabel | ManyLabels:
        """How logits become answers and answers scores."""
        chosen = self.settings
        if not chosen.multi_label:
            return OneLabel(chosen.labels, chosen.label_column, chosen.top_k, chosen.abstain_below)
        thresholds = chosen.thresholds * (len(chosen.labels) if len(chosen.thresholds) == 1 else 1)
        return ManyLabels(chosen.labels, chosen.label_column, chosen.label_separator, thresholds, chosen.top_k)

    def encode(self, rows: Sequence[Row], *, place: Place = row_number, is_training: bool = False) -> list[Features]:
        """Encode texts or pairs; each window of a long one carries the row's label."""
        labels = list(self.answers.targets(rows, place)) if is_training else None
        return text_features(self, self.settings, rows, place=place, labels=labels)

    def decode(
        self, parts: Sequence[np.ndarray], features: Sequence[Features], row: Row
    ) -> ClassPrediction | LabelsPrediction:
        """Mean of the windows' probabilities: the greatest one, or all at or above their thresholds."""
        del row
        answers, start = self.answers, np.zeros(1, np.int64)
        (probabilities,) = answers.probabilities(np.stack(parts), start, self.settings.temperature)
        return answers.answer(probabilities, truncated_share=truncated_share(features), num_windows=len(features))
