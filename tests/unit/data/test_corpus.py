"""Building a corpus and reading it back."""

import gzip
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.unit.data.corpora import content, equal_arrays, small_corpus, write_text, write_tokenizer
from unmask import storage
from unmask.data.clean import paragraphs, sentence_ends
from unmask.data.corpus import Corpus, build
from unmask.data.files import read_documents
from unmask.tokenizer.load import Tokenizer


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tokenizer")


def slow_sentences(tokenizer: Tokenizer, text: str) -> list[list[int]]:
    """Tokens of each sentence, paragraph by paragraph and token by token."""
    found = []
    for paragraph in paragraphs(text):
        pieces = tokenizer.encode([paragraph])[0]
        starts = [0, *sentence_ends(paragraph)]
        starts[-1] = len(paragraph)
        for begin, end in itertools.pairwise(starts):
            tokens = [
                id for id, (start, _) in zip(pieces.ids.tolist(), pieces.offsets, strict=True) if begin <= start < end
            ]
            found.append(tokens)
    return [sentence for sentence in found if sentence]


def test_corpus_holds_every_sentence(tmp_path: Path, tokenizer_folder: Path) -> None:
    text = write_text(tmp_path / "text.txt", num_documents=40)
    report = build([text], tokenizer_folder=tokenizer_folder, output=tmp_path / "corpus", processes=1, shard_tokens=999)
    corpus, tokenizer = Corpus.open(tmp_path / "corpus", verify=True), Tokenizer.load(tokenizer_folder)
    expected = [slow_sentences(tokenizer, document.text) for document in read_documents([text])]
    found = []
    for shard in corpus.shards:
        sentences = [
            shard.ids[begin:end].tolist() for begin, end in itertools.pairwise(shard.sentence_starts.astype(int))
        ]
        found += [sentences[begin:end] for begin, end in itertools.pairwise(shard.document_starts.astype(int))]
    assert found == expected
    assert corpus.num_documents == 40
    assert corpus.num_tokens == sum(len(sentence) for document in expected for sentence in document)
    assert report.meta == corpus.meta
    assert report.is_new
    assert all(len(shard.ids) >= 999 for shard in corpus.shards[:-1])
    assert len(corpus.shards) > 2


def test_words_begin_where_the_tokenizer_says(tmp_path: Path, tokenizer_folder: Path) -> None:
    (tmp_path / "text.txt").write_text("The unbelievable river. A small house.\nwater")
    build([tmp_path / "text.txt"], tokenizer_folder=tokenizer_folder, output=tmp_path / "corpus", processes=1)
    shard = Corpus.open(tmp_path / "corpus").shards[0]
    pieces = Tokenizer.load(tokenizer_folder).encode(["The unbelievable river. A small house.", "water"])
    expected = np.concatenate([one.word_starts for one in pieces])
    assert not expected.all()
    for start, stop in itertools.combinations(range(len(expected) + 1), 2):
        assert equal_arrays(shard.word_starts(start, stop), expected[start:stop])


def test_number_of_processes_changes_nothing(
    tmp_path: Path, tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unmask.data.corpus.BATCH_CHARACTERS", 1500)
    texts = [write_text(tmp_path / f"{seed}.txt", num_documents=20, seed=seed) for seed in range(2)]
    for processes in (1, 2):
        build(
            texts,
            tokenizer_folder=tokenizer_folder,
            output=tmp_path / f"corpus{processes}",
            processes=processes,
            shard_tokens=700,
        )
    assert content(tmp_path / "corpus1") == content(tmp_path / "corpus2")
    assert not list(tmp_path.glob(".*"))


def test_folder_is_complete(tmp_path: Path) -> None:
    corpus = small_corpus(tmp_path)
    storage.verify(corpus.folder)
    tokenizer = Tokenizer.load(corpus.tokenizer_folder)
    assert tokenizer.fingerprint == corpus.tokenizer_fingerprint
    meta = json.loads((corpus.folder / "meta.json").read_text())
    assert meta["dtype"] == "uint16"
    assert meta["vocab_size"] == tokenizer.vocab_size
    assert meta["sources"] == [
        {
            "name": "text.txt",
            "size_bytes": (tmp_path / "text.txt").stat().st_size,
            "xxh3_128": storage.digest(tmp_path / "text.txt"),
        }
    ]


def test_empty_documents_are_counted(tmp_path: Path, tokenizer_folder: Path) -> None:
    texts = ["one.", "", " \n ", "Two. Three.", "\t\u0007\u200b"]
    path = tmp_path / "text.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(json.dumps({"text": text}) for text in texts).encode()))
    report = build([path], tokenizer_folder=tokenizer_folder, output=tmp_path / "corpus", processes=1, shard_tokens=1)
    assert report.meta.total("num_documents") == 2
    assert report.meta.total("num_empty_documents") == 3
    assert report.meta.total("num_sentences") == 3
    assert report.meta.total("num_bytes") == sum(len(text.encode()) for text in texts)
    assert sum(len(shard.document_starts) - 1 for shard in Corpus.open(tmp_path / "corpus").shards) == 2


def test_large_vocabulary_takes_32_bits(tmp_path: Path, tokenizer_folder: Path) -> None:
    spec = json.loads((tokenizer_folder / "tokenizer.json").read_text())
    vocab = spec["model"]["vocab"]
    vocab.update({f"\u0120filler{number}": number for number in range(len(vocab), 65_537)})
    (tmp_path / "large").mkdir()
    (tmp_path / "large" / "tokenizer.json").write_text(json.dumps(spec))
    text = write_text(tmp_path / "text.txt", num_documents=3)
    build([text], tokenizer_folder=tmp_path / "large", output=tmp_path / "corpus", processes=1)
    build([text], tokenizer_folder=tokenizer_folder, output=tmp_path / "small", processes=1)
    large, small = Corpus.open(tmp_path / "corpus").shards[0], Corpus.open(tmp_path / "small").shards[0]
    assert (large.ids.dtype, small.ids.dtype) == (np.uint32, np.uint16)
    assert np.array_equal(large.ids, small.ids)


def test_control_strings_in_text_stay_text(tmp_path: Path, tokenizer_folder: Path) -> None:
    (tmp_path / "text.txt").write_text("a <s> b </s> c <mask> d <pad>\n")
    build([tmp_path / "text.txt"], tokenizer_folder=tokenizer_folder, output=tmp_path / "corpus", processes=1)
    special = Tokenizer.load(tokenizer_folder).special_ids
    assert not np.isin(Corpus.open(tmp_path / "corpus").shards[0].ids, special).any()


def test_progress_ends_at_the_total(tmp_path: Path, tokenizer_folder: Path) -> None:
    text = write_text(tmp_path / "text.txt", num_documents=20)
    seen: list[tuple[int, int]] = []
    build(
        [text],
        tokenizer_folder=tokenizer_folder,
        output=tmp_path / "corpus",
        processes=1,
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (text.stat().st_size, text.stat().st_size)


def test_fingerprint_follows_the_text_only(tmp_path: Path, tokenizer_folder: Path) -> None:
    prints = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        text = write_text(tmp_path / f"{name}.txt", num_documents=5, seed=seed)
        build([text], tokenizer_folder=tokenizer_folder, output=tmp_path / name, processes=1)
        prints.append(Corpus.open(tmp_path / name).fingerprint)
    assert prints[0] == prints[1] != prints[2]


def test_workers_start_without_torch() -> None:
    code = "import sys, unmask.data.pools; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
