"""Sources for a writer, and the pieces that it finds as texts; without torch."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
from pydantic import Field, model_validator

from unmask.config import Settings
from unmask.data.features import Features, padded
from unmask.metrics.word_cuts import Words
from unmask.model.beam import BeamRules, Found, beam_search
from unmask.model.writing import Network, Writing
from unmask.tasks.joining import join_tokens
from unmask.tasks.reader import Reader
from unmask.tasks.rows import Place, Prediction, Row, row_number, text_of
from unmask.tasks.text_rows import input_limit

MAX_SCORES = 1 << 22  # logits of one step: 16 MB in float32, which a processor's cache comes near to


class Seq2SeqSettings(Settings):
    """Columns of a task from text to text, and how texts are written."""

    text_column: str = "source"
    """Column that holds the source text."""
    pair_column: str | None = None
    """Column that holds a second source text, such as what a question is about."""
    label_column: str = "target"
    """Column that holds the target text."""
    source_prefix: str = ""
    """Stands before each source text, such as `summarize: ` for a model of several tasks."""
    max_length: int | None = None
    """Longest source in tokens; by default the model's. Longer ones are cut at their end, and the share is told."""
    max_target_length: int = Field(default=128, ge=1)
    """Longest target in tokens, its end among them; the model's length is the limit."""
    num_decoder_layers: int | None = Field(default=None, ge=1)
    """Layers of the decoder; by default the encoder's number. Fewer start from every k-th layer of the encoder."""
    share_embeddings: bool = True
    """One table of words and positions for sources, targets and output; else the decoder has its own."""
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    """Probability that the training loss spreads over all other pieces (Vaswani et al. 2017, section 5.4)."""
    num_beams: int = Field(default=4, ge=1)
    """Texts that are written side by side; 1 takes the most probable piece each time."""
    length_penalty: float = Field(default=1.0, ge=0)
    """Texts are compared by the sum of their log-probabilities over their length to this power: 1 is the mean."""
    no_repeat_ngram: int = Field(default=0, ge=0)
    """No sequence of so many pieces is written twice in a text; 3 is usual for summaries, 0 allows all."""
    min_length: int = Field(default=0, ge=0)
    """Fewest pieces of a text."""
    num_candidates: int = Field(default=1, ge=1)
    """Best texts that are given, of at most `num_beams`."""
    bleu_words: Words = "13a"
    """How sacrebleu cuts texts into words: 13a where there are spaces, zh for Chinese."""
    dev_texts: int | None = Field(default=None, ge=1)
    """Rows of a labelled file that texts are written for; the others are scored by likelihood alone. Fine-tuning sets
    200 for its dev rows, the written model has none."""

    @model_validator(mode="after")
    def _fits(self) -> "Seq2SeqSettings":
        if self.min_length >= self.max_target_length:
            raise ValueError("min_length leaves no room for the end within max_target_length")
        return self


_OF_TARGET = ("num_target_tokens", "target_nats", "target_hits")


@dataclass(frozen=True)
class Candidate:
    """A written text.

    Attributes:
        text: as users read it.
        score: e to the power of its sum of log-probabilities over its length to the power of `length_penalty`; with
            the penalty 1, the geometric mean of its pieces' probabilities.
    """

    text: str
    score: float


@dataclass(frozen=True)
class TextPrediction(Prediction):
    """A written text.

    Attributes:
        text: the best one; empty where none was written.
        score: its score, as of a candidate.
        candidates: the best texts, best first; empty for a row that was scored by likelihood alone.
        truncated_share: part of the source's tokens that did not fit into the model.
        num_target_tokens: pieces of the known target, its end among them; 0 where it is not known.
        target_nats: their negative log-likelihood, summed.
        target_hits: how many of them were the most probable piece behind the true ones before.
    """

    text: str
    score: float
    candidates: tuple[Candidate, ...]
    truncated_share: float = 0.0
    num_target_tokens: int = 0
    target_nats: float = 0.0
    target_hits: int = 0

    def summary(self) -> str:
        """The text alone."""
        return self.text

    def record(self) -> dict[str, Any]:
        """Its fields; without those of the target where that is not known."""
        told = asdict(self)
        if self.num_target_tokens:
            return told
        return {name: value for name, value in told.items() if name not in _OF_TARGET}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seq2SeqFeatures(Features):
    """A source and its target.

    Attributes:
        target_ids: what the decoder reads, from its start token, (m,) int32.
        target_labels: what comes after each of them, (m,) int32; `None` outside training and scoring.
    """

    target_ids: np.ndarray
    target_labels: np.ndarray | None = None


@dataclass(frozen=True)
class Said:
    """What the network says about one source: its texts, and how probable the known target is."""

    found: list[Found]
    num_tokens: int = 0
    nats: float = 0.0
    hits: int = 0


@dataclass(frozen=True)
class TextReader(Reader):
    """Reads sources and targets, and written pieces."""

    settings: Seq2SeqSettings

    @property
    def max_target_length(self) -> int:
        """Most tokens of a target, its end among them."""
        return min(self.settings.max_target_length, self.config.max_length)

    @property
    def depth(self) -> int:
        """Layers of the decoder."""
        return self.settings.num_decoder_layers or self.config.num_hidden_layers

    @property
    def rules(self) -> BeamRules:
        """What is written: no special pieces, and none that the tokenizer does not know."""
        settings, tokenizer = self.settings, self.tokenizer
        return BeamRules(
            num_beams=settings.num_beams,
            max_length=self.max_target_length,
            min_length=min(settings.min_length, self.max_target_length - 1),
            length_penalty=settings.length_penalty,
            no_repeat_ngram=settings.no_repeat_ngram,
            start_id=tokenizer.cls_id,
            end_id=tokenizer.sep_id,
            banned_ids=(*tokenizer.special_ids.tolist(), *range(tokenizer.vocab_size, self.config.vocab_size)),
        )

    def encode(self, rows: Sequence[Row], *, place: Place = row_number, is_training: bool = False) -> list[Features]:
        """Encode sources, cut at their ends, and targets.

        Outside training no target is needed, and whatever stands in its column has no part in the answer. The plain
        forward pass reads it as the beginning of a text, so that a certificate covers all weights of the decoder.
        """
        limit = input_limit(self, self.settings.max_length)
        first, *others = ([text_of(row, name, place(at)) for at, row in enumerate(rows)] for name in self.text_columns)
        columns = [self.tokenizer.encode([self.settings.source_prefix + text for text in first])]
        columns += [self.tokenizer.encode(texts) for texts in others]
        column = self.settings.label_column
        known = [
            text_of(row, column, place(at)) if is_training else _beginning(row, column) for at, row in enumerate(rows)
        ]
        features: list[Features] = []
        for at, target in enumerate(self.tokenizer.encode_ids(known)):
            sequence = self.tokenizer.assemble(*(pieces[at] for pieces in columns), max_length=limit)
            whole = np.concatenate([[self.tokenizer.cls_id], target, [self.tokenizer.sep_id] * is_training])
            read = whole[: self.max_target_length + is_training].astype(np.int32)
            features.append(
                Seq2SeqFeatures(
                    input_ids=sequence.input_ids,
                    token_type_ids=sequence.token_type_ids if self.config.type_vocab_size > 1 else None,
                    target_ids=read[:-1] if is_training else read,
                    target_labels=read[1:] if is_training else None,
                    num_truncated=sequence.num_truncated,
                    row=at,
                )
            )
        return features

    def logits(self, network: Network, features: Sequence[Features]) -> np.ndarray:
        """Behind the last token of each target, (B, V): the target is forced, a token at a time."""
        found = []
        for one in cast("Sequence[Seq2SeqFeatures]", features):
            writing = Writing(network, self.config, padded([one]), depth=self.depth)
            found.append([writing.step(one.target_ids[[at]].astype(np.int64)) for at in range(len(one.target_ids))][-1])
        return np.concatenate(found)

    def numbers(self, logits: np.ndarray, features: Sequence[Features]) -> np.ndarray:
        """The logits of all pieces."""
        del features
        return logits.ravel()

    def answer(self, network: Network, features: Sequence[Features]) -> list[Any]:
        """Write texts by beam search, for as many sources at once as the logits of a step may take."""
        room = max(1, MAX_SCORES // (self.config.vocab_size * self.settings.num_beams))
        return [
            Said(found)
            for start in range(0, len(features), room)
            for found in self._write(network, features[start : start + room])
        ]

    def decode(self, parts: Sequence[Any], features: Sequence[Features], row: Row) -> TextPrediction:
        """Turn pieces into texts."""
        del row
        said: Said = parts[0]
        best = [
            Candidate(self._text(one.ids), math.exp(one.score)) for one in said.found[: self.settings.num_candidates]
        ]
        first = best[0] if best else Candidate("", 0.0)
        share = features[0].truncated_share
        return TextPrediction(first.text, first.score, tuple(best), share, said.num_tokens, said.nats, said.hits)

    def _write(self, network: Network, features: Sequence[Features]) -> list[list[Found]]:
        beams = self.settings.num_beams
        writing = Writing(network, self.config, padded(features), depth=self.depth, num_beams=beams)
        return beam_search(writing, len(features), self.rules)

    def _text(self, ids: list[int]) -> str:
        text = self.tokenizer.decode(ids).strip()
        return join_tokens(text) if self.tokenizer.family == "bert" else text


def _beginning(row: Row, column: str) -> str:
    """What stands in a column, if it is a text."""
    value = row.get(column)
    return value if isinstance(value, str) else ""
