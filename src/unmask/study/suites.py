"""A suite: published sets one after the other, each with its settings, over several seeds, beside published scores.

A suite is a TOML file: `[settings]` for all tasks, and one `[tasks.NAME]` each with its files.
"""

import json
import logging
import math
import statistics
import time
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import Field

from unmask import pages, storage
from unmask.bundled import find_model
from unmask.checkpoint import load_model
from unmask.config import Settings, resolve
from unmask.errors import InterruptedRunError, UnmaskError, UsageError, is_out_of_memory
from unmask.study.against import compared, finished_summary, reason_of
from unmask.train.folds import refuse_same_seeds, train_seeds
from unmask.train.job import AUTO, RANDOM, read_job
from unmask.train.settings import FinetuneSettings

log = logging.getLogger("unmask")

RESULTS = "results.json"
FAILED = "failed: "  # before the reason, where a set has ended with an error


class SuiteTask(Settings):
    """One set of a suite."""

    train: str
    """File to train on, below the suite's data folder."""
    dev: str
    """File to choose the best epoch by, and to be scored on."""
    task: str | None = None
    """Name of the task; by default what the rows are for."""
    metric: str | None = None
    """Score that is reported; by default the task's own."""
    targets: dict[str, float] = Field(default_factory=dict)
    """Published scores by the name of the model."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Settings of fine-tuning, over those of the suite."""


class Suite(Settings):
    """Sets that are reported together."""

    about: str
    """What the suite is and where its numbers are from."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Settings of fine-tuning for all tasks."""
    tasks: dict[str, SuiteTask]
    """The sets by name."""


@dataclass(frozen=True)
class Outcome:
    """What one task of a suite gave.

    Attributes:
        name: of the task.
        metric: that is reported.
        scores: one a seed; runs that had collapsed and were replaced are left out.
        median: of the scores; `None` without any.
        num_collapsed: how many runs collapsed.
        seconds: that this call took for it; little for what was finished before.
        targets: published scores.
        missing: why it was not run; then there are no scores.
        against: another model on the same rows, where one was given: its median, and p of the difference or None; or
            why the two cannot be compared.
    """

    name: str
    metric: str = ""
    scores: tuple[float, ...] = ()
    median: float | None = None
    num_collapsed: int = 0
    seconds: float = 0.0
    targets: dict[str, float] = field(default_factory=dict)
    missing: str | None = None
    against: tuple[float, float | None] | str | None = None


def suite_names() -> list[str]:
    """Names of the suites that come with the package, sorted."""
    return sorted(
        entry.name.removesuffix(".toml")
        for entry in (resources.files("unmask") / "suites").iterdir()
        if entry.name.endswith(".toml")
    )


def load_suite(name: str) -> Suite:
    """Read a suite by its name, or a TOML file by its path.

    Raises:
        UsageError: there is none, it is not TOML, or a key or value is wrong.
    """
    path = Path(name)
    if path.suffix == ".toml" and path.is_file():
        text = path.read_text("utf-8")
    elif name in suite_names():
        text = (resources.files("unmask") / "suites" / f"{name}.toml").read_text("utf-8")
    else:
        raise UsageError(
            "unknown-suite",
            f"there is no suite '{name}'",
            expected=f"one of {', '.join(suite_names())}, or the path of a .toml file",
        )
    try:
        return resolve(Suite, tomllib.loads(text), place=f"suite {name}")
    except tomllib.TOMLDecodeError as error:
        raise UsageError("bad-suite", f"the suite is not valid TOML: {error}", place=name) from None


def run_suite(
    suite: Suite,
    data: Path,
    output: Path,
    *,
    model: Path | str | None,
    seeds: Sequence[int] = (0,),
    only: Sequence[str] = (),
    given: tuple[dict[str, Any], ...] = (),
    against: Path | None = None,
) -> list[Outcome]:
    """Fine-tune and score every task of a suite; the same call again goes on where it ended.

    A run that has collapsed is counted, and another seed takes its place. A set that fails does not end the others.

    Args:
        suite: what to run.
        data: folder that its files lie in; a task whose files are not there is left out and said.
        output: one folder a task, `results.json` and `report.html`.
        model: folder to start from; None begins with small random weights.
        seeds: of the runs.
        only: names of tasks; by default all.
        given: further layers of settings of fine-tuning, such as a recipe and flags; they win over the suite's.
        against: output of the same suite with another model, to be compared row by row.

    Raises:
        UsageError: the suite has no such task, a setting or a seed is wrong, or `against` has not finished a set by the
            same score; all before anything is trained.
        ArtefactError: the model folder is missing or corrupt.
        ResourceError: the disk is full.
    """
    if unknown := sorted(set(only) - suite.tasks.keys()):
        raise UsageError(
            "unknown-task", f"the suite has no task '{unknown[0]}'", expected=f"one of {', '.join(suite.tasks)}"
        )
    sets = [_Set.of(name, suite, data, given) for name in suite.tasks if not only or name in only]
    _check(sets, model, seeds, against)
    outcomes: list[Outcome] = []
    for one in sets:
        log.info("== %s%s", one.name, f": left out, {one.missing} in {data}" if one.missing else "")
        found = _tried(one, data, output, model, seeds)
        if against is not None and found.scores:
            found = replace(found, against=compared(output / one.name, against / one.name, found.metric))
        outcomes.append(found)
        _write(suite, outcomes, output)
    return outcomes


@dataclass(frozen=True)
class _Set:
    """A set and the layers of settings that it is fine-tuned with; `missing` says which of its files is not there."""

    name: str
    task: SuiteTask
    layers: tuple[dict[str, Any], ...]
    missing: str | None

    @classmethod
    def of(cls, name: str, suite: Suite, data: Path, given: tuple[dict[str, Any], ...]) -> "_Set":
        task = suite.tasks[name]
        metric = {"metric": task.metric} if task.metric else {}
        absent = [file for file in (task.train, task.dev) if not (data / file).is_file()]
        layers = (suite.settings, task.settings, metric, *given)
        return cls(name, task, layers, f"no file {absent[0]}" if absent else None)


def _check(sets: Sequence[_Set], model: Path | str | None, seeds: Sequence[int], against: Path | None) -> None:
    """Refuse what is wrong for all sets, and what could not be compared, before hours are spent."""
    refuse_same_seeds(seeds)
    if model is not None and str(model) not in (AUTO, RANDOM):
        load_model(find_model(model))
    for one in sets:
        settings = resolve(FinetuneSettings, *one.layers, place=f"set {one.name}")
        if against is not None and not one.missing:
            finished_summary(against / one.name, settings.metric)


def _tried(one: _Set, data: Path, output: Path, model: Path | str | None, seeds: Sequence[int]) -> Outcome:
    """The outcome of a set; what ends it is noted, so that the other sets have their turn."""
    found = Outcome(one.name, one.task.metric or "", targets=one.task.targets, missing=one.missing)
    if one.missing:
        return found
    try:
        return _run_set(one, data, output / one.name, model, seeds)
    except InterruptedRunError:
        raise
    except (UnmaskError, OSError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not (isinstance(error, UnmaskError) or is_out_of_memory(error)):
            raise
        log.warning("%s ends: %s", one.name, error)
        return replace(found, missing=f"{FAILED}{reason_of(error)}")


def _run_set(one: _Set, data: Path, output: Path, model: Path | str | None, seeds: Sequence[int]) -> Outcome:
    start, task = time.perf_counter(), one.task
    job, settings = read_job(
        data / task.train, dev=data / task.dev, model=model, task=task.task, given=one.layers, output=output
    )
    done = train_seeds(job, settings, output, seeds, restart_collapsed=True)
    return Outcome(
        one.name,
        done.metric,
        tuple(run.score for run in done.runs if not run.is_replaced and math.isfinite(run.score)),
        done.median,
        done.num_collapsed,
        time.perf_counter() - start,
        task.targets,
    )


HEAD = ("task", "score", "median", "range", "seeds", "collapsed", "seconds", "against", "published")


def table_of(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    """One row a task, with the cells of `HEAD`, and one for the mean of the medians."""
    rows = [_row(one) for one in outcomes]
    medians = [one.median for one in outcomes if one.median is not None]
    if len(medians) > 1:
        rows.append(("mean", "", f"{statistics.fmean(medians):.4f}", *[""] * (len(HEAD) - 3)))
    return rows


def _row(one: Outcome) -> tuple[str, ...]:
    if one.missing or one.median is None:
        return (one.name, one.metric, *[""] * (len(HEAD) - 3), one.missing or "")
    compared = one.against or ""
    if not isinstance(compared, str):
        median, p_value = compared
        compared = f"{median:.4f}" + ("" if p_value is None else f", p = {p_value:.3f}")
    return (
        one.name,
        one.metric,
        f"{one.median:.4f}",
        f"{min(one.scores):.4f} to {max(one.scores):.4f}",
        str(len(one.scores)),
        str(one.num_collapsed),
        f"{one.seconds:.0f}",
        compared,
        ", ".join(f"{name} {score:.3f}" for name, score in one.targets.items()),
    )


def _write(suite: Suite, outcomes: Sequence[Outcome], output: Path) -> None:
    """Write table and page; sets of the suite that this call did not run keep their earlier rows."""
    output.mkdir(parents=True, exist_ok=True)
    path = output / RESULTS
    earlier = storage.read_json(path)["outcomes"] if path.is_file() else []
    known = {one["name"]: Outcome(**one) for one in earlier} | {one.name: one for one in outcomes}
    ordered = [known[name] for name in suite.tasks if name in known]
    content = {"about": suite.about, "outcomes": [asdict(one) for one in ordered]}
    storage.write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")
    parts = [f"<h1>{pages.escaped(suite.about)}</h1>", pages.table(table_of(ordered), HEAD)]
    storage.write_text(output / "report.html", pages.page(suite.about, parts))
