"""Where words begin, for each family of tokenizers, against slow rules; and Chinese words in a corpus."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import regex
import rjieba
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.tokenizer.samples import CHINESE, ENGLISH, FAMILIES, bert_folder, folder_of, small
from unmask.data.chinese import Rjieba
from unmask.data.corpus import Corpus, build
from unmask.data.words import word_starts
from unmask.errors import UsageError
from unmask.tokenizer.load import Tokenizer
from unmask.tokenizer.train import train

MIXED = "\u4e2d\u534e\u4eba\u6c11\u5171\u548c\u56fd3.14abc\u5929\u6c14 \u5f88\u597d\uff0c walking\u5929"
CASES = [*FAMILIES, "trained", "glued"]


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    base = tmp_path_factory.mktemp("families")
    found = {family: Tokenizer.load(folder_of(family, base / family)) for family in FAMILIES}
    # Pieces of several Han characters, as in XLM-R and in a byte-level BPE that does not keep them apart.
    glued = train(list(CHINESE) * 9, vocab_size=400, isolate_han=False)
    assert any(regex.search(r"\p{Han}{2}", glued.piece(id)) for id in glued.ids())
    return {**found, "trained": small(), "glued": glued}


def slow_starts(tokenizer: Tokenizer, text: str) -> list[bool]:
    """Piece by piece: a Han character begins a word where rjieba says so; else the pre-token decides."""
    [pieces] = tokenizer.encode([text])
    borders = set()
    for run in regex.finditer(r"\p{Han}+", text):
        at = run.start()
        for word in rjieba.cut(run.group()):
            borders |= {at, at + len(word)}
            at += len(word)
    found, before = [], -1
    for (start, _), is_own in zip(pieces.offsets.tolist(), pieces.word_starts.tolist(), strict=True):
        is_han = start < len(text) and regex.match(r"\p{Han}", text[start]) is not None
        found.append((start in borders and start != before) or (is_own and not is_han))
        before = start
    return found


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("text", [*CHINESE, *ENGLISH, MIXED, "", "\u5929"])
def test_words_are_those_of_the_slow_rule(name: str, text: str, tokenizers: dict[str, Tokenizer]) -> None:
    [pieces] = tokenizers[name].encode([text])
    found = word_starts(text, pieces, Rjieba())
    assert found.dtype == bool
    assert found.tolist() == slow_starts(tokenizers[name], text)
    if text in ENGLISH:
        assert np.array_equal(found, pieces.word_starts)


@pytest.mark.parametrize("name", CASES)
@given(
    parts=st.lists(st.sampled_from([*"a 1\uff0c", "\u4e2d\u56fd", "\u4eba\u6c11", "\u5929", "\U00020000"]), max_size=12)
)
def test_random_mixtures(name: str, parts: list[str], tokenizers: dict[str, Tokenizer]) -> None:
    text = "".join(parts)
    [pieces] = tokenizers[name].encode([text])
    assert word_starts(text, pieces, Rjieba()).tolist() == slow_starts(tokenizers[name], text)


def test_a_chinese_word_is_one_word(tokenizers: dict[str, Tokenizer]) -> None:
    text = "\u6211\u4eec\u53bb\u516c\u56ed"
    for name in ("bert", "trained"):
        [pieces] = tokenizers[name].encode([text])
        begins = pieces.offsets[word_starts(text, pieces, Rjieba()), 0].tolist()
        assert begins == [0, 2, 3], name
    [pieces] = tokenizers["trained"].encode([text])
    assert pieces.offsets[word_starts(text, pieces, None), 0].tolist() == [0, 1, 2, 3, 4]


def test_words_of_wordpiece_begin_without_the_mark(tokenizers: dict[str, Tokenizer]) -> None:
    text = "harbourish unhurried appleswalking"
    [pieces] = tokenizers["bert"].encode([text])
    marked = [tokenizers["bert"].piece(id).startswith("##") for id in pieces.ids.tolist()]
    assert any(marked)
    assert word_starts(text, pieces, None).tolist() == [not is_marked for is_marked in marked]


@pytest.mark.parametrize("name", ["trained", "roberta", "glued"])
def test_words_of_byte_level_bpe_are_its_pre_tokens(name: str, tokenizers: dict[str, Tokenizer]) -> None:
    text = " ".join([*ENGLISH, *CHINESE])
    [pieces] = tokenizers[name].encode([text])
    starts = np.flatnonzero(word_starts(text, pieces, None)).tolist()
    expected, at = [], 0
    for word in tokenizers[name].words(text):
        expected.append(at)
        at += len(tokenizers[name].word_ids(word))
    assert starts == expected
    assert at == len(pieces.ids)


def corpus_of(folder: Path, text: str, **options: object) -> Corpus:
    """A corpus of one text with a tokenizer in BERT form."""
    if not (folder / "tokenizer").exists():
        bert_folder(folder / "tokenizer")
    (folder / "text.txt").write_text(text, "utf-8")
    output = folder / str(len(list(folder.iterdir())))
    build([folder / "text.txt"], tokenizer_folder=folder / "tokenizer", output=output, processes=1, **options)
    return Corpus.open(output)


def test_a_corpus_keeps_the_words(tmp_path: Path) -> None:
    text = "\n".join(CHINESE)
    plain, words = corpus_of(tmp_path, text), corpus_of(tmp_path, text, segmenter=Rjieba())
    tokenizer = Tokenizer.load(tmp_path / "tokenizer")
    expected = np.concatenate([word_starts(line, *tokenizer.encode([line]), Rjieba()) for line in CHINESE])
    assert np.array_equal(words.shards[0].word_starts(0, len(expected)), expected)
    assert plain.shards[0].word_starts(0, len(expected)).sum() > expected.sum()
    assert np.array_equal(plain.shards[0].ids, words.shards[0].ids)
    assert plain.fingerprint != words.fingerprint
    assert (plain.meta.words, words.meta.words) == ("pieces", Rjieba().name)
    assert regex.fullmatch(r"rjieba [\d.]+", Rjieba().name)


def test_other_words_are_other_inputs(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, CHINESE[0])
    with pytest.raises(UsageError, match="words was pieces"):
        build(
            [tmp_path / "text.txt"],
            tokenizer_folder=tmp_path / "tokenizer",
            output=corpus.folder,
            processes=1,
            segmenter=Rjieba(),
        )


def test_a_corpus_of_before_still_opens(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, CHINESE[0])
    meta = json.loads((corpus.folder / "meta.json").read_text())
    del meta["words"]
    (corpus.folder / "meta.json").write_text(json.dumps(meta))
    assert Corpus.open(corpus.folder).meta.words == "pieces"


class Dropping:
    """A segmenter that loses a character."""

    name = "dropping 1"

    def __call__(self, run: str) -> list[str]:
        return [run[:-1]]


def test_a_segmenter_that_loses_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="dropping 1 are not the text"):
        corpus_of(tmp_path, CHINESE[0], segmenter=Dropping())


def test_without_rjieba_the_remedy_is_named(tmp_path: Path) -> None:
    code = "import sys; sys.modules['rjieba'] = None\nfrom unmask.cli import main; main()"
    (tmp_path / "text.txt").write_text(CHINESE[0], "utf-8")
    bert_folder(tmp_path / "tokenizer")
    words = ["corpus", "build", "text.txt", "--tokenizer", "tokenizer", "--output", "corpus", "--words", "rjieba"]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "pip install 'unmask[zh]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("*corpus*"))
