"""Pseudo-log-likelihood: how well a masked language model expects each piece of a sentence, given all the others.

A sentence of n pieces becomes n copies with one piece hidden in each (Salazar et al. 2020, section 2).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch.nn import functional as F

from unmask.data.batching import Batch, positions_of, sorted_batches
from unmask.errors import DataError
from unmask.runtime import Machine
from unmask.tasks.base import Place, row_number
from unmask.tasks.masked_lm import MaskedLM
from unmask.tokenizer.load import Tokenizer

WithinWord = Literal["l2r", "original"]


@dataclass(frozen=True)
class Copies:
    """Sentences laid end to end, and the places in them that are to be hidden, one in each copy.

    Attributes:
        ids: all sentences with their special tokens, (T,) int64.
        units: number of the unit that each token belongs to, (T,) int64; later tokens of the hidden one's unit are
            hidden with it.
        starts: first token of the sentence of each copy, (N,) int64.
        lengths: tokens of each copy, (N,) int64.
        places: the hidden token of each copy, counted from the sentence's first, (N,) int64.
        counts: copies of each sentence, which is its number of pieces, (B,) int64.
    """

    ids: np.ndarray
    units: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    places: np.ndarray
    counts: np.ndarray

    def batch(self, chosen: np.ndarray, *, mask_id: int, position_offset: int) -> Batch:
        """The copies number `chosen`, (M,), as one packed batch with one masked token each."""
        lengths = self.lengths[chosen]
        cu_seqlens = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        within = np.arange(cu_seqlens[-1]) - np.repeat(cu_seqlens[:-1], lengths)
        at = np.repeat(self.starts[chosen], lengths) + within
        targets, places = self.starts[chosen] + self.places[chosen], self.places[chosen]
        is_hidden = (self.units[at] == np.repeat(self.units[targets], lengths)) & (within >= np.repeat(places, lengths))
        return Batch(
            input_ids=torch.from_numpy(np.where(is_hidden, mask_id, self.ids[at])),
            position_ids=positions_of(cu_seqlens, position_offset),
            cu_seqlens=cu_seqlens,
            labels=torch.from_numpy(self.ids[targets]),
            positions=torch.from_numpy(cu_seqlens[:-1] + places),
        )


@torch.inference_mode()
def pseudo_log_likelihoods(
    task: MaskedLM,
    texts: Sequence[str],
    *,
    machine: Machine,
    within_word: WithinWord = "l2r",
    max_tokens: int = 8192,
    place: Place = row_number,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[np.ndarray]:
    """Score every piece of every sentence; the sum over a sentence is its pseudo-log-likelihood.

    Args:
        task: the model.
        texts: sentences; strings of special tokens in them are plain text.
        machine: device and number format; the task is moved there.
        within_word: `l2r` hides with a piece also the later pieces of its word (Kauf and Ivanova 2023, section 3): else
            the rest of a rare word gives its hidden piece away, and words of many pieces score too well. `original`
            hides the piece alone (Salazar et al. 2020).
        max_tokens: limit of one batch, in tokens.
        place: says where sentence number i comes from, for errors.
        on_progress: told now and then how many of all pieces are scored.

    Returns:
        For each sentence the log-probabilities of its pieces in nats, (n,) float32.

    Raises:
        DataError: a sentence is empty, or longer than the model's input; nothing is cut.
    """
    copies = make_copies(task.tokenizer, texts, task.config.max_length, within_word=within_word, place=place)
    scores = np.empty(len(copies.starts), np.float32)
    task.eval().to(machine.device)
    done = 0
    for chosen in sorted_batches(copies.lengths, max_tokens=max_tokens):
        batch = copies.batch(chosen, mask_id=task.tokenizer.mask_id, position_offset=task.config.position_offset)
        batch = batch.to(machine.device)
        with machine.autocast():
            logits = task(batch)
        assert batch.labels is not None, "every copy has its hidden piece"
        scores[chosen] = -F.cross_entropy(logits.float(), batch.labels, reduction="none").cpu().numpy()
        done += len(chosen)
        if on_progress is not None:
            on_progress(done, len(scores))
    return np.split(scores, np.cumsum(copies.counts)[:-1])


def make_copies(
    tokenizer: Tokenizer, texts: Sequence[str], max_length: int, *, within_word: WithinWord, place: Place = row_number
) -> Copies:
    """Encode sentences and list the copies that score them; arguments and errors as of `pseudo_log_likelihoods`."""
    ids, starts_unit = [], []
    for index, (text, pieces) in enumerate(zip(texts, tokenizer.encode(list(texts)), strict=True)):
        if not text.strip() or not len(pieces.ids):
            raise DataError("empty-text", "the sentence is empty", place=place(index), remedy="fill or remove it")
        sequence = tokenizer.assemble(pieces, max_length=max_length)
        if sequence.num_truncated:
            raise DataError(
                "long-sentence",
                f"the sentence has {len(pieces.ids)} pieces and the model reads {max_length} tokens",
                place=place(index),
                value=text,
                remedy="split it; the likelihood of a part is not that of the whole",
            )
        ids.append(sequence.input_ids)
        starts = pieces.word_starts if within_word == "l2r" else np.ones(len(pieces.ids), bool)
        starts_unit.append(np.concatenate([[True], starts, [True]]))
    counts = np.array([len(one) - 2 for one in ids])
    firsts = np.cumsum(counts + 2) - (counts + 2)
    return Copies(
        ids=np.concatenate(ids).astype(np.int64),
        units=np.cumsum(np.concatenate(starts_unit)),
        starts=np.repeat(firsts, counts),
        lengths=np.repeat(counts + 2, counts),
        places=np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + 1,
        counts=counts,
    )


def text_scores(scores: Sequence[np.ndarray], texts: Sequence[str]) -> dict[str, float]:
    """Figures of all sentences together.

    Returns:
        `pseudo_perplexity`, exp of the mean nats a piece (Salazar et al. 2020, equation 5), which depends on the
        vocabulary, and `bits_per_byte` of UTF-8, which does not.
    """
    nats = -float(sum(one.sum(dtype=np.float64) for one in scores))
    num_pieces, num_bytes = sum(map(len, scores)), sum(len(text.encode()) for text in texts)
    return {
        "pseudo_perplexity": math.exp(min(nats / num_pieces, 700.0)),
        "bits_per_byte": nats / math.log(2) / num_bytes,
    }
