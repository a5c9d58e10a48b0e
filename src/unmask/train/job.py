"""What a fine-tuning works on: the task, its rows, and the model to start from; the same for all seeds."""

import logging
import math
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from unmask import storage
from unmask.bundled import LANGUAGES, bundled_model, find_model, model_for
from unmask.checkpoint import Model, load_model
from unmask.config import Settings, resolve
from unmask.data.infer import split_off
from unmask.data.recognise import find_splits, read_rows
from unmask.data.rejects import Rejects
from unmask.data.rows import Form, Reject, Table
from unmask.errors import DataError, UsageError
from unmask.model.config import HEADS_OF_TEXTS, EncoderConfig
from unmask.tasks import find_task
from unmask.tasks.base import Task
from unmask.tasks.choose import choose
from unmask.tasks.sound import checker, filled_rows, sound_rows
from unmask.train.settings import ColumnSettings, FinetuneSettings, ModelSettings

log = logging.getLogger("unmask")

SCRATCH_LR = 5e-4
LORA_LR_FACTOR = 10
AUTO, RANDOM = "auto", "random"  # in place of a model folder
_LOOKED_AT = 200  # rows whose script decides
_COLUMNS = ("text_column", "pair_column", "label_column")


@dataclass(frozen=True)
class Job:
    """Rows to learn, and what is known before the first step.

    Attributes:
        kind: the task.
        start: model to start from; `None` draws random weights.
        origin: its name, or that of its folder; `random` for random weights.
        train: rows to train on.
        dev: rows to choose the best epoch by; `None` trains for `last_epoch` epochs and keeps the last weights.
        options: settings of the task.
        inputs: fingerprints of what was read.
        notes: lines that tell the user what was understood.
        last_epoch: epoch after which the training ends, whatever its schedule; `None` for the schedule's end.
        estimate: scores that a run without dev rows is to be believed by, such as those of a cross-validation.
    """

    kind: type[Task]
    start: Model | None
    origin: str
    train: Table
    dev: Table | None
    options: Settings
    inputs: dict[str, str]
    notes: list[str] = field(default_factory=list)
    last_epoch: int | None = None
    estimate: dict[str, Any] = field(default_factory=dict)

    @property
    def data(self) -> dict[str, str]:
        """What is learned, from which start and judged by which rows, in words."""
        told = {"trained on": f"{self.train.path.name}, {len(self.train.rows):,} rows", "started from": self.origin}
        if self.dev is not None:
            is_split = self.dev.path == self.train.path
            held = "others of that file" if is_split else self.dev.path.name
            told["best epoch by"] = f"{held}, {len(self.dev.rows):,} rows"
        return told

    @property
    def places(self) -> dict[str, object]:
        """File or folder of each input that has a fingerprint."""
        dev = {} if self.dev is None else {"dev": self.dev.path}
        return {"file": self.train.path, "model": f"the model ({self.origin})", **dev}

    def strata(self, table: Table) -> list[str]:
        """Stratum of each row of a table."""
        return [self.kind.stratum(row, self.options) for row in table.rows]

    def groups(self, table: Table) -> list[Hashable | None]:
        """Group of each row of a table, whose rows are never parted."""
        return [self.kind.group(row, self.options) for row in table.rows]


def read_job(
    file: Path,
    *,
    dev: Path | None = None,
    model: Path | str | None = None,
    task: str | None = None,
    given: tuple[dict[str, Any], ...] = (),
    is_split: bool = True,
    output: Path | None = None,
) -> tuple[Job, FinetuneSettings]:
    """Read the rows and the model of a fine-tuning, and complete its settings.

    Args:
        file: labelled rows in any format that is read, or a folder with one such file for training.
        dev: rows to choose the best epoch on; by default the folder's file, or a share of `file` that is split off.
        model: folder to start from, or name of a bundled model; `auto` takes the bundled one of the texts' script;
            None or `random`, or `auto` with a shape in the settings, draws random weights.
        task: name in `TASKS`, or `module:Class`; by default what the rows are for.
        given: layers of settings, such as a recipe and flags.
        is_split: split dev rows off where there are none.
        output: run folder, beside which rows that are left out are listed (`data.skip_bad`).

    Raises:
        DataError: a row, column or label is wrong; its line is named.
        ArtefactError: the model folder is missing or corrupt; nothing starts from random weights in silence.
        UsageError: settings that do not go together.
    """
    if file.is_dir():
        splits = find_splits(file)
        file, dev = splits.train, dev or splits.dev
    asked = resolve(FinetuneSettings, *given)
    rejects = Rejects() if asked.data.skip_bad else None
    table = _table(file, asked.data, find_task(task).form if task else None, rejects)
    task = task or _choose(table, asked.data)
    kind = find_task(task)
    if asked.regularize.r_drop:
        kind.require_probabilities()
    table = _named_rows(table, kind, asked.data, _refuse if rejects is None else rejects)
    job = _understood(Job(kind, None, RANDOM, table, None, Settings(), {}), asked)
    if rejects is None:
        _filled_rows(job, table, _refuse)
    folder = _folder(model, job, asked)
    start = load_model(folder, head=kind.head_name) if folder is not None else None
    lr = _usual_lr(start) * (LORA_LR_FACTOR if asked.lora.rank else 1)
    settings = resolve(FinetuneSettings, {"optim": {"lr": lr}}, *given)
    if start is not None and settings.model.model_fields_set:
        raise UsageError(
            "unused-settings", "--model.* shapes a network from random weights, but --model gives one", place="[model]"
        )
    settings = _with_pooling(settings, kind, start)
    inputs = {
        "file": storage.digest(file),
        "model": RANDOM if folder is None else storage.weights_digest(folder),
        "task": task,
    }
    inputs |= {"dev": storage.digest(dev)} if dev else {}
    job = replace(job, start=start, origin=storage.told_name(folder) if folder is not None else RANDOM, inputs=inputs)
    job = _understood(job, settings) if _kept(job) else job
    _check_length(job, settings)
    if rejects is not None:
        job = _understood(replace(job, train=_filled_rows(job, table, rejects)), settings)
    if dev is not None:
        job = _with_dev(job, dev, asked.data, rejects)
    if rejects is not None:
        job = _sound(job, rejects)
        rejects.write(Path(f"{output or file.name}.rejects"))
    if job.dev is not None:
        note = f"{len(job.train.rows)} rows to train on, {len(job.dev.rows)} to choose the best epoch ({dev})"
        return replace(job, notes=[*job.notes, note]), settings
    return _split(job, settings) if is_split else job, settings


def _table(file: Path, asked: ColumnSettings, form: Form | None, rejects: Rejects | None) -> Table:
    """Rows of a file, of the named columns only where text and label are both named."""
    named = _named(asked)
    wanted = [*named.values()] if {"text_column", "label_column"} <= named.keys() else None
    return read_rows(file, wanted, form, names=asked.names, reject=rejects, tags=asked.label_column)


def _choose(table: Table, asked: ColumnSettings) -> str:
    task = choose(table, _named(asked))
    log.info("task: %s, by the look of %s; another one: --task NAME", task, table.path.name)
    return task


def _named(asked: ColumnSettings) -> dict[str, str]:
    return {name: value for name in _COLUMNS if (value := getattr(asked, name)) is not None}


def _understood(job: Job, settings: FinetuneSettings) -> Job:
    """The job with what the task makes of its rows."""
    asked, kind = settings.data, job.kind
    understood = kind.understand(job.train, settings.options | _named(asked) | {"skip_bad": asked.skip_bad})
    common = {"max_length": asked.max_length, "head_dropout": settings.head_dropout}
    common = {name: value for name, value in common.items() if name in kind.settings_class.model_fields}
    common = {name: value for name, value in common.items() if value is not None}
    kept = _kept(job)
    chosen = resolve(kind.settings_class, understood.settings, kept, common, settings.options, place="[options]")
    told = [f"{name} {value}" for name, value in kept.items() if getattr(chosen, name) == value]
    notes = [f"as in {job.origin}: {', '.join(told)}"] if told else []
    return replace(job, options=chosen, notes=[*understood.notes, *notes])


def _with_pooling(settings: FinetuneSettings, kind: type[Task], start: Model | None) -> FinetuneSettings:
    """The settings with what a head of whole texts will read, where that is the mean: as asked for, or as learned."""
    shape: ModelSettings | EncoderConfig = settings.model if start is None else start.config
    pooling = settings.classifier_pooling or shape.classifier_pooling
    if kind.head_name not in HEADS_OF_TEXTS:
        if settings.classifier_pooling == "mean":
            log.warning("the head of '%s' reads no whole texts: classifier_pooling is left aside", kind.name)
        return settings.model_copy(update={"classifier_pooling": None})
    if pooling == "cls":
        return settings
    log.info("the head reads the mean of a text's states: transformers opens the encoder alone")
    model = settings.model.model_copy(update={"classifier_pooling": pooling})
    return settings.model_copy(update={"classifier_pooling": pooling, "model": model})


def _check_length(job: Job, settings: FinetuneSettings) -> None:
    """Refuse inputs that are asked to be longer than the model's; what a folder asks for itself is its own matter."""
    asked = settings.data.max_length or settings.options.get("max_length")
    most = settings.model.max_length if job.start is None else job.start.config.max_length
    if asked and asked > most:
        raise UsageError(
            "max-length",
            f"the model takes {most} tokens",
            place="data.max_length",
            value=asked,
            remedy="leave it out or give less; longer texts are read in overlapping windows"
            + (f"; or shape a longer model: --model.max-length {asked}" if job.start is None else ""),
        )


def _kept(job: Job) -> dict[str, Any]:
    """Settings of the model to start from that go on holding: those of its own task, where they are no default."""
    kind, task = job.kind, job.start.meta.get("task", {}) if job.start is not None else {}
    if not kind.kept or task.get("name") != kind.name:
        return {}
    stored = resolve(kind.settings_class, task["settings"], place=job.origin)
    values = {name: getattr(stored, name) for name in kind.kept}
    return {name: one for name, one in values.items() if one != kind.settings_class.model_fields[name].default}


def _columns(job: Job) -> list[str]:
    """Columns of a table that the task reads; none of rows in other forms."""
    if job.train.form != "table":
        return []
    return [value for name, value in job.options if name.endswith("_column") and value is not None]


def _filled(job: Job) -> list[str]:
    """Columns that may not be empty: all but that of labels of which a row may have none."""
    empty = getattr(job.options, "label_column", None) if getattr(job.options, "multi_label", False) else None
    return [name for name in _columns(job) if name != empty]


def _named_rows(table: Table, kind: type[Task], asked: ColumnSettings, reject: Reject) -> Table:
    """Rows with something in the named columns, so that the task understands the rows that are left.

    Where a row may have several labels, only the task finds out whether it may have none.
    """
    named = _named(asked) if table.form == "table" else {}
    if "multi_label" in kind.settings_class.model_fields:
        named.pop("label_column", None)
    return filled_rows(table, [*named.values()], reject, label=asked.label_column)


def _filled_rows(job: Job, table: Table, reject: Reject) -> Table:
    return filled_rows(table, _filled(job), reject, label=getattr(job.options, "label_column", None))


def _refuse(error: DataError) -> None:
    """End the run at a bad row."""
    error.details["fix"] = f"{error.details['fix']}; to leave such rows out, and list them: --data.skip-bad"
    raise error


def _with_dev(job: Job, file: Path, asked: ColumnSettings, rejects: Rejects | None) -> Job:
    like, form = job.train.columns, job.train.form
    columns, tags = _columns(job) or None, asked.label_column or job.train.tag_column
    dev = read_rows(file, columns, form, names=asked.names, like=like, reject=rejects, tags=tags)
    if rejects is None:
        _filled_rows(job, dev, _refuse)
    return replace(job, dev=dev)


def _sound(job: Job, rejects: Rejects) -> Job:
    """The job without the rows that its task cannot take."""
    task = checker(job.kind, job.options, job.start, job.train)
    dev = None if job.dev is None else sound_rows(task, job.dev, rejects)
    return replace(job, train=sound_rows(task, job.train, rejects), dev=dev)


def _split(job: Job, settings: FinetuneSettings) -> Job:
    table = job.train
    rest, held = split_off(job.strata(table), settings.data.dev_share, seed=settings.seed, groups=job.groups(table))
    if not held:
        raise DataError(
            "too-few-rows",
            "no label has two rows, so none can be held out",
            place=table.path,
            remedy="add rows, or give a file of their own for the choice of the best epoch: --dev FILE",
        )
    note = f"{len(rest)} rows to train on, {len(held)} to choose the best epoch (split off)"
    inputs = job.inputs | {"held out": storage.text_digest(" ".join(map(str, held)))}
    return replace(job, train=table.part(rest), dev=table.part(held), notes=[*job.notes, note], inputs=inputs)


def _folder(model: Path | str | None, job: Job, asked: FinetuneSettings) -> Path | None:
    """Folder of the model to start from; None for random weights."""
    if model is None or str(model) == RANDOM:
        return None
    if str(model) != AUTO:
        return find_model(model)
    if asked.model.model_fields_set:
        return None
    rows = job.train.rows[:: math.ceil(len(job.train.rows) / _LOOKED_AT)]
    name = model_for(" ".join(job.kind.texts(row, job.options)) for row in rows)
    if name is None:
        log.info(
            "starting from random weights: no bundled model knows the script of most rows; another start: --model DIR"
        )
        return None
    log.info(
        "starting from %s, which comes with unmask and knows %s; another start: --model DIR, or --model %s",
        name, LANGUAGES[name], RANDOM,
    )  # fmt: skip
    return bundled_model(name)


def _usual_lr(start: Model | None) -> float:
    """The field's usual peak learning rates: smaller for wider networks (Liu et al. 2019, Turc et al. 2019)."""
    if start is None:
        return SCRATCH_LR
    width = start.config.hidden_size
    return 1e-5 if width >= 1024 else 2e-5 if width >= 768 else 5e-5 if width >= 512 else 3e-4
