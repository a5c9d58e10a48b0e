"""Answers to questions as stretches of a text (Devlin et al. 2019, sections 4.2 and 4.3; SQuAD 1.1 and 2.0)."""

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from unmask.config import Settings
from unmask.data.batching import IGNORED, Batch, Features
from unmask.data.questions import Answer
from unmask.data.rows import Form, Table
from unmask.data.stretches import excerpt
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
    Row,
    Task,
    Understood,
    row_number,
)
from unmask.tasks.pooling import all_tokens
from unmask.tasks.span_reader import NO_ANSWER, USUAL_ANSWER, AnswerPrediction, SpanQASettings, SpanReader, placed
from unmask.tokenizer.load import Tokenizer

_WORDS = re.compile(r"[\u3400-\u9fff]|[^\s\u3400-\u9fff]+")
PIECES_A_WORD = 1.5
MARGIN = 60
"""Characters of the text that a report shows around an answer."""


class SpanQA(Task):
    """Two logits a token, for the first and for the last piece of the answer; no answer is the first token."""

    name = "span_qa"
    head_name = "span_qa"
    settings_class = SpanQASettings
    main_metric = "f1"
    other_numbers = frozenset({"questions", "has_answer_questions", "no_answer_questions", "best_threshold"})
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
        lost = sum(bool(row["answers"]) and not placed(row["answers"]) for row in rows)
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
    def stratum(cls, row: Row, settings: Settings) -> str:
        """Questions with an answer, and questions without."""
        del settings
        return "answers" if row["answers"] else ""

    @classmethod
    def group(cls, row: Row, settings: Settings) -> Hashable | None:
        """Questions about one text stay together."""
        assert isinstance(settings, SpanQASettings), "the settings of this task"
        return str(row[settings.pair_column])

    @property
    def reader(self) -> SpanReader:
        """Reads rows and logits."""
        return SpanReader(self.config, self.tokenizer, self.settings)

    def build_head(self) -> TokenHead:
        """One linear layer without dropout, as published."""
        return TokenHead(self.config, 2, 0.0)

    def encode(self, rows: Sequence[Row], *, place: Place = row_number, is_training: bool = False) -> list[Features]:
        """Encode each question with every window of its text; each text is cut into pieces once."""
        return self.reader.encode(rows, place=place, is_training=is_training)

    def collate(self, features: Sequence[Features]) -> Batch:
        """Pack windows; those whose question has its answer nowhere are no targets."""
        lost = sum(isinstance(one.label, np.ndarray) and one.label[0] == IGNORED for one in features)
        return replace(super().collate(features), num_filler_targets=lost)

    def needed(self, batch: Batch) -> Tensor:
        """Every token."""
        return all_tokens(batch)

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
        return self.reader.decode(parts, features, row)

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
        gold = next(iter(placed(answers)), None)
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
