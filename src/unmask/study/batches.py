"""A batch of pre-training taken apart: what became of each token, which word, sentence and document it belongs to."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from unmask.data.batching import Batch
from unmask.data.blocks import PretrainStream, Vocabulary
from unmask.data.corpus import Corpus
from unmask.data.settings import StreamSettings
from unmask.errors import ArtefactError
from unmask.model.config import EncoderConfig
from unmask.study.locate import locate
from unmask.tokenizer.load import Tokenizer
from unmask.train.network import load_corpora
from unmask.train.settings import PretrainSettings

# What became of a token.
PLAIN, SPECIAL, MASKED, RANDOM, KEPT = range(5)
# A true batch looks this odd, or odder, once in ten thousand times.
ALARM = 1e-4


@dataclass(frozen=True)
class BlockView:
    """One block.

    Attributes:
        corpus: number of its corpus.
        number: of the block among the corpus' blocks.
        epoch: pass over the corpus.
        ids: what the text says, with special tokens, (n,) int64.
        seen: what the model sees, (n,) int64.
        fates: `PLAIN`, `SPECIAL`, `MASKED`, `RANDOM` or `KEPT`, (n,) int8.
        positions: position ids, (n,) int64.
        words: number of each token's word in the block, -1 at special tokens, (n,) int64.
        sentences: number of its sentence in the corpus, likewise.
        documents: number of its document in the corpus, likewise.
        token_types: 0 or 1, (n,) int64; `None` where all are 0.
        pair_label: class of the pair; `None` without pairs.
    """

    corpus: int
    number: int
    epoch: int
    ids: np.ndarray
    seen: np.ndarray
    fates: np.ndarray
    positions: np.ndarray
    words: np.ndarray
    sentences: np.ndarray
    documents: np.ndarray
    token_types: np.ndarray | None
    pair_label: int | None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_documents(self) -> int:
        """Documents that the block has text of."""
        return len(np.unique(self.documents[self.fates != SPECIAL]))


@dataclass(frozen=True)
class Share:
    """A share as it is and as the settings ask for it.

    Attributes:
        name: of what.
        count: number found.
        real: share found.
        wanted: share asked for.
        p_value: how often a true batch is off by as much or more.
    """

    name: str
    count: int
    real: float
    wanted: float
    p_value: float

    @property
    def is_odd(self) -> bool:
        """Whether chance alone hardly explains the difference."""
        return self.p_value < ALARM


@dataclass(frozen=True)
class BatchStats:
    """Figures of a whole global batch.

    Attributes:
        num_micro_batches: forward passes.
        num_blocks: blocks.
        num_tokens: tokens, special ones counted, filler not.
        block_length: most tokens of a block at this step.
        shares: predicted tokens of all ordinary ones, and their three fates; the fates have one p-value (chi2).
        crossing: share of the blocks with text of several documents.
        fill: share of `block_length` that a block fills in the mean; the rest would be padding elsewhere.
        filler: share of filler tokens in what is multiplied.
        split_words: words of several pieces of which at least one is predicted.
        cut_words: share of these of which another piece is not predicted.
        lengths: tokens of each block, (N,) int64.
    """

    num_micro_batches: int
    num_blocks: int
    num_tokens: int
    block_length: int
    shares: tuple[Share, ...]
    crossing: float
    fill: float
    filler: float
    split_words: int
    cut_words: float
    lengths: np.ndarray


@dataclass(frozen=True)
class GlobalBatch:
    """All that one optimizer step takes.

    Attributes:
        step: its number, from 1.
        views: the blocks.
        stats: their figures.
        tokenizer: of the corpora.
        names: of the corpora's folders.
    """

    step: int
    views: list[BlockView]
    stats: BatchStats
    tokenizer: Tokenizer
    names: list[str]


def batch_at(folders: Sequence[Path], settings: PretrainSettings, *, step: int) -> GlobalBatch:
    """Make the batch of a step as pre-training does, and take it apart.

    Args:
        folders: of the corpora.
        settings: of the run.
        step: number of the optimizer step, from 1.

    Raises:
        ArtefactError: a folder is no corpus, or is damaged.
        UsageError: the settings do not fit the corpora.
    """
    corpora, tokenizer = load_corpora(folders)
    vocabulary = Vocabulary.of(tokenizer)
    shape = {"family": vocabulary.family, "vocab_size": vocabulary.vocab_size, "pad_token_id": vocabulary.pad_id}
    offset = EncoderConfig.model_validate(shape).position_offset
    stream = PretrainStream(corpora, settings, vocabulary=vocabulary, position_offset=offset)
    batches = stream.batch(step - 1)
    views = take_apart(batches, corpora, tokenizer)
    num_drawn = vocabulary.vocab_size - len(vocabulary.special_ids)
    stats = figures(batches, views, settings, step=step, num_drawn=num_drawn)
    return GlobalBatch(step, views, stats, tokenizer, [corpus.folder.resolve().name for corpus in corpora])


def take_apart(batches: Sequence[Batch], corpora: Sequence[Corpus], tokenizer: Tokenizer) -> list[BlockView]:
    """The blocks of a global batch, in order.

    Args:
        batches: micro-batches of a `PretrainStream` over `corpora`.
        corpora: all of the stream's.
        tokenizer: of the corpora.

    Raises:
        ArtefactError: a block holds text that is not in its corpus.
    """
    views = [view for batch in batches for view in _cut(batch, tokenizer)]
    for number, corpus in enumerate(corpora):
        _trace([view for view in views if view.corpus == number], corpus)
    return views


def figures(
    batches: Sequence[Batch], views: Sequence[BlockView], settings: StreamSettings, *, step: int, num_drawn: int
) -> BatchStats:
    """Count what is in a global batch and compare it with the settings.

    Args:
        batches: the micro-batches.
        views: their blocks.
        settings: of the stream.
        step: number of the optimizer step, from 1.
        num_drawn: ids that random tokens are drawn from.
    """
    lengths = np.array([len(view) for view in views])
    possible = [one for one in (*settings.curriculum.block_lengths, settings.block_length) if one >= lengths.max()]
    split, cut = np.sum([_cut_words(view) for view in views], axis=0)
    total = sum(int(batch.cu_seqlens[-1]) for batch in batches)
    return BatchStats(
        num_micro_batches=len(batches),
        num_blocks=len(views),
        num_tokens=int(lengths.sum()),
        block_length=min(possible),
        shares=_shares(views, settings, (step - 1) / settings.max_steps, num_drawn),
        crossing=float(np.mean([view.num_documents > 1 for view in views])),
        fill=float(lengths.mean() / min(possible)),
        filler=sum(batch.num_filler_tokens for batch in batches) / total,
        split_words=int(split),
        cut_words=float(cut / max(1, split)),
        lengths=lengths,
    )


def _cut(batch: Batch, tokenizer: Tokenizer) -> list[BlockView]:
    """The blocks of a micro-batch, with nothing known yet of words, sentences and documents."""
    assert batch.labels is not None, "a batch of pre-training has labels"
    assert batch.positions is not None, "and their places"
    assert batch.block_starts is not None, "and blocks"
    assert batch.sample_ids is not None, "which have numbers"
    assert batch.epochs is not None, "and epochs"
    seen = batch.input_ids.numpy()
    ids, targets = seen.copy(), batch.positions.numpy()[: batch.num_targets]
    ids[targets] = batch.labels.numpy()[: batch.num_targets]
    special = np.isin(ids, [tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id])
    fates = np.where(special, SPECIAL, PLAIN).astype(np.int8)
    is_kept, is_masked = seen[targets] == ids[targets], seen[targets] == tokenizer.mask_id
    fates[targets] = np.where(is_masked, MASKED, np.where(is_kept, KEPT, RANDOM))
    views = []
    for at, (corpus, number) in enumerate(batch.sample_ids.tolist()):
        here = slice(*batch.block_starts[at : at + 2].tolist())
        words, sentences, documents = np.full((3, here.stop - here.start), -1, np.int64)
        views.append(
            BlockView(
                corpus=corpus,
                number=number,
                epoch=int(batch.epochs[at]),
                ids=ids[here],
                seen=seen[here],
                fates=fates[here],
                positions=batch.position_ids.numpy()[here],
                words=words,
                sentences=sentences,
                documents=documents,
                token_types=None if batch.token_type_ids is None else batch.token_type_ids.numpy()[here],
                pair_label=None if batch.pair_labels is None else int(batch.pair_labels[at]),
            )
        )
    return views


def _trace(views: Sequence[BlockView], corpus: Corpus) -> None:
    """Find the text of blocks in their corpus, and note words, sentences and documents in the views."""
    runs = [_runs(view.fates != SPECIAL) for view in views]
    found = iter(locate(corpus, [view.ids[here] for view, own in zip(views, runs, strict=True) for here in own]))
    offsets = np.cumsum([0] + [len(shard.ids) for shard in corpus.shards])
    sentences = _all_starts([shard.sentence_starts for shard in corpus.shards], offsets)
    documents = _all_starts([shard.sentence_starts[shard.document_starts] for shard in corpus.shards], offsets)
    for view, own in zip(views, runs, strict=True):
        for here, place in zip(own, _choose([next(found) for _ in own], view, corpus), strict=True):
            size = here.stop - here.start
            at = np.arange(place, place + size)
            view.sentences[here] = np.searchsorted(sentences, at, side="right") - 1
            view.documents[here] = np.searchsorted(documents, at, side="right") - 1
            shard = int(np.searchsorted(offsets, place, side="right")) - 1
            start = place - int(offsets[shard])
            begins = corpus.shards[shard].word_starts(start, start + size)
            begins[0] = True
            view.words[here] = view.words.max() + np.cumsum(begins)


def _choose(found: Sequence[np.ndarray], view: BlockView, corpus: Corpus) -> list[int]:
    """One place for each run of a block: short text stands in many, and the true one is near the rest of the block."""
    if not all(len(places) for places in found):
        raise ArtefactError(
            "foreign-batch",
            f"block {view.number} holds text that is not in its corpus",
            place=corpus.folder,
            remedy="run `unmask verify` on the corpus",
        )
    surest = min(found, key=len)[0]
    return [int(places[np.argmin(np.abs(places - surest))]) for places in found]


def _all_starts(starts: Sequence[np.ndarray], offsets: np.ndarray) -> np.ndarray:
    """The starts of all shards, without the ends, counted through them."""
    return np.concatenate([one[:-1].astype(np.int64) + offset for one, offset in zip(starts, offsets, strict=False)])


def _runs(flags: np.ndarray) -> list[slice]:
    """Each stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [slice(start, stop) for start, stop in edges.reshape(-1, 2).tolist()]


def _cut_words(view: BlockView) -> tuple[int, int]:
    """Predicted words of several pieces, and those of them of which a piece is not predicted."""
    here = view.fates != SPECIAL
    words, is_target = view.words[here], view.fates[here] >= MASKED
    sizes = np.bincount(words)
    hits = np.bincount(words, is_target)
    touched = (sizes > 1) & (hits > 0)
    return int(touched.sum()), int((touched & (hits < sizes)).sum())


def _shares(views: Sequence[BlockView], settings: StreamSettings, progress: float, num_drawn: int) -> tuple[Share, ...]:
    masking = settings.masking
    prob = masking.prob_at(progress)
    ordinary = np.array([(view.fates != SPECIAL).sum() for view in views])
    counts = np.array([sum((view.fates == fate).sum() for view in views) for fate in (MASKED, RANDOM, KEPT)])
    targets, total = int(counts.sum()), int(ordinary.sum())
    rest = prob * ordinary % 1
    variance = float((rest * (1 - rest)).sum()) if masking.count == "fixed" else prob * (1 - prob) * total
    deviation = abs(targets - prob * total)
    # With a fixed count the number of a block is certain up to one; a variance of 0 leaves room for rounding only.
    chosen = 2 * float(stats.norm.sf(deviation / max(variance, 1e-12) ** 0.5)) if deviation > 1e-6 else 1.0
    # A random token that happens to be the true one looks kept.
    lucky = masking.random_token_prob / num_drawn
    random, kept = masking.random_token_prob - lucky, masking.keep_prob + lucky
    wanted = np.array([1 - random - kept, random, kept])
    p_value = _chi2(counts, wanted)
    named = zip(("masked", "random", "kept"), counts.tolist(), wanted.tolist(), strict=True)
    return (
        Share("predicted", targets, targets / total, prob, chosen),
        *(Share(name, count, count / max(1, targets), share, p_value) for name, count, share in named),
    )


def _chi2(counts: np.ndarray, shares: np.ndarray) -> float:
    """How often counts are so far from the shares or farther (Pearson's test)."""
    possible = shares > 1e-9
    if counts[~possible].any():
        return 0.0
    if possible.sum() < 2 or not counts.any():
        return 1.0
    expected = shares[possible] / shares[possible].sum() * counts.sum()
    return float(stats.chisquare(counts[possible], expected).pvalue)
