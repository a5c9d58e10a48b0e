"""How good word vectors are: sets of word pairs that people have scored, and analogies."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from unmask.data.files import expand, kind, read_lines
from unmask.data.words import Segmenter
from unmask.errors import DataError
from unmask.metrics.vectors import agreement, cosines, solve_analogies
from unmask.runtime import Machine
from unmask.study.vectors import Pooling, Span, find_words, word_vectors
from unmask.tasks.base import Task

_WORD_HEADERS = (("word1", "word2"), ("word 1", "word 2"))
_SCORE_HEADERS = ("similarity", "simlex999", "human (mean)", "mean", "score", "rating", "average")
_ANALOGY_HEADERS = ("word1", "word2", "word3", "target")
_TYPE_HEADERS = ("type", "category")
_TAG = re.compile(r"-[nvjar]$")  # MEN writes sun-n, for the noun

Row = tuple[int, list[str]]
Found = tuple[str, list[Span], list[int]]  # a text, where wanted words stand in it, and their numbers


@dataclass(frozen=True)
class WordPairs:
    """Pairs of words with the similarity that people gave them.

    Attributes:
        name: of the file.
        pairs: the words.
        scores: one a pair, in any unit.
    """

    name: str
    pairs: list[tuple[str, str]]
    scores: list[float]

    @property
    def words(self) -> list[str]:
        """All different words, sorted."""
        return sorted({word for pair in self.pairs for word in pair})


@dataclass(frozen=True)
class Analogies:
    """Questions "a is to b as c is to d".

    Attributes:
        name: of the file.
        questions: a, b, c and the right answer d.
        categories: one a question.
    """

    name: str
    questions: list[tuple[str, str, str, str]]
    categories: list[str]

    @property
    def words(self) -> list[str]:
        """All different words, sorted."""
        return sorted({word for question in self.questions for word in question})


@dataclass(frozen=True)
class StaticVectors:
    """One vector a word, whatever its context.

    Attributes:
        words: W different ones.
        vectors: (W, D) float32; NaN for a word that was not found.
        counts: occurrences that each vector is the mean of, (W,) int64.
    """

    words: list[str]
    vectors: np.ndarray
    counts: np.ndarray


@dataclass(frozen=True)
class SetScore:
    """What word vectors did on one set.

    Attributes:
        name: of the set.
        metric: `spearman` of cosines with people's scores, or `accuracy` of 3CosAdd.
        score: its value, over what is covered.
        interval: 95 % bootstrap interval of Spearman's correlation; `None` for analogies.
        covered: pairs or questions whose words all have vectors.
        total: all of them.
        candidates: words among which an analogy's answer is looked for; 0 for pairs.
        categories: accuracy and covered questions of each category of analogies.
    """

    name: str
    metric: Literal["spearman", "accuracy"]
    score: float
    interval: tuple[float, float] | None
    covered: int
    total: int
    candidates: int
    categories: dict[str, tuple[float, int]]


def read_sets(path: Path, *, limit: int | None = None) -> list[WordPairs | Analogies]:
    """Read a file or a folder of word sets: .csv with a header, or lines of words parted by tabs or blanks.

    Pairs: two words and a score a line (WordSim, SimLex, MEN, RW). Analogies: four words a line, under headings such as
    `: capital-common-countries` (Google, CA8).

    Args:
        path: one file, or a folder whose files are all read.
        limit: take only so many pairs of each file, or questions of each category, evenly from first to last.

    Raises:
        DataError: a line holds something else; it is named.
    """
    return [_read_set(file, limit) for file in expand([path])]


def static_vectors(
    task: Task,
    words: Sequence[str],
    *,
    corpus: Path | None = None,
    max_occurrences: int = 50,
    layers: Sequence[int] = (-1,),
    pooling: Pooling = "mean",
    segmenter: Segmenter | None = None,
    machine: Machine | None = None,
) -> StaticVectors:
    """Make one vector of each word: the mean over its occurrences in texts, or that of the word alone.

    A mean over contexts is the better one of the two (Bommasani et al. 2020, section 4). Case is ignored in the corpus.
    Alone, a word stands behind a blank, as it does in text.

    Args:
        task: any; only its encoder is used.
        words: different ones; one may consist of several.
        corpus: file of texts, one a line.
        max_occurrences: of each word, the first ones.
        layers: see `word_vectors`; also pooling and machine.
        segmenter: finds Chinese words in the corpus.
    """
    index = {word: at for at, word in enumerate(words)}
    sums = np.zeros((len(words), task.config.hidden_size), np.float64)
    counts = np.zeros(len(words), np.int64)
    found = _alone(index) if corpus is None else _occurrences(corpus, index, max_occurrences, segmenter)
    owners: list[list[int]] = []
    texts, spans = [], []
    for text, places, mine in found:
        texts.append(text)
        spans.append(places)
        owners.append(mine)
    answers = word_vectors(task, texts, words=spans, layers=layers, pooling=pooling, machine=machine)
    for one, mine in zip(answers, owners, strict=True):
        for at, vector in zip(mine, one.vectors, strict=True):
            if not np.isnan(vector[0]):
                sums[at] += vector
                counts[at] += 1
    vectors = np.full(sums.shape, np.nan, np.float32)
    vectors[counts > 0] = sums[counts > 0] / counts[counts > 0, None]
    return StaticVectors(list(words), vectors, counts)


def centred(found: StaticVectors) -> StaticVectors:
    """The same vectors less their mean, which they have all in common (Mu and Viswanath 2018)."""
    return StaticVectors(found.words, found.vectors - np.nanmean(found.vectors, axis=0), found.counts)


def score_sets(found: StaticVectors, sets: Sequence[WordPairs | Analogies]) -> list[SetScore]:
    """Score vectors on each set, over what they cover."""
    index = {word: at for at, word in enumerate(found.words) if found.counts[at]}
    return [
        _score_pairs(found.vectors, index, one) if isinstance(one, WordPairs) else _score_analogies(found, index, one)
        for one in sets
    ]


def _score_pairs(vectors: np.ndarray, index: Mapping[str, int], one: WordPairs) -> SetScore:
    chosen = [at for at, pair in enumerate(one.pairs) if all(word in index for word in pair)]
    if len(chosen) < 2:
        return SetScore(one.name, "spearman", 0.0, None, len(chosen), len(one.pairs), 0, {})
    places = np.array([[index[word] for word in one.pairs[at]] for at in chosen])
    result = agreement(cosines(*(vectors[side] for side in places.T)), [one.scores[at] for at in chosen])
    return SetScore(one.name, "spearman", result.spearman, result.interval, len(chosen), len(one.pairs), 0, {})


def _score_analogies(found: StaticVectors, index: Mapping[str, int], one: Analogies) -> SetScore:
    """3CosAdd among all words of the set that have vectors."""
    chosen = [at for at, question in enumerate(one.questions) if all(word in index for word in question)]
    known = [word for word in one.words if word in index]
    numbers = {word: at for at, word in enumerate(known)}
    asked = np.array([[numbers[word] for word in one.questions[at]] for at in chosen], np.int64).reshape(-1, 4)
    is_right = solve_analogies(found.vectors[[index[word] for word in known]], asked[:, :3]) == asked[:, 3]
    by_category: dict[str, list[bool]] = {}
    for at, right in zip(chosen, is_right.tolist(), strict=True):
        by_category.setdefault(one.categories[at], []).append(right)
    return SetScore(
        name=one.name,
        metric="accuracy",
        score=float(is_right.mean()) if len(is_right) else 0.0,
        interval=None,
        covered=len(chosen),
        total=len(one.questions),
        candidates=len(known),
        categories={name: (sum(right) / len(right), len(right)) for name, right in by_category.items()},
    )


def _alone(index: Mapping[str, int]) -> Iterator[Found]:
    yield from ((f" {word}", [(1, 1 + len(word))], [at]) for word, at in index.items())


def _occurrences(corpus: Path, index: Mapping[str, int], limit: int, segmenter: Segmenter | None) -> Iterator[Found]:
    """Texts that hold wanted words, where, and which; until each word has been seen often enough."""
    wanted: dict[str, list[int]] = {}
    for word, at in index.items():
        wanted.setdefault(" ".join(word.casefold().split()), []).append(at)
    longest = max((len(find_words(word, segmenter)) for word in index), default=1)
    seen = dict.fromkeys(wanted, 0)
    for text in read_lines(corpus):
        spans = find_words(text, segmenter)
        places, owners = [], []
        for first, (start, _) in enumerate(spans):
            for _, end in spans[first : first + longest]:
                key = text[start:end].casefold()
                if seen.get(key, limit) < limit:
                    seen[key] += 1
                    places += [(start, end)] * len(wanted[key])
                    owners += wanted[key]
        if places:
            yield text, places, owners
            if min(seen.values()) >= limit:
                return


def _read_set(path: Path, limit: int | None) -> WordPairs | Analogies:
    rows = _cells(path)
    first = next(rows, None)
    if first is None:
        raise DataError(
            "empty-file", "the file is empty", place=path, expected="pairs of words with scores, or analogies"
        )
    names = [cell.lower() for cell in first[1]]
    header = next(([*pair] for pair in _WORD_HEADERS if set(pair) <= set(names)), None)
    if header is None:
        rows, names = _again(first, rows), []
    name = path.name.partition(".")[0]
    if first[1][0] == ":" or (len(first[1]) == 4 and header is None) or set(_ANALOGY_HEADERS) <= set(names):
        return _analogies(path, name, rows, names, limit)
    return _pairs(path, name, rows, names, header, limit)


def _pairs(
    path: Path, name: str, rows: Iterator[Row], names: list[str], header: list[str] | None, limit: int | None
) -> WordPairs:
    places = [0, 1, 2]
    if header is not None:
        score = next((one for one in _SCORE_HEADERS if one in names), None)
        if score is None:
            raise DataError(
                "no-score-column", "no column is called like a similarity", place=path, value=", ".join(names),
                expected=f"one of {', '.join(_SCORE_HEADERS)}",
            )  # fmt: skip
        places = [names.index(one) for one in (*header, score)]
    pairs, scores = [], []
    for line, cells in rows:
        if not any(cells[place] for place in places if place < len(cells)):
            continue  # the last line of the published WordSim files has a number and nothing else
        try:
            one, other, value = (cells[place] for place in places)
            scores.append(float(value))
        except (IndexError, ValueError):
            raise _bad_line(path, line, cells, "two words and a number") from None
        pairs.append((one, other))
    if all(_TAG.search(word) for pair in pairs for word in pair):
        pairs = [(one[:-2], other[:-2]) for one, other in pairs]
    kept = _spread(len(pairs), limit)
    return WordPairs(name, [pairs[at] for at in kept], [scores[at] for at in kept])


def _analogies(path: Path, name: str, rows: Iterator[Row], names: list[str], limit: int | None) -> Analogies:
    places = [names.index(one) for one in _ANALOGY_HEADERS] if names else [0, 1, 2, 3]
    kinds = next((names.index(one) for one in _TYPE_HEADERS if one in names), None)
    questions: list[tuple[str, str, str, str]] = []
    categories, category = [], ""
    members: dict[str, list[int]] = {}
    for line, cells in rows:
        if cells[0] == ":":
            category = " ".join(cells[1:])
            continue
        try:
            a, b, c, d = (cells[place] for place in places)
            category = category if kinds is None else cells[kinds]
        except IndexError:
            raise _bad_line(path, line, cells, "four words") from None
        members.setdefault(category, []).append(len(questions))
        questions.append((a, b, c, d))
        categories.append(category)
    kept = [mine[at] for mine in members.values() for at in _spread(len(mine), limit)]
    return Analogies(name, [questions[at] for at in kept], [categories[at] for at in kept])


def _spread(count: int, limit: int | None) -> list[int]:
    """Numbers of `limit` of `count` items, evenly from first to last: some files are sorted by their scores."""
    return list(range(count)) if limit is None else sorted({int(at) for at in np.linspace(0, count - 1, limit)})


def _cells(path: Path) -> Iterator[Row]:
    """Lines with their number and their cells; a heading has the cell `:` and its words."""
    lines = ((number, line) for number, line in enumerate(read_lines(path), 1) if line.strip())
    is_csv = kind(path) == ".csv"
    for number, line in lines:
        if line.startswith(":"):
            cells = [":", *line[1:].split()]
        elif is_csv:
            cells = next(csv.reader([line]))
        else:
            cells = line.split("\t") if "\t" in line else line.split()
        yield number, [cell.strip() for cell in cells]


def _again(first: Row, rest: Iterator[Row]) -> Iterator[Row]:
    yield first
    yield from rest


def _bad_line(path: Path, line: int, cells: list[str], expected: str) -> DataError:
    return DataError("bad-word-set", "the line is no part of a word set", place=f"{path}:{line}",
                     value=" | ".join(cells)[:120], expected=expected)  # fmt: skip
