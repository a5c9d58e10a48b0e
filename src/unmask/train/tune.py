"""Search for good settings of a fine-tuning: trials of optuna, each a run folder, cut short when they fall behind.

TUNE/study.log is optuna's journal, TUNE/trials/ holds the runs, TUNE/best.toml the recipe of the best one, TUNE/model
its model, TUNE/trials.tsv the table of all.
"""

import difflib
import logging
import math
import time
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import tomli_w
from pydantic import model_validator

from unmask import disk, storage
from unmask.config import Settings, field_names, resolve
from unmask.errors import NumericError, UsageError
from unmask.train.finetune import read_result, run_epochs
from unmask.train.folds import copy_model
from unmask.train.job import Job, read_job
from unmask.train.settings import FinetuneSettings, TuneSettings

try:
    import optuna
except ImportError:
    optuna = None

log = logging.getLogger("unmask")

JOURNAL, RECIPE, TABLE = "study.log", "best.toml", "trials.tsv"
_STARTUP_TRIALS = 5


class Range(Settings):
    """Numbers between two others."""

    low: int | float
    """Least value."""
    high: int | float
    """Greatest value; if both are whole numbers, only whole numbers are tried."""
    log: bool = False
    """Try each order of magnitude as often as the others."""

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"orders of magnitude need a low above 0, not {self.low}")
        return self


Space = Mapping[str, Range | list[Any]]
JobOf = Callable[[dict[str, Any]], tuple[Job, FinetuneSettings]]

_FREE = {"machine", "log_every", "save_every"}
_NAMES = field_names(FinetuneSettings)


@dataclass(frozen=True)
class Trial:
    """One set of values and what it gave.

    Attributes:
        number: from 0.
        state: `complete`, `pruned` or `fail` (its loss was not finite, or its values do not go together).
        score: best dev score; `None` where it failed.
        values: of the settings searched.
    """

    number: int
    state: str
    score: float | None
    values: dict[str, Any]


@dataclass(frozen=True)
class TuneResult:
    """What a search has found.

    Attributes:
        metric: name of the score.
        best: the best trial.
        trials: all of them, in order.
        recipe: its settings, for `unmask finetune --recipe`.
        model: its model folder.
    """

    metric: str
    best: Trial
    trials: list[Trial]
    recipe: Path
    model: Path

    def to_lines(self) -> list[str]:
        """A table, the best trial first."""
        names = list(self.best.values)
        order = sorted(self.trials, key=lambda one: (one is not self.best, one.number))
        rows = [["trial", "state", self.metric, *names]]
        for one in order:
            score = "" if one.score is None else f"{one.score:.4f}"
            rows.append([str(one.number), one.state, score, *(_short(one.values[name]) for name in names)])
        return ["\t".join(row) for row in rows]


def tune(
    file: Path,
    output: Path,
    asked: TuneSettings,
    *,
    dev: Path | None = None,
    model: Path | str | None = None,
    task: str | None = None,
    given: tuple[dict[str, Any], ...] = (),
) -> TuneResult:
    """Search; the same call again goes on where it ended, in the middle of a trial too.

    The next values are a function of the seed and of the trials before (TPE, Bergstra et al. 2011), so that a search
    that was interrupted tries the same as one that was not. A trial ends early when its score is below the median of
    the others after as many epochs.

    Args:
        file: labelled rows, as for `finetune`.
        output: folder of the search.
        asked: how long, and among what.
        dev: rows to score on; by default a share of `file`, the same in all trials.
        model: folder to start from.
        task: its name; by default what the rows are for.
        given: layers of settings that all trials share.

    Raises:
        UsageError: optuna is not installed, the space is no good, or the folder belongs to another search.
        NumericError: no trial has come to its end.
    """
    if optuna is None:
        raise UsageError(
            "missing-extra", "the search needs the package optuna, which is not installed",
            remedy="pip install 'unmask[tune]'",
        )  # fmt: skip
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def job_of(values: dict[str, Any]) -> tuple[Job, FinetuneSettings]:
        layers = (*given, {"certify": False}, nested(values))  # the best settings are certified when they are used
        return read_job(file, dev=dev, model=model, task=task, given=layers, output=output)

    job, settings = job_of({})
    fixed = {name for layer in given for name, _ in _flat(layer)}
    space = default_space(settings, without=fixed) if asked.space is None else read_space(asked.space)
    identity = {
        "inputs": job.inputs,
        "settings": settings.model_dump(mode="json", exclude=_FREE),
        "space": {name: one.model_dump() if isinstance(one, Range) else one for name, one in space.items()},
    }
    with storage.locked(output):
        is_rising = job.kind.is_rising(settings.metric or str(job.kind.main_metric))
        search = _Search(output, space, identity, settings.seed, is_rising=is_rising)
        end = time.monotonic() + 60 * (asked.minutes or math.inf)
        while len(search.done()) < asked.trials and time.monotonic() < end:
            search.try_next(_quiet(job_of))
        return search.finish(given)


class _Search:
    """The study in a folder, and its runs."""

    def __init__(self, output: Path, space: Space, identity: dict[str, Any], seed: int, *, is_rising: bool) -> None:
        self.output = output
        self.space = space
        self.seed = seed
        backend = optuna.storages.journal.JournalFileBackend(str(output / JOURNAL))
        self.study = optuna.create_study(
            study_name="unmask",
            storage=optuna.storages.JournalStorage(backend),
            direction="maximize" if is_rising else "minimize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=_STARTUP_TRIALS, n_warmup_steps=1),
            load_if_exists=True,
        )
        known = self.study.user_attrs.get("identity", identity)
        if known != identity:
            others = [name for name in identity if known.get(name) != identity[name]]
            raise UsageError(
                "other-search",
                f"the folder belongs to a search with other {', '.join(others)}",
                place=output,
                remedy="use the same file, settings and space to go on with it, or another --output",
            )
        self.study.set_user_attr("identity", identity)
        self._take_up()

    def _take_up(self) -> None:
        """Put trials that a dead process left in the middle at the head of the queue, with what they have reported."""
        for left in self.study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
            if "end" in left.user_attrs:
                self._tell(left.number, **left.user_attrs["end"])
                continue
            reports = list(left.intermediate_values.items())
            self.study.enqueue_trial(left.params, user_attrs={"reports": reports})
            self.study.tell(left.number, state=optuna.trial.TrialState.FAIL)

    def _tell(self, number: int, state: str, score: float | None) -> None:
        value = score if state == "complete" else None
        self.study.tell(number, value, state=optuna.trial.TrialState[state.upper()])

    def done(self) -> list[Trial]:
        """Trials that have come to an end, in order."""
        ends = [one for one in self.study.trials if "end" in one.user_attrs]
        return [Trial(at, **one.user_attrs["end"], values=one.params) for at, one in enumerate(ends)]

    def folder(self, number: int) -> Path:
        """The run of a trial."""
        return self.output / "trials" / f"trial-{number:03d}"

    def try_next(self, job_of: JobOf) -> None:
        """Do one trial, or what is left of one.

        Args:
            job_of: gives rows and settings for values of the space.
        """
        number = len(self.done())
        self.study.sampler = optuna.samplers.TPESampler(
            seed=self.seed * 1_000_003 + number, n_startup_trials=_STARTUP_TRIALS
        )
        trial = self.study.ask()
        values = {name: _suggest(trial, name, choices) for name, choices in self.space.items()}
        log.info("trial %d: %s", number, ", ".join(f"{name} {_short(value)}" for name, value in values.items()))
        for epoch, score in trial.user_attrs.get("reports", ()):
            trial.report(score, epoch)
        state, score = self._run(trial, number, lambda: job_of(values))
        log.info("trial %d: %s%s", number, state, "" if score is None else f", {score:.4f}")
        trial.set_user_attr("end", {"state": state, "score": score})
        self._tell(trial.number, state, score)
        self._tidy()

    def _run(
        self, trial: "optuna.Trial", number: int, job_of: Callable[[], tuple[Job, FinetuneSettings]]
    ) -> tuple[str, float | None]:
        """State and score of a trial."""
        folder, better = self.folder(number), max if self.study.direction.name == "MAXIMIZE" else min
        scores = [score for _, score in trial.user_attrs.get("reports", ())]
        try:
            epochs = run_epochs(*job_of(), folder)
            for epoch in epochs:
                trial.report(epoch.score, epoch.epoch)
                scores.append(epoch.score)
                if trial.should_prune():
                    epochs.close()
                    return "pruned", better(scores)
        except (NumericError, UsageError) as error:
            log.warning("trial %d failed: %s", number, error.reason)
            return "fail", None
        return "complete", read_result(folder).main_score

    def best(self) -> Trial | None:
        """The trial with the best score that has a model."""
        whole = [one for one in self.done() if one.state == "complete" and one.score is not None]
        sign = 1 if self.study.direction.name == "MAXIMIZE" else -1
        return max(whole, key=lambda one: sign * (one.score or 0.0), default=None)

    def _tidy(self) -> None:
        """Keep the checkpoints of no trial that has ended, and the model of the best alone."""
        best = self.best()
        for one in self.done():
            disk.remove(self.folder(one.number) / "checkpoints")
            if best is None or one.number != best.number:
                disk.remove(self.folder(one.number) / "model")

    def finish(self, given: tuple[dict[str, Any], ...]) -> TuneResult:
        """Write recipe, model and table.

        Args:
            given: layers of settings that all trials share.
        """
        best = self.best()
        if best is None:
            raise NumericError(
                "no-trial", "no trial has come to its end", place=self.output, remedy="give more --trials or --minutes"
            )
        found = read_result(self.folder(best.number))
        result = TuneResult(found.main_metric, best, self.done(), self.output / RECIPE, self.output / "model")
        chosen = resolve(FinetuneSettings, *given, nested(best.values))
        recipe = chosen.model_dump(mode="json", exclude_unset=True, exclude_none=True)
        about = f"# {found.main_metric} {best.score} on the dev rows: trial {best.number} of {len(result.trials)}\n"
        storage.write_text(result.recipe, about + tomli_w.dumps({"command": "finetune", **recipe}))
        storage.write_text(self.output / TABLE, "\n".join(result.to_lines()) + "\n")
        copy_model(self.folder(best.number) / "model", result.model)
        return result


def default_space(settings: FinetuneSettings, *, without: Collection[str] = ()) -> Space:
    """The usual ranges, around the usual learning rate of the model at hand (Liu et al. 2019, table 10, and wider).

    Args:
        settings: that the search begins with.
        without: names of settings that the user has fixed.
    """
    lr = settings.optim.lr
    space: dict[str, Range | list[Any]] = {
        "optim.lr": Range(low=lr / 4, high=lr * 4, log=True),
        "batch_size": [8, 16, 32],
        "epochs": Range(low=2, high=10),
        "optim.warmup_ratio": Range(low=0.0, high=0.2),
        "optim.weight_decay": Range(low=0.001, high=0.3, log=True),
        "optim.layer_lr_decay": Range(low=0.7, high=1.0),
        "hidden_dropout": Range(low=0.0, high=0.2),
        "head_dropout": Range(low=0.0, high=0.3),
    }
    return {name: choices for name, choices in space.items() if name not in without}


def read_space(path: Path) -> Space:
    """Read a search space: `"optim.lr" = {low = 1e-5, high = 1e-3, log = true}` or `batch_size = [8, 16]`.

    Raises:
        UsageError: no such file, no TOML, a setting that is not known, or neither a range nor a list.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise UsageError("bad-space", f"the search space cannot be read: {error}", place=path) from None
    space: dict[str, Range | list[Any]] = {}
    for name, value in _flat(content):
        if name not in _NAMES and not name.startswith("options."):
            raise _unknown(name, path)
        if isinstance(value, dict):
            space[name] = resolve(Range, value, place=f"{path}, {name}")
        elif isinstance(value, list) and value:
            space[name] = value
        else:
            raise UsageError(
                "bad-space",
                f"'{name}' is neither a range nor a list",
                place=path,
                value=value,
                expected="{low = 0.1, high = 0.5} or [8, 16, 32]; a single value belongs into a recipe",
            )
    if not space:
        raise UsageError("bad-space", "the search space is empty", place=path)
    return space


def _unknown(name: str, path: Path) -> UsageError:
    near = [known for known in _NAMES if known.endswith(f".{name}")] or difflib.get_close_matches(name, _NAMES, n=1)
    section, _, last = near[0].rpartition(".") if near else ("", "", "")
    return UsageError(
        "unknown-setting",
        f"there is no setting '{name}'" + (f"; did you mean '{near[0]}'?" if near else ""),
        place=path,
        remedy=f'write {last} below a line [{section}], or "{near[0]}" in quotes'
        if section
        else "docs/reference/settings.md lists every setting",
    )


def _quiet(job_of: JobOf) -> JobOf:
    """The same, without telling again what it told of the same rows before; warnings stay."""

    def quiet(values: dict[str, Any]) -> tuple[Job, FinetuneSettings]:
        level = log.level
        log.setLevel(logging.WARNING)
        try:
            return job_of(values)
        finally:
            log.setLevel(level)

    return quiet


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted names as nested sections: `{"optim.lr": 1}` is `{"optim": {"lr": 1}}`."""
    sections: dict[str, Any] = {}
    for name, value in values.items():
        *path, last = name.split(".")
        section = sections
        for part in path:
            section = section.setdefault(part, {})
        section[last] = value
    return sections


def _suggest(trial: "optuna.Trial", name: str, choices: Range | list[Any]) -> Any:
    if isinstance(choices, list):
        return trial.suggest_categorical(name, choices)
    is_whole = isinstance(choices.low, int) and isinstance(choices.high, int)
    suggest = trial.suggest_int if is_whole else trial.suggest_float
    return suggest(name, choices.low, choices.high, log=choices.log)


def _flat(content: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values; a table with `low` in it is a value."""
    for name, value in content.items():
        if isinstance(value, dict) and "low" not in value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
