"""The masked language model: pre-training's objective, and filling masks (Liu et al. 2019, sections 2 and 3)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
import xxhash
from torch import Tensor
from torch.nn import functional as F

from unmask.config import Settings
from unmask.data.batching import Batch, Features
from unmask.data.masking import Masked, MaskingSettings, mask
from unmask.errors import DataError
from unmask.model.heads import MaskedLMHead
from unmask.tasks.base import Place, Prediction, Row, Task, row_number, text_of

EVALUATION_SEED = 0


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


class MaskedLM(Task):
    """Predict the pieces behind masks with the tied embedding matrix."""

    name = "masked_lm"
    head_name = "masked_lm"
    settings_class = MaskedLMSettings
    main_metric = "nats_per_token"
    higher_is_better = False
    settings: MaskedLMSettings

    def build_head(self) -> MaskedLMHead:
        """Dense, GELU, LayerNorm, and the transposed embedding with a bias of its own."""
        return MaskedLMHead(self.config, self.encoder.embeddings.word)

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

    def needed(self, batch: Batch) -> Tensor:
        """The masked places."""
        assert batch.positions is not None, "a batch of this task has masked positions"
        return batch.positions

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy in nats, summed over the masked tokens."""
        assert batch.labels is not None, "a batch without labels has no loss"
        logits = logits.float()
        loss = F.cross_entropy(logits, batch.labels, reduction="sum")
        if self.settings.z_loss and self.training:
            squares = logits.logsumexp(-1).square() * (batch.labels >= 0)
            loss = loss + self.settings.z_loss * squares.sum()
        return loss

    def parts(self, logits: Tensor, batch: Batch, features: Sequence[Features]) -> list[Any]:
        """Of each text the likelihood of the hidden pieces, or the best pieces for its masks."""
        del batch
        sizes = [len(one.targets[0]) if one.targets else 0 for one in features]
        return [
            self._best(part.float().log_softmax(-1), one)
            for one, part in zip(features, logits.split_with_sizes(sizes), strict=True)
        ]

    def decode(self, parts: Sequence[Any], features: Sequence[Features], row: Row) -> FillPrediction:
        """The best pieces of each mask, and the likelihood of the true ones where they are known."""
        text, one, found = row[self.settings.text_column], features[0], parts[0]
        if isinstance(found, _Likelihood):
            return FillPrediction(text, (), one.truncated_share, found.count, found.nll, found.hits)
        assert one.targets is not None, "encode sets targets"
        assert one.offsets is not None, "encode sets offsets"
        spans = [(int(start), int(end)) for start, end in one.offsets[one.targets[0]]]
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

    def score(
        self, predictions: Sequence[FillPrediction], rows: Sequence[Row], *, has_interval: bool = True
    ) -> dict[str, Any]:
        """Nats per masked token, perplexity and top-1 accuracy over the texts that were masked for scoring."""
        del has_interval
        scored = [one for one in predictions if one.nll is not None]
        if not scored:
            raise DataError(
                "nothing-to-score",
                "all texts have masks of their own, so the true pieces are unknown",
                remedy="evaluate on texts without mask strings",
            )
        weights = np.array([one.num_scored for one in scored])
        nats = float(np.average([one.nll for one in scored], weights=weights))
        hits = float(np.average([one.hits for one in scored], weights=weights))
        return {
            "nats_per_token": nats,
            "perplexity": math.exp(min(nats, 700.0)),
            "accuracy": hits,
            "masked_tokens": int(weights.sum()),
        }

    def example(self, text: str) -> Row:
        """A row with a mask and this text behind it, where the end may be cut."""
        return {self.settings.text_column: f"{self.tokenizer.mask_token} {text}"}

    @cached_property
    def _allowed_ids(self) -> np.ndarray:
        return np.setdiff1d(np.arange(self.tokenizer.vocab_size, dtype=np.int32), self.tokenizer.special_ids)

    @cached_property
    def _fitting(self) -> Tensor:
        """Which ids can stand in a text, (V,) bool: no special tokens, no parts of a character."""
        fits = torch.zeros(self.config.vocab_size, dtype=torch.bool)
        whole = [index for index in self._allowed_ids.tolist() if "\ufffd" not in self.tokenizer.decode([index])]
        fits[whole] = True
        return fits

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
            allowed_ids=self._allowed_ids,
        )

    def _best(self, log_probs: Tensor, features: Features) -> "_Likelihood | list[list[tuple[int, float]]]":
        assert features.targets is not None, "encode sets targets"
        labels = features.targets[1]
        if len(labels) and labels[0] >= 0:
            gold = torch.from_numpy(labels).to(log_probs.device)
            nll = -log_probs.gather(1, gold[:, None]).mean().item()
            return _Likelihood(len(labels), nll, (log_probs.argmax(-1) == gold).float().mean().item())
        log_probs = log_probs.masked_fill(~self._fitting.to(log_probs.device), -torch.inf)
        values, ids = log_probs.topk(min(self.settings.top_k, int(self._fitting.sum())), dim=-1)
        return [
            list(zip(row, scores, strict=True)) for row, scores in zip(ids.tolist(), values.exp().tolist(), strict=True)
        ]


@dataclass(frozen=True)
class _Likelihood:
    """Of the pieces of one text that were hidden for scoring: how many, mean negative log-likelihood, share hit."""

    count: int
    nll: float
    hits: float


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
