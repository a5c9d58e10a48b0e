"""Minimal pairs: does the model find the right sentence likelier than the wrong one? (BLiMP, Warstadt et al. 2020)."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unmask.data.files import expand, kind
from unmask.data.rows import read_table
from unmask.errors import DataError
from unmask.runtime import Machine
from unmask.study.likelihood import WithinWord, pseudo_log_likelihoods
from unmask.tasks.base import text_of
from unmask.tasks.masked_lm import MaskedLM

GOOD, BAD, FIELD = "sentence_good", "sentence_bad", "linguistics_term"
# The files name 13 terms, the paper 12 fields: its argument structure (table 1) holds the two paradigms of s-selection.
SAME_FIELD = {"s-selection": "argument_structure"}
RESAMPLES = 10_000
LEVEL = 0.95


@dataclass(frozen=True)
class Paradigm:
    """One file of minimal pairs.

    Attributes:
        name: of the file.
        field: its linguistic field; empty where the file names none.
        pairs: right and wrong sentence of each pair.
        places: where each pair stands, `file:line`.
    """

    name: str
    field: str
    pairs: list[tuple[str, str]]
    places: list[str]


@dataclass(frozen=True)
class Score:
    """A share of pairs that were decided rightly; chance gives 0.5.

    Attributes:
        accuracy: the share; a pair of equal likelihoods counts half.
        interval: 95 % bootstrap interval over pairs.
        pairs: number of pairs.
    """

    accuracy: float
    interval: tuple[float, float]
    pairs: int


@dataclass(frozen=True)
class PairScores:
    """What a model did on minimal pairs.

    Attributes:
        mean: mean over paradigms, as the paper reports it.
        mean_of_fields: mean over fields, as BabyLM's tables report it.
        fields: mean over the paradigms of each field, by name.
        paradigms: each paradigm, by name.
        within_word: how likelihoods were taken, see `pseudo_log_likelihoods`.
    """

    mean: Score
    mean_of_fields: Score
    fields: dict[str, Score]
    paradigms: dict[str, Score]
    within_word: WithinWord


def read_pairs(path: Path, *, limit: int | None = None) -> list[Paradigm]:
    """Read a file or a folder of minimal pairs: tables with the columns `sentence_good` and `sentence_bad`.

    Args:
        path: one file (BLiMP's are .jsonl), or a folder whose .jsonl files are read, compressed or not.
        limit: take only the first pairs of each file.

    Raises:
        DataError: there is no such file, or a pair lacks a sentence; with its line.
    """
    files = [file for file in expand([path]) if not path.is_dir() or kind(file) == ".jsonl"]
    if not files:
        raise DataError("no-pairs", "the folder has no .jsonl files", place=path, expected="BLiMP's data folder")
    found = []
    for file in files:
        table = read_table(file)
        rows, places = table.rows[:limit], [table.place(index) for index in range(len(table.rows[:limit]))]
        pairs = [(text_of(row, GOOD, at), text_of(row, BAD, at)) for row, at in zip(rows, places, strict=True)]
        field = rows[0].get(FIELD, "")
        found.append(Paradigm(file.name.partition(".")[0], SAME_FIELD.get(field, field), pairs, places))
    return found


def score_pairs(
    task: MaskedLM,
    paradigms: list[Paradigm],
    *,
    machine: Machine,
    within_word: WithinWord = "l2r",
    max_tokens: int = 8192,
    on_progress: Callable[[int, int], None] | None = None,
) -> PairScores:
    """Decide every pair by the pseudo-log-likelihoods of its two sentences.

    Args:
        task: the model.
        paradigms: at least one.
        machine, within_word, max_tokens, on_progress: see `pseudo_log_likelihoods`.

    Raises:
        DataError: a sentence is longer than the model's input.
    """
    texts = [text for one in paradigms for pair in one.pairs for text in pair]
    places = [place for one in paradigms for place in one.places for _ in range(2)]
    scores = pseudo_log_likelihoods(
        task,
        texts,
        machine=machine,
        within_word=within_word,
        max_tokens=max_tokens,
        place=places.__getitem__,
        on_progress=on_progress,
    )
    good, bad = np.array([score.sum(dtype=np.float64) for score in scores]).reshape(-1, 2).T
    points = np.split((np.sign(good - bad) + 1) / 2, np.cumsum([len(one.pairs) for one in paradigms])[:-1])
    return summarize(paradigms, points, within_word)


def summarize(paradigms: list[Paradigm], points: list[np.ndarray], within_word: WithinWord) -> PairScores:
    """Means and intervals of the decisions.

    Args:
        paradigms: at least one.
        points: for each paradigm 1, 0.5 or 0 a pair, (n,).
        within_word: goes into the result.
    """
    rng = np.random.default_rng(0)
    sizes = [len(one) for one in points]
    means = np.array([one.mean() for one in points])
    drawn = np.stack([_resampled_means(one, rng) for one in points])
    fields: dict[str, list[int]] = {}
    for index, one in enumerate(paradigms):
        fields.setdefault(one.field or "unnamed", []).append(index)

    def score(groups: list[list[int]]) -> Score:
        """The mean over groups of the mean over the paradigms in each."""
        low, high = np.quantile(_mean(drawn, groups), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        pairs = sum(sizes[index] for group in groups for index in group)
        return Score(float(_mean(means, groups)), (float(low), float(high)), pairs)

    return PairScores(
        mean=score([[index] for index in range(len(paradigms))]),
        mean_of_fields=score(list(fields.values())),
        fields={name: score([group]) for name, group in sorted(fields.items())},
        paradigms={one.name: score([[index]]) for index, one in enumerate(paradigms)},
        within_word=within_word,
    )


def _resampled_means(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Means of samples drawn with replacement, (RESAMPLES,): such a sample has multinomial counts of 0, 0.5 and 1."""
    values, counts = np.unique(points, return_counts=True)
    drawn: np.ndarray = rng.multinomial(len(points), counts / len(points), size=RESAMPLES) @ values / len(points)
    return drawn


def _mean(values: np.ndarray, groups: list[list[int]]) -> np.ndarray:
    mean: np.ndarray = np.mean([values[group].mean(axis=0) for group in groups], axis=0)
    return mean
