"""The batches of pre-training: blocks of corpora in keyed order with keyed masks, ready for the network.

State is one integer, the optimizer step; nothing else is needed to go on anywhere, with any number of processes.
"""

import itertools
import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from unmask.data.batching import Batch, fill_up, positions_of
from unmask.data.corpus import Corpus
from unmask.data.curriculum import Curriculum
from unmask.data.heldout import held_out_ranges
from unmask.data.masking import MaskingSettings, mask
from unmask.data.mixture import Mixture
from unmask.data.order import below, hash_u64, sample_ids
from unmask.data.packing import Documents, SentenceBlocks, joined
from unmask.data.pairs import PairBlocks
from unmask.data.prefetch import in_order
from unmask.data.settings import StreamSettings
from unmask.errors import DataError, UsageError
from unmask.tokenizer.load import Tokenizer

_HELD_OUT_KEY = 0x5EED
_CORPUS_BITS = 40
_PAIRS = 0x9A125
_SHIFT = 0x5A1F7
# Evaluations ask the same questions, however a run masks its own text.
_EVALUATION = MaskingSettings()

Blocks = SentenceBlocks | PairBlocks


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The ids that batches are made with.

    Attributes:
        cls_id: opens a text.
        sep_id: closes it.
        pad_id: fills a batch up.
        mask_id: stands for masked tokens.
        special_ids: neither masked nor drawn as random tokens, (s,) int32.
        vocab_size: number of ids.
        family: `roberta`, `xlm-roberta` or `bert`.
    """

    cls_id: int
    sep_id: int
    pad_id: int
    mask_id: int
    special_ids: np.ndarray
    vocab_size: int
    family: str

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "Vocabulary":
        """The ids of a tokenizer."""
        return cls(
            cls_id=tokenizer.cls_id,
            sep_id=tokenizer.sep_id,
            pad_id=tokenizer.pad_id,
            mask_id=tokenizer.mask_id,
            special_ids=tokenizer.special_ids,
            vocab_size=tokenizer.vocab_size,
            family=tokenizer.family,
        )


@dataclass(frozen=True, slots=True)
class _Samples:
    """Blocks to be read.

    Attributes:
        corpora: corpus of each, (B,) int64.
        blocks: its number among the corpus' blocks, (B,) int64.
        epochs: pass over the corpus' training blocks, (B,) int64.
    """

    corpora: np.ndarray
    blocks: np.ndarray
    epochs: np.ndarray

    def part(self, here: slice | np.ndarray) -> "_Samples":
        """Some of them."""
        return _Samples(self.corpora[here], self.blocks[here], self.epochs[here])


class _Phase:
    """The blocks of all corpora at one block length, and the order in which they are trained on."""

    def __init__(self, blocks: Sequence[Blocks], settings: StreamSettings) -> None:
        self.blocks = blocks
        self.training = [np.flatnonzero(~one.held_out) for one in blocks]
        for one, training in zip(blocks, self.training, strict=True):
            if not 0 < len(training) < len(one):
                raise DataError(
                    "small-corpus",
                    f"a corpus has {len(training)} blocks to train on and {len(one) - len(training)} held out",
                    expected="some of both",
                    remedy="lower --block-length, or build a larger corpus",
                )
        self.mixture = Mixture(settings.corpus_weights or [len(numbers) for numbers in self.training])
        self.mean_length = float(np.dot(self.mixture.shares, [one.mean_length for one in blocks]))
        self._seed = settings.seed

    @property
    def num_training(self) -> int:
        """Training blocks of all corpora."""
        return sum(map(len, self.training))

    def samples(self, numbers: np.ndarray) -> _Samples:
        """The samples with these numbers in the mixed stream."""
        corpora, own = self.mixture.locate(numbers)
        found = _Samples(corpora, np.empty_like(own), np.empty_like(own))
        for corpus in np.unique(corpora):
            here, training = corpora == corpus, self.training[corpus]
            found.epochs[here], places = sample_ids(own[here], size=len(training), seed=self._seed)
            found.blocks[here] = training[places]
        return found


class PretrainStream:
    """Global batches of one pre-training run, each a pure function of its step, and the held-out batches.

    Args:
        corpora: with ids of the same tokenizer.
        settings: blocks, order and masks.
        vocabulary: the ids.
        position_offset: position id of the first token of a text.

    Attributes:
        num_training: blocks of the final length in one pass over the training text.
        bytes_per_token: UTF-8 bytes of text for each token, as the held-out blocks mix the corpora; for bits per byte.

    Raises:
        DataError: the corpora are too small for the settings.
        UsageError: the settings do not fit each other or the corpora.
    """

    def __init__(
        self, corpora: Sequence[Corpus], settings: StreamSettings, *, vocabulary: Vocabulary, position_offset: int
    ) -> None:
        if settings.corpus_weights and len(settings.corpus_weights) != len(corpora):
            raise UsageError(
                "corpus-weights",
                f"there are {len(corpora)} corpora and {len(settings.corpus_weights)} weights",
                value=settings.corpus_weights,
                expected="one weight for each corpus",
            )
        self._settings, self._vocabulary, self._offset = settings, vocabulary, position_offset
        self._allowed = np.setdiff1d(np.arange(vocabulary.vocab_size, dtype=np.int32), vocabulary.special_ids)
        ranges = [held_out_ranges(corpus, num_tokens=settings.held_out_tokens) for corpus in corpora]
        lengths = (*settings.curriculum.block_lengths, settings.block_length)
        self._phases = [
            _Phase([self._cut(*pair, length) for pair in zip(corpora, ranges, strict=True)], settings)
            for length in lengths
        ]
        self._held_out = self._spread(settings.eval_blocks)
        # A step has the tokens that full sentences of the final length would have.
        last = self._phases[-1]
        full = last.mean_length
        if settings.input_format != "full_sentences":
            sentences = [
                self._sentences(*pair, settings.block_length, "joined") for pair in zip(corpora, ranges, strict=True)
            ]
            full = float(np.dot(last.mixture.shares, [one.mean_length for one in sentences]))
        scales = [max(1.0, full / phase.mean_length) for phase in self._phases]
        self._curriculum = Curriculum(
            settings.curriculum,
            block_length=settings.block_length,
            max_steps=settings.max_steps,
            batch_size=settings.global_batch_size,
            scales=scales,
        )
        self._num_tokens = sum(corpus.num_tokens for corpus in corpora)
        self.num_training = last.num_training
        sizes = [corpus.meta.total("num_bytes") / corpus.num_tokens for corpus in corpora]
        scored = np.bincount(self._held_out.corpora, minlength=len(corpora))
        self.bytes_per_token = float(np.average(sizes, weights=scored))

    def batch(self, step: int, *, rank: int = 0, world_size: int = 1) -> list[Batch]:
        """The micro-batches of one process in an optimizer step, counted from 0; all processes have as many.

        Raises:
            UsageError: there are more processes than blocks.
        """
        settings, point = self._settings, self._curriculum.at(step)
        if point.count < world_size:
            raise UsageError(
                "few-blocks",
                f"step {step + 1} has {point.count} blocks for {world_size} processes",
                remedy="raise --global-batch-size or --curriculum.start-batch-size, or start fewer processes",
            )
        start, stop = point.count * rank // world_size, point.count * (rank + 1) // world_size
        phase = self._phases[point.phase]
        samples = phase.samples(np.arange(point.first + start, point.first + stop))
        wanted = math.ceil(point.batch_size / world_size / settings.micro_batch_size)
        parts = min(wanted, point.count // world_size)
        bounds = [(stop - start) * part // parts for part in range(parts + 1)]
        prob = settings.masking.prob_at(step / settings.max_steps)
        shift = settings.shift_of(point.block_length)
        return [
            self._make(phase, samples.part(slice(*pair)), settings.seed, settings.masking, prob, shift)
            for pair in itertools.pairwise(bounds)
        ]

    def steps(
        self, first: int, *, rank: int = 0, world_size: int = 1, workers: int = 0
    ) -> Generator[list[Batch], None, None]:
        """Global batches without end; close the iterator to end its threads.

        Args:
            first: optimizer step of the first one, counted from 0.
            rank: number of this process.
            world_size: processes that share a global batch.
            workers: threads that work ahead; 0 makes each batch when it is asked for.
        """
        return in_order(partial(self.batch, rank=rank, world_size=world_size), first, workers=workers)

    def is_turn(self, step: int) -> bool:
        """Whether the blocks have another length from a step on, counted from 0."""
        return self._curriculum.is_turn(step)

    def reached(self, step: int) -> int:
        """How many places the blocks before a step, counted from 0, have had."""
        taken = zip(self._curriculum.block_lengths, self._curriculum.samples(step), strict=True)
        return max((length + self._settings.shift_of(length) for length, count in taken if count), default=0)

    def held_out(self, micro_batch_size: int | None = None) -> Iterator[Batch]:
        """At most `eval_blocks` held-out blocks, with masks that are the same for every run and every evaluation."""
        size = micro_batch_size or self._settings.micro_batch_size
        for at in range(0, len(self._held_out.blocks), size):
            chosen = self._held_out.part(slice(at, at + size))
            yield self._make(self._phases[-1], chosen, _HELD_OUT_KEY, _EVALUATION, _EVALUATION.mask_prob)

    def epochs(self, max_steps: int) -> float:
        """Passes over the training text in so many steps."""
        taken = self._curriculum.samples(max_steps)
        return float(sum(count / phase.num_training for count, phase in zip(taken, self._phases, strict=True)))

    def describe(self) -> str:
        """What there is to train on, in one line."""
        last = self._phases[-1]
        parts = [
            f"{self._num_tokens:,} tokens in {len(last.blocks)} corpora" if len(last.blocks) > 1
            else f"{self._num_tokens:,} tokens",
            f"{last.num_training:,} blocks of {last.mean_length:.0f} tokens in the mean",
            f"{sum(int(one.held_out.sum()) for one in last.blocks):,} more held out",
        ]  # fmt: skip
        for name, what in (("num_cut_sentences", "sentences cut"), ("num_unused_tokens", "tokens without a partner")):
            if number := sum(getattr(one, name) for one in last.blocks):
                parts.append(f"{number:,} {what}")
        return ", ".join(parts)

    def _cut(self, corpus: Corpus, ranges: np.ndarray, length: int) -> Blocks:
        """The blocks of one corpus at one length."""
        settings, vocabulary = self._settings, self._vocabulary
        if settings.input_format in ("segment_pair", "sentence_pair"):
            return PairBlocks(
                corpus,
                max_length=length,
                cls_id=vocabulary.cls_id,
                sep_id=vocabulary.sep_id,
                is_bert=vocabulary.family == "bert",
                is_single=settings.input_format == "sentence_pair",
                is_swapped=settings.objective == "mlm+sop",
                held_out=ranges,
            )
        if settings.input_format == "doc_sentences":
            return self._sentences(corpus, ranges, length, "apart")
        return self._sentences(corpus, ranges, length, "isolated" if settings.isolate_documents else "joined")

    def _sentences(self, corpus: Corpus, ranges: np.ndarray, length: int, documents: Documents) -> SentenceBlocks:
        return SentenceBlocks(
            corpus,
            max_length=length,
            cls_id=self._vocabulary.cls_id,
            sep_id=self._vocabulary.sep_id,
            documents=documents,
            held_out=ranges,
        )

    def _spread(self, count: int) -> _Samples:
        """At most `count` held-out blocks, dealt out like the training blocks, evenly spread over each corpus."""
        phase = self._phases[-1]
        corpora, _ = phase.mixture.locate(np.arange(count))
        parts = []
        for number, blocks in enumerate(phase.blocks):
            held_out = np.flatnonzero(blocks.held_out)
            wanted = min(len(held_out), int(np.count_nonzero(corpora == number)))
            chosen = held_out[np.arange(wanted) * len(held_out) // max(1, wanted)]
            parts.append(_Samples(np.full(wanted, number), chosen, np.zeros(wanted, np.int64)))
        return _Samples(*(np.concatenate([getattr(part, name) for part in parts]) for name in _Samples.__slots__))

    def _make(
        self,
        phase: _Phase,
        samples: _Samples,
        seed: int,
        masking: MaskingSettings,
        mask_prob: float,
        max_shift: int = 0,
    ) -> Batch:
        # Corpus after corpus: the order within a forward pass decides nothing.
        samples = samples.part(np.argsort(samples.corpora, kind="stable"))
        numbers = samples.blocks + (samples.corpora << _CORPUS_BITS)
        # static masks repeat the pairs too, as BERT's copies of the data do
        keys = hash_u64(seed, samples.epochs % (masking.copies or 1 << 40), numbers, _PAIRS)
        packed = joined(
            [
                phase.blocks[corpus].take(samples.blocks[samples.corpora == corpus], keys[samples.corpora == corpus])
                for corpus in np.unique(samples.corpora)
            ]
        )
        masked = mask(
            packed.ids,
            packed.block_starts,
            packed.special,
            sample_ids=numbers,
            epochs=samples.epochs,
            seed=seed,
            config=masking,
            mask_id=self._vocabulary.mask_id,
            allowed_ids=self._allowed,
            mask_prob=mask_prob,
            word_starts=packed.word_starts,
        )
        shifts = below(hash_u64(seed, samples.epochs, numbers, _SHIFT), max_shift + 1)
        blocks = np.searchsorted(packed.block_starts, packed.cu_seqlens[:-1], side="right") - 1  # of each text
        batch = Batch(
            input_ids=torch.from_numpy(masked.input_ids.astype(np.int64)),
            position_ids=positions_of(packed.cu_seqlens, self._offset + shifts[blocks]),
            cu_seqlens=packed.cu_seqlens,
            token_type_ids=None
            if packed.token_types is None
            else torch.from_numpy(packed.token_types.astype(np.int64)),
            labels=torch.from_numpy(masked.labels),
            positions=torch.from_numpy(masked.positions),
            pair_labels=None if packed.pair_labels is None else torch.from_numpy(packed.pair_labels),
            block_starts=packed.block_starts,
            sample_ids=np.stack([samples.corpora, samples.blocks], axis=1),
            epochs=samples.epochs,
        )
        return fill_up(
            batch,
            round_tokens=self._settings.round_tokens,
            round_targets=self._settings.round_targets,
            pad_id=self._vocabulary.pad_id,
        )
