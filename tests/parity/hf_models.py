"""Tiny random models of the reference library, and the same weights in ours."""

import numpy as np
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    PreTrainedModel,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaForSequenceClassification,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
    XLMRobertaForSequenceClassification,
)

from unmask.model.config import EncoderConfig, Head
from unmask.model.convert import from_hf
from unmask.model.encoder import Encoder
from unmask.model.heads import ClassificationHead, MaskedLMHead
from unmask.model.layout import Layout

VOCAB = 99
LENGTHS = [5, 17, 9, 30, 64, 31, 8, 8, 3]
NUM_LABELS = 3
_CLASSES = {
    "roberta": (RobertaConfig, RobertaForMaskedLM, RobertaForSequenceClassification),
    "xlm-roberta": (XLMRobertaConfig, XLMRobertaForMaskedLM, XLMRobertaForSequenceClassification),
    "bert": (BertConfig, BertForMaskedLM, BertForSequenceClassification),
}
FAMILIES = sorted(_CLASSES)


class Ours(torch.nn.Module):
    """An encoder with a head, named as every task names them."""

    def __init__(self, config: EncoderConfig, head: Head) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        word = self.encoder.embeddings.word
        self.head = (
            MaskedLMHead(config, word) if head == "masked_lm" else ClassificationHead(config, num_labels=NUM_LABELS)
        )


def reference(family: str, head: Head) -> PreTrainedModel:
    """A model of the reference library with every parameter random, biases and norms too."""
    config_class, *classes = _CLASSES[family]
    is_bert = family == "bert"
    config = config_class(
        vocab_size=VOCAB,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64 if is_bert else 66,
        type_vocab_size=2 if is_bert else 1,
        layer_norm_eps=1e-12 if is_bert else 1e-5,
        num_labels=NUM_LABELS,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    torch.manual_seed(1)
    model = classes[head == "classification"](config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def twin(model: PreTrainedModel, head: Head) -> Ours:
    """Our model with the weights of a reference model."""
    config = EncoderConfig.from_hf(model.config.to_dict())
    ours = Ours(config, head)
    ours.load_state_dict(from_hf(model.state_dict(), config).state_dict)
    return ours.eval()


class Texts:
    """Random texts, packed for us and padded for the reference."""

    def __init__(self, config: EncoderConfig, lengths: list[int] = LENGTHS, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.cu_seqlens = np.concatenate([[0], np.cumsum(lengths)])
        total = int(self.cu_seqlens[-1])
        self.layout = Layout.of(self.cu_seqlens)
        self.input_ids = torch.from_numpy(rng.integers(4, VOCAB, total))
        self.token_type_ids = torch.from_numpy(rng.integers(0, config.type_vocab_size, total))
        within = np.concatenate([np.arange(length) for length in lengths])
        self.position_ids = torch.from_numpy(within + config.position_offset)
        self.mask = torch.from_numpy(np.arange(max(lengths)) < np.array(lengths)[:, None])
        self.firsts = torch.from_numpy(self.cu_seqlens[:-1])

    def padded(self, pad_token_id: int) -> dict[str, torch.Tensor]:
        """Keyword arguments for the reference: (B, S) ids, types and mask."""
        ids = torch.full(self.mask.shape, pad_token_id)
        ids[self.mask] = self.input_ids
        types = torch.zeros_like(ids)
        types[self.mask] = self.token_type_ids
        return {"input_ids": ids, "token_type_ids": types, "attention_mask": self.mask.long()}

    def encode(self, model: Ours, needed: torch.Tensor | None = None) -> torch.Tensor:
        """(T, D) or (N, D) of our encoder."""
        return model.encoder(
            self.input_ids, self.position_ids, self.layout, token_type_ids=self.token_type_ids, needed=needed
        )
