"""One of several choices (Liu et al. 2019, section 5.3: RACE; Zellers et al. 2018: SWAG).

Each choice is read with the question and its text, and gets one logit; the softmax goes over the choices of a question.
"""

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from scipy import special
from torch import Tensor

from unmask.config import Settings
from unmask.data.batching import Batch, Features
from unmask.data.rows import Form, Table
from unmask.data.windows import LongTexts, fixed_room, part, windows
from unmask.errors import DataError
from unmask.metrics.intervals import bootstrap
from unmask.model.heads import ClassificationHead
from unmask.model.segments import segment_logsumexp, segment_max
from unmask.tasks.base import (
    Mistake,
    Place,
    Prediction,
    Row,
    Task,
    Understood,
    first_tokens,
    row_number,
    text_of,
)
from unmask.tasks.text_rows import input_limit, truncated_share
from unmask.tokenizer.load import Pieces

# A gap in a question, to be filled with each choice.
_GAP = re.compile(r"(?<![^\W_])_+(?![^\W_])")
# Between choices that are given as one text.
_BETWEEN = "|"
# Characters of a text that a report shows before the question.
_SHOWN = 500


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceBatch(Batch):
    """Choices laid end to end; `labels` are the right ones, counted through the batch, one a question.

    Attributes:
        choices: number of the choice that each text belongs to, counted through the batch, (B,) int64.
        questions: number of the question that each choice belongs to, likewise, (K,) int64.
    """

    choices: Tensor
    questions: Tensor


class MultipleChoice(Task):
    """One logit a choice from the first token's state: dense, tanh, dropout, projection, for all families."""

    name = "multiple_choice"
    head_name = "multiple_choice"
    settings_class = MultipleChoiceSettings
    main_metric = "accuracy"
    form: ClassVar[Form] = "choices"
    is_coupled = True
    settings: MultipleChoiceSettings

    @classmethod
    def understand(cls, table: Table, named: Mapping[str, str]) -> Understood:
        """Count questions, choices and texts."""
        del named
        if table.form != "choices":
            raise DataError(
                "other-form",
                "the file does not hold questions with choices",
                place=table.path,
                expected='lines such as {"context": "", "question": "Why?", "choices": ["a", "b"], "answer": 0}',
                remedy="docs/guides/answer-questions.md shows the forms",
            )
        sizes = sorted({len(row["choices"]) for row in table.rows})
        texts = len({row["context"] for row in table.rows} - {""})
        counts = str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
        about = f" about {texts} texts" * bool(texts)
        return Understood({}, [f"{len(table.rows)} questions{about} | {counts} choices each"])

    @classmethod
    def texts(cls, row: Row, settings: Settings) -> list[str]:
        """Text, question and choices."""
        assert isinstance(settings, MultipleChoiceSettings), "the settings of this task"
        context = row.get(settings.context_column, "")
        return [*([context] if context else []), row[settings.text_column], *_choices(row, settings, None)]

    @classmethod
    def group(cls, row: Row, settings: Settings) -> Hashable | None:
        """Questions about one text stay together."""
        assert isinstance(settings, MultipleChoiceSettings), "the settings of this task"
        return row.get(settings.context_column) or None

    def example(self, text: str) -> Row:
        """The question whether a text goes on with itself or with its words turned round."""
        return {self.settings.text_column: text, self.settings.pair_column: [text, " ".join(text.split()[::-1])]}

    def build_head(self) -> ClassificationHead:
        """The pooler and a projection to one number; as published, dropout only between them."""
        head = ClassificationHead(self.config, 1, self.settings.head_dropout)
        head.dropout_before = 0.0
        return head

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

    def collate(self, features: Sequence[Features]) -> ChoiceBatch:
        """Pack choices, and number them and their questions through the batch."""
        batch = super().collate(features)
        assert batch.rows is not None, "packed features know their rows"
        numbers = np.array([one.choice for one in features if isinstance(one, ChoiceFeatures)], dtype=np.int64)
        is_question = np.diff(batch.rows, prepend=-1) != 0
        is_choice = np.diff(numbers, prepend=-1) != 0  # a question's first choice has another number than the last one
        choices = np.cumsum(is_choice) - 1
        questions = (np.cumsum(is_question) - 1)[is_choice]
        labels = None
        if batch.labels is not None:
            labels = torch.from_numpy(np.unique(choices[batch.labels.numpy() == 1]))
        common = {name: getattr(batch, name) for name in Batch.__dataclass_fields__}
        return ChoiceBatch(
            **(common | {"labels": labels}),
            choices=torch.from_numpy(choices),
            questions=torch.from_numpy(questions),
        )

    def needed(self, batch: Batch) -> Tensor:
        """The first token of each text."""
        return first_tokens(batch)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy over the choices of each question, summed over the questions."""
        assert isinstance(batch, ChoiceBatch), "a batch of this task"
        assert batch.labels is not None, "a batch without labels has no loss"
        return -self.log_probs(logits, batch)[batch.labels].sum()

    def log_probs(self, logits: Tensor, batch: Batch) -> Tensor:
        """Softmax over the choices of each question, one entry a choice."""
        assert isinstance(batch, ChoiceBatch), "a batch of this task"
        assert batch.labels is not None, "as many as there are questions"
        scores = segment_max(logits.float(), batch.choices, len(batch.questions))
        return scores - segment_logsumexp(scores, batch.questions, len(batch.labels))[batch.questions]

    def decode(self, parts: Sequence[np.ndarray], features: Sequence[Features], row: Row) -> ChoicePrediction:
        """Probabilities by softmax over the choices, each with the greatest logit of its windows."""
        choices = _choices(row, self.settings, None)
        logits = np.full(len(choices), -np.inf)
        for part_, one in zip(parts, features, strict=True):
            assert isinstance(one, ChoiceFeatures), "features of this task"
            logits[one.choice] = max(logits[one.choice], float(part_[0]))
        scores = special.softmax(logits).tolist()
        best = int(np.argmax(logits))
        return ChoicePrediction(choices[best], best, scores[best], tuple(scores), truncated_share(features))

    def score(
        self, predictions: Sequence[ChoicePrediction], rows: Sequence[Row], *, has_interval: bool = True
    ) -> dict[str, Any]:
        """Accuracy with its interval, and what guessing would give."""
        right = np.array(self.row_scores(predictions, rows))
        chance = float(np.mean([1 / len(one.scores) for one in predictions]))
        interval = bootstrap(right) if has_interval else None
        return {"accuracy": float(right.mean()), "interval": interval, "chance": chance}

    def row_scores(self, predictions: Sequence[ChoicePrediction], rows: Sequence[Row]) -> list[float]:
        """1 where the right choice was taken."""
        return [float(one.index == row["answer"]) for one, row in zip(predictions, rows, strict=True)]

    def mistakes(self, predictions: Sequence[ChoicePrediction], rows: Sequence[Row]) -> list[Mistake]:
        """Questions that got another choice than theirs; a question with a long text shows its beginning."""
        found = []
        for one, row in zip(predictions, rows, strict=True):
            if one.index != row["answer"]:
                *before, question = self.texts(row, self.settings)[: -len(one.scores)]
                text = "".join(f"{context[:_SHOWN]}{'...' * (len(context) > _SHOWN)}\n" for context in before)
                right = _choices(row, self.settings, None)[row["answer"]]
                found.append(Mistake(text + question, right, one.answer, one.score))
        return found

    def _plan(self, row: Row, where: object) -> list[tuple[str, str | None]]:
        """For each choice the text that may be cut into windows, and the one that stands in all of them."""
        question = text_of(row, self.settings.text_column, where)
        context: str = row.get(self.settings.context_column) or ""
        plan: list[tuple[str, str | None]] = []
        for choice in _choices(row, self.settings, where):
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


def _choices(row: Row, settings: MultipleChoiceSettings, where: object) -> list[str]:
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
