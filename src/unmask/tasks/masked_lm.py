"""The masked language model: pre-training's objective, and filling masks (Liu et al. 2019, sections 2 and 3)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
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
        masks: the masked places, in order.
        nll: mean negative log-likelihood of the true pieces in nats, where the text was masked for scoring.
        hits: share of the true pieces that were the best candidate, likewise.
    """

    text: str
    masks: tuple[Mask, ...]
    nll: float | None = None
    hits: float | None = None


class MaskedLM(Task):
    """Predict the pieces behind masks with the tied embedding matrix."""

    name = "masked_lm"
    head_name = "masked_lm"
    settings_class = MaskedLMSettings
    main_metric = "nats_per_token"
    higher_is_better = False
    settings: MaskedLMSettings

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The column of the text."""
        return (self.settings.text_column,)

    def build_head(self) -> MaskedLMHead:
        """Dense, GELU, LayerNorm, and the transposed embedding with a bias of its own."""
        return MaskedLMHead(self.config, self.encoder.embeddings.word)

    def encode(self, rows: Sequence[Row], *, place: Place = row_number, is_training: bool = False) -> list[Features]:
        """Encode texts with mask strings as they are; mask the others by a fixed key, to be scored."""
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
                masked = self._mask_for_scoring(ids, at)
                ids, targets = masked.input_ids, (masked.positions, masked.labels)
            features.append(
                Features(
                    input_ids=ids,
                    token_type_ids=sequence.token_type_ids if self.config.type_vocab_size > 1 else None,
                    offsets=sequence.offsets,
                    targets=targets,
                    num_truncated=sequence.num_truncated,
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
        return F.cross_entropy(logits.float(), batch.labels, reduction="sum")

    def decode(self, logits: Tensor, features: Sequence[Features], rows: Sequence[Row]) -> list[FillPrediction]:
        """The best pieces of each mask, and the likelihood of the true ones where they are known."""
        sizes = [len(one.targets[0]) if one.targets else 0 for one in features]
        answers = []
        for one, row, part in zip(features, rows, logits.float().log_softmax(-1).split_with_sizes(sizes), strict=True):
            answers.append(self._fill(part, one, row[self.settings.text_column]))
        return answers

    def score(self, predictions: Sequence[FillPrediction], rows: Sequence[Row]) -> dict[str, Any]:
        """Nats per masked token, perplexity and top-1 accuracy over the texts that were masked for scoring."""
        scored = [one for one in predictions if one.nll is not None]
        if not scored:
            raise DataError(
                "nothing-to-score",
                "all texts have masks of their own, so the true pieces are unknown",
                remedy="evaluate on texts without mask strings",
            )
        weights = np.array([len(one.masks) for one in scored])
        nats = float(np.average([one.nll for one in scored], weights=weights))
        hits = float(np.average([one.hits for one in scored], weights=weights))
        return {
            "nats_per_token": nats,
            "perplexity": math.exp(min(nats, 700.0)),
            "accuracy": hits,
            "masked_tokens": int(weights.sum()),
        }

    def _mask_for_scoring(self, ids: np.ndarray, index: int) -> Masked:
        allowed = np.setdiff1d(np.arange(self.config.vocab_size, dtype=np.int32), self.tokenizer.special_ids)
        return mask(
            ids,
            np.array([0, len(ids)], dtype=np.int32),
            np.isin(ids, self.tokenizer.special_ids),
            sample_ids=np.array([index]),
            epochs=np.array([0]),
            seed=EVALUATION_SEED,
            config=self.settings.masking,
            mask_id=self.tokenizer.mask_id,
            allowed_ids=allowed,
        )

    def _fill(self, log_probs: Tensor, features: Features, text: str) -> FillPrediction:
        assert features.targets is not None, "encode sets targets"
        assert features.offsets is not None, "encode sets offsets"
        positions, labels = features.targets
        values, ids = log_probs.topk(min(self.settings.top_k, log_probs.shape[-1]), dim=-1)
        spans = [(int(start), int(end)) for start, end in features.offsets[positions]]
        best = [self._spelt(text, span, int(row[0])) for span, row in zip(spans, ids, strict=True)]
        masks = []
        for span, row, scores in zip(spans, ids.tolist(), values.exp().tolist(), strict=True):
            candidates = [
                Candidate(self.tokenizer.piece(piece), score, _put(text, [self._spelt(text, span, piece)]))
                for piece, score in zip(row, scores, strict=True)
            ]
            masks.append(Mask(span[0], span[1], tuple(candidates)))
        filled = FillPrediction(text=_put(text, best), masks=tuple(masks))
        if len(labels) and labels[0] >= 0:
            gold = torch.from_numpy(labels)
            nll = -log_probs.gather(1, gold[:, None]).mean().item()
            hits = (ids[:, 0] == gold).float().mean().item()
            return FillPrediction(filled.text, filled.masks, nll, hits)
        return filled

    def _spelt(self, text: str, span: tuple[int, int], piece: int) -> tuple[int, int, str]:
        """Where and what to write for a piece: its own leading space replaces one that stands before the mask."""
        word = self.tokenizer.piece(piece)
        start = span[0]
        if word.startswith(" ") or self.tokenizer.family == "roberta":
            start = len(text[:start].rstrip(" ")) if start else 0
        if start == 0:
            word = word.lstrip(" ")
        return start, span[1], word


def _put(text: str, edits: list[tuple[int, int, str]]) -> str:
    for start, end, word in reversed(edits):
        text = text[:start] + word + text[end:]
    return text
