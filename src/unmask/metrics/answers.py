"""Exact match and F1 of answers, by the rules of the official scripts of SQuAD 1.1 and 2.0 and of CMRC 2018."""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from unmask.metrics.treebank import treebank_words

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
# What CMRC's script takes out or takes for a word; its six dots are no character, so that they never matched one.
_MARKS = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
_HAN = re.compile("[\u4e00-\u9fa5]")


@dataclass(frozen=True)
class AnswerScores:
    """How right answers are, from 0 to 1; official scripts print per cent.

    Attributes:
        f1: mean over the questions of the best F1 with any of the right answers.
        exact: share of the questions whose answer is one of the right ones.
        questions: number of questions.
        rows: F1 of each question, (N,).
        hits: exact match of each, 0 or 1, (N,).
    """

    f1: float
    exact: float
    questions: int
    rows: np.ndarray
    hits: np.ndarray

    @classmethod
    def of(cls, exact: np.ndarray, f1: np.ndarray) -> "AnswerScores":
        """Means of the two scores of each question, (N,) float64."""
        return cls(float(f1.mean()), float(exact.mean()), len(f1), f1, exact)


@dataclass(frozen=True)
class BestThreshold:
    """The threshold of "no answer" at which F1 is greatest.

    Attributes:
        f1: there, from 0 to 1.
        threshold: answers with a greater score of "no answer" are left out.
    """

    f1: float
    threshold: float


def squad(gold: Sequence[Sequence[str]], answers: Sequence[str], *, has_no_answers: bool = False) -> AnswerScores:
    """Score answers as SQuAD does (Rajpurkar et al. 2016, section 6.1; 2018, section 4).

    Args:
        gold: the right answers of each question; none where it has no answer.
        answers: the given ones; an empty one says that there is none.
        has_no_answers: score by the rules of 2.0, not of 1.1; they differ also where an answer has nothing but
            articles and punctuation.
    """
    pairs = [_squad_v2(right, given) if has_no_answers else _squad_v1(right, given)
             for right, given in zip(gold, answers, strict=True)]  # fmt: skip
    exact, f1 = np.array(pairs, np.float64).reshape(-1, 2).T
    return AnswerScores.of(exact, f1)


def cmrc(gold: Sequence[Sequence[str]], answers: Sequence[str]) -> AnswerScores:
    """Score answers as CMRC 2018 does (Cui et al. 2019, section 4): F1 of the longest common run of characters.

    Its script also cuts English between Chinese into sentences first; nothing is cut here but the last full stop.

    Args:
        gold: the right answers of each question, at least one.
        answers: the given ones.
    """
    exact = [_best(_bare_equal, right, given) for right, given in zip(gold, answers, strict=True)]
    f1 = [_best(_run_f1, right, given) for right, given in zip(gold, answers, strict=True)]
    return AnswerScores.of(np.array(exact, np.float64), np.array(f1, np.float64))


def best_threshold(f1: np.ndarray, has_answer: np.ndarray, is_given: np.ndarray, gaps: np.ndarray) -> BestThreshold:
    """Find the threshold of "no answer" as SQuAD 2.0's script does: questions in order of their score, one by one.

    Args:
        f1: of each question's best answer, whatever its score of "no answer", (N,) float64.
        has_answer: whether the question has one, (N,) bool.
        is_given: whether the best answer is not empty, (N,) bool.
        gaps: score of "no answer" of each question, (N,) float64.
    """
    order = np.argsort(gaps, kind="stable")
    gains = np.where(has_answer, f1, -is_given.astype(np.float64))[order]
    sums = (~has_answer).sum() + np.concatenate([[0.0], np.cumsum(gains)])
    best = int(np.argmax(sums))
    return BestThreshold(float(sums[best] / len(f1)), float(gaps[order[best - 1]]) if best else 0.0)


def squad_words(text: str) -> list[str]:
    """Words of an answer in lower case, without punctuation and articles."""
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def mixed_words(text: str) -> list[str]:
    """Chinese characters one by one, the words of anything between them, without CMRC's marks; in lower case."""
    kept = "".join(char for char in text.lower().strip() if char not in _MARKS)
    words: list[str] = []
    for run in re.split(f"({_HAN.pattern})", kept):
        words += [run] if _HAN.fullmatch(run) else treebank_words(run) if run else []
    return words


def _best(score: Callable[[str, str], float], gold: Sequence[str], answer: str) -> float:
    return max((score(right, answer) for right in gold), default=float(not answer))


def _squad_v1(gold: Sequence[str], answer: str) -> tuple[float, float]:
    return _best(_words_equal, gold, answer), _best(_overlap, gold, answer)


def _squad_v2(gold: Sequence[str], answer: str) -> tuple[float, float]:
    right = [text for text in gold if squad_words(text)] or [""]
    f1 = max(_overlap(text, answer) if squad_words(text) and squad_words(answer) else _words_equal(text, answer)
             for text in right)  # fmt: skip
    return _best(_words_equal, right, answer), f1


def _words_equal(right: str, answer: str) -> float:
    return float(squad_words(right) == squad_words(answer))


def _overlap(right: str, answer: str) -> float:
    """F1 of two bags of words; 0 where one is empty."""
    first, second = squad_words(right), squad_words(answer)
    common = sum((Counter(first) & Counter(second)).values())
    return _f1(common, len(second), len(first))


def _bare_equal(right: str, answer: str) -> float:
    def bare(text: str) -> str:
        return "".join(char for char in text.lower().strip() if char not in _MARKS)

    return float(bare(right) == bare(answer))


def _run_f1(right: str, answer: str) -> float:
    first, second = mixed_words(right), mixed_words(answer)
    return _f1(_longest_run(first, second), len(second), len(first))


def _longest_run(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest run of words that both have."""
    best, row = 0, [0] * (len(second) + 1)
    for word in first:
        row = [0, *(row[at] + 1 if word == other else 0 for at, other in enumerate(second))]
        best = max(best, *row)
    return best


def _f1(common: int, num_given: int, num_right: int) -> float:
    if not common:
        return 0.0
    precision, recall = common / num_given, common / num_right
    return 2 * precision * recall / (precision + recall)
