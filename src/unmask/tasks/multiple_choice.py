"""One of several choices (Liu et al. 2019, section 5.3: RACE; Zellers et al. 2018: SWAG).

Each choice is read with the question and its text, and gets one logit; the softmax goes over the choices of a question.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from unmask.config import Settings
from unmask.data.batching import Batch, Features
from unmask.data.rows import Form, Table
from unmask.errors import DataError
from unmask.metrics.intervals import bootstrap
from unmask.model.heads import ClassificationHead
from unmask.model.segments import segment_logsumexp, segment_max
from unmask.tasks.base import (
    Mistake,
    Place,
    Row,
    Task,
    Understood,
    row_number,
)
from unmask.tasks.choice_reader import (
    ChoiceFeatures,
    ChoicePrediction,
    ChoiceReader,
    MultipleChoiceSettings,
    choices_of,
)
from unmask.tasks.pooling import first_tokens

# Characters of a text that a report shows before the question.
_SHOWN = 500


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
    other_numbers = frozenset({"chance"})
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
        return [*([context] if context else []), row[settings.text_column], *choices_of(row, settings, None)]

    @classmethod
    def stratum(cls, row: Row, settings: Settings) -> str:
        """Questions whose right choice stands at one place."""
        del settings
        return str(row["answer"])

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

    @property
    def reader(self) -> ChoiceReader:
        """Reads rows and logits."""
        return ChoiceReader(self.config, self.tokenizer, self.settings)

    def encode(self, rows: Sequence[Row], *, place: Place = row_number, is_training: bool = False) -> list[Features]:
        """Encode each choice with its question and every window of its text."""
        return self.reader.encode(rows, place=place, is_training=is_training)

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
        return self.reader.decode(parts, features, row)

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
                right = choices_of(row, self.settings, None)[row["answer"]]
                found.append(Mistake(text + question, right, one.answer, one.score))
        return found
