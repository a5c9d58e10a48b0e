"""One fine-tuning several times: over seeds, or over folds of the rows; one folder layout and one summary for both.

RUN/seed-0, RUN/seed-1, ... or RUN/fold-1, RUN/fold-2, ..., RUN/final are run folders; RUN/model is the model to use,
RUN/dev-predictions.jsonl the answers that the summary's scores belong to, RUN/summary.json and
RUN/report.html the scores, for programs and for people.
"""

import contextlib
import itertools
import logging
import math
import re
import shutil
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from unmask import disk, storage
from unmask.config import Settings, resolve
from unmask.data.dealing import deal
from unmask.errors import NumericError, UsageError
from unmask.train.finetune import FinetuneResult, run_job
from unmask.train.job import Job
from unmask.train.predictions import PREDICTIONS, read_records, write_records
from unmask.train.settings import FinetuneSettings
from unmask.train.summary import PAGE, SUMMARY, Part, Summary, counted_of, write_summary

log = logging.getLogger("unmask")

MAX_RESTARTS = 3
_NEXT_SEED = 1000
# Sizes and fitted settings that stand among the scores.
_NO_SCORE = re.compile(r"questions$|^temperature$|^best_threshold$|^calibration_error_before$")
_OWN = re.compile(rf"(seed|fold)-\d+|final|model|\..*|{re.escape(SUMMARY)}|{re.escape(PREDICTIONS)}|{re.escape(PAGE)}")


def train_seeds(
    job: Job, settings: FinetuneSettings, output: Path, seeds: Sequence[int], *, restart_collapsed: bool = False
) -> Summary:
    """Train with several seeds on the same rows and keep the best model; finished runs are not repeated.

    Args:
        job: with dev rows; all seeds share its split.
        settings: of each run but for the seed.
        output: the folder of all runs.
        seeds: one run each.
        restart_collapsed: let another seed take the place of a collapsed one, at most `MAX_RESTARTS` times each.

    Raises:
        UsageError: a seed is named twice, or the folder holds something else.
        NumericError: the loss of every seed has become not finite; a single one counts as collapsed.
    """
    refuse_same_seeds(seeds)
    job = replace(job, inputs=job.inputs | {"split": f"seed {settings.seed}"})
    parts: list[Part] = []
    metric, failure = "", None
    with _held(output):
        for first in seeds:
            taken = {*seeds, *(one.seed for one in parts)}
            others = (seed for seed in itertools.count(first + _NEXT_SEED, _NEXT_SEED) if seed not in taken)
            for seed in (first, *itertools.islice(others, restart_collapsed * MAX_RESTARTS)):
                if seed != first:
                    parts[-1] = replace(parts[-1], is_replaced=True)
                log.info("seed %d", seed)
                name = f"seed-{seed}"
                try:
                    result = _run_part(job, settings.model_copy(update={"seed": seed}), output / name)
                except NumericError as error:
                    log.warning("seed %d has no end: %s", seed, error.reason)
                    parts.append(Part(name, seed, math.nan, {}, 0, error.reason))
                    failure = error
                else:
                    parts.append(_part(name, seed, result))
                    metric = result.main_metric
                if not parts[-1].collapsed:
                    break
        if failure is not None and all(math.isnan(one.score) for one in parts if not one.is_replaced):
            raise failure
        summary = _summary("seeds", metric, parts, higher=job.kind.is_rising(metric))
        write_records(output / PREDICTIONS, read_records(output / summary.best / PREDICTIONS))
        return _finish(output, summary)


def refuse_same_seeds(seeds: Sequence[int]) -> None:
    """Refuse seeds of which one is named twice.

    Raises:
        UsageError: one is.
    """
    if len(set(seeds)) < len(seeds):
        raise UsageError("same-seed", "a seed is named twice", place="--seeds", value=",".join(map(str, seeds)))


def cross_validate(
    job: Job, settings: FinetuneSettings, output: Path, num_folds: int, *, keep: Literal["all", "best"] = "all"
) -> Summary:
    """Train on all folds but one, for each of them, and predict the one left out; finished runs are not repeated.

    Args:
        job: all rows, without dev rows.
        settings: of each run.
        output: the folder of all runs.
        num_folds: parts of the rows.
        keep: `all` trains the model to keep on all rows, as many epochs as the folds' best ones, in the median, and
            gives it the medians of what they have fitted, such as a temperature; `best` takes the best fold's.

    Raises:
        UsageError: fewer than two folds or more than there are rows that may be parted, a dev file, or the folder holds
            something else.
    """
    table = job.train
    folds = _dealt(job, num_folds, settings.seed)
    parts: list[Part] = []
    results: list[FinetuneResult] = []
    records: list[dict[str, Any]] = []
    with _held(output):
        for number, held in enumerate(folds, 1):
            log.info("fold %d of %d", number, num_folds)
            rest = np.setdiff1d(np.arange(len(table.rows)), held).tolist()
            inputs = job.inputs | {"fold": f"{number} of {num_folds}"}
            fold = replace(job, train=table.part(rest), dev=table.part(held), inputs=inputs)
            inner = settings.model_copy(update={"certify": settings.certify and keep == "best"})
            results.append(_run_part(fold, inner, output / f"fold-{number}"))
            parts.append(_part(f"fold-{number}", settings.seed, results[-1]))
            said = read_records(results[-1].predictions)
            records += [one | {"row": held[one["row"]], "fold": number} for one in said]
        write_records(output / PREDICTIONS, sorted(records, key=lambda one: one["row"]))
        metric = results[0].main_metric
        summary = _summary("folds", metric, parts, higher=job.kind.is_rising(metric))
        if keep == "all":
            last = round(statistics.median(one.best_epoch for one in results))
            log.info("all rows, %d epochs", last)
            options = with_medians(job.options, [one.model for one in results])
            inputs = job.inputs | {"folds": str(num_folds)}
            whole = replace(job, options=options, last_epoch=last, estimate=_means(parts), inputs=inputs)
            _run_part(whole, settings, output / "final")
            summary = replace(summary, kept="final")
        return _finish(output, summary)


def _dealt(job: Job, num_folds: int, seed: int) -> list[list[int]]:
    """Row numbers of each fold, none of which is empty."""
    table = job.train
    folds = deal(job.strata(table), num_folds, seed=seed, groups=job.groups(table)) if num_folds >= 2 else [[]]
    if job.dev is not None or not all(folds):
        raise UsageError(
            "bad-folds",
            f"{num_folds} folds of {len(table.rows)} rows" + (" and a dev file" if job.dev is not None else ""),
            place="--folds",
            expected="from 2 folds to as many as there are rows, those about one text counted as one; the folds are "
            "each other's dev rows",
        )
    return folds


@contextlib.contextmanager
def _held(output: Path) -> Iterator[None]:
    """Hold the folder of all runs for this process.

    Raises:
        UsageError: another process holds it, or something else lies in it.
    """
    with storage.locked(output):
        others = [path.name for path in output.iterdir() if not _OWN.fullmatch(path.name)]
        if others:
            raise UsageError(
                "foreign-folder",
                "the output folder holds something that is not a run over seeds or folds",
                place=output,
                value=", ".join(sorted(others)[:5]),
                remedy="choose an empty or a new folder",
            )
        yield


def copy_model(source: Path, target: Path) -> None:
    """Copy a model folder; an older target stays whole until the copy is."""
    with storage.replaced(target) as staging:
        for path in sorted(source.iterdir()):
            if path.name != storage.MANIFEST:
                shutil.copyfile(path, staging / path.name)


def _run_part(job: Job, settings: FinetuneSettings, folder: Path) -> FinetuneResult:
    """One of the runs, without the checkpoints that it ends with: they are several times as large as its model."""
    result = run_job(job, settings, folder)
    disk.remove(folder / "checkpoints")
    return result


def _part(name: str, seed: int, result: FinetuneResult) -> Part:
    numbers = {name: float(value) for name, value in result.scores.items() if isinstance(value, int | float)}
    return Part(name, seed, result.main_score, numbers, result.best_epoch, result.collapsed)


def _summary(kind: Literal["seeds", "folds"], metric: str, parts: list[Part], *, higher: bool) -> Summary:
    counted = counted_of(parts)
    scores = [one.score for one in counted]
    best = (max if higher else min)(counted, key=lambda one: one.score).name
    return Summary(
        kind,
        metric,
        parts,
        mean=statistics.fmean(scores),
        sd=statistics.stdev(scores) if len(scores) > 1 else 0.0,
        median=statistics.median(scores),
        low=min(scores),
        high=max(scores),
        num_collapsed=sum(one.collapsed is not None for one in parts),
        best=best,
        kept=best,
    )


def _means(parts: list[Part]) -> dict[str, float]:
    """Each score over the folds that have it: a fold without questions that have no answer has no score of them."""
    names = dict.fromkeys(name for one in parts for name in one.scores if not _NO_SCORE.search(name))
    return {name: statistics.fmean(one.scores[name] for one in parts if name in one.scores) for name in names}


def with_medians(options: Settings, models: list[Path]) -> Settings:
    """Settings of a task with what the folds have fitted, number by number in the median.

    Args:
        options: that the folds began with; only what differs from them was fitted.
        models: model folders of the folds.
    """
    given = options.model_dump(mode="json")
    found = [storage.read_json(model / "unmask.json")["meta"]["task"]["settings"] for model in models]
    fitted: dict[str, Any] = {}
    for name, value in given.items():
        values = [one[name] for one in found]
        if any(one != value for one in values):
            if all(isinstance(one, int | float) for one in values):
                fitted[name] = statistics.median(values)
            elif all(isinstance(one, list) for one in values):
                fitted[name] = [statistics.median(some) for some in zip(*values, strict=True)]
    return resolve(type(options), options.model_dump(), fitted)


def _finish(output: Path, summary: Summary) -> Summary:
    """Put the kept model and the summary into their places."""
    copy_model(output / summary.kept / "model", output / "model")
    write_summary(output, summary)
    return summary
