"""What several runs say together: summary.json for programs, report.html for people."""

import json
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from unmask import pages, storage

SUMMARY, PAGE = "summary.json", "report.html"


@dataclass(frozen=True)
class Part:
    """One of the runs.

    Attributes:
        name: of its folder below the summary's.
        seed: of the run.
        score: main metric on its dev rows; NaN (`null` in the file) for a run whose loss was not finite.
        scores: all metrics that are one number.
        best_epoch: epoch whose weights were kept.
        collapsed: why the run counts as collapsed; `None` for one that has learned something.
        is_replaced: whether the run had collapsed and another seed took its place.
    """

    name: str
    seed: int
    score: float
    scores: dict[str, float]
    best_epoch: int
    collapsed: str | None
    is_replaced: bool = False


@dataclass(frozen=True)
class Summary:
    """What all runs together say; those replaced or without a score count in `num_collapsed` alone.

    Attributes:
        kind: `seeds` or `folds`.
        metric: name of the score.
        runs: all of them, in the order in which they were trained.
        mean: of the scores.
        sd: their standard deviation (n - 1); 0 for a single one.
        median: of the scores.
        low: the least score.
        high: the greatest score.
        num_collapsed: how many runs collapsed.
        best: name of the run with the best score.
        kept: name of the run whose model is RUN/model.
    """

    kind: Literal["seeds", "folds"]
    metric: str
    runs: list[Part]
    mean: float
    sd: float
    median: float
    low: float
    high: float
    num_collapsed: int
    best: str
    kept: str

    def to_lines(self) -> list[str]:
        """One line a run and one for all of them."""
        lines = [
            f"{one.name:<12} {self.metric} {one.score:.4f}  epoch {one.best_epoch}"
            + ("  collapsed" if one.collapsed else "")
            + (", replaced" if one.is_replaced else "")
            for one in self.runs
        ]
        counted = len(counted_of(self.runs))
        return [
            *lines,
            f"dev {self.metric} of {counted} {self.kind}: median {self.median:.4f}, range {self.low:.4f} to "
            f"{self.high:.4f}, mean {self.mean:.4f} (sd {self.sd:.4f}), {self.num_collapsed} collapsed",
        ]


def counted_of(runs: Sequence[Part]) -> list[Part]:
    """Runs that have a score and were not replaced."""
    return [one for one in runs if not one.is_replaced and not math.isnan(one.score)]


def write_summary(folder: Path, summary: Summary) -> None:
    """Write summary and page into the folder of all runs."""
    content = asdict(summary)
    for one in content["runs"]:
        one["score"] = None if math.isnan(one["score"]) else one["score"]
    storage.write_text(folder / SUMMARY, json.dumps(content, indent=1) + "\n")
    heading = f"Fine-tuning over {summary.kind}: {folder.resolve().name}"
    storage.write_text(folder / PAGE, pages.page(heading, [f"<h1>{pages.escaped(heading)}</h1>", *_parts(summary)]))


def _parts(summary: Summary) -> Iterator[str]:
    counted = counted_of(summary.runs)
    yield "<h2>Scores</h2>"
    yield f"<p>{_ABOUT[summary.kind]} Those that were replaced or have no score count only as collapsed.</p>"
    head = (f"{len(counted)} {summary.kind}", "median", "least", "greatest", "mean", "sd")
    yield pages.table(_rows(summary.metric, counted), head)
    yield f"<h2>{pages.escaped(summary.metric.replace('_', ' '))} of each run</h2>"
    yield pages.dots(
        [(one.name, one.score, one.collapsed is not None) for one in summary.runs if not math.isnan(one.score)],
        middle=summary.median,
        limits=(summary.low, summary.high),
    )
    yield "<p>The line is the median, the band the range of the runs that count; a red ring is a collapsed run.</p>"
    rows = [
        (
            one.name if math.isnan(one.score) else _link(one.name),
            str(one.seed),
            _score(one),
            str(one.best_epoch),
            _remark(one, summary),
        )
        for one in summary.runs
    ]
    yield pages.table(rows, ("run", "seed", summary.metric, "epoch", ""), is_text=True)
    if summary.kept == "final":
        yield f"<p>The model is that of {_link('final')}, which has learned from all rows.</p>"


_ABOUT = {
    "seeds": "On the dev rows, the same in all runs.",
    "folds": "Each run on the fold of the rows that it has not learned from.",
}


def _rows(metric: str, counted: list[Part]) -> Iterator[tuple[str, float, float, float, float, float]]:
    """The main metric first, then all others that a run has."""
    for name in dict.fromkeys([metric, *(name for one in counted for name in one.scores)]):
        values = [one.scores[name] for one in counted if name in one.scores]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        yield name, statistics.median(values), min(values), max(values), statistics.fmean(values), spread


def _link(name: str) -> pages.Markup:
    return pages.Markup(f'<a href="{name}/{PAGE}">{name}</a>')


def _score(one: Part) -> str:
    return "" if math.isnan(one.score) else f"{one.score:.4f}"


def _remark(one: Part, summary: Summary) -> str:
    told = [f"collapsed: {one.collapsed}"] if one.collapsed else []
    told += ["replaced by the next"] if one.is_replaced else []
    told += ["kept"] if one.name == summary.kept else ["best"] if one.name == summary.best else []
    return ", ".join(told)
