"""The masked language model: pre-training's objective, and filling masks (Liu et al. 2019, sections 2 and 3)."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from unmask.data.batching import Batch, Features
from unmask.errors import DataError
from unmask.model.heads import MaskedLMHead
from unmask.runtime import upload
from unmask.tasks.base import Place, Row, Task, row_number
from unmask.tasks.mask_reader import Choices, FillPrediction, Likelihood, MaskedLMSettings, MaskReader


class MaskedLM(Task):
    """Predict the pieces behind masks with the tied embedding matrix."""

    name = "masked_lm"
    head_name = "masked_lm"
    settings_class = MaskedLMSettings
    main_metric = "nats_per_token"
    falling_metrics = frozenset({"nats_per_token", "perplexity"})
    other_numbers = frozenset({"masked_tokens"})
    has_wide_head = True
    settings: MaskedLMSettings

    def build_head(self) -> MaskedLMHead:
        """Dense, GELU, LayerNorm, and the transposed embedding with a bias of its own."""
        return MaskedLMHead(self.config, self.encoder.embeddings.word)

    @property
    def reader(self) -> MaskReader:
        """Reads rows and pieces."""
        return MaskReader(self.config, self.tokenizer, self.settings)

    def encode(self, rows: Sequence[Row], *, place: Place = row_number, is_training: bool = False) -> list[Features]:
        """Encode texts with mask strings as they are; in training, mask the others by a key of the text itself."""
        return self.reader.encode(rows, place=place, is_training=is_training)

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
        """Of each text the likelihood of the hidden pieces, or the best pieces for its masks.

        Both are found where the logits lie: of a card's, little has to come over, and that for all texts at once.
        """
        assert batch.labels is not None, "encode sets targets"
        sizes = [len(one.targets[0]) if one.targets else 0 for one in features]
        is_scored = [one.targets is not None and len(one.targets[1]) > 0 and one.targets[1][0] >= 0 for one in features]
        rows = list(zip(logits.split_with_sizes(sizes), batch.labels.split_with_sizes(sizes), strict=True))
        likelihoods = iter(_likelihoods([one for one, known in zip(rows, is_scored, strict=True) if known]))
        choices = iter(self._choices([one for (one, _), known in zip(rows, is_scored, strict=True) if not known]))
        return [next(likelihoods) if known else next(choices) for known in is_scored]

    def decode(self, parts: Sequence[Any], features: Sequence[Features], row: Row) -> FillPrediction:
        """The best pieces of each mask, and the likelihood of the true ones where they are known."""
        return self.reader.decode(parts, features, row)

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

    def _choices(self, texts: Sequence[Tensor]) -> list[list[Choices]]:
        """The best pieces for each mask of each text, from its logits (m, V)."""
        if not texts:
            return []
        ids = upload(torch.from_numpy(self.tokenizer.text_ids), texts[0].device)
        size = min(self.settings.top_k, len(ids))
        best = [_log_probs(logits)[:, ids].topk(size, dim=-1) for logits in texts]
        found = ids[torch.cat([one.indices for one in best])].tolist()
        shares = torch.cat([one.values for one in best]).exp().tolist()
        masks = iter([list(zip(*pair, strict=True)) for pair in zip(found, shares, strict=True)])
        return [[next(masks) for _ in logits] for logits in texts]


def _likelihoods(texts: Sequence[tuple[Tensor, Tensor]]) -> list[Likelihood]:
    """How likely the hidden pieces of each text are, from its logits (m, V) and their ids (m,)."""
    if not texts:
        return []
    numbers = []
    for logits, gold in texts:
        log_probs = _log_probs(logits)
        nll = -log_probs.gather(1, gold[:, None]).mean()
        numbers.append(torch.stack([nll, (log_probs.argmax(-1) == gold).float().mean()]))
    found = torch.stack(numbers).tolist()
    return [Likelihood(len(gold), *pair) for (_, gold), pair in zip(texts, found, strict=True)]


def _log_probs(logits: Tensor) -> Tensor:
    return logits.float().log_softmax(-1)
