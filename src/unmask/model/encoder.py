"""RoBERTa's encoder (post-LN, exact GELU, learned positions) over packed tokens: padding is never multiplied."""

import torch
import torch.nn.functional as F
from torch import nn

from unmask.model.attention import attend
from unmask.model.config import EncoderConfig
from unmask.model.layers import Dropper, Embedding, LayerNorm, Linear, add_norm, compute_dtype, dropout, init_weights
from unmask.model.layout import Layout


class Embeddings(nn.Module):
    """Words + positions + token types, then LayerNorm."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.word = Embedding(config.vocab_size, config.hidden_size)
        self.position = Embedding(config.num_positions, config.hidden_size)
        self.token_type = Embedding(config.type_vocab_size, config.hidden_size)
        self.norm = LayerNorm(config.hidden_size, config.layer_norm_eps)

    def forward(
        self, input_ids: torch.Tensor, position_ids: torch.Tensor, token_type_ids: torch.Tensor | None
    ) -> torch.Tensor:
        """(T,) ids to (T, D) fp32, before dropout."""
        kinds = self.token_type.weight[0] if token_type_ids is None else self.token_type(token_type_ids.long())
        embedded = self.word(input_ids) + self.position(position_ids) + kinds
        return self.norm(embedded)


class Layer(nn.Module):
    """One transformer layer, post-LN (Vaswani et al. 2017, section 3.1)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.qkv = Linear(width, 3 * width)
        self.attention_out = Linear(width, width)
        self.attention_norm = LayerNorm(width, eps)
        self.up = Linear(width, config.intermediate_size)
        self.down = Linear(config.intermediate_size, width)
        self.norm = LayerNorm(width, eps)
        self.num_heads = config.num_attention_heads
        self.dropout = config.hidden_dropout_prob
        self.attention_dropout = config.attention_probs_dropout_prob

    def forward(
        self,
        hidden: torch.Tensor,
        layout: Layout,
        dropper: Dropper | None = None,
        needed: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(T, D) to (T, D), or to (N, D) where only the `needed` rows are wanted."""
        rate, attention_rate = (self.dropout, self.attention_dropout) if self.training else (0.0, 0.0)
        context = attend(self.qkv(hidden), layout, self.num_heads, attention_rate, dropper)
        if needed is not None:
            context, hidden = context.index_select(0, needed), hidden.index_select(0, needed)
        hidden = add_norm(self.attention_out(context), hidden, self.attention_norm, rate, dropper)
        return add_norm(self.down(F.gelu(self.up(hidden))), hidden, self.norm, rate, dropper)


class Encoder(nn.Module):
    """The network between token ids and hidden states."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.dropout = config.hidden_dropout_prob

    def forward(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        layout: Layout,
        *,
        token_type_ids: torch.Tensor | None = None,
        needed: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Encode packed texts.

        Args:
            input_ids: (T,) int32 or int64, the texts one after the other.
            position_ids: (T,) int32 or int64, from `config.position_offset` in each text.
            layout: the texts of this batch.
            token_type_ids: (T,) integers below type_vocab_size; None means all 0.
            needed: (N,) int64, the tokens whose hidden states are wanted; the last layer computes only these.

        Returns:
            (T, D) or (N, D) hidden states, in autocast's format where autocast is on.

        Raises:
            ValueError: a text is longer than max_length; caught here, on the host, before any table is read.
        """
        hidden, dropper = self._start(input_ids, position_ids, layout, token_type_ids)
        with torch.autocast(input_ids.device.type, enabled=False):
            *body, last = self.layers
            for layer in body:
                hidden = layer(hidden, layout, dropper)
            return last(hidden, layout, dropper, needed)

    def hidden_states(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        layout: Layout,
        *,
        token_type_ids: torch.Tensor | None = None,
    ) -> list[torch.Tensor]:
        """What every layer gives, for those who want more than the last one; arguments and errors as of `forward`.

        Returns:
            The embeddings, then the output of each layer: num_hidden_layers + 1 tensors of (T, D).
        """
        hidden, dropper = self._start(input_ids, position_ids, layout, token_type_ids)
        states = [hidden]
        with torch.autocast(input_ids.device.type, enabled=False):
            for layer in self.layers:
                states.append(layer(states[-1], layout, dropper))
        return states

    def _start(
        self, input_ids: torch.Tensor, position_ids: torch.Tensor, layout: Layout, token_type_ids: torch.Tensor | None
    ) -> tuple[torch.Tensor, Dropper | None]:
        """What goes into the first layer, in the format to compute in, and the source of all dropout."""
        if layout.max_seqlen > self.config.max_length:
            raise ValueError(f"a text of {layout.max_seqlen} tokens; the model takes {self.config.max_length}")
        dtype = compute_dtype(self.embeddings.word.weight)
        with torch.autocast(input_ids.device.type, enabled=False):
            hidden = self.embeddings(input_ids, position_ids, token_type_ids).to(dtype)
            dropper = Dropper() if self.training and hidden.device.type == "cpu" else None
            return dropout(hidden, self.dropout if self.training else 0.0, dropper), dropper

    @property
    def attention_dropout(self) -> float:
        """Dropout of attention probabilities that it is trained with."""
        first = self.layers[0]
        assert isinstance(first, Layer), "the encoder is made of these alone"
        return first.attention_dropout

    def set_dropout(self, rate: float) -> None:
        """Train with another dropout of hidden states than the config's, which stays as published."""
        self.dropout = rate
        for layer in self.layers:
            assert isinstance(layer, Layer), "the encoder is made of these alone"
            layer.dropout = rate

    def set_attention_dropout(self, rate: float) -> None:
        """Train with another dropout of attention probabilities than the config's, which stays as published."""
        for layer in self.layers:
            assert isinstance(layer, Layer), "the encoder is made of these alone"
            layer.attention_dropout = rate

    def init_weights(self, seed: int) -> None:
        """Start at random from `seed`: N(0, initializer_range), and 0 in the row of the padding token."""
        init_weights(self, std=self.config.initializer_range, seed=seed)
        with torch.no_grad():
            self.embeddings.word.weight[self.config.pad_token_id].zero_()
