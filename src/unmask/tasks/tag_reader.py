"""Words for a tagger, and its logits as labelled spans of characters; without torch."""

import difflib
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator
from scipy import special

from unmask.config import Settings
from unmask.data.alignment import encode_words, owners, piece_ranges
from unmask.data.features import Features
from unmask.data.spans import Policy, UnitRule, fit, units
from unmask.data.tags import Scheme, TagSet, is_chunk_tag, scheme_of, tags_for
from unmask.data.windows import LongTexts, Window, windows
from unmask.errors import DataError
from unmask.model.chain import Chain
from unmask.tasks.reader import Reader
from unmask.tasks.rows import Place, Prediction, Row, row_number, text_of
from unmask.tasks.text_rows import input_limit, truncated_share
from unmask.tokenizer.load import Pieces


class TaggingSettings(Settings):
    """Labels of a tagging task, and how words are read and decided."""

    labels: tuple[str, ...]
    """Tags in the order of the logits; bare names of spans are written out in the scheme (`PER`: O, B-PER, I-PER)."""
    scheme: Scheme = "bio"
    """How spans are written as tags: `bio`, `bioes`, `io`, or `word` for one label on each word; by default what the
    labels look like."""
    text_column: str = "text"
    """Key of the text in a row."""
    label_column: str | None = None
    """Column of the tags in a file of words in columns: its number, or its name in CoNLL-U. `4 of 4`, what training
    finds by itself and keeps, is column 4 of files with 4; in others it is found."""
    units: UnitRule = "runs"
    """Words of a text that comes without them: `runs` of letters and digits, `joined` with the marks inside them, or
    single `characters`; see `unmask.data.spans.units`."""
    pooling: Literal["first", "mean"] = "first"
    """What decides a word: its first piece, or the mean of its pieces."""
    crf: bool = False
    """Whether the tags of a text are scored together, by a conditional random field."""
    span_policy: Policy | None = None
    """What becomes of spans that are no run of words: an error (the default, and `strict`, for which a tag I- behind
    O is one too), `contract`ed to whole words, `expand`ed to them, or `drop`ped from training."""
    max_length: int | None = None
    """Longest input in tokens; by default the model's."""
    stride: Annotated[int, Field(ge=1)] | None = None
    """Pieces between the starts of two windows of a long text; by default half of the input."""
    long_texts: LongTexts = "window"
    """What becomes of texts that are longer than the input: read in windows, or cut off."""
    head_dropout: float | None = None
    """Dropout before the classifier; by default the encoder's."""

    @model_validator(mode="before")
    @classmethod
    def _written_out(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not values.get("labels"):
            return values
        labels = list(values["labels"])
        scheme = values.get("scheme") or scheme_of(labels)
        if scheme in ("bio", "bioes") and not all(map(is_chunk_tag, labels)):
            labels = tags_for(labels, scheme)
        return values | {"labels": tuple(labels), "scheme": scheme}


@dataclass(frozen=True)
class FoundSpan:
    """A labelled stretch of a text.

    Attributes:
        start: first character.
        end: character behind the last one.
        label: what it is.
        text: `text[start:end]`.
        score: mean over its words of the probability of the label.
    """

    start: int
    end: int
    label: str
    text: str
    score: float


@dataclass(frozen=True)
class TagPrediction(Prediction):
    """The answer of a tagger.

    Attributes:
        spans: in the order of the text; they do not overlap.
        truncated_share: part of the text's tokens that was cut off; 0 where long texts are read in windows.
    """

    spans: tuple[FoundSpan, ...]
    truncated_share: float = 0.0

    def summary(self) -> str:
        """The spans in one line: text, label and probability."""
        return ", ".join(f"{' '.join(one.text.split())} [{one.label} {one.score:.2f}]" for one in self.spans) or "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaggedFeatures(Features):
    """A window of a text, with the words that it decides.

    Attributes:
        words: their ranges of characters, (M, 2) int32.
        pieces: place of each one's first piece in the input, and the place behind its last, (M, 2) int64.
        tags: number of each one's tag, (M,) int64; `None` outside training and scoring.
    """

    words: np.ndarray
    pieces: np.ndarray
    tags: np.ndarray | None = None


@dataclass(frozen=True)
class TagReader(Reader):
    """Reads texts with or without words, and tags.

    Attributes:
        chain: scores of one tag behind another; `None` where each word is decided alone.
    """

    settings: TaggingSettings
    chain: Chain | None = None

    @property
    def tagset(self) -> TagSet:
        """The tags as a way from spans to their numbers and back."""
        return _tagset(self.settings.labels, self.settings.scheme)

    def encode(self, rows: Sequence[Row], *, place: Place = row_number, is_training: bool = False) -> list[Features]:
        """Encode texts with their words, long ones as several windows."""
        texts = [text_of(row, self.settings.text_column, place(at)) for at, row in enumerate(rows)]
        words = [self.words(row) for row in rows]
        tags = [self._tags(row, words[at], place(at)) if is_training else None for at, row in enumerate(rows)]
        ranges = [np.array(one, dtype=np.int32).reshape(-1, 2) for one in words]
        encoded = encode_words(self.tokenizer, texts, ranges)
        features: list[Features] = []
        for at in range(len(rows)):
            features += self._windows(encoded[at], ranges[at], tags[at], at)
        return features

    def parts(self, logits: np.ndarray, features: Sequence[Features]) -> list[np.ndarray]:
        """Logits of each window's words, (M, C): of the first piece, or the mean of the pieces (the head is linear)."""
        found = []
        for rows, one in zip(logits, features, strict=True):
            assert isinstance(one, TaggedFeatures), "features of this task"
            if self.settings.pooling == "first":
                found.append(rows[one.pieces[:, 0]])
            else:
                means = [rows[start:end].mean(axis=0) for start, end in one.pieces]
                found.append(np.array(means, np.float32).reshape(-1, logits.shape[2]))
        return found

    def decode(self, parts: Sequence[np.ndarray], features: Sequence[Features], row: Row) -> TagPrediction:
        """Put the windows' words together and read the spans off the best tag of each, or the best chain of them."""
        logits = np.concatenate(parts)
        if self.chain is not None:
            return self.spans(self.chain.best_path(logits), self.chain.marginals(logits), features, row)
        return self.spans(logits.argmax(axis=1).tolist(), special.softmax(logits, axis=1), features, row)

    def spans(self, path: list[int], shares: np.ndarray, features: Sequence[Features], row: Row) -> TagPrediction:
        """The spans of a row.

        Args:
            path: number of each word's tag.
            shares: probabilities of its tags, (M, C).
            features: windows of the row.
            row: with its text.
        """
        text: str = row[self.settings.text_column]
        words = np.concatenate([one.words for one in features if isinstance(one, TaggedFeatures)])
        spans = []
        for chunk in self.tagset.chunks_of(path):
            start, end = int(words[chunk.first, 0]), int(words[chunk.end - 1, 1])
            share = shares[chunk.first : chunk.end, self.tagset.columns(chunk.label)].sum(axis=1).mean()
            spans.append(FoundSpan(start, end, chunk.label, text[start:end], float(share)))
        return TagPrediction(tuple(spans), truncated_share(features))

    def words(self, row: Row) -> Sequence[tuple[int, int]]:
        """Characters of each of a row's words: those that it has, else cut by the rule of the settings."""
        words = row.get("words")
        return units(row[self.settings.text_column], self.settings.units) if words is None else words

    def _tags(self, row: Row, words: Sequence[tuple[int, int]], where: object) -> list[int | None]:
        if "spans" not in row:
            raise DataError(
                "missing-column", "the row has no spans", place=where, expected="a file with labelled spans"
            )
        for span in row["spans"]:
            if span.label not in self.tagset.names:
                near = difflib.get_close_matches(span.label, self.tagset.names, n=1)
                raise DataError(
                    "unknown-label",
                    f"the label '{span.label}' is none of the model's"
                    + (f"; did you mean '{near[0]}'?" if near else ""),
                    place=where,
                    value=span.label,
                    expected=f"one of {', '.join(self.tagset.names)}",
                    remedy="mend the label, or train on data that has it",
                )
        text, doubts = row[self.settings.text_column], row.get("doubts", ())
        chunks = fit(text, row["spans"], words, policy=self.settings.span_policy, doubts=doubts, place=where)
        return self.tagset.ids_of(chunks, len(words))

    def _windows(
        self, pieces: Pieces, words: np.ndarray, tags: list[int | None] | None, row: int
    ) -> list[TaggedFeatures]:
        """Features of one text, each with the words that its window decides."""
        asked, limit = self.settings, input_limit(self, self.settings.max_length)
        cut = windows(self.tokenizer, pieces, max_length=limit, stride=asked.stride, long_texts=asked.long_texts)
        parts = list(cut)
        lost = len(pieces.ids) - parts[-1].end
        ranges = piece_ranges(pieces, words)
        owner = owners(parts, ranges)
        if tags is not None:
            owner[np.array([tag is None for tag in tags], dtype=bool)] = -1
        return [
            self._features(part, np.flatnonzero(owner == at), words, ranges, tags, num_truncated=lost, row=row)
            for at, part in enumerate(parts)
        ]

    def _features(
        self,
        part: Window,
        own: np.ndarray,
        words: np.ndarray,
        ranges: np.ndarray,
        tags: list[int | None] | None,
        *,
        num_truncated: int,
        row: int,
    ) -> TaggedFeatures:
        sequence = part.sequence
        return TaggedFeatures(
            input_ids=sequence.input_ids,
            token_type_ids=sequence.token_type_ids if self.config.type_vocab_size > 1 else None,
            num_truncated=num_truncated,
            row=row,
            words=words[own],
            pieces=np.minimum(ranges[own], part.end) - part.start + part.first,
            tags=None if tags is None else np.array([tags[at] for at in own], dtype=np.int64),
        )


@functools.lru_cache(maxsize=8)
def _tagset(labels: tuple[str, ...], scheme: Scheme) -> TagSet:
    return TagSet(labels, scheme)
