"""Texts and classes as pairs for a model of inference, and its logits as answers; without torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import BeforeValidator, Field, field_validator
from scipy import special

from unmask.config import Settings
from unmask.data.classes import SEPARATOR
from unmask.data.features import Features
from unmask.data.windows import LongTexts
from unmask.errors import UsageError
from unmask.tasks.class_answers import ClassPrediction, LabelsPrediction, ManyLabels, OneLabel
from unmask.tasks.reader import Reader
from unmask.tasks.rows import Place, Row, row_number, text_of
from unmask.tasks.text_rows import input_limit, inputs, truncated_share
from unmask.tokenizer.load import Pieces

_HOLE = "{}"

Names = Annotated[tuple[str, ...], BeforeValidator(lambda value: value.split(",") if isinstance(value, str) else value)]


class ZeroShotSettings(Settings):
    """Classes to choose from, and how to ask for them."""

    labels: tuple[str, ...]
    """Names of the inference model's classes, in the order of the logits."""
    candidate_labels: Names = ()
    """Classes to choose from."""
    template: str = "This text is about {}."
    """The hypothesis; a class is put in the place of {}."""
    multi_label: bool = False
    """Ask for each class by itself, so that several may hold, or none."""
    entailment: str | None = None
    """Class of the inference model that says that the hypothesis follows; by default the one with that name."""
    contradiction: str | None = None
    """Its class that says the opposite, for `multi_label`; by default the one with that name."""
    text_column: str = "text"
    """Column that holds the text."""
    label_column: str = "label"
    """Column that holds the class, or the classes, of labelled rows."""
    label_separator: str = SEPARATOR
    """Stands between the classes of a row in a table, as in `a|b`."""
    max_length: int | None = None
    """Longest input in tokens; by default the model's."""
    stride: Annotated[int, Field(ge=1)] | None = None
    """Pieces between the starts of two windows of a long text; by default half of the input."""
    long_texts: LongTexts = "window"
    """Read a long text in overlapping windows, or cut off its end."""
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Probability from which a class is answered with `multi_label`."""
    top_k: Annotated[int, Field(ge=0)] = 0
    """Most probable classes that are listed with each answer."""
    abstain_below: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Below this probability there is no answer, without `multi_label`."""

    @field_validator("template")
    @classmethod
    def _has_one_hole(cls, value: str) -> str:
        if value.count(_HOLE) != 1:
            raise ValueError("the template needs {} once, where the class goes")
        return value

    @field_validator("candidate_labels")
    @classmethod
    def _are_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        names = tuple(name.strip() for name in value)
        if len(set(names)) < len(names) or "" in names:
            raise ValueError("classes must have different names that are not empty")
        return names


@dataclass(frozen=True)
class ZeroReader(Reader):
    """Reads texts, and the logits of a (text, hypothesis) pair for each class."""

    settings: ZeroShotSettings

    @property
    def answers(self) -> OneLabel | ManyLabels:
        """How probabilities become answers and answers scores."""
        chosen = self.settings
        candidates = chosen.candidate_labels
        if chosen.multi_label:
            thresholds = (chosen.threshold,) * len(candidates)
            return ManyLabels(candidates, chosen.label_column, chosen.label_separator, thresholds, chosen.top_k)
        return OneLabel(candidates, chosen.label_column, chosen.top_k, chosen.abstain_below)

    def encode(self, rows: Sequence[Row], *, place: Place = row_number, is_training: bool = False) -> list[Features]:
        """One input for each row, class and window, in this order; the windows of all classes of a row are the same.

        Raises:
            UsageError: there are no classes to choose from, one is too long, or the model is none of inference.
        """
        hypotheses = self._hypotheses()
        column = self.settings.text_column
        texts = self.tokenizer.encode([text_of(row, column, place(at)) for at, row in enumerate(rows)])
        targets = self._targets(rows, place) if is_training else None
        longest = max(len(one.ids) for one in hypotheses)
        limit = input_limit(self, self.settings.max_length)
        # One stride for all hypotheses, so that each class has the same windows.
        reach = self.settings.model_copy(update={"stride": self.settings.stride or max(1, limit // 2)})
        has_types = self.config.type_vocab_size > 1
        return [
            Features(
                input_ids=one.input_ids,
                token_type_ids=one.token_type_ids if has_types else None,
                label=None if targets is None else targets[at, which],
                num_truncated=one.num_truncated,
                row=at,
            )
            for at, text in enumerate(texts)
            for which, hypothesis in enumerate(hypotheses)
            for one in inputs(
                self.tokenizer,
                (text, hypothesis),
                reach,
                max_length=limit - longest + len(hypothesis.ids),
            )
        ]

    def decode(
        self, parts: Sequence[np.ndarray], features: Sequence[Features], row: Row
    ) -> ClassPrediction | LabelsPrediction:
        """Softmax of entailment over the classes; with `multi_label`, of entailment against contradiction for each."""
        del row
        yes, no = self._inference()
        logits = (
            np.stack(parts)
            .astype(np.float64)
            .reshape(len(self.settings.candidate_labels), -1, len(self.settings.labels))
        )
        if self.settings.multi_label:
            windows = special.expit(logits[..., yes] - logits[..., no])
        else:
            windows = special.softmax(logits[..., yes], axis=0)
        return self.answers.answer(
            windows.mean(1), truncated_share=truncated_share(features), num_windows=windows.shape[1]
        )

    def _hypotheses(self) -> list[Pieces]:
        chosen = self.settings
        if not chosen.candidate_labels:
            raise UsageError(
                "no-candidate-labels",
                "there are no classes to choose from",
                place="candidate_labels",
                remedy='name them: --labels sports,politics, or options={"candidate_labels": [...]}',
            )
        self._inference()
        pieces = self.tokenizer.encode([chosen.template.replace(_HOLE, name) for name in chosen.candidate_labels])
        room = input_limit(self, chosen.max_length) - self.tokenizer.num_special(is_pair=True)
        longest = max(range(len(pieces)), key=lambda index: len(pieces[index].ids))
        if 2 * len(pieces[longest].ids) > room:
            raise UsageError(
                "candidate-too-long",
                "the hypothesis about a class takes more than half of the model's input",
                place="candidate_labels",
                value=chosen.candidate_labels[longest],
                expected=f"at most {room // 2} pieces",
            )
        return pieces

    def _targets(self, rows: Sequence[Row], place: Place) -> np.ndarray:
        yes, no = self._inference()
        gold = self.answers.targets(rows, place)
        is_right = gold > 0 if gold.ndim == 2 else gold[:, None] == np.arange(len(self.settings.candidate_labels))
        return np.where(is_right, yes, no)

    def _inference(self) -> tuple[int, int]:
        """Places of entailment and contradiction among the logits."""
        chosen = self.settings
        yes = _place(chosen.labels, chosen.entailment, ("entail",), "entailment")
        no = _place(chosen.labels, chosen.contradiction, ("contradict", "notentail", "nonentail"), "contradiction")
        return yes, no


def _place(labels: Sequence[str], named: str | None, stems: Sequence[str], what: str) -> int:
    if named is not None:
        found = [index for index, label in enumerate(labels) if label == named]
    else:
        plain = ["".join(filter(str.isalpha, label.lower())) for label in labels]
        found = [index for index, label in enumerate(plain) if label.startswith(tuple(stems))]
    if len(found) != 1:
        raise UsageError(
            "no-inference-model",
            f"no class of the model is called {named or what}, so it is not known which one means it",
            place=what,
            value=", ".join(labels),
            expected="a classifier of pairs into entailment, neutral and contradiction",
            remedy=f'say which: --options.{what} NAME, or options={{"{what}": NAME}}, with a name from above; '
            "a published folder's README lists what LABEL_0, LABEL_1, ... are",
        )
    return found[0]
