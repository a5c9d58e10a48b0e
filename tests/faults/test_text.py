"""Strange text (rows TX of the fault matrix): it comes through unchanged, or is refused with its place."""

import bz2
import json
import lzma
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import transformers
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.unit.data.corpora import content, write_text, write_tokenizer
from tests.unit.tokenizer.samples import ENGLISH, FAMILIES, folder_of, small
from unmask.cli import main
from unmask.data import files
from unmask.data.corpus import Corpus, build
from unmask.data.distinct import Distinct
from unmask.data.encoding import encode
from unmask.data.files import Document, read_bytes, read_documents, read_lines
from unmask.errors import DataError, UsageError
from unmask.tokenizer.load import Tokenizer
from unmask.tokenizer.merging import PairTable, learn_merges
from unmask.tokenizer.train import HARD_MAX_BYTES, Sample, train

STRANGE = {
    "marks": "e" + "\u0301\u0302" * 50_000,
    "right-to-left": "\u202e\u0645\u0631\u062d\u0628\u0627\u202c (abc) \u05e9\u05dc\u05d5\u05dd",
    "emoji": "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f3f3\ufe0f\u200d\U0001f308\U0001f1e9\U0001f1ea",
    "unassigned": "\u0378\U000e0080\U0010ffff\ufdd0\uffff",
    "controls": "a\x01\x02\x7f\x9fb\u200b\ufeff",
    "wide": "\u3000\u00a0\u2003wide\u2028line\u2029",
}
# A run of characters from everywhere, with what the families treat in a way of their own.
FRAGMENTS = [
    *"ab e.,'\n\t",
    "  ",
    "the ",
    "harbour",
    "'s",
    "12",
    "\u5929",
    "\u0301",
    "\U0001f469\u200d",
    "\u3000",
    "\u0130",
]
# Without what the reference takes for control tokens inside a text, and we do not.
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="<[")
TEXT = st.lists(st.sampled_from(FRAGMENTS) | st.text(CHARACTERS, max_size=4), max_size=8).map("".join)
# Without looking for a smaller example: the message names the string.
FAST = settings(phases=[Phase.generate], max_examples=100, suppress_health_check=[HealthCheck.large_base_example])


@pytest.fixture(scope="module")
def bpe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tokenizer")


def corpus_of(data: bytes, folder: Path, tokenizer: Path, *, name: str = "text.txt") -> Corpus:
    """The corpus of one file."""
    folder.mkdir(parents=True)
    (folder / name).write_bytes(data)
    build([folder / name], tokenizer_folder=tokenizer, output=folder / "corpus", processes=1)
    return Corpus.open(folder / "corpus")


def test_tx1_other_files_are_not_harmed(tmp_path: Path, bpe: Path) -> None:
    (tmp_path / "a.txt").write_text("a fine river.\n")
    (tmp_path / "b.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(DataError, match=r"b\.txt:1:4"):
        build([tmp_path / "a.txt", tmp_path / "b.txt"], tokenizer_folder=bpe, output=tmp_path / "corpus", processes=1)
    (tmp_path / "b.txt").write_bytes("caf\u00e9\n".encode())
    (tmp_path / ".building-corpus" / "progress.json").unlink(missing_ok=True)
    build([tmp_path / "a.txt", tmp_path / "b.txt"], tokenizer_folder=bpe, output=tmp_path / "corpus", processes=1)
    assert Corpus.open(tmp_path / "corpus").num_documents == 2


def test_tx2_archives_are_opened_by_their_bytes(tmp_path: Path) -> None:
    for name, pack in (("text.txt", lzma.compress), ("text.gz", bz2.compress)):
        (tmp_path / name).write_bytes(pack(b"a line\n"))
        assert list(read_lines(tmp_path / name)) == ["a line"]


LONG_LINE = """
import sys
from pathlib import Path
from unmask.data.files import read_lines
from unmask.errors import DataError
try:
    for _ in read_lines(sys.argv[1]):
        pass
except DataError as error:
    print(error.code, error.details["place"])
# getrusage would count the memory of the process that started this one
(peak,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
print(int(peak.split()[1]) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux does")
@pytest.mark.parametrize("num_bytes", [100 << 20, pytest.param(4 << 30, marks=pytest.mark.slow)])
def test_tx3_a_line_without_end(tmp_path: Path, num_bytes: int) -> None:
    path = tmp_path / "text.txt"
    with path.open("wb") as file:
        file.write(b"one\n")
        block = b"a" * (1 << 20)
        for _ in range(num_bytes >> 20):
            file.write(block)
    done = subprocess.run([sys.executable, "-c", LONG_LINE, str(path)], capture_output=True, text=True, check=True)
    told, megabytes = done.stdout.splitlines()
    assert told == f"long-line {path}:2"
    assert int(megabytes) < 512


def test_tx4_empty_documents_are_counted_and_shown(
    tmp_path: Path, bpe: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lines = [json.dumps({"text": text}) for text in ("a river.", "", " \n\t", "\x01\x02\u200b", "a house.")]
    corpus = corpus_of("\n".join(lines).encode(), tmp_path / "one", bpe, name="text.jsonl")
    assert (corpus.num_documents, corpus.meta.total("num_empty_documents")) == (2, 3)
    with pytest.raises(SystemExit):
        main(["corpus", "report", str(corpus.folder), "--json"])
    assert json.loads(capfd.readouterr().out)["empty_documents"] == 3
    empty = tmp_path / "empty.txt"
    empty.write_bytes(b"")
    with pytest.raises(DataError, match="no-text"):
        build([empty], tokenizer_folder=bpe, output=tmp_path / "none", processes=1)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_tx5_line_ends_do_not_change_documents(tmp_path: Path, bpe: Path, end: str, mark: str) -> None:
    text = "A river.\nA\u2028small\u0085house\vof\fwater.\n\nAn answer.\n"
    plain = corpus_of(text.encode(), tmp_path / "plain", bpe)
    other = corpus_of((mark + text.replace("\n", end)).encode(), tmp_path / "other", bpe)
    assert content(plain.folder / "tokenizer") == content(other.folder / "tokenizer")
    assert plain.fingerprint == other.fingerprint
    assert plain.num_documents == 2
    [first, second] = read_documents([tmp_path / "other" / "text.txt"])
    assert (first.text, first.line, second.line) == (text.partition("\n\n")[0], 1, 4)


@pytest.mark.parametrize("name", STRANGE)
def test_tx6_strange_text_comes_back(name: str) -> None:
    text, tokenizer = STRANGE[name], small()
    [pieces] = tokenizer.encode([text])
    assert tokenizer.decode(pieces.ids) == text
    assert pieces.offsets.max() <= len(text)
    assert (np.diff(pieces.offsets[:, 0]) >= 0).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_tx6_half_a_pair_is_never_a_type_error(family: str, tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(folder_of(family, tmp_path / family))
    for call in (tokenizer.encode, tokenizer.encode_ids, lambda texts: tokenizer.encode_masked(texts[0])):
        with pytest.raises(DataError, match="lone-surrogate"):
            call(["a\ud83d"])
    for text in STRANGE.values():
        assert len(tokenizer.encode([text])[0].ids) > 0


@pytest.mark.parametrize("read", [lambda path: list(read_lines(path)), read_bytes])
def test_tx7_archive_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object]) -> None:
    monkeypatch.setattr(files, "BOMB_BYTES", 4 << 20)
    path = tmp_path / "text.bz2"
    path.write_bytes(bz2.compress(b"\n" * (8 << 20)))
    with pytest.raises(DataError, match=r"stopped at byte \d+") as caught:
        read(path)
    assert caught.value.code == "archive-bomb"
    path.write_bytes(bz2.compress(b"".join(b"%d\n" % (number**3) for number in range(400_000))))
    read(path)


def test_tx8_control_strings_are_text(tmp_path: Path, bpe: Path) -> None:
    text = "a <mask> b <s> c </s> d <pad> e <unk>."
    corpus = corpus_of(text.encode(), tmp_path / "one", bpe)
    tokenizer = Tokenizer.load(corpus.tokenizer_folder)
    ids = corpus.shards[0].ids
    assert not np.isin(ids, tokenizer.special_ids).any()
    assert tokenizer.decode(ids) == text


def assert_parity(texts: list[str], pairs: list[tuple[Tokenizer, transformers.PreTrainedTokenizerFast]]) -> None:
    for tokenizer, reference in pairs:
        expected = reference(texts, add_special_tokens=False, return_offsets_mapping=True)
        for text, pieces, ids, offsets in zip(
            texts, tokenizer.encode(texts), expected["input_ids"], expected["offset_mapping"], strict=True
        ):
            assert pieces.ids.tolist() == ids, text
            assert [tuple(offset) for offset in pieces.offsets.tolist()] == offsets, text


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Tokenizer, transformers.PreTrainedTokenizerFast]]:
    """Each family's tokenizer, and the same folder in the reference library."""
    base = tmp_path_factory.mktemp("parity")
    found = []
    for family in FAMILIES:
        tokenizer = Tokenizer.load(folder_of(family, base / f"{family}-source"))
        tokenizer.save(base / family)
        found.append((tokenizer, transformers.AutoTokenizer.from_pretrained(base / family)))
    return found


@FAST
@given(texts=st.lists(TEXT, min_size=100, max_size=100))
def test_tx9_ids_and_offsets_of_ten_thousand_strings(
    texts: list[str], pairs: list[tuple[Tokenizer, transformers.PreTrainedTokenizerFast]]
) -> None:
    assert_parity(texts, pairs)


@pytest.mark.slow
@settings(FAST, max_examples=10_000)
@given(texts=st.lists(TEXT, min_size=100, max_size=100))
def test_tx9_ids_and_offsets_of_a_million_strings(
    texts: list[str], pairs: list[tuple[Tokenizer, transformers.PreTrainedTokenizerFast]]
) -> None:
    assert_parity(texts, pairs)


def test_tx10_pairs_beyond_32_bits() -> None:
    # " the" 2**31 times and "of" as often as a 32-bit count of the first pair would have wrapped round to.
    vocab = {"t": 0, "h": 1, "e": 2, "o": 3, "f": 4}
    words = [([0, 1, 2], 2**31 + 5), ([3, 4], 2**31 - 1), ([1, 2], 2**33)]
    options = {"num_pieces": 3, "first_id": 5, "min_frequency": 2, "max_piece_bytes": 9}
    assert learn_merges(words, vocab, **options) == [("h", "e"), ("t", "he"), ("o", "f")]
    assert PairTable([ids for ids, _ in words], [count for _, count in words]).take() == ((1, 2), 2**31 + 5 + 2**33)


def test_tx10_the_library_never_sees_so_many() -> None:
    # Fewer pairs than bytes stand in a text, and no sample holds 2**31 bytes, however long the stream.
    sample = Sample(HARD_MAX_BYTES, None)
    for _ in range(5000):
        sample.takes(1 << 21)
    assert sample.bytes_seen > 2**33
    assert sample.bytes_used < 2**31
    with pytest.raises(UsageError, match="32 bits"):
        train(["text"], vocab_size=300, max_bytes=2**31)


KILLED_TRAINING = """
import os, signal, sys
from pathlib import Path
from unmask.cli import build
from unmask.data import files

read = files.read_documents
def half(paths, **options):
    for number, document in enumerate(read(paths, **options)):
        if number == 20:
            os.kill(os.getpid(), signal.SIGKILL)
        yield document
files.read_documents = half
build.tokenizer_train(Path(sys.argv[1]), output=Path(sys.argv[2]), vocab_size=300)
"""


def test_tx11_killed_training_of_a_tokenizer(tmp_path: Path) -> None:
    text = write_text(tmp_path / "text.txt", num_documents=40)
    command = [sys.executable, "-c", KILLED_TRAINING, str(text), str(tmp_path / "tokenizer")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert not (tmp_path / "tokenizer").exists()
    for name in ("tokenizer", "unbroken"):
        with pytest.raises(SystemExit) as end:
            main(["tokenizer", "train", str(text), "--output", str(tmp_path / name), "--vocab-size", "300"])
        assert end.value.code == 0
    assert content(tmp_path / "tokenizer") == content(tmp_path / "unbroken")
    assert not list(tmp_path.glob(".staging*"))


def test_tx12_a_file_that_vanishes(tmp_path: Path, bpe: Path) -> None:
    texts = [write_text(tmp_path / f"{seed}.txt", num_documents=20, seed=seed) for seed in range(2)]

    def remove(done: int, total: int) -> None:
        texts[1].unlink(missing_ok=True)

    with pytest.raises(DataError) as caught:
        build(texts, tokenizer_folder=bpe, output=tmp_path / "corpus", processes=1, on_progress=remove)
    assert "1.txt" in str(caught.value.details["place"])
    assert not (tmp_path / "corpus").exists()


def test_tx13_copies_are_said(tmp_path: Path, bpe: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = ["a river and a house."] * 990 + [f"letter {number}" for number in range(10)]
    corpus_of("\n\n".join(lines).encode(), tmp_path / "copies", bpe)
    assert "about 99 % of the 1000 documents are copies" in caplog.text
    caplog.clear()
    corpus = corpus_of("\n\n".join(lines[-10:]).encode(), tmp_path / "fresh", bpe)
    assert "copies" not in caplog.text
    assert len(corpus.shards) == 1


@pytest.mark.parametrize("num_different", [10, 4095, 50_000])
def test_tx13_copies_are_counted_within_3_percent(num_different: int) -> None:
    counted = Distinct()
    for number in range(100_000):
        counted.add(str(number % num_different))
    assert counted.copies_share == pytest.approx(1 - num_different / 100_000, abs=0.03)
    assert num_different > 4095 or counted.copies_share == 1 - num_different / 100_000
    assert Distinct().copies_share == 0


def test_tx13_a_vocabulary_larger_than_the_text(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.txt").write_text(ENGLISH[0])
    with pytest.raises(SystemExit) as end:
        main(
            ["tokenizer", "train", str(tmp_path / "text.txt"), "--output", str(tmp_path / "t"), "--vocab-size", "9000"]
        )
    assert end.value.code == 0
    assert "instead of 9,000 ids" in capfd.readouterr().err
    tokenizer = Tokenizer.load(tmp_path / "t")
    [document] = read_documents([tmp_path / "text.txt"])
    assert encode(tokenizer, [document]).ids.tolist() == tokenizer.encode_ids([document.text])[0].tolist()
    assert encode(tokenizer, [Document("", tmp_path, 1)]).document_sentences.tolist() == [0]
