"""Questions with choices for a network, and its logits as answers; without torch."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field
from scipy import special

from unmask.config import Settings
from unmask.data.features import Features
from unmask.data.windows import LongTexts, fixed_room, part, windows
from unmask.errors import DataError
from unmask.tasks.reader import Reader
from unmask.tasks.rows import Place, Prediction, Row, row_number, text_of
from unmask.tasks.text_rows import input_limit, truncated_share
from unmask.tokenizer.load import Pieces

# A gap in a question, to be filled with each choice; a longer one may stand between Han characters, which are letters.
_GAP = re.compile(r"(?<!\w)_+(?!\w)|(?<![A-Za-z0-9_])_{2,}(?![A-Za-z0-9_])")
# Between choices that are given as one text.
_BETWEEN = "|"


class MultipleChoiceSettings(Settings):
    """Where questions and choices stand, and how long texts are cut."""

    text_column: str = "question"
    """Column that holds the question; a gap `_` in it is filled with each choice."""
    pair_column: str = "choices"
    """Column that holds the choices, a list, or one text with `|` between them."""
    context_column: str = "context"
    """Column that holds the text that the question is about, where there is one."""
    max_length: int | None = None
    """Longest input in tokens; by default the model's."""
    stride: Annotated[int, Field(ge=1)] | None = None
    """Pieces between the starts of two windows of a long text; by default half of the input."""
    long_texts: LongTexts = "window"
    """Give a choice the greatest logit of all windows of a long text, or look only at the first one."""
    head_dropout: float = 0.1
    """Dropout before the last layer of the head."""


@dataclass(frozen=True)
class ChoicePrediction(Prediction):
    """The answer to a question with choices.

    Attributes:
        answer: text of the most probable choice.
        index: its number, from 0.
        score: its probability.
        scores: probability of every choice, in their order.
        truncated_share: part of the tokens that the model has not seen.
    """

    answer: str
    index: int
    score: float
    scores: tuple[float, ...]
    truncated_share: float = 0.0

    def summary(self) -> str:
        """The choice, its number and its probability."""
        return f"{self.answer}\t{self.index}\t{self.score:.4f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceFeatures(Features):
    """A choice with its question and a window of the text; the label tells whether it is the right one.

    Attributes:
        choice: its number in the row.
    """

    choice: int


@dataclass(frozen=True)
class ChoiceReader(Reader):
    """Reads questions with choices, and one logit a choice."""

    settings: MultipleChoiceSettings

    def encode(self, rows: Sequence[Row], *, place: Place = row_number, is_training: bool = False) -> list[Features]:
        """Encode each choice with its question and every window of its text; a text is cut into pieces once."""
        plans = [self._plan(row, place(at)) for at, row in enumerate(rows)]
        texts = list(dict.fromkeys(text for plan in plans for pair in plan for text in pair if text is not None))
        pieces = dict(zip(texts, self.tokenizer.encode(texts), strict=True))
        features: list[Features] = []
        for at, (row, plan) in enumerate(zip(rows, plans, strict=True)):
            right = self._label(row, len(plan), place(at)) if is_training else None
            for choice, (moving, fixed) in enumerate(plan):
                held = None if fixed is None else pieces[fixed]
                features += self._windows(
                    pieces[moving], held, row=at, choice=choice, label=None if right is None else int(choice == right)
                )
        return features

    def decode(self, parts: Sequence[np.ndarray], features: Sequence[Features], row: Row) -> ChoicePrediction:
        """Probabilities by softmax over the choices, each with the greatest logit of its windows."""
        choices = choices_of(row, self.settings, None)
        logits = np.full(len(choices), -np.inf)
        for part_, one in zip(parts, features, strict=True):
            assert isinstance(one, ChoiceFeatures), "features of this task"
            logits[one.choice] = max(logits[one.choice], float(part_[0]))
        scores = special.softmax(logits).tolist()
        best = int(np.argmax(logits))
        return ChoicePrediction(choices[best], best, scores[best], tuple(scores), truncated_share(features))

    def _plan(self, row: Row, where: object) -> list[tuple[str, str | None]]:
        """For each choice the text that may be cut into windows, and the one that stands in all of them."""
        question = text_of(row, self.settings.text_column, where)
        context: str = row.get(self.settings.context_column) or ""
        plan: list[tuple[str, str | None]] = []
        for choice in choices_of(row, self.settings, where):
            filled = choice.join(_GAP.split(question))
            has_gap = filled != question
            if context.strip():
                plan.append((context, filled if has_gap else f"{question} {choice}"))
            else:
                plan.append((filled, None) if has_gap else (question, choice))
        return plan

    def _windows(
        self, moving: Pieces, fixed: Pieces | None, *, row: int, choice: int, label: int | None
    ) -> list[Features]:
        """Features of one choice; of a long fixed text the end is kept, because the choice stands there."""
        limit = input_limit(self, self.settings.max_length)
        held, lost = fixed, 0
        if fixed is not None:
            lost = max(0, len(fixed.ids) - fixed_room(self.tokenizer, limit))
            held = part(fixed, lost, len(fixed.ids))
        cut = windows(
            self.tokenizer,
            moving,
            max_length=limit,
            stride=self.settings.stride,
            fixed=held,
            is_last=False,
            long_texts=self.settings.long_texts,
        )
        shown = list(cut)
        lost += len(moving.ids) - shown[-1].end
        return [
            ChoiceFeatures(
                input_ids=one.sequence.input_ids,
                token_type_ids=one.sequence.token_type_ids if self.config.type_vocab_size > 1 else None,
                label=label,
                num_truncated=lost * (number == 0),
                row=row,
                choice=choice,
            )
            for number, one in enumerate(shown)
        ]

    def _label(self, row: Row, num_choices: int, where: object) -> int:
        answer = row.get("answer", -1)
        if not isinstance(answer, int) or not 0 <= answer < num_choices:
            raise DataError(
                "unknown-label",
                "the question's answer is not known" if answer == -1 else "the answer is none of the choices",
                place=where,
                value=answer,
                expected=f"the number of the right choice, 0 to {num_choices - 1}",
            )
        return answer


def choices_of(row: Row, settings: MultipleChoiceSettings, where: object) -> list[str]:
    """The choices of a row.

    Raises:
        DataError: there are fewer than two, or one of them is empty.
    """
    given = row.get(settings.pair_column)
    choices = [one.strip() for one in given.split(_BETWEEN)] if isinstance(given, str) else given
    if not isinstance(choices, list) or len(choices) < 2 or not all(choice.strip() for choice in choices):
        raise DataError(
            "no-choices",
            f"there are not two or more choices in '{settings.pair_column}'",
            place=where,
            value=given,
            expected=f"a list of texts, or one text with {_BETWEEN} between them",
        )
    return choices
