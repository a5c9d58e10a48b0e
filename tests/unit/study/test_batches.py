"""A batch taken apart, against plain walks over the corpus; and alarms that ring when they should, and only then."""

from pathlib import Path

import numpy as np
import pytest

from unmask.config import resolve
from unmask.data.batching import Batch
from unmask.data.blocks import PretrainStream, Vocabulary
from unmask.data.corpus import Corpus
from unmask.errors import ArtefactError
from unmask.study.batches import KEPT, MASKED, RANDOM, SPECIAL, BlockView, batch_at, figures, take_apart
from unmask.study.locate import locate
from unmask.tokenizer.load import Tokenizer
from unmask.train.settings import PretrainSettings

KINDS = {
    "full": {},
    "doc": {"input_format": "doc_sentences"},
    "isolated": {"isolate_documents": True},
    "segments": {"input_format": "segment_pair", "objective": "mlm+nsp"},
    "sentences": {"input_format": "sentence_pair", "objective": "mlm+sop"},
    "rounded": {"round_tokens": 64, "round_targets": 16},
    "words": {"masking": {"unit": "word", "count": "binomial", "mask_prob": 0.3}},
}  # fmt: skip
SMALL = {"block_length": 48, "global_batch_size": 24, "micro_batch_size": 8, "held_out_tokens": 500, "max_steps": 100}


def settings_of(**changes: object) -> PretrainSettings:
    return resolve(PretrainSettings, SMALL, changes)


def walk(corpus: Corpus) -> list[tuple[int, int, int, bool]]:
    """Id, sentence, document and word start of every token, one after the other."""
    tokens, sentence, document = [], -1, -1
    for shard in corpus.shards:
        sentences, documents = set(shard.sentence_starts.tolist()), set(shard.document_starts.tolist())
        seen = -1
        for at, piece in enumerate(shard.ids.tolist()):
            if at in sentences:
                sentence += 1
                seen += 1
                document += seen in documents
            tokens.append((piece, sentence, document, bool(shard.word_bits[at // 8] >> at % 8 & 1)))
    return tokens


def find(tokens: list[tuple[int, int, int, bool]], run: list[int]) -> list[int]:
    ids = [piece for piece, *_ in tokens]
    return [at for at in range(len(ids)) if ids[at : at + len(run)] == run]


def runs_of(view: BlockView) -> list[list[int]]:
    """Places of the ordinary tokens between special ones."""
    runs: list[list[int]] = [[]]
    for at, fate in enumerate(view.fates.tolist()):
        if fate == SPECIAL:
            runs.append([])
        else:
            runs[-1].append(at)
    return [run for run in runs if run]


def test_runs_are_found_where_a_plain_search_finds_them(corpora: list[Corpus]) -> None:
    corpus, rng = corpora[0], np.random.default_rng(0)
    tokens = walk(corpus)
    assert len(corpus.shards) > 1
    runs = []
    for shard in corpus.shards:
        for length in (1, 2, 7, 40):
            start = int(rng.integers(0, len(shard.ids) - length))
            runs.append(np.asarray(shard.ids[start : start + length]).astype(np.int64))
        runs.append(np.asarray(shard.ids[-5:]).astype(np.int64))
    runs.append(np.concatenate([runs[2], runs[2]]))
    found = locate(corpus, runs)
    plain = [find(tokens, run.tolist()) for run in runs]
    assert [places.tolist() for places in found] == plain
    assert plain[-1] == []
    assert max(map(len, plain)) > 10


@pytest.mark.parametrize("kind", KINDS)
def test_words_sentences_and_documents_are_those_of_the_corpus(
    folders: list[Path], corpora: list[Corpus], kind: str
) -> None:
    batch = batch_at(folders, settings_of(**KINDS[kind]), step=3)
    walked = [walk(corpus) for corpus in corpora]
    assert {view.corpus for view in batch.views} == {0, 1}
    for view in batch.views[::3]:
        tokens, last = walked[view.corpus], -1
        for run in runs_of(view):
            places = find(tokens, view.ids[run].tolist())
            matching = [tokens[place : place + len(run)] for place in places]
            shown = list(zip(view.sentences[run].tolist(), view.documents[run].tolist(), strict=True))
            true = next(part for part in matching if [token[1:3] for token in part] == shown)
            expected = []
            for at, (*_, begins) in enumerate(true):
                last += begins or at == 0
                expected.append(last)
            assert view.words[run].tolist() == expected
        rest = view.fates == SPECIAL
        assert (view.words[rest] == -1).all()
        assert set(view.ids[rest].tolist()) <= {batch.tokenizer.cls_id, batch.tokenizer.sep_id}


@pytest.mark.parametrize("kind", KINDS)
def test_figures_are_counted_right(folders: list[Path], kind: str) -> None:
    settings = settings_of(**KINDS[kind])
    batch = batch_at(folders, settings, step=5)
    counts, split, cut, crossing = dict.fromkeys((MASKED, RANDOM, KEPT), 0), 0, 0, 0
    ordinary = 0
    for view in batch.views:
        words: dict[int, list[bool]] = {}
        for original, seen, fate, word in zip(view.ids, view.seen, view.fates, view.words, strict=True):
            ordinary += word >= 0
            if fate in counts:
                counts[fate] += 1
                assert fate == (MASKED if seen == batch.tokenizer.mask_id else KEPT if seen == original else RANDOM)
            else:
                assert seen == original
            words.setdefault(int(word), []).append(fate in counts)
        words.pop(-1, None)
        touched = [hits for hits in words.values() if len(hits) > 1 and any(hits)]
        split += len(touched)
        cut += sum(not all(hits) for hits in touched)
        crossing += len(set(view.documents.tolist()) - {-1}) > 1
    found = batch.stats
    assert [share.count for share in found.shares] == [sum(counts.values()), *counts.values()]
    num_drawn = batch.tokenizer.vocab_size - len(batch.tokenizer.special_ids)
    assert [share.wanted for share in found.shares[2:]] == pytest.approx([0.1 - 0.1 / num_drawn, 0.1 + 0.1 / num_drawn])
    assert found.shares[0].real == pytest.approx(sum(counts.values()) / ordinary)
    assert (found.split_words, found.crossing) == (split, pytest.approx(crossing / len(batch.views)))
    assert found.cut_words == pytest.approx(cut / split)
    assert found.lengths.tolist() == [len(view) for view in batch.views]
    assert found.fill == pytest.approx(found.lengths.mean() / 48)
    assert (found.filler > 0) == (kind == "rounded")
    assert (found.crossing > 0) == (kind not in ("doc", "sentences"))


@pytest.mark.parametrize("kind", KINDS)
def test_true_batches_ring_no_alarm(folders: list[Path], kind: str) -> None:
    for step in (1, 20, 100):
        shares = batch_at(folders, settings_of(**KINDS[kind]), step=step).stats.shares
        assert not any(share.is_odd for share in shares), shares


@pytest.mark.parametrize(
    ("asked", "odd"),
    [
        ({}, []),
        ({"mask_prob": 0.17}, ["predicted"]),
        ({"mask_prob": 0.25, "count": "binomial"}, ["predicted"]),
        ({"random_token_prob": 0.3}, ["masked", "random", "kept"]),
        ({"keep_prob": 0.0}, ["masked", "random", "kept"]),
        ({"random_token_prob": 0.0, "keep_prob": 0.0}, ["masked", "random", "kept"]),
    ],
)
def test_the_alarm_rings_when_settings_and_batch_differ(corpora: list[Corpus], asked: dict, odd: list[str]) -> None:
    batches = made(corpora, settings_of(global_batch_size=48))
    views = take_apart(batches, corpora, tokenizer_of(corpora))
    found = figures(batches, views, settings_of(masking=asked), step=1, num_drawn=395)
    assert [share.name for share in found.shares if share.is_odd] == odd


def test_a_batch_of_another_corpus_is_refused(corpora: list[Corpus]) -> None:
    with pytest.raises(ArtefactError, match="not in its corpus"):
        take_apart(made(corpora, settings_of()), corpora[::-1], tokenizer_of(corpora))


def tokenizer_of(corpora: list[Corpus]) -> Tokenizer:
    return Tokenizer.load(corpora[0].tokenizer_folder)


def made(corpora: list[Corpus], settings: PretrainSettings) -> list[Batch]:
    vocabulary = Vocabulary.of(tokenizer_of(corpora))
    return PretrainStream(corpora, settings, vocabulary=vocabulary, position_offset=2).batch(0)
