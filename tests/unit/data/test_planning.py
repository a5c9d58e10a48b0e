"""The first batch of a very large corpus, wherever training stands."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from unmask import storage
from unmask.data.blocks import PretrainStream, Vocabulary
from unmask.data.corpus import Corpus
from unmask.data.settings import StreamSettings
from unmask.data.shards import CorpusMeta, ShardMeta, shard_files

SHARD_TOKENS, NUM_SENTENCES, NUM_DOCUMENTS = 16_000_000, 500_000, 4_000
VOCABULARY = Vocabulary(
    cls_id=0, sep_id=2, pad_id=1, mask_id=4, special_ids=np.arange(5, dtype=np.int32), vocab_size=1000, family="roberta"
)


def huge_corpus(folder: Path, *, num_shards: int) -> Corpus:
    """Shards of 16 million tokens, all 0 in files with holes, and the same sentences and documents in each."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    weights = rng.integers(5, 60, NUM_SENTENCES).cumsum()
    sentences = np.concatenate([[0], weights * SHARD_TOKENS // weights[-1]]).astype("<u8")
    documents = np.concatenate([[0], np.sort(rng.choice(NUM_SENTENCES - 1, NUM_DOCUMENTS - 1, replace=False)) + 1])
    first = shard_files(folder, 0)
    for number in range(num_shards):
        files = shard_files(folder, number)
        for path, size in ((files[0], 2 * SHARD_TOKENS), (files[3], SHARD_TOKENS // 8)):
            with path.open("wb") as file:
                file.truncate(size)
        if not number:
            sentences.tofile(files[1])
            np.append(documents, NUM_SENTENCES).astype("<u8").tofile(files[2])
        else:
            os.link(first[1], files[1])
            os.link(first[2], files[2])
    shard = ShardMeta(
        num_tokens=SHARD_TOKENS, num_sentences=NUM_SENTENCES, num_documents=NUM_DOCUMENTS, num_empty_documents=0,
        num_bytes=4 * SHARD_TOKENS,
    )  # fmt: skip
    meta = CorpusMeta(
        tokenizer_fingerprint="0", vocab_size=1000, dtype="uint16", shard_tokens=SHARD_TOKENS, sources=(),
        shards=(shard,) * num_shards,
    )  # fmt: skip
    (folder / "meta.json").write_text(meta.model_dump_json())
    (folder / storage.MANIFEST).write_text(json.dumps({"files": {}}))
    return Corpus.open(folder)


def seconds_to_batch(corpus: Corpus, step: int, **changes: object) -> float:
    """Work from an opened corpus to the batch of a step; what the system adds depends on who else is busy."""
    start = os.times().user
    settings = StreamSettings(max_steps=1_000_000, **changes)
    stream = PretrainStream([corpus], settings, vocabulary=VOCABULARY, position_offset=2)
    batch = stream.batch(step)[0]
    assert batch.num_tokens > 32 * 90
    return os.times().user - start


@pytest.mark.slow
def test_planning_is_fast(tmp_path: Path) -> None:
    corpus = huge_corpus(tmp_path / "corpus", num_shards=4)
    assert corpus.num_tokens == 64_000_000
    assert seconds_to_batch(corpus, 123_456) < 1.5


@pytest.mark.slow
@pytest.mark.parametrize("length", [128, 512])
def test_rs9_training_goes_on_at_a_thousand_million_tokens_within_seconds(length: int, tmp_path: Path) -> None:
    corpus = huge_corpus(tmp_path / "corpus", num_shards=63)
    assert corpus.num_tokens > 10**9
    seconds = seconds_to_batch(corpus, 987_654, block_length=length)
    print(f"block length {length}: {seconds:.2f} s")
    assert seconds < 3
