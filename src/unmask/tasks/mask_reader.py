"""Texts with masks for a network, and the pieces that it finds for them; without torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash

from unmask.config import Settings
from unmask.data.features import Features
from unmask.data.masking import Masked, MaskingSettings, mask
from unmask.errors import DataError
from unmask.tasks.reader import Reader
from unmask.tasks.rows import Place, Prediction, Row, row_number, text_of

EVALUATION_SEED = 0
Choices = list[tuple[int, float]]
"""Pieces for a mask with their probabilities, the most probable ones first."""


class MaskedLMSettings(Settings):
    """How masked texts are read and answered."""

    text_column: str = "text"
    """Column that holds the text."""
    top_k: int = 5
    """Candidates that are given for each mask."""
    masking: MaskingSettings = MaskingSettings()
    """How texts without a mask string are masked when they are scored."""
    z_loss: float = 0.0
    """Weight of the squared log-partition function in the training loss (Chowdhery et al. 2022, section 5)."""


@dataclass(frozen=True)
class Candidate:
    """One way to fill a mask.

    Attributes:
        token: the piece, as readable text; a leading space belongs to it.
        score: its probability.
        text: the whole text with this piece in this place.
    """

    token: str
    score: float
    text: str


@dataclass(frozen=True)
class Mask:
    """One masked place and its candidates.

    Attributes:
        start: first character of the place in the text as it was given.
        end: character after it.
        candidates: the most probable pieces, best first.
    """

    start: int
    end: int
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class FillPrediction(Prediction):
    """The answer to a text with masks.

    Attributes:
        text: the text with each mask filled by its best candidate.
        masks: the masked places, in order; none where the text was masked for scoring.
        truncated_share: part of the text's tokens that did not fit into the model.
        num_scored: true pieces that were hidden for scoring.
        nll: their mean negative log-likelihood in nats.
        hits: share of them that were the most probable piece.
    """

    text: str
    masks: tuple[Mask, ...]
    truncated_share: float = 0.0
    num_scored: int = 0
    nll: float | None = None
    hits: float | None = None

    def summary(self) -> str:
        """The filled text, then the candidates of each mask."""
        lines = [self.text]
        for place in self.masks:
            choices = "  ".join(f"{one.token!r} {one.score:.3f}" for one in place.candidates)
            lines.append(f"  {place.start}-{place.end}: {choices}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Likelihood:
    """Of the pieces of one text that were hidden for scoring: how many, mean negative log-likelihood, share hit."""

    count: int
    nll: float
    hits: float


@dataclass(frozen=True)
class MaskReader(Reader):
    """Reads texts with masks, and logits at the masked places."""

    settings: MaskedLMSettings

    def encode(self, rows: Sequence[Row], *, place: Place = row_number, is_training: bool = False) -> list[Features]:
        """Encode texts with mask strings as they are; in training, mask the others by a key of the text itself."""
        features = []
        for at, row in enumerate(rows):
            text = text_of(row, self.settings.text_column, place(at))
            pieces = self.tokenizer.encode_masked(text)
            sequence = self.tokenizer.assemble(pieces, max_length=self.config.max_length)
            ids = sequence.input_ids
            asked = np.flatnonzero(ids == self.tokenizer.mask_id)
            lost = int((pieces.ids == self.tokenizer.mask_id).sum()) - len(asked)
            if lost:
                raise DataError(
                    "mask-out-of-reach",
                    f"{lost} masks stand behind the {self.config.max_length} tokens that the model can see",
                    place=place(at),
                    remedy="shorten the text before the mask",
                )
            targets = (asked.astype(np.int64), np.full(len(asked), -1, dtype=np.int64))
            if not len(asked):
                if not is_training:
                    raise DataError(
                        "no-mask",
                        "the text has no mask to fill",
                        place=place(at),
                        value=text,
                        remedy=f"write {self.tokenizer.mask_token} where a word is to stand",
                    )
                masked = self._mask_for_scoring(ids)
                ids, targets = masked.input_ids, (masked.positions, masked.labels)
            features.append(
                Features(
                    input_ids=ids,
                    token_type_ids=sequence.token_type_ids if self.config.type_vocab_size > 1 else None,
                    offsets=sequence.offsets,
                    targets=targets,
                    num_truncated=sequence.num_truncated,
                    row=at,
                )
            )
        return features

    def parts(self, logits: np.ndarray, features: Sequence[Features]) -> list[Any]:
        """Of each text the likelihood of the hidden pieces, or the best pieces for its masks.

        Args:
            logits: float32, (N, V): the masked places of all texts, one after the other.
            features: of the texts.
        """
        ends = np.cumsum([len(_targets(one)[0]) for one in features])
        shifted = logits - logits.max(axis=-1, keepdims=True)
        log_probs = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
        return [self._said(rows, one) for rows, one in zip(np.split(log_probs, ends[:-1]), features, strict=True)]

    def numbers(self, logits: np.ndarray, features: Sequence[Features]) -> np.ndarray:
        """The logits of all pieces: the best few, and their shares, hide what became of the others."""
        del features
        return logits.ravel()

    def decode(self, parts: Sequence[Any], features: Sequence[Features], row: Row) -> FillPrediction:
        """The best pieces of each mask, and the likelihood of the true ones where they are known."""
        text, one, found = row[self.settings.text_column], features[0], parts[0]
        if isinstance(found, Likelihood):
            return FillPrediction(text, (), one.truncated_share, found.count, found.nll, found.hits)
        assert one.offsets is not None, "encode sets offsets"
        spans = [(int(start), int(end)) for start, end in one.offsets[_targets(one)[0]]]
        edits = [
            [spelt(text, span, self.tokenizer.piece(piece), self.tokenizer.family) for piece, _ in choices]
            for span, choices in zip(spans, found, strict=True)
        ]
        masks = [
            Mask(
                *span,
                tuple(
                    Candidate(self.tokenizer.piece(piece), score, put(text, [edit]))
                    for (piece, score), edit in zip(choices, row_edits, strict=True)
                ),
            )
            for span, choices, row_edits in zip(spans, found, edits, strict=True)
        ]
        return FillPrediction(put(text, [choices[0] for choices in edits]), tuple(masks), one.truncated_share)

    def _said(self, log_probs: np.ndarray, features: Features) -> Likelihood | list[Choices]:
        gold = _targets(features)[1]
        if len(gold) and gold[0] >= 0:
            nll = -float(log_probs[np.arange(len(gold)), gold].mean())
            return Likelihood(len(gold), nll, float((log_probs.argmax(axis=-1) == gold).mean()))
        ids = self.tokenizer.text_ids
        best = np.argsort(-log_probs[:, ids], axis=-1, kind="stable")[:, : self.settings.top_k]
        return [
            [(int(ids[place]), float(np.exp(row[ids[place]]))) for place in places]
            for row, places in zip(log_probs, best, strict=True)
        ]

    def _mask_for_scoring(self, ids: np.ndarray) -> Masked:
        """Masks that depend on the text alone, so that it is scored alike in any file and place."""
        return mask(
            ids,
            np.array([0, len(ids)], dtype=np.int32),
            np.isin(ids, self.tokenizer.special_ids),
            sample_ids=np.array([xxhash.xxh3_64_intdigest(ids.tobytes()) >> 1]),
            epochs=np.array([0]),
            seed=EVALUATION_SEED,
            config=self.settings.masking,
            mask_id=self.tokenizer.mask_id,
            allowed_ids=self.tokenizer.ordinary_ids,
        )


def _targets(features: Features) -> tuple[np.ndarray, np.ndarray]:
    assert features.targets is not None, "encode sets targets"
    return features.targets


def spelt(text: str, span: tuple[int, int], piece: str, family: str) -> tuple[int, int, str]:
    """Where in a text to write what, so that the piece stands at the mask as its tokenizer would cut it.

    Args:
        text: with the mask string at `span`.
        span: characters of the mask string.
        piece: readable text of the piece.
        family: of the tokenizer. Byte-level BPE and Unigram carry their space in the piece, and their mask eats the
            one before it; WordPiece marks what goes on with `##` and has no spaces.

    Returns:
        Start and end of what is replaced, and the replacement.
    """
    start, end = span
    bare = len(text[:start].rstrip())
    if family == "bert":
        if piece.startswith("##"):
            return bare, end, piece.removeprefix("##")
        is_glued = bare == start and start > 0 and _joins(text[start - 1]) and _joins(piece[0])
        return start, end, f" {piece}" if is_glued else piece
    return (bare, end, piece) if bare else (0, end, piece.lstrip(" "))


def put(text: str, edits: list[tuple[int, int, str]]) -> str:
    """The text with each part replaced; the parts stand in order and do not overlap."""
    for start, end, word in reversed(edits):
        text = text[:start] + word + text[end:]
    return text


def _joins(character: str) -> bool:
    """Whether two such characters side by side would be one word: letters and digits, but no Han."""
    return character.isalnum() and not "\u2e80" <= character <= "\u9fff"
