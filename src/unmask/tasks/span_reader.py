"""Questions for a finder of answers, and its logits as stretches of the text; without torch."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from scipy import special

from unmask.config import Settings
from unmask.data.features import IGNORED, Features
from unmask.data.questions import Answer
from unmask.data.stretches import bare, best_stretches, pieces_of
from unmask.data.windows import LongTexts, Window, fixed_room, part, windows
from unmask.errors import DataError
from unmask.tasks.reader import Reader
from unmask.tasks.rows import Place, Prediction, Row, row_number, text_of
from unmask.tasks.text_rows import input_limit, truncated_share
from unmask.tokenizer.load import Pieces

Count = Annotated[int, Field(ge=1)]

USUAL_LENGTH = 384
USUAL_ANSWER = 30
NO_ANSWER = "(no answer)"


class SpanQASettings(Settings):
    """How questions and long texts are cut, and what counts as an answer."""

    text_column: str = "question"
    """Column that holds the question."""
    pair_column: str = "context"
    """Column that holds the text with the answer."""
    max_length: int | None = None
    """Longest window in tokens; by default 384, or the model's where that is less."""
    stride: Count = 128
    """Pieces between the starts of two windows of a long text."""
    long_texts: LongTexts = "window"
    """Look at all of a long text in windows, or only at its first one."""
    max_question_length: Count = 64
    """Pieces of a question that are kept, its first ones."""
    max_answer_length: Count = USUAL_ANSWER
    """Most pieces of an answer; in training it is raised to what the right answers need."""
    n_best: Count = 20
    """Answers that are listed, and among which probability is shared."""
    has_no_answers: bool = False
    """Whether a question may have no answer in its text, as in SQuAD 2.0."""
    null_threshold: float = 0.0
    """Score of "no answer", above the best answer's, from which the answer is left out; fitted on the dev rows."""
    scoring: Literal["squad", "cmrc"] = "squad"
    """Rules of the scores: words without articles and punctuation, or Chinese characters."""


@dataclass(frozen=True)
class FoundAnswer:
    """One stretch of a text.

    Attributes:
        text: its characters.
        start: the first one's place in the text.
        end: the place behind the last one.
        score: probability among the listed answers and, where there may be none, no answer.
    """

    text: str
    start: int
    end: int
    score: float


@dataclass(frozen=True)
class AnswerPrediction(Prediction):
    """The answer to a question.

    Attributes:
        answer: `context[start:end]`; empty where the text does not answer the question.
        start: its first character; 0 without an answer.
        end: the character behind its last one; 0 without an answer.
        score: its probability.
        null_score: logit of "no answer" above that of the best answer.
        n_best: the best answers, best first, whether or not one is given.
        truncated_share: part of question and text that the model has not seen.
    """

    answer: str
    start: int
    end: int
    score: float
    null_score: float
    n_best: tuple[FoundAnswer, ...]
    truncated_share: float = 0.0

    def summary(self) -> str:
        """The answer, its probability and its place."""
        return f"{self.answer or NO_ANSWER}\t{self.score:.4f}\t{self.start}-{self.end}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowFeatures(Features):
    """A question with a window of its text.

    Attributes:
        first: place of the text's first piece in `input_ids`.
        pieces: characters of each of the text's pieces in the window, (m, 2) int32; windows share their memory.
    """

    first: int
    pieces: np.ndarray


@dataclass(frozen=True)
class SpanReader(Reader):
    """Reads questions with their texts, and answers."""

    settings: SpanQASettings

    def encode(self, rows: Sequence[Row], *, place: Place = row_number, is_training: bool = False) -> list[Features]:
        """Encode each question with every window of its text; each text is cut into pieces once.

        A labelled question may be empty, as some of CMRC's are.
        """
        asked, held = self.text_columns
        questions = self.tokenizer.encode(
            [
                "" if is_training and not str(row.get(asked, "?")).strip() else text_of(row, asked, place(at))
                for at, row in enumerate(rows)
            ]
        )
        contexts = list(dict.fromkeys(text_of(row, held, place(at)) for at, row in enumerate(rows)))
        pieces = dict(zip(contexts, self.tokenizer.encode(contexts), strict=True))
        features: list[Features] = []
        for at, row in enumerate(rows):
            context = pieces[row[held]]
            span = self._span(row, context, place(at)) if is_training else None
            features += self._windows(at, questions[at], context, span, is_labelled=is_training)
        return features

    def parts(self, logits: np.ndarray, features: Sequence[Features]) -> list[np.ndarray]:
        """Logits of each window's tokens, (n, 2) each."""
        return [rows[: len(one)] for rows, one in zip(logits, features, strict=True)]

    def decode(self, parts: Sequence[np.ndarray], features: Sequence[Features], row: Row) -> AnswerPrediction:
        """Best stretch of all windows, or none: the window that is least sure of "no answer" decides about that."""
        context = row[self.settings.pair_column]
        scores: dict[tuple[int, int], float] = {}
        for logits, one in zip(parts, features, strict=True):
            assert isinstance(one, WindowFeatures), "features of this task"
            held = logits[one.first : one.first + len(one.pieces)]
            for span, score in best_stretches(
                held, one.pieces, longest=self.settings.max_answer_length, count=self.settings.n_best
            ):
                span = bare(context, *span)
                if span[0] < span[1]:
                    scores[span] = max(score, scores.get(span, -np.inf))
        best = sorted(scores, key=lambda span: (-scores[span], span))[: self.settings.n_best]
        null = min(float(logits[0].sum()) for logits in parts)
        has_null = self.settings.has_no_answers or not best
        shares = special.softmax([scores[span] for span in best] + [null] * has_null).tolist()
        listed = tuple(FoundAnswer(context[a:b], a, b, share) for (a, b), share in zip(best, shares, strict=False))
        gap = null - scores[best[0]] if best else 0.0
        share = truncated_share(features)
        if not best or (self.settings.has_no_answers and gap > self.settings.null_threshold):
            return AnswerPrediction("", 0, 0, shares[-1], gap, listed, share)
        top = listed[0]
        return AnswerPrediction(top.text, top.start, top.end, top.score, gap, listed, share)

    def _windows(
        self, at: int, question: Pieces, context: Pieces, span: tuple[int, int] | None, *, is_labelled: bool
    ) -> list[Features]:
        """Features of one row; pieces that no window shows are counted in the first one."""
        asked, limit = self.settings, input_limit(self, self.settings.max_length or USUAL_LENGTH)
        kept = min(len(question.ids), asked.max_question_length, fixed_room(self.tokenizer, limit))
        cut = windows(
            self.tokenizer,
            context,
            max_length=limit,
            stride=asked.stride,
            fixed=part(question, 0, kept),
            long_texts=asked.long_texts,
        )
        shown = list(cut)
        lost = len(question.ids) - kept + len(context.ids) - shown[-1].end
        return [
            WindowFeatures(
                input_ids=one.sequence.input_ids,
                token_type_ids=one.sequence.token_type_ids if self.config.type_vocab_size > 1 else None,
                label=_label(one, span) if is_labelled else None,
                num_truncated=lost * (number == 0),
                row=at,
                first=one.first,
                pieces=context.offsets[one.start : one.end],
            )
            for number, one in enumerate(shown)
        ]

    def _span(self, row: Row, context: Pieces, where: object) -> tuple[int, int] | None:
        """First and last piece of the answer to learn, the most frequent one; (IGNORED, IGNORED) if it is nowhere."""
        if row.get("is_impossible"):
            return None
        answers: Sequence[Answer] = row.get("answers", ())
        if not answers:
            raise DataError(
                "no-answers",
                "the question has neither an answer nor the mark that it has none",
                place=where,
                value=row.get("id"),
                expected='answers with text and answer_start, or "is_impossible": true',
            )
        found = placed(answers)
        if not found:
            return IGNORED, IGNORED
        answer = Counter(found).most_common(1)[0][0]
        return pieces_of(context, answer.start, answer.start + len(answer.text)) or (IGNORED, IGNORED)


def placed(answers: Sequence[Answer]) -> list[Answer]:
    """The answers that stand in their text."""
    return [answer for answer in answers if answer.start >= 0]


def _label(window: Window, span: tuple[int, int] | None) -> np.ndarray:
    """First and last piece of the answer in a window, (2,) int64; the first token where it does not hold all of it."""
    if span is None or span[0] < 0:
        return np.array(span or (0, 0))
    if window.start <= span[0] and span[1] < window.end:
        return np.array(span) - window.start + window.first
    return np.array((0, 0))
