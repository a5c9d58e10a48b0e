"""Commands that compare models."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from pydantic import Field

from unmask.cli import ModelFolder, heavy, say
from unmask.cli.rows import labelled
from unmask.cli.use import Asked
from unmask.config import Settings


class Draws(Settings):
    """By what two models are compared, and how surely."""

    metric: str | None = None
    """Score to compare by; by default the task's own."""
    resamples: int = Field(default=1000, ge=1)
    """Draws of the paired bootstrap."""


def compare(
    first: ModelFolder,
    second: ModelFolder,
    *,
    file: Path,
    asked: Annotated[Asked, Parameter(name="*")] = Asked(),  # noqa: B008
    label_column: str | None = None,
    draws: Annotated[Draws, Parameter(name="*")] = Draws(),  # noqa: B008
    examples: int = 5,
    json: bool = False,
) -> None:
    """Compare two models on a file of labelled rows: scores, difference, its interval, and whether it is chance.

    Args:
        first: Model folder, run folder, or a folder that `unmask export` wrote.
        second: The other one, for the same task.
        file: Labelled rows.
        label_column: Column of the label in FILE.
        examples: Rows to show that only one of the models has right.
        json: Write one JSON object, with all rows that differ.
    """
    predictors = tuple(asked.open(folder, is_labelled=True, label_column=label_column) for folder in (first, second))
    tables = []
    for which, one in zip(heavy("unmask.study.compare:MODELS"), predictors, strict=True):
        with heavy("unmask.study.compare:of_model")(which):
            tables.append(labelled(file, one.task, asked.reading.names))
    found = heavy("unmask.study.compare:compare")(predictors, tables, **draws.model_dump())
    if json:
        say(asdict(found))
        return
    for line in _lines(found, examples):
        say(line)


def _lines(found: Any, examples: int) -> Iterator[str]:
    yield f"{'':<20} {'first':>10} {'second':>10}"
    for name, values in sorted(found.scores.items()):
        yield f"{name:<20} {values[0]:>10.4f} {values[1]:>10.4f}" + ("  <- compared" if name == found.metric else "")
    yield f"{'seconds':<20} {found.seconds[0]:>10.2f} {found.seconds[1]:>10.2f}"
    one = found.comparison
    better = "the second" if (one.difference > 0) == found.is_rising else "the first"
    verdict = f"more than chance, {better} is better" if one.is_significant else "may be chance"
    yield (
        f"difference in {found.metric}: {one.difference:+.4f}, 95 % interval {one.interval[0]:+.4f} to "
        f"{one.interval[1]:+.4f}, p = {one.p_value:.3f} on {one.rows:,} rows: {verdict}"
    )
    if found.counts is not None:
        yield f"better on {found.counts[0]:,} rows: first; on {found.counts[1]:,}: second"
    for row in found.differences[:examples]:
        yield f"  {row.place}: {row.text[:100]}"
        for name, (answer, score) in (("first", row.first), ("second", row.second)):
            yield f"    {name}: {answer[:100]} ({score:.2f})"
