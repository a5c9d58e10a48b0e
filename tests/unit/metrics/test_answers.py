"""Scores of answers: published rules on small cases, and readable twins of the official scripts."""

import re
import string
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.tokenize import NLTKWordTokenizer

from unmask.metrics.answers import best_threshold, cmrc, mixed_words, squad, squad_words
from unmask.metrics.treebank import treebank_words

PIECES = st.sampled_from(
    [
        "the",
        "a",
        " ",
        "An",
        "cat",
        "cats",
        "sat",
        ".",
        ",",
        "'s",
        "-",
        "(",
        "1,000",
        "天",
        "气",
        "，",
        "。",
        "can't",
        "…",
    ]
)
TEXTS = st.lists(PIECES, max_size=6).map("".join)


def official_f1(right: str, answer: str) -> tuple[float, float]:
    """Exact match and F1 of one pair, as evaluate-v1.1.py writes them."""

    def normalize(text: str) -> str:
        text = "".join(char for char in text.lower() if char not in set(string.punctuation))
        return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())

    first, second = normalize(answer).split(), normalize(right).split()
    same = sum((Counter(first) & Counter(second)).values())
    if same == 0:
        return float(normalize(right) == normalize(answer)), 0.0
    precision, recall = same / len(first), same / len(second)
    return float(normalize(right) == normalize(answer)), 2 * precision * recall / (precision + recall)


def official_cmrc(right: str, answer: str) -> tuple[float, float]:
    """Exact match and F1 of one pair, as cmrc2018_evaluate.py writes them, with the table of all common runs."""
    marks = ["-", ":", "_", "*", "^", "/", "\\", "~", "`", "+", "=", "，", "。", "：", "？", "！", "“", "”", "；"]
    marks += ["’", "《", "》", "……", "·", "、", "「", "」", "（", "）", "－", "～", "『", "』"]

    def segments(text: str) -> list[str]:
        found, run = [], ""
        for char in text.lower().strip():
            if char in marks:
                continue
            if re.search("[\u4e00-\u9fa5]", char):
                if run != "":
                    found.extend(NLTKWordTokenizer().tokenize(run))
                    run = ""
                found.append(char)
            else:
                run += char
        return found + (NLTKWordTokenizer().tokenize(run) if run else [])

    def bare(text: str) -> str:
        return "".join(char for char in text.lower().strip() if char not in marks)

    first, second = segments(right), segments(answer)
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, one in enumerate(first):
        for j, other in enumerate(second):
            table[i + 1][j + 1] = table[i][j] + 1 if one == other else 0
    longest = max(max(row) for row in table)
    if longest == 0:
        return float(bare(right) == bare(answer)), 0.0
    precision, recall = longest / len(second), longest / len(first)
    return float(bare(right) == bare(answer)), 2 * precision * recall / (precision + recall)


@settings(max_examples=200, deadline=None)
@given(gold=st.lists(TEXTS, min_size=1, max_size=3), answer=TEXTS)
def test_squad_and_cmrc_equal_their_twins(gold: list[str], answer: str) -> None:
    for score, twin in ((squad, official_f1), (cmrc, official_cmrc)):
        pairs = [twin(right, answer) for right in gold]
        found = score([gold], [answer])
        assert found.exact == max(exact for exact, _ in pairs)
        assert found.f1 == pytest.approx(max(f1 for _, f1 in pairs))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(["don't", "cannot", "he'll", '"hi"', "'tis", " ", "U.S.", "...", "3,5", "a,b", "--", "(x)"])
        | st.sampled_from(
            ["`", "''", "it's", "wanna ", "$9", "100%", "x.", "”", "\u2014", "*", "?", "d'ye", "[y]", "\n"]
        ),
        max_size=7,
    ).map("".join)
)
def test_words_are_those_of_nltk(text: str) -> None:
    assert treebank_words(text) == NLTKWordTokenizer().tokenize(text)


@pytest.mark.parametrize(
    ("gold", "answer", "exact", "f1"),
    [
        (["the Amazon"], "Amazon", 1.0, 1.0),
        (["Amazon Jungle"], "the Amazon", 0.0, 2 / 3),
        (["Amazon", "the Amazon Jungle!"], "amazon jungle", 1.0, 1.0),
        (["in 1990"], "1991", 0.0, 0.0),
        (["O'Brien"], "obrien", 1.0, 1.0),
        (["the"], "a", 1.0, 0.0),
    ],
)
def test_rules_of_squad_1(gold: list[str], answer: str, exact: float, f1: float) -> None:
    found = squad([gold], [answer])
    assert (found.exact, found.f1) == (exact, pytest.approx(f1))


@pytest.mark.parametrize(
    ("gold", "answer", "score"),
    [([], "", 1.0), ([], "x", 0.0), (["x"], "", 0.0), (["the"], "a", 1.0), (["the", "x"], "a", 0.0), ([], "the", 1.0)],
)
def test_rules_of_squad_2(gold: list[str], answer: str, score: float) -> None:
    found = squad([gold], [answer], has_no_answers=True)
    assert (found.exact, found.f1) == (score, score)


def test_chinese_answers_are_compared_by_the_longest_common_run() -> None:
    assert mixed_words("《天气》有 Nexon 2 家，U.S.") == ["天", "气", "有", "nexon", "2", "家", "u.s", "."]
    found = cmrc([["今天天气很好"], ["《北京》"], ["北京"]], ["明天天气好", "北京", "上海"])
    assert found.exact == pytest.approx(1 / 3)
    assert found.rows.tolist() == pytest.approx([2 * 3 / 5 * 3 / 6 / (3 / 5 + 3 / 6), 1.0, 0.0])
    assert found.questions == 3


def test_words_lose_articles_and_punctuation() -> None:
    assert squad_words("The U.S. -- an (old) Theatre\u00a0of the 1920's") == ["us", "old", "theatre", "of", "1920s"]


def slow_threshold(f1: list[float], has_answer: list[bool], is_given: list[bool], gaps: list[float]) -> float:
    """F1 with every threshold in turn: greatest mean."""
    found = []
    for limit in [-np.inf, *gaps]:
        kept = [gap <= limit for gap in gaps]
        rows = zip(f1, has_answer, is_given, kept, strict=True)
        found.append(np.mean([(score if keep else 0.0) if has else float(not (keep and is_one))
                              for score, has, is_one, keep in rows]))  # fmt: skip
    return float(max(found))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.booleans(), st.booleans()), min_size=1, max_size=8
    ).flatmap(
        lambda rows: st.tuples(st.just(rows), st.permutations([float(number) - 3 for number in range(len(rows))]))
    )
)
def test_the_best_threshold_equals_trying_all(drawn: tuple[list[tuple[float, bool, bool]], list[float]]) -> None:
    rows, gaps = drawn
    rows = [(score * is_given, has, is_given) for score, has, is_given in rows]
    f1, has_answer, is_given = (list(column) for column in zip(*rows, strict=True))
    found = best_threshold(np.array(f1), np.array(has_answer), np.array(is_given), np.array(gaps))
    assert found.f1 == pytest.approx(slow_threshold(f1, has_answer, is_given, gaps))


def test_the_best_threshold_separates_what_can_be_answered() -> None:
    found = best_threshold(
        np.array([1.0, 1.0, 0.0, 0.0]), np.array([True, True, False, False]), np.ones(4, bool),
        np.array([-5.0, -1.0, 2.0, 7.0]),
    )  # fmt: skip
    assert (found.f1, found.threshold) == (1.0, -1.0)
