"""Masked language modelling with a second question about pairs: next sentence (BERT) or sentence order (ALBERT)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from unmask.data.batching import Batch
from unmask.model.config import EncoderConfig
from unmask.model.heads import ClassificationHead
from unmask.model.layout import Layout
from unmask.runtime import upload
from unmask.tasks.mask_reader import MaskedLMSettings
from unmask.tasks.masked_lm import MaskedLM
from unmask.tokenizer.load import Tokenizer


class SentencePairsLM(MaskedLM):
    """L = L_MLM + L_NSP (Devlin et al. 2019, section 3.1) or L_MLM + L_SOP (Lan et al. 2020, section 3.1).

    It exists while pre-training only: what is saved is the masked language model, without the head of the pairs.
    """

    def __init__(self, config: EncoderConfig, tokenizer: Tokenizer, settings: MaskedLMSettings) -> None:
        super().__init__(config, tokenizer, settings)
        self.pair_head = ClassificationHead(config, num_labels=2)

    def init_head(self, seed: int) -> None:
        """Draw both heads anew."""
        super().init_head(seed)
        self.pair_head.init_weights(seed + 2)

    def needed(self, batch: Batch) -> Tensor:
        """The masked places, then the first token of each pair."""
        masked = super().needed(batch)
        return torch.cat([masked, _first_tokens(batch, masked.device)])

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:  # type: ignore[override]  # it is never decoded
        """Logits of the masked places (M, V) and of the pairs (B, 2)."""
        hidden = self.encoder(
            batch.input_ids,
            batch.position_ids,
            Layout.of(batch.cu_seqlens, batch.input_ids.device),
            token_type_ids=batch.token_type_ids,
            needed=self.needed(batch),
        )
        num_masked = len(super().needed(batch))
        return self.head(hidden[:num_masked]), self.pair_head(hidden[num_masked:])

    def loss(self, logits: tuple[Tensor, Tensor], batch: Batch) -> Tensor:  # type: ignore[override]
        """Sums of both cross-entropies in nats, (2,): over masked tokens, over pairs."""
        masked, pairs = logits
        assert batch.pair_labels is not None, "batches of pairs carry the answer"
        return torch.stack(
            [super().loss(masked, batch), F.cross_entropy(pairs.float(), batch.pair_labels, reduction="sum")]
        )


def _first_tokens(batch: Batch, device: torch.device) -> Tensor:
    assert batch.block_starts is not None, "batches of pairs know where each begins"
    return upload(torch.from_numpy(batch.block_starts[:-1].astype("int64")), device)
