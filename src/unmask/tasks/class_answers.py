"""What classifiers answer: one class a row, or any number of them; how answers are made, scored and shown."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np

from unmask.data.classes import labels_in, nearest
from unmask.errors import DataError
from unmask.metrics.calibration import calibration_error, mean_sigmoid, mean_softmax
from unmask.metrics.classes import best_threshold, classification, multi_label
from unmask.tasks.rows import Mistake, Place, Prediction, Row, cell_of, text_of

_SHOWN = 3
_LEAST = 1e-12
_FEW_ROWS = 5


@dataclass(frozen=True)
class ClassPrediction(Prediction):
    """The answer of a classifier.

    Attributes:
        label: the most probable class; None where its probability is below `abstain_below`.
        score: the greatest probability.
        scores: probability of every class.
        truncated_share: part of the text's tokens that did not fit into the model.
        num_windows: inputs that the text was read in.
        top: the `top_k` most probable classes with their probabilities, the first one first; empty if none are asked
            for.
    """

    label: str | None
    score: float
    scores: dict[str, float]
    truncated_share: float = 0.0
    num_windows: int = 1
    top: tuple[tuple[str, float], ...] = ()

    def summary(self) -> str:
        """Label and probability, or those of the first classes."""
        shown = self.top or ((self.label or "(no answer)", self.score),)
        return "\t".join(f"{name}\t{score:.4f}" for name, score in shown)


@dataclass(frozen=True)
class LabelsPrediction(Prediction):
    """The answer of a classifier that may give several labels, or none.

    Attributes:
        labels: classes at or above their thresholds, in the order of the model's classes.
        scores: probability of every class, each by itself.
        truncated_share: part of the text's tokens that did not fit into the model.
        num_windows: inputs that the text was read in.
        top: the `top_k` most probable classes with their probabilities; empty if none are asked for.
    """

    labels: tuple[str, ...]
    scores: dict[str, float]
    truncated_share: float = 0.0
    num_windows: int = 1
    top: tuple[tuple[str, float], ...] = ()

    def summary(self) -> str:
        """The labels with their probabilities, or those of the first classes."""
        shown = self.top or tuple((name, self.scores[name]) for name in self.labels) or (("(none)", 0.0),)
        return ", ".join(f"{name} {score:.4f}" if score else name for name, score in shown)


@dataclass(frozen=True)
class OneLabel:
    """Answers of which exactly one is right.

    Attributes:
        labels: the classes.
        column: that holds the right one.
        top_k: classes that are listed with each answer.
        abstain_below: least probability of an answer.
    """

    labels: tuple[str, ...]
    column: str
    top_k: int = 0
    abstain_below: float = 0.0

    def targets(self, rows: Sequence[Row], place: Place) -> np.ndarray:
        """Right classes, (N,) int64.

        Raises:
            DataError: a label is missing, or none of the classes; all such labels are counted.
        """
        found = [text_of(row, self.column, place(at), what="label") for at, row in enumerate(rows)]
        refuse_unknown([[name] for name in found], self.labels, self.column, place)
        index = {name: at for at, name in enumerate(self.labels)}
        return np.array([index[name] for name in found], dtype=np.int64)

    def probabilities(self, logits: np.ndarray, starts: np.ndarray, temperature: float) -> np.ndarray:
        """Of each row and class, (N, C): the mean of the row's windows, which begin at `starts`."""
        return mean_softmax(logits, starts, temperature)

    def surprise(self, probabilities: np.ndarray, gold: np.ndarray) -> float:
        """Negative log-likelihood of all right classes, in nats."""
        return float(-np.log(probabilities[np.arange(len(gold)), gold] + _LEAST).sum())

    def calibration_error(self, probabilities: np.ndarray, gold: np.ndarray) -> float:
        """Of the most probable classes."""
        return calibration_error(probabilities.max(1), probabilities.argmax(1) == gold)

    def answer(self, probabilities: np.ndarray, *, truncated_share: float, num_windows: int) -> ClassPrediction:
        """Make an answer of the probabilities of all classes, (C,)."""
        best = int(probabilities.argmax())
        score = float(probabilities[best])
        return ClassPrediction(
            label=None if score < self.abstain_below else self.labels[best],
            score=score,
            scores=dict(zip(self.labels, probabilities.tolist(), strict=True)),
            truncated_share=truncated_share,
            num_windows=num_windows,
            top=_top(self.labels, probabilities, self.top_k),
        )

    def score(
        self, answers: Sequence[ClassPrediction], rows: Sequence[Row], *, has_interval: bool = True
    ) -> dict[str, Any]:
        """Accuracy with its interval, MCC, macro F1, calibration error, per-class scores and the confusion matrix.

        Rows without an answer count as wrong; where there may be any, coverage and accuracy of the others are told.
        """
        gold = [row[self.column] for row in rows]
        scores = asdict(
            classification(gold, [one.label or "" for one in answers], self.labels, has_interval=has_interval)
        )
        best = [max(one.scores, key=one.scores.__getitem__, default=one.label) for one in answers]
        hits = np.array([name == right for name, right in zip(best, gold, strict=True)], dtype=np.float64)
        scores["calibration_error"] = calibration_error(np.array([one.score for one in answers]), hits)
        if self.abstain_below > 0:
            answered = np.array([one.label is not None for one in answers])
            scores["coverage"] = float(answered.mean())
            scores["accuracy_answered"] = float(hits[answered].mean()) if answered.any() else 0.0
        return scores

    def row_scores(self, answers: Sequence[ClassPrediction], rows: Sequence[Row]) -> list[float]:
        """1 for a right answer."""
        return [float(one.label == row[self.column]) for one, row in zip(answers, rows, strict=True)]

    def mistakes(self, answers: Sequence[ClassPrediction], rows: Sequence[Row], texts: Sequence[str]) -> list[Mistake]:
        """Rows that got another class than theirs, with the most probable ones."""
        return [
            Mistake(text, row[self.column], _listed(one.scores) or str(one.label), one.score)
            for one, row, text in zip(answers, rows, texts, strict=True)
            if one.label != row[self.column]
        ]


@dataclass(frozen=True)
class ManyLabels:
    """Answers of which any number may be right, also none.

    Attributes:
        labels: the classes.
        column: that holds the right ones, a list or a text with separators.
        separator: between labels in a text.
        thresholds: probability from which each class is answered.
        top_k: classes that are listed with each answer.
    """

    labels: tuple[str, ...]
    column: str
    separator: str
    thresholds: tuple[float, ...]
    top_k: int = 0

    def targets(self, rows: Sequence[Row], place: Place) -> np.ndarray:
        """1 where a row has a class, (N, C) float32.

        Raises:
            DataError: there is no such column, or a label is none of the classes; all such labels are counted.
        """
        sets = [labels_in(cell_of(row, self.column, place(at)), self.separator) for at, row in enumerate(rows)]
        refuse_unknown(sets, self.labels, self.column, place)
        index = {name: at for at, name in enumerate(self.labels)}
        found = np.zeros((len(rows), len(self.labels)), np.float32)
        for at, names in enumerate(sets):
            found[at, [index[name] for name in names]] = 1.0
        return found

    def probabilities(self, logits: np.ndarray, starts: np.ndarray, temperature: float) -> np.ndarray:
        """Of each row and class by itself, (N, C): the mean of the row's windows, which begin at `starts`."""
        return mean_sigmoid(logits, starts, temperature)

    def surprise(self, probabilities: np.ndarray, gold: np.ndarray) -> float:
        """Negative log-likelihood of all decisions, in nats."""
        return float(-np.log(np.where(gold > 0, probabilities, 1 - probabilities) + _LEAST).sum())

    def calibration_error(self, probabilities: np.ndarray, gold: np.ndarray) -> float:
        """Of all decisions: rows times classes."""
        return calibration_error(probabilities.ravel(), gold.ravel())

    def fit(self, probabilities: np.ndarray, gold: np.ndarray, *, is_shared: bool) -> tuple[float, ...]:
        """The shared threshold for the greatest micro F1, none from too few rows; or those for the F1 of each class."""
        if is_shared:
            has_enough = gold.sum() >= _FEW_ROWS
            return (best_threshold(probabilities.ravel(), gold.ravel()),) if has_enough else ()
        return tuple(
            best_threshold(probabilities[:, at], gold[:, at]) if gold[:, at].sum() >= _FEW_ROWS else usual
            for at, usual in enumerate(self.thresholds)
        )

    def answer(self, probabilities: np.ndarray, *, truncated_share: float, num_windows: int) -> LabelsPrediction:
        """Make an answer of the probabilities of all classes, (C,)."""
        chosen = np.flatnonzero(probabilities >= np.array(self.thresholds))
        return LabelsPrediction(
            labels=tuple(self.labels[index] for index in chosen),
            scores=dict(zip(self.labels, probabilities.tolist(), strict=True)),
            truncated_share=truncated_share,
            num_windows=num_windows,
            top=_top(self.labels, probabilities, self.top_k),
        )

    def score(
        self, answers: Sequence[LabelsPrediction], rows: Sequence[Row], *, has_interval: bool = True
    ) -> dict[str, Any]:
        """Micro and macro F1, share of rows whose whole set is right, calibration error and per-class scores."""
        gold = self.targets(rows, str).astype(np.int64)
        given = np.array([[name in one.labels for name in self.labels] for one in answers], dtype=np.int64)
        sure = np.array([[one.scores[name] for name in self.labels] for one in answers])
        found = multi_label(gold, given, self.labels, has_interval=has_interval)
        return asdict(found) | {"calibration_error": self.calibration_error(sure, gold)}

    def row_scores(self, answers: Sequence[LabelsPrediction], rows: Sequence[Row]) -> list[float]:
        """F1 of the row's set of labels; 1 if there are none and none are given."""
        gold = [set(labels_in(row[self.column], self.separator)) for row in rows]
        sets = [(set(one.labels), right) for one, right in zip(answers, gold, strict=True)]
        return [2 * len(a & b) / (len(a) + len(b)) if a or b else 1.0 for a, b in sets]

    def mistakes(self, answers: Sequence[LabelsPrediction], rows: Sequence[Row], texts: Sequence[str]) -> list[Mistake]:
        """Rows with another set of labels than theirs; the worst are those with one class most surely wrong."""
        found = []
        for one, row, text in zip(answers, rows, texts, strict=True):
            gold = labels_in(row[self.column], self.separator)
            if set(gold) != set(one.labels):
                worst = max(abs(score - (name in gold)) for name, score in one.scores.items())
                found.append(Mistake(text, " | ".join(gold) or "(none)", _listed(one.scores, one.labels), worst))
        return found


def refuse_unknown(sets: Sequence[Sequence[str]], labels: Sequence[str], column: str, place: Place) -> None:
    """Look for labels that are none of the classes.

    Raises:
        DataError: there are some; they are counted, with the nearest class of the most frequent one, and the place of
            the first row is named.
    """
    known = set(labels)
    unknown = Counter(name for names in sets for name in names if name not in known)
    if not unknown:
        return
    first = next(at for at, names in enumerate(sets) if not known.issuperset(names))
    (name, count), *others = unknown.most_common()
    near = nearest(name, labels) or next(iter(get_close_matches(name, labels, n=1)), None)
    more = ", ".join(f"'{other}' ({times})" for other, times in others[:5]) + (", ..." if len(others) > 5 else "")
    raise DataError(
        "unknown-label",
        f"the label '{name}' in column '{column}' is none of the model's classes"
        + (f"; did you mean '{near}'?" if near else "")
        + f" ({count:,} rows)"
        + (f"; others too: {more}" if others else ""),
        place=place(first),
        value=next(name for name in sets[first] if name not in known),
        expected=f"one of {', '.join(labels)}",
        remedy="mend the labels (numbers and truth values are compared as they are written), or train on data that has "
        "these classes",
    )


def _top(labels: Sequence[str], probabilities: np.ndarray, count: int) -> tuple[tuple[str, float], ...]:
    order = np.argsort(-probabilities, kind="stable")[:count]
    return tuple((labels[index], float(probabilities[index])) for index in order)


def _listed(scores: dict[str, float], names: Sequence[str] = ()) -> str:
    """Some classes with their probabilities: the named ones, else the first few."""
    chosen = names or sorted(scores, key=scores.__getitem__, reverse=True)[:_SHOWN]
    return ", ".join(f"{name} {scores[name]:.2f}" for name in chosen)
