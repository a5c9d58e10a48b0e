"""Sets of words: the published formats, vectors with and without a corpus, scores and coverage."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tests import tiny
from unmask.cli import main
from unmask.errors import DataError
from unmask.study.similarity import (
    Analogies,
    StaticVectors,
    WordPairs,
    centred,
    read_sets,
    score_sets,
    static_vectors,
)
from unmask.study.vectors import word_vectors

PAIRS = [("old", "new"), ("New York", "city"), ("sun", "moon")]


def read(path: Path, text: str, limit: int | None = None) -> WordPairs | Analogies:
    path.write_text(text)
    (found,) = read_sets(path, limit=limit)
    return found


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("vecto.csv", ",word1,word2,similarity\n0,old,new,1.5\n1,New York,city,2\n2,sun,moon,10.0\n3,,,\n"),
        ("wordsim.csv", "Word 1,Word 2,Human (mean)\nold,new,1.5\nNew York,city,2\nsun,moon,10.0\n"),
        ("simlex.txt", "word1\tword2\tPOS\tSimLex999\nold\tnew\tA\t1.5\nNew York\tcity\tN\t2\nsun\tmoon\tN\t10\n"),
        ("bare.tsv", "old\tnew\t1.5\nNew York\tcity\t2\nsun\tmoon\t10\n"),
        ("men.csv", "word1,word2,similarity\nold-j,new-j,1.5\nNew York-n,city-n,2\nsun-n,moon-n,10\n"),
    ],
)
def test_published_pairs_are_read(tmp_path: Path, name: str, text: str) -> None:
    assert read(tmp_path / name, text) == WordPairs(name.partition(".")[0], PAIRS, [1.5, 2.0, 10.0])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("google.txt", ": capitals\nAthens Greece Oslo Norway\nOslo Norway Athens Greece\n: 性\n王 女王 男 女\n"),
        (
            "google.csv",
            ",type,word1,word2,word3,target\n0,capitals,Athens,Greece , Oslo,Norway\n"
            "1,capitals,Oslo,Norway,Athens,Greece\n2,性,王,女王,男,女\n",
        ),
    ],
)
def test_published_analogies_are_read(tmp_path: Path, name: str, text: str) -> None:
    found = read(tmp_path / name, text)
    assert isinstance(found, Analogies)
    assert found.questions[0] == ("Athens", "Greece", "Oslo", "Norway")
    assert found.questions[2] == ("王", "女王", "男", "女")
    assert found.categories == ["capitals", "capitals", "性"]
    assert len(read(tmp_path / name, text, limit=1).questions) == 2


def test_a_limit_takes_pairs_from_first_to_last(tmp_path: Path) -> None:
    text = "".join(f"a{at}\tb{at}\t{at}\n" for at in range(101))
    assert read(tmp_path / "x.tsv", text, limit=5).scores == [0, 25, 50, 75, 100]


@pytest.mark.parametrize(
    ("text", "line"),
    [("old new 1\nsun moon\n", 2), ("old new x\n", 1), ("a b c d\nsun moon 3\n", 2), (": x\na b c\n", 2)],
)
def test_a_bad_line_is_named(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(DataError, match="no part of a word set") as caught:
        read(tmp_path / "x.txt", text)
    assert caught.value.details["place"] == f"{tmp_path}/x.txt:{line}"


def test_a_word_alone_stands_behind_a_blank() -> None:
    found = static_vectors(tiny.masked_lm(), ["film", "the moon"], layers=(1,))
    (one,) = word_vectors(tiny.masked_lm(), [" film"], layers=(1,))
    (two,) = word_vectors(tiny.masked_lm(), [" the moon"], words=[[(1, 9)]], layers=(1,))
    np.testing.assert_allclose(found.vectors, [one.vectors[0], two.vectors[0]], atol=1e-5)
    assert found.counts.tolist() == [1, 1]


def test_a_word_in_a_corpus_is_the_mean_of_its_first_occurrences(tmp_path: Path) -> None:
    texts = ["The cat saw the cat.", "No words of ours", "cats are no cat", "A CAT", "the moon, the Moon"]
    (tmp_path / "corpus.txt").write_text("\n".join(texts))
    words = ["cat", "the moon", "dog"]
    found = static_vectors(tiny.masked_lm(), words, corpus=tmp_path / "corpus.txt", max_occurrences=3)
    assert found.counts.tolist() == [3, 2, 0]
    assert np.isnan(found.vectors[2]).all()
    wanted = [(texts[0], (4, 7)), (texts[0], (16, 19)), (texts[2], (12, 15))]
    vectors = [next(word_vectors(tiny.masked_lm(), [text], words=[[span]])).vectors[0] for text, span in wanted]
    np.testing.assert_allclose(found.vectors[0], np.mean(vectors, axis=0), atol=1e-5)
    all_of_them = static_vectors(tiny.masked_lm(), words, corpus=tmp_path / "corpus.txt")
    assert all_of_them.counts.tolist() == [4, 2, 0]


def test_scores_are_over_what_is_covered() -> None:
    vectors = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    vectors[5] = np.nan
    found = StaticVectors(list("abcdef"), vectors, np.array([1, 1, 1, 1, 1, 0]))
    pairs = WordPairs("p", [("a", "b"), ("b", "c"), ("c", "d"), ("a", "f"), ("d", "e"), ("x", "a")], [1, 5, 2, 9, 3, 1])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    questions = [("a", "b", "c", "d"), ("b", "a", "d", "c"), ("a", "b", "c", "f"), ("c", "e", "a", "b")]
    goals = [unit[1] - unit[0] + unit[2], unit[0] - unit[1] + unit[3], None, unit[4] - unit[2] + unit[0]]
    right = []
    for goal, question in zip(goals, questions, strict=True):
        if goal is not None:
            others = [at for at in range(5) if "abcdef"[at] not in question[:3]]
            right.append("abcdef"[max(others, key=lambda at, goal=goal: unit[at] @ goal)] == question[3])
    first, second = score_sets(found, [pairs, Analogies("q", questions, ["x", "x", "y", "z"])])
    cosines = [float(unit[a] @ unit[b]) for a, b in [(0, 1), (1, 2), (2, 3), (3, 4)]]
    assert first.score == pytest.approx(stats.spearmanr(cosines, [1, 5, 2, 3]).statistic)
    assert (first.covered, first.total) == (4, 6)
    assert second.score == np.mean(right)
    assert (second.covered, second.total, second.candidates) == (3, 4, 5)
    assert second.categories == {"x": (np.mean(right[:2]), 2), "z": (float(right[2]), 1)}
    (nothing,) = score_sets(found, [WordPairs("n", [("x", "y")], [1.0])])
    assert (nothing.covered, nothing.score) == (0, 0.0)
    middle = centred(found)
    np.testing.assert_allclose(np.nanmean(middle.vectors, axis=0), np.zeros(4), atol=1e-6)


def test_the_command_shows_scores_and_coverage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tiny.saved(tiny.masked_lm(), tmp_path / "model")
    (tmp_path / "pairs.tsv").write_text("cat\tdog\t8\nmoon\tstory\t2\nday\tfilm\t5\n")
    (tmp_path / "analogies.txt").write_text(": x\ncat dog moon story\n")
    (tmp_path / "corpus.txt").write_text(tiny.STORY + "\nThe story of a day.\n")
    words = ["probe", "words", str(tmp_path / "pairs.tsv"), str(tmp_path / "analogies.txt"), "--model", str(folder)]
    words += ["--corpus", str(tmp_path / "corpus.txt"), "--center", "--output", str(tmp_path / "scores.json")]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--threads", "1"])
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["pairs", "spearman"]
    assert "2 of 3 covered" in lines[0]
    assert "1 of 1 covered  4 candidates" in lines[1]
    assert [one["covered"] for one in json.loads((tmp_path / "scores.json").read_text())["sets"]] == [2, 1]
