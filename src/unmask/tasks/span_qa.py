"""Answers to questions as stretches of a text (Devlin et al. 2019, sections 4.2 and 4.3; SQuAD 1.1 and 2.0)."""

import re
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from scipy import special
from torch import Tensor

from unmask.config import Settings
from unmask.data.batching import IGNORED, Batch, Features
from unmask.data.questions import Answer
from unmask.data.rows import Form, Table
from unmask.data.stretches import bare, best_stretches, excerpt, pieces_of
from unmask.data.windows import LongTexts, Window, fixed_room, part, windows
from unmask.errors import DataError
from unmask.metrics.answers import AnswerScores, best_threshold, cmrc, squad
from unmask.metrics.intervals import bootstrap
from unmask.model.config import EncoderConfig
from unmask.model.heads import TokenHead
from unmask.model.segments import segment_logsumexp
from unmask.tasks.base import (
    Fitted,
    Mark,
    Mistake,
    Place,
    Prediction,
    Row,
    Task,
    Understood,
    row_number,
    text_of,
)
from unmask.tasks.text_rows import input_limit, truncated_share
from unmask.tokenizer.load import Pieces, Tokenizer

Count = Annotated[int, Field(ge=1)]

_WORDS = re.compile(r"[\u3400-\u9fff]|[^\s\u3400-\u9fff]+")
USUAL_LENGTH = 384
USUAL_ANSWER = 30
PIECES_A_WORD = 1.5
MARGIN = 60
"""Characters of the text that a report shows around an answer."""
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


class SpanQA(Task):
    """Two logits a token, for the first and for the last piece of the answer; no answer is the first token."""

    name = "span_qa"
    head_name = "span_qa"
    settings_class = SpanQASettings
    main_metric = "f1"
    form: ClassVar[Form] = "questions"
    settings: SpanQASettings

    def __init__(self, config: EncoderConfig, tokenizer: Tokenizer, settings: SpanQASettings) -> None:
        super().__init__(config, tokenizer, settings)
        if settings.has_no_answers:
            # the threshold is fitted behind training; until then F1 at 0 would choose the epoch that answers nothing
            self.main_metric = "best_f1"

    @classmethod
    def understand(cls, table: Table, named: Mapping[str, str]) -> Understood:
        """See whether questions may have no answer, how long answers are, and in which script."""
        del named
        if table.form != "questions":
            raise DataError(
                "other-form",
                "the file does not hold questions about texts",
                place=table.path,
                expected="JSON as SQuAD, CMRC or DRCD have it, or lines with context, question and answers",
                remedy="docs/guides/answer-questions.md shows the forms",
            )
        rows = table.rows
        texts = [answer.text for row in rows for answer in row["answers"]]
        has_no_answers = any(row["is_impossible"] for row in rows)
        lengths = [len(_WORDS.findall(text)) for text in texts] or [0]
        longest = max(USUAL_ANSWER, int(np.ceil(PIECES_A_WORD * np.quantile(lengths, 0.995))))
        sample = "".join(row["context"][:200] for row in rows[:: max(1, len(rows) // 100)])
        is_chinese = sum("\u4e00" <= char <= "\u9fff" for char in sample) > 0.2 * len(sample)
        num_contexts = len({row["context"] for row in rows})
        impossible = sum(row["is_impossible"] for row in rows)
        lost = sum(bool(row["answers"]) and not _placed(row["answers"]) for row in rows)
        return Understood(
            {
                "has_no_answers": has_no_answers,
                "max_answer_length": longest,
                "scoring": "cmrc" if is_chinese else "squad",
            },
            [
                f"{len(rows)} questions about {num_contexts} texts"
                + (f" | {impossible} without an answer" if has_no_answers else "")
                + f" | answers of up to {longest} pieces | scored as {'CMRC' if is_chinese else 'SQuAD'} does"
            ]
            + [f"questions whose answer stands nowhere in its text, and from which nothing is learned: {lost}"]
            * bool(lost),
        )

    @classmethod
    def group(cls, row: Row, settings: Settings) -> Hashable | None:
        """Questions about one text stay together."""
        assert isinstance(settings, SpanQASettings), "the settings of this task"
        return str(row[settings.pair_column])

    def build_head(self) -> TokenHead:
        """One linear layer without dropout, as published."""
        return TokenHead(self.config, 2, 0.0)

    def encode(self, rows: Sequence[Row], *, place: Place = row_number, is_training: bool = False) -> list[Features]:
        """Encode each question with every window of its text; each text is cut into pieces once."""
        asked, held = self.text_columns
        questions = self.tokenizer.encode([text_of(row, asked, place(at)) for at, row in enumerate(rows)])
        contexts = list(dict.fromkeys(text_of(row, held, place(at)) for at, row in enumerate(rows)))
        pieces = dict(zip(contexts, self.tokenizer.encode(contexts), strict=True))
        features: list[Features] = []
        for at, row in enumerate(rows):
            context = pieces[row[held]]
            span = self._span(row, context, place(at)) if is_training else None
            features += self._windows(at, questions[at], context, span, is_labelled=is_training)
        return features

    def collate(self, features: Sequence[Features]) -> Batch:
        """Pack windows; those whose question has its answer nowhere are no targets."""
        lost = sum(isinstance(one.label, np.ndarray) and one.label[0] == IGNORED for one in features)
        return replace(super().collate(features), num_filler_targets=lost)

    def needed(self, batch: Batch) -> Tensor:
        """Every token."""
        return torch.arange(len(batch.input_ids), device=batch.input_ids.device)

    def forward(self, batch: Batch) -> Tensor:
        """Logits of first and last piece, (T, 2)."""
        logits: Tensor = self.head(self.encoded(batch))
        return logits

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Mean of the cross-entropies of first and last piece over a window's tokens, summed over the windows."""
        assert batch.labels is not None, "a batch without labels has no loss"
        starts = torch.from_numpy(batch.cu_seqlens[:-1].astype(np.int64)).to(logits.device)
        is_known = batch.labels != IGNORED
        right = self.log_probs(logits, batch).gather(0, starts[:, None] + torch.where(is_known, batch.labels, 0))
        return torch.where(is_known, -right, 0.0).sum() / 2

    def log_probs(self, logits: Tensor, batch: Batch) -> Tensor:
        """Starts and ends, each by softmax over the tokens of a window, (T, 2)."""
        lengths = torch.from_numpy(np.diff(batch.cu_seqlens).astype(np.int64)).to(logits.device)
        owners = torch.repeat_interleave(torch.arange(len(lengths), device=logits.device), lengths)
        return logits.float() - segment_logsumexp(logits.float(), owners, len(lengths))[owners]

    def parts(self, logits: Tensor, batch: Batch, features: Sequence[Features]) -> list[Any]:
        """Logits of each window's tokens, (n, 2) each."""
        del features
        return np.split(logits.float().cpu().numpy(), batch.cu_seqlens[1:-1])

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

    def score(
        self, predictions: Sequence[AnswerPrediction], rows: Sequence[Row], *, has_interval: bool = True
    ) -> dict[str, Any]:
        """F1 with its interval and exact match by the official rules; apart where there may be no answer."""
        scores = self._scores([one.answer for one in predictions], rows)
        interval = bootstrap(scores.rows) if has_interval else None
        found = {"f1": scores.f1, "exact": scores.exact, "interval": interval, "questions": scores.questions}
        if not self.settings.has_no_answers:
            return found
        for name, wanted in (("has_answer", True), ("no_answer", False)):
            chosen = [at for at, row in enumerate(rows) if bool(row["answers"]) == wanted]
            if chosen:
                some = self._scores([predictions[at].answer for at in chosen], [rows[at] for at in chosen])
                found |= {f"{name}_f1": some.f1, f"{name}_exact": some.exact, f"{name}_questions": some.questions}
        best = self._best_threshold(predictions, rows)
        return found | {"best_f1": best[0], "best_threshold": best[1]}

    def row_scores(self, predictions: Sequence[AnswerPrediction], rows: Sequence[Row]) -> list[float]:
        """F1 of each question."""
        scores: list[float] = self._scores([one.answer for one in predictions], rows).rows.tolist()
        return scores

    def fit_to_dev(
        self, parts: Sequence[Sequence[Any]], features: Sequence[Sequence[Features]], rows: Sequence[Row]
    ) -> Fitted:
        """Fit the threshold of "no answer" to the best F1, unless the user has set it."""
        if not self.settings.has_no_answers or "null_threshold" in self.settings.model_fields_set:
            return Fitted()
        predictions = [self.decode(*one) for one in zip(parts, features, rows, strict=True)]
        return Fitted({"null_threshold": self._best_threshold(predictions, rows)[1]})

    def mistakes(self, predictions: Sequence[AnswerPrediction], rows: Sequence[Row]) -> list[Mistake]:
        """Questions whose answer is none of the right ones, with both drawn into the text."""
        hits = self._scores([one.answer for one in predictions], rows).hits
        return [
            self._mistake(one, row) for one, row, is_right in zip(predictions, rows, hits, strict=True) if not is_right
        ]

    def _mistake(self, one: AnswerPrediction, row: Row) -> Mistake:
        answers: Sequence[Answer] = row["answers"]
        gold = next(iter(_placed(answers)), None)
        spans = [] if gold is None else [(gold.start, gold.start + len(gold.text), True)]
        spans += [(one.start, one.end, False)] if one.answer else []
        asked = row[self.settings.text_column] + "\n"
        text, places = excerpt(row[self.settings.pair_column], [span[:2] for span in spans], MARGIN)
        marks = tuple(
            Mark(start + len(asked), end + len(asked), "right" if is_gold else "found", is_gold=is_gold)
            for (start, end), (*_, is_gold) in zip(places, spans, strict=True)
        )
        right = answers[0].text if answers else NO_ANSWER
        return Mistake(asked + text, right, one.answer or NO_ANSWER, one.score, marks)

    def _scores(self, answers: Sequence[str], rows: Sequence[Row]) -> AnswerScores:
        gold = [[answer.text for answer in row["answers"]] for row in rows]
        if self.settings.scoring == "cmrc":
            return cmrc(gold, answers)
        return squad(gold, answers, has_no_answers=self.settings.has_no_answers)

    def _best_threshold(self, predictions: Sequence[AnswerPrediction], rows: Sequence[Row]) -> tuple[float, float]:
        answers = [one.n_best[0].text if one.n_best else "" for one in predictions]
        best = best_threshold(
            self._scores(answers, rows).rows,
            np.array([bool(row["answers"]) for row in rows]),
            np.array([bool(answer) for answer in answers]),
            np.array([one.null_score for one in predictions]),
        )
        return best.f1, best.threshold

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
        placed = _placed(answers)
        if not placed:
            return IGNORED, IGNORED
        answer = Counter(placed).most_common(1)[0][0]
        return pieces_of(context, answer.start, answer.start + len(answer.text)) or (IGNORED, IGNORED)


def _placed(answers: Sequence[Answer]) -> list[Answer]:
    """The answers that stand in their text."""
    return [answer for answer in answers if answer.start >= 0]


def _label(window: Window, span: tuple[int, int] | None) -> np.ndarray:
    """First and last piece of the answer in a window, (2,) int64; the first token where it does not hold all of it."""
    if span is None or span[0] < 0:
        return np.array(span or (0, 0))
    if window.start <= span[0] and span[1] < window.end:
        return np.array(span) - window.start + window.first
    return np.array((0, 0))
