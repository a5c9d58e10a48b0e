"""Masked language modelling as a pure function of (seed, epoch, sample, position): no random state anywhere.

Section 3.1 of the RoBERTa paper, dynamic masking, with the counting rule of its code: a fixed number of tokens of
each sample is chosen, not each token by itself; special tokens are neither chosen nor drawn. Whole words and spans
(SpanBERT, Joshi et al. 2020, section 3.1) are chosen by the same rule: every token has the score of its unit, and the
lowest scores are taken, to the very token.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from unmask.config import Settings
from unmask.data.order import below, hash_u64, stream_u64

# What the keyed numbers are for; each use has a stream of its own.
_COUNT, _CHOICE, _FATE, _REPLACEMENT, _LENGTH = range(5)
_POSITION_BITS = 16


class MaskingSettings(Settings):
    """How tokens are chosen and what they turn into."""

    mask_prob: float = Field(default=0.15, gt=0, le=1)
    """Share of the tokens of a sample that is predicted."""
    mask_prob_end: Annotated[float, Field(gt=0, le=1)] | None = None
    """That share at the end of the run, to which it moves in a straight line; by default it stays."""
    random_token_prob: float = Field(default=0.1, ge=0, le=1)
    """Share of the predicted tokens that is replaced by a random token."""
    keep_prob: float = Field(default=0.1, ge=0, le=1)
    """Share of the predicted tokens that is left as it is; the rest becomes the mask token."""
    unit: Literal["token", "word", "span"] = "token"
    """What is chosen at a time: pieces, whole words, or spans of whole words."""
    span_prob: float = Field(default=0.2, gt=0, le=1)
    """A span ends behind each of its words with this probability."""
    max_span: int = Field(default=10, ge=1)
    """Most words of a span."""
    count: Literal["fixed", "binomial"] = "fixed"
    """Whether each sample has its share exactly, or as if each of its tokens were drawn by itself."""
    copies: int = Field(default=0, ge=0)
    """Masks that a sample has over the epochs, in turn, as in BERT, which had 10; 0 makes new ones in each epoch."""

    @model_validator(mode="after")
    def _shares_fit(self) -> "MaskingSettings":
        if self.random_token_prob + self.keep_prob > 1:
            raise ValueError("random_token_prob and keep_prob must not exceed 1 together")
        return self

    def prob_at(self, progress: float) -> float:
        """Share of the tokens that is predicted when `progress`, from 0 to 1, of the run is done."""
        end = self.mask_prob if self.mask_prob_end is None else self.mask_prob_end
        return self.mask_prob + min(1.0, progress) * (end - self.mask_prob)


@dataclass(frozen=True, slots=True)
class Masked:
    """A masked batch.

    Attributes:
        input_ids: what the model sees, (T,) int32.
        positions: places of the predicted tokens, ascending, (M,) int64.
        labels: the ids that stood there, (M,) int64.
    """

    input_ids: np.ndarray
    positions: np.ndarray
    labels: np.ndarray


def mask(
    ids: np.ndarray,
    cu_seqlens: np.ndarray,
    special: np.ndarray,
    *,
    sample_ids: np.ndarray,
    epochs: np.ndarray,
    seed: int,
    config: MaskingSettings,
    mask_id: int,
    allowed_ids: np.ndarray,
    mask_prob: float | None = None,
    word_starts: np.ndarray | None = None,
) -> Masked:
    """Choose and replace tokens in a packed batch.

    A sample of n ordinary tokens has floor(mask_prob * n + u) of them predicted, u uniform in [0, 1), or a binomial
    number: those with the smallest keyed scores. Each becomes the mask token, a random token or stays, by a keyed
    number of its own. What happens to a sample does not depend on the others in the batch.

    Args:
        ids: packed token ids, (T,).
        cu_seqlens: where each sample begins, and the end, (B + 1,).
        special: True at tokens that are never chosen, (T,) bool.
        sample_ids: number of each sample in the corpus, (B,).
        epochs: pass over the data that each sample belongs to, (B,).
        seed: of the run.
        config: shares and units.
        mask_id: id of the mask token.
        allowed_ids: ids from which random tokens are drawn; no special ones.
        mask_prob: share of the tokens that is predicted; by default the one of `config`.
        word_starts: True where a word begins, (T,) bool; needed for words and spans.
    """
    if config.copies:
        epochs = epochs % config.copies
    keys = hash_u64(seed, epochs, sample_ids)
    prob = config.mask_prob if mask_prob is None else mask_prob
    tokens = _ordinary(keys, cu_seqlens, special)
    scores = stream_u64(hash_u64(keys, _CHOICE)[tokens.samples], tokens.offsets)
    if config.count == "fixed":
        budgets = np.floor(prob * tokens.counts + _unit(hash_u64(keys, _COUNT)))
    else:
        hits = np.concatenate([[0], np.cumsum(_unit(scores) < prob)])
        budgets = np.diff(hits[np.concatenate([[0], np.cumsum(tokens.counts)])])
    if config.unit != "token":
        if word_starts is None:
            raise ValueError("words and spans need word_starts")
        spans = _span_lengths(tokens, keys, config) if config.unit == "span" else None
        scores = _unit_scores(tokens, scores, spans, special, word_starts)
    positions = np.sort(_lowest(tokens, scores, budgets))
    labels = ids[positions].astype(np.int64)
    samples = np.searchsorted(cu_seqlens, positions, side="right") - 1
    offsets = positions - cu_seqlens[samples]
    fate = _unit(stream_u64(hash_u64(keys, _FATE)[samples], offsets))
    is_random = fate < config.random_token_prob
    is_kept = ~is_random & (fate < config.random_token_prob + config.keep_prob)
    draws = below(stream_u64(hash_u64(keys, _REPLACEMENT)[samples], offsets), len(allowed_ids))
    replaced = np.where(is_random, allowed_ids[draws], np.where(is_kept, labels, mask_id))
    input_ids = ids.astype(np.int32, copy=True)
    input_ids[positions] = replaced
    return Masked(input_ids, positions, labels)


@dataclass(frozen=True, slots=True)
class _Ordinary:
    """The ordinary tokens of all samples, one after the other.

    Attributes:
        counts: how many each sample has, (B,) int64.
        samples: sample of each, (n,) int64.
        places: place of each in the batch, (n,) int64.
        offsets: place of each in its sample, (n,) int64.
    """

    counts: np.ndarray
    samples: np.ndarray
    places: np.ndarray
    offsets: np.ndarray


def _ordinary(keys: np.ndarray, cu_seqlens: np.ndarray, special: np.ndarray) -> _Ordinary:
    lengths = np.diff(cu_seqlens)
    if len(keys) >= 1 << 16 or (len(lengths) and int(lengths.max()) > 1 << _POSITION_BITS):
        raise ValueError("a batch has at most 65,535 samples of at most 65,536 tokens")
    counts = np.diff(np.concatenate([[0], np.cumsum(~special)])[cu_seqlens])
    samples = np.repeat(np.arange(len(keys)), counts)
    places = np.flatnonzero(~special)
    return _Ordinary(counts, samples, places, places - cu_seqlens[samples].astype(np.int64))


def _lowest(tokens: _Ordinary, scores: np.ndarray, budgets: np.ndarray) -> np.ndarray:
    """Places of the tokens with the lowest scores, `budgets` of each sample, those first in the text among equals."""
    # In one number each: sorting values is several times faster than sorting indices.
    packed = tokens.samples.astype(np.uint64) << np.uint64(48)
    packed |= scores >> np.uint64(32) << np.uint64(_POSITION_BITS) | tokens.offsets.astype(np.uint64)
    packed.sort()
    # The samples stand in the same order as before, each with as many tokens.
    firsts = tokens.places - tokens.offsets
    ranks = np.arange(len(packed)) - np.repeat(np.cumsum(tokens.counts) - tokens.counts, tokens.counts)
    places = firsts + (packed & np.uint64((1 << _POSITION_BITS) - 1)).astype(np.int64)
    return places[ranks < budgets[tokens.samples]]


def _unit_scores(
    tokens: _Ordinary, scores: np.ndarray, spans: np.ndarray | None, special: np.ndarray, word_starts: np.ndarray
) -> np.ndarray:
    """Give each token the score of its word, or the lowest of the spans that cover its word, (n,) uint64.

    Args:
        tokens: the ordinary tokens.
        scores: of each token, (n,) uint64; a word, and the span that begins with it, has that of its first token.
        spans: words that a span has which begins at the word of each token, (n,) int64; `None` for words.
        special: as for `mask`.
        word_starts: as for `mask`.
    """
    # Words and spans do not run over special tokens: the stretches between these are numbered through all samples.
    stretches = np.cumsum(special)[tokens.places] + tokens.samples
    begins = word_starts[tokens.places].astype(bool)
    begins |= np.concatenate([[True], stretches[1:] != stretches[:-1]])[: len(stretches)]
    firsts = np.flatnonzero(begins)
    lowest = scores[firsts]
    if spans is not None and len(firsts):
        stretches, lengths, own = stretches[firsts], spans[firsts], lowest.copy()
        for shift in range(1, int(lengths.max())):
            covers = (lengths[:-shift] > shift) & (stretches[:-shift] == stretches[shift:])
            lowest[shift:][covers] = np.minimum(lowest[shift:], own[:-shift])[covers]
    return lowest[np.cumsum(begins) - 1]


def _span_lengths(tokens: _Ordinary, keys: np.ndarray, config: MaskingSettings) -> np.ndarray:
    """Keyed numbers from 1 to `max_span` that fall off geometrically, (n,) int64."""
    ends = (1 - config.span_prob) ** np.arange(config.max_span)
    table = np.cumsum(ends / ends.sum())
    uniform = _unit(stream_u64(hash_u64(keys, _LENGTH)[tokens.samples], tokens.offsets))
    return 1 + np.searchsorted(table[:-1], uniform, side="right")


def _unit(bits: np.ndarray) -> np.ndarray:
    """Uniform numbers in [0, 1) from 64 bits, float64."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
