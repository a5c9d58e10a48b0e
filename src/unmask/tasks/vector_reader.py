"""Texts for sentence vectors, and pooled windows as the vectors of a row; without torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import xxhash
from pydantic import BeforeValidator, Field, model_validator

from unmask.config import Settings
from unmask.data.features import Features
from unmask.data.windows import LongTexts
from unmask.metrics.vectors import cosines
from unmask.tasks.number_reader import number_of
from unmask.tasks.reader import Reader
from unmask.tasks.rows import Place, Prediction, Row, cell_of, row_number, text_of
from unmask.tasks.text_rows import input_limit, inputs, truncated_share
from unmask.tasks.vector_columns import split

Objective = Literal["scores", "pairs", "texts"]


class EmbeddingSettings(Settings):
    """How texts become vectors, and which columns hold texts that belong together."""

    text_column: str = "text"
    """Column of the text."""
    pair_column: str | None = None
    """Column of a text that means nearly the same, or whose similarity is known; without it, SimCSE on the texts."""
    negative_columns: Annotated[tuple[str, ...], BeforeValidator(split)] = ()
    """Columns of texts that are like the first and mean something else; each cell holds one, or a list of them."""
    label_column: str | None = None
    """Column of the pair's similarity; without it, pairs belong together."""
    score_range: Annotated[tuple[float, float], BeforeValidator(split)] = (0.0, 1.0)
    """The similarities that mean cosine 0 and cosine 1."""
    pooling: Literal["mean", "cls"] = "mean"
    """Mean of all tokens, special ones included, or the first token alone."""
    layers: Annotated[tuple[int, ...], BeforeValidator(split)] = (-1,)
    """Layers whose mean is pooled: 0 is what goes into the first one, -1 the last one's output."""
    normalize: bool = True
    """Give vectors of length 1."""
    temperature: float = 0.05
    """Cosines are divided by it in the contrastive loss (Gao et al. 2021, section 3)."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Dropout of hidden states in training; by default the network's own, or 0.1 for SimCSE where it has none."""
    max_length: int | None = None
    """Longest input in tokens; by default the model's."""
    stride: int | None = Field(default=None, ge=1)
    """Pieces between the starts of two windows of a long text; by default half of the input."""
    long_texts: LongTexts = "window"
    """A text longer than the input: the mean of its windows' vectors, weighted by their tokens, or its beginning."""

    @model_validator(mode="before")
    @classmethod
    def _of_one_negative(cls, values: Any) -> Any:
        """Folders that were written when a row had one negative name its column, or none."""
        if not isinstance(values, dict) or "negative_column" not in values:
            return values
        given = dict(values)
        column = given.pop("negative_column")
        return given | ({} if column is None else {"negative_columns": (column,)})


@dataclass(frozen=True)
class TextVectors(Prediction):
    """The vectors of a row.

    Attributes:
        vector: of its text, D numbers.
        pair: of its second text; `None` where the row has none.
        negatives: of the texts that mean something else; none where the row has none.
        similarity: cosine of `vector` and `pair`.
        truncated_share: part of the row's tokens that did not fit into the model.
    """

    vector: list[float]
    pair: list[float] | None = None
    negatives: tuple[list[float], ...] = ()
    similarity: float | None = None
    truncated_share: float = 0.0

    def summary(self) -> str:
        """The similarity of a pair, the numbers of a single vector."""
        return " ".join(f"{one:.5f}" for one in self.vector) if self.similarity is None else f"{self.similarity:.4f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFeatures(Features):
    """One text of a row, or a window of it.

    Attributes:
        part: which text of its row it is: 0 the text, 1 its pair, from 2 on what means something else.
        key: the same number for the same text.
    """

    part: int = 0
    key: int = 0


@dataclass(frozen=True)
class VectorReader(Reader):
    """Reads texts, pairs and triplets, and vectors."""

    settings: EmbeddingSettings

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The column of the text: in use, one text is enough."""
        return (self.settings.text_column,)

    @property
    def objective(self) -> Objective:
        """What the rows tell: similarities of pairs, pairs that belong together, or nothing but texts."""
        if self.settings.pair_column is None:
            return "texts"
        return "pairs" if self.settings.label_column is None else "scores"

    def encode(self, rows: Sequence[Row], *, place: Place = row_number, is_training: bool = False) -> list[Features]:
        """Encode the texts of each row, long ones as windows.

        In training every row has all its texts, and SimCSE has each text twice; in use, a row has at least the first.
        """
        limit = input_limit(self, self.settings.max_length)
        found = [
            (at, part, text)
            for at, row in enumerate(rows)
            for part, text in enumerate(self.texts(row, place(at), is_training=is_training))
        ]
        labels = [self._target(row, place(at)) if is_training else None for at, row in enumerate(rows)]
        pieces = self.tokenizer.encode([text for _, _, text in found])
        return [
            TextFeatures(
                input_ids=tokens.input_ids,
                token_type_ids=tokens.token_type_ids if self.config.type_vocab_size > 1 else None,
                label=labels[at],
                num_truncated=tokens.num_truncated,
                row=at,
                part=part,
                key=xxhash.xxh3_64_intdigest(text.encode()) >> 1,
            )
            for (at, part, text), whole in zip(found, pieces, strict=True)
            for tokens in inputs(self.tokenizer, [whole], self.settings, max_length=limit)
        ]

    def decode(self, parts: Sequence[np.ndarray], features: Sequence[Features], row: Row) -> TextVectors:
        """Join the windows of each text: their mean, weighted by their tokens."""
        del row
        vectors: list[np.ndarray] = []
        for part in sorted({getattr(one, "part", 0) for one in features}):
            mine = [at for at, one in enumerate(features) if getattr(one, "part", 0) == part]
            joined = np.average([parts[at] for at in mine], axis=0, weights=[len(features[at]) for at in mine])
            length = float(np.linalg.norm(joined)) if self.settings.normalize else 1.0
            vectors.append((joined / max(length, 1e-12)).astype(np.float32))
        first, *others = vectors
        return TextVectors(
            vector=first.tolist(),
            pair=others[0].tolist() if others else None,
            negatives=tuple(one.tolist() for one in others[1:]),
            similarity=float(cosines(first, others[0])) if others else None,
            truncated_share=truncated_share(features),
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the texts of a row, in the order of their vectors."""
        chosen = self.settings
        negatives = chosen.negative_columns if self.objective == "pairs" else ()
        return (chosen.text_column, *(() if chosen.pair_column is None else (chosen.pair_column,)), *negatives)

    def texts(self, row: Row, where: object, *, is_training: bool) -> list[str]:
        """The texts of a row, in the order of their vectors; in use those behind the first may be absent.

        Raises:
            DataError: a text is absent, empty, or a list where one is wanted.
        """
        first, *others = self.columns
        found = [text_of(row, first, where)]
        if self.objective == "texts":
            return found * (2 if is_training else 1)
        for part, column in enumerate(others):
            if not is_training and column not in row:
                break
            cell = cell_of(row, column, where)
            texts = cell if part > 0 and isinstance(cell, list) else [cell]
            found += [text_of({column: text}, column, where) for text in texts]
        return found

    def _target(self, row: Row, where: object) -> float:
        column = self.settings.label_column
        return 1.0 if self.objective != "scores" or column is None else self.cosine(number_of(row, column, where))

    def cosine(self, score: float) -> float:
        """The cosine that a similarity of the rows means."""
        low, high = self.settings.score_range
        return (score - low) / (high - low)
