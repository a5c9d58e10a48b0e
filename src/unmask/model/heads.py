"""What stands on the encoder: the tied masked-language-model head, the classification head, the head of each token."""

import torch
import torch.nn.functional as F
from torch import nn

from unmask.model.config import EncoderConfig
from unmask.model.layers import LayerNorm, Linear, init_weights, times_table


class TaskHead(nn.Module):
    """What all heads have: a random start.

    Args:
        config: of the encoder.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.std = config.initializer_range

    def init_weights(self, seed: int) -> None:
        """Start at random from `seed`."""
        init_weights(self, std=self.std, seed=seed)


class MaskedLMHead(TaskHead):
    """Dense, GELU, LayerNorm, then the word table transposed, plus a bias.

    Args:
        config: of the encoder.
        embedding: the encoder's word table, (V, D); it is used, not owned, so it is no parameter of the head.
    """

    def __init__(self, config: EncoderConfig, embedding: nn.Embedding) -> None:
        super().__init__(config)
        self.dense = Linear(config.hidden_size, config.hidden_size)
        self.norm = LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        self._tied = (embedding,)  # in a tuple, so that it is not registered a second time

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(M, D) hidden states at the masked positions to (M, V) logits."""
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = self.norm(F.gelu(self.dense(hidden)))
            return times_table(hidden, self._tied[0].weight.to(hidden.dtype), self.bias.to(hidden.dtype))


class ClassificationHead(TaskHead):
    """Dense, tanh and one output a class, on the hidden state of the first token.

    RoBERTa: dropout, dense, tanh, dropout, out. BERT form: dense, tanh (the "pooler"), dropout, out.

    Args:
        config: of the encoder.
        num_labels: C.
        dropout: rate; None takes hidden_dropout_prob, as transformers does (fairseq's pooler_dropout is 0).
    """

    def __init__(self, config: EncoderConfig, num_labels: int, dropout: float | None = None) -> None:
        super().__init__(config)
        self.dense = Linear(config.hidden_size, config.hidden_size)
        self.out = Linear(config.hidden_size, num_labels)
        self.dropout = config.hidden_dropout_prob if dropout is None else dropout
        self.dropout_before = 0.0 if config.family == "bert" else self.dropout

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(B, D) hidden states of the first tokens to (B, C) logits."""
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = F.dropout(hidden, self.dropout_before, self.training)
            hidden = torch.tanh(self.dense(hidden))
            return self.out(F.dropout(hidden, self.dropout, self.training))


class TokenHead(TaskHead):
    """Dropout and one linear layer on any hidden states: tags of tokens, starts and ends of spans.

    Args:
        config: of the encoder.
        num_labels: C.
        dropout: rate; None takes hidden_dropout_prob, as transformers does.
    """

    def __init__(self, config: EncoderConfig, num_labels: int, dropout: float | None = None) -> None:
        super().__init__(config)
        self.out = Linear(config.hidden_size, num_labels)
        self.dropout = config.hidden_dropout_prob if dropout is None else dropout

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(N, D) hidden states to (N, C) logits."""
        with torch.autocast(hidden.device.type, enabled=False):
            return self.out(F.dropout(hidden, self.dropout, self.training))
