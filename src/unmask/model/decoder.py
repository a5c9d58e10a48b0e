"""A decoder made of an encoder's layers with an attention to the source added (Rothe et al. 2020, section 2).

Training reads packed targets, all places at once; use makes one token after the other, with keys and values kept.
T packed source tokens, U packed target tokens, B texts, N hypotheses: W to each source, side by side.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unmask.model.beam import Ask, Best
from unmask.model.config import EncoderConfig
from unmask.model.encoder import Embeddings, Encoder
from unmask.model.heads import MaskedLMHead, TaskHead
from unmask.model.layers import Dropper, LayerNorm, Linear, add_norm, dropout
from unmask.model.layout import Group, Layout
from unmask.runtime import upload

Attend = Callable[[Tensor], Tensor]


class DecoderLayer(nn.Module):
    """A layer of the encoder, under the same names, with an attention to the source behind the first one."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.qkv = Linear(width, 3 * width)
        self.attention_out = Linear(width, width)
        self.attention_norm = LayerNorm(width, eps)
        self.cross_query = Linear(width, width)
        self.cross_kv = Linear(width, 2 * width)
        self.cross_out = Linear(width, width)
        self.cross_norm = LayerNorm(width, eps)
        self.up = Linear(width, config.intermediate_size)
        self.down = Linear(config.intermediate_size, width)
        self.norm = LayerNorm(width, eps)
        self.dropout = config.hidden_dropout_prob

    def forward(self, hidden: Tensor, to_targets: Attend, to_sources: Attend, dropper: Dropper | None = None) -> Tensor:
        """(U, D) to (U, D).

        Args:
            hidden: of target tokens.
            to_targets: (U, 3 D) queries, keys and values to (U, D): each token sees those up to itself.
            to_sources: (U, D) queries to (U, D): each token sees its own source.
            dropper: source of masks on a CPU.
        """
        rate = self.dropout if self.training else 0.0
        context = self.attention_out(to_targets(self.qkv(hidden)))
        hidden = add_norm(context, hidden, self.attention_norm, rate, dropper)
        context = self.cross_out(to_sources(self.cross_query(hidden)))
        hidden = add_norm(context, hidden, self.cross_norm, rate, dropper)
        return add_norm(self.down(F.gelu(self.up(hidden))), hidden, self.norm, rate, dropper)


class Decoder(TaskHead):
    """From hidden states of sources and the tokens of targets so far to the logits of the next tokens.

    Args:
        config: of the encoder; the decoder has its sizes.
        embeddings: the encoder's; shared ones are used, not owned, so they are no parameters of the decoder.
        num_layers: of the decoder.
        share_embeddings: use `embeddings` for the targets and, transposed, for the output, in place of own ones.
    """

    def __init__(
        self, config: EncoderConfig, embeddings: Embeddings, num_layers: int, *, share_embeddings: bool = True
    ) -> None:
        super().__init__(config)
        self.config = config
        self.embeddings = None if share_embeddings else Embeddings(config)
        used = self.embeddings or embeddings
        self._used = (used,)  # in a tuple, so that shared ones are not registered a second time
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(num_layers))
        self.lm = MaskedLMHead(config, used.word)

    @property
    def used_embeddings(self) -> Embeddings:
        """Of the targets: its own, or the encoder's."""
        return self._used[0]

    def forward(
        self,
        source: Tensor,
        target_ids: Tensor,
        position_ids: Tensor,
        pairing: "Pairing",
        *,
        needed: Tensor | None = None,
        attention_dropout: float = 0.0,
    ) -> Tensor:
        """Teacher forcing: the logits behind each target token, all at once.

        Args:
            source: (T, D) hidden states of the packed sources.
            target_ids: (U,) int64, the packed targets, each from its start token.
            position_ids: (U,) int64, from `config.position_offset` in each target.
            pairing: which source each target belongs to.
            needed: (N,) int64, the target tokens whose successors are wanted.
            attention_dropout: share of attention probabilities set to 0 in training.

        Returns:
            (U, V) or (N, V) logits.

        Raises:
            ValueError: a target is longer than the position table.
        """
        if pairing.targets.max_seqlen > self.config.max_length:
            raise ValueError(
                f"a target of {pairing.targets.max_seqlen} tokens; the model takes {self.config.max_length}"
            )
        rate = attention_dropout if self.training else 0.0
        with torch.autocast(source.device.type, enabled=False):
            dropper = Dropper() if self.training and source.device.type == "cpu" else None
            hidden = self.used_embeddings(target_ids, position_ids, None).to(source.dtype)
            hidden = dropout(hidden, self.config.hidden_dropout_prob if self.training else 0.0, dropper)
            attend = partial(pairing.attend, num_heads=self.config.num_attention_heads, rate=rate)
            for layer in self._layers:
                to_sources = partial(attend, keys_values=layer.cross_kv(source))
                hidden = layer(hidden, attend, to_sources, dropper)
            return self.lm(hidden if needed is None else hidden.index_select(0, needed))

    def start(self, source: Tensor, layout: Layout, num_beams: int) -> "Decoding":
        """Begin to write targets for packed sources, several hypotheses each.

        Args:
            source: (T, D) hidden states.
            layout: the sources.
            num_beams: W.
        """
        return Decoding(self, source, layout, num_beams)

    def embed(self, target_ids: Tensor, position: int) -> Tensor:
        """(N,) ids that all stand at the same place of their targets, from 0, to (N, D) fp32."""
        places = torch.full_like(target_ids, position + self.config.position_offset)
        embedded: Tensor = self.used_embeddings(target_ids, places, None)
        return embedded

    def take_over(self, encoder: Encoder) -> list[str]:
        """Start from an encoder's weights: embeddings, self-attention and feed-forward.

        Returns:
            Names of the parameters that got values.
        """
        taken = []
        places = taken_layers(len(encoder.layers), len(self.layers))
        pairs: list[tuple[str, nn.Module, nn.Module]] = [
            (f"layers.{at}.", layer, encoder.layers[place])
            for at, (layer, place) in enumerate(zip(self.layers, places, strict=True))
        ]
        if self.embeddings is not None:
            pairs.append(("embeddings.", self.embeddings, encoder.embeddings))
        for prefix, mine, theirs in pairs:
            mine.load_state_dict(theirs.state_dict(), strict=False, assign=next(mine.parameters()).is_meta)
            taken += [prefix + name for name in theirs.state_dict()]
        return taken

    @property
    def _layers(self) -> list[DecoderLayer]:
        return [layer for layer in self.layers if isinstance(layer, DecoderLayer)]


def taken_layers(num_encoder: int, num_decoder: int) -> list[int]:
    """The encoder's layers that a decoder starts from: all, or every k-th so that the last one is among them.

    Raises:
        ValueError: the decoder has more layers than the encoder, or none.
    """
    if not 1 <= num_decoder <= num_encoder:
        raise ValueError(f"{num_decoder} decoder layers cannot come from {num_encoder} encoder layers")
    return [(at + 1) * num_encoder // num_decoder - 1 for at in range(num_decoder)]


@dataclass(frozen=True)
class Part:
    """A group of targets of like length with their sources, padded to the longest of them.

    Attributes:
        group: rows of the targets in the padded buffer.
        gather: (batch * length,) int64, the packed source token of each row of the padded sources.
        key_mask: (batch, 1, 1, length) bool, True at real source tokens; None where nothing is padded.
    """

    group: Group
    gather: Tensor
    key_mask: Tensor | None


@dataclass(frozen=True)
class Pairing:
    """Packed targets and their packed sources, text i of one belonging to text i of the other.

    Attributes:
        targets: layout of the targets.
        sources: layout of the sources.
    """

    targets: Layout
    sources: Layout

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The groups of the targets; computed at the first use, without a loop over texts."""
        order = np.argsort(-self.targets.lengths, kind="stable")  # the order in which the layout groups texts
        bounds = np.cumsum([0] + [group.batch for group in self.targets.groups.parts])
        device = self.sources.cu_seqlens.device
        return tuple(
            Part(group, *padded(self.sources, order[start:stop], device))
            for group, start, stop in zip(self.targets.groups.parts, bounds[:-1], bounds[1:], strict=True)
        )

    def attend(self, packed: Tensor, *, num_heads: int, rate: float, keys_values: Tensor | None = None) -> Tensor:
        """Attention of each target token to those before it, or to the tokens of its source.

        Args:
            packed: (U, 3 D) queries, keys and values; with `keys_values` (U, D) queries.
            num_heads: H.
            rate: share of attention probabilities set to 0.
            keys_values: (T, 2 D) keys and values of the source tokens.

        Returns:
            (U, D) context.
        """
        groups = self.targets.groups
        rows = packed if groups.gather is None else packed.index_select(0, groups.gather)
        contexts = []
        for part in self.parts:
            batch, own = part.group.batch, rows[part.group.start : part.group.stop]
            if keys_values is None:
                query, key, value = _by_head(own, batch, num_heads, 3)
                context = F.scaled_dot_product_attention(query, key, value, dropout_p=rate, is_causal=True)
            else:
                (query,) = _by_head(own, batch, num_heads, 1)
                key, value = _by_head(keys_values.index_select(0, part.gather), batch, num_heads, 2)
                context = F.scaled_dot_product_attention(query, key, value, attn_mask=part.key_mask, dropout_p=rate)
            contexts.append(context.transpose(1, 2).reshape(len(own), -1))
        context = contexts[0] if len(contexts) == 1 else torch.cat(contexts)
        return context if groups.restore is None else context.index_select(0, groups.restore)


class Decoding:
    """Hypotheses of the same length, W for each source, and all that the next token needs of the last ones.

    Args:
        decoder: the network.
        source: (T, D) hidden states of the packed sources.
        layout: the sources.
        num_beams: W.
    """

    def __init__(self, decoder: Decoder, source: Tensor, layout: Layout, num_beams: int) -> None:
        self._decoder = decoder
        self._num_beams = num_beams
        self._length = 0
        self._dtype = source.dtype
        gather, self._mask = padded(layout, np.arange(layout.num_texts), source.device)
        rows, heads = source.index_select(0, gather), decoder.config.num_attention_heads
        with torch.autocast(source.device.type, enabled=False):
            self._sources = [
                _by_head(layer.cross_kv(rows), layout.num_texts, heads, 2).contiguous() for layer in self._layers
            ]
        nothing = source.new_empty(2, layout.num_texts * num_beams, heads, 0, source.shape[1] // heads)
        self._pasts = [nothing for _ in self._layers]

    @property
    def _layers(self) -> list[DecoderLayer]:
        return [layer for layer in self._decoder.layers if isinstance(layer, DecoderLayer)]

    def step(self, tokens: Tensor) -> Tensor:
        """Lengthen each hypothesis by a token.

        Args:
            tokens: (N,) int64, the hypotheses of the first source first.

        Returns:
            (N, V) logits of the tokens after them.
        """
        with torch.autocast(tokens.device.type, enabled=False):
            hidden = self._decoder.embed(tokens, self._length).to(self._dtype)
            for at, layer in enumerate(self._layers):
                hidden = layer(hidden, partial(self._to_past, at), partial(self._to_source, at))
            self._length += 1
            logits: Tensor = self._decoder.lm(hidden)
            return logits

    @torch.no_grad()
    def best(self, ask: Ask) -> Best:
        """Lengthen each hypothesis, and find the best that can follow."""
        return best_of(self.step(torch.from_numpy(ask.tokens).to(self._pasts[0].device)), ask)

    @torch.no_grad()
    def select(self, hypotheses: np.ndarray, sources: np.ndarray | None = None) -> None:
        """Go on with other hypotheses in the place of these.

        Args:
            hypotheses: (N',) int64, old number of each new one; W of them for each source that is kept.
            sources: (B',) int64, numbers of the sources that are kept, ascending; None keeps all.
        """
        device = self._pasts[0].device
        chosen = upload(torch.from_numpy(hypotheses), device)
        self._pasts = [past.index_select(1, chosen) for past in self._pasts]
        if sources is not None:
            kept = upload(torch.from_numpy(sources), device)
            self._sources = [pair.index_select(1, kept) for pair in self._sources]
            self._mask = None if self._mask is None else self._mask.index_select(0, kept)

    def _to_past(self, at: int, qkv: Tensor) -> Tensor:
        query, key, value = _by_head(qkv, len(qkv), self._decoder.config.num_attention_heads, 3)
        self._pasts[at] = torch.cat([self._pasts[at], torch.stack([key, value])], 3)
        keys, values = self._pasts[at]
        return F.scaled_dot_product_attention(query, keys, values).reshape(len(qkv), -1)

    def _to_source(self, at: int, query: Tensor) -> Tensor:
        """The hypotheses of a source are its queries side by side: its keys are not repeated."""
        (own,) = _by_head(query, len(query) // self._num_beams, self._decoder.config.num_attention_heads, 1)
        key, value = self._sources[at]
        context = F.scaled_dot_product_attention(own, key, value, attn_mask=self._mask)
        return context.transpose(1, 2).reshape(len(query), -1)


def best_of(logits: Tensor, ask: Ask) -> Best:
    """The best continuations, as `beam.best_of` finds them, by logits that lie on any device: little has to leave it.

    Args:
        logits: (N, V) behind the lengthened hypotheses.
        ask: by the search.
    """
    scores, banned, rows, ids = (
        torch.from_numpy(one).to(logits.device) for one in (ask.scores, ask.banned, ask.rows, ask.ids)
    )
    log_probs = logits.float().log_softmax(-1)
    if ask.only is not None:
        kept = log_probs[:, ask.only].clone()
        log_probs.fill_(-torch.inf)
        log_probs[:, ask.only] = kept
    log_probs[:, banned] = -torch.inf
    log_probs[rows, ids] = -torch.inf
    totals = (scores.view(-1, 1) + log_probs).view(len(scores), -1)
    best, places = totals.topk(min(ask.count, totals.shape[1]))
    parents, found = np.divmod(places.cpu().numpy(), logits.shape[1])
    return Best(best.cpu().numpy(), parents, found)


def padded(layout: Layout, texts: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Some texts of a packed batch side by side, padded to the longest of them.

    Args:
        layout: of the batch.
        texts: (n,) numbers of the texts.
        device: of the result.

    Returns:
        (n * length,) int64, the packed token of each row (padding repeats the text's last one), and the mask of real
        tokens, (n, 1, 1, length) bool, or None where nothing is padded.
    """
    lengths = layout.lengths[texts]
    starts = (np.cumsum(layout.lengths) - layout.lengths)[texts]
    within = np.arange(lengths.max())
    gather = starts[:, None] + np.minimum(within, lengths[:, None] - 1)
    real = within < lengths[:, None]
    mask = None if real.all() else upload(torch.from_numpy(real[:, None, None]), device)
    return upload(torch.from_numpy(gather.reshape(-1)), device), mask


def _by_head(rows: Tensor, batch: int, num_heads: int, parts: int) -> Tensor:
    """(batch * length, parts * D) rows, seen as (parts, batch, H, length, K)."""
    return rows.view(batch, len(rows) // batch, parts, num_heads, -1).permute(2, 0, 3, 1, 4)
