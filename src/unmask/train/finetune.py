"""Fine-tune on a file of rows: infer the columns, split, train with early stopping, keep the best, report."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unmask import storage
from unmask.checkpoint import Model, load_model
from unmask.config import Settings, resolve
from unmask.data.batching import Batch, Features, shuffled_batches, units_of
from unmask.data.infer import split_off
from unmask.data.recognise import find_splits, read_rows
from unmask.data.rows import Form, Table
from unmask.errors import DataError, UsageError
from unmask.evaluate import evaluate
from unmask.model.config import EncoderConfig
from unmask.predict import Predictor, say_truncated
from unmask.runtime import stoppable
from unmask.tasks import find_task
from unmask.tasks.base import Task
from unmask.tasks.choose import choose
from unmask.tokenizer.train import train
from unmask.train.answers import look_at
from unmask.train.finish import write_model
from unmask.train.fit import Trainer
from unmask.train.progress import Progress
from unmask.train.report import write_report
from unmask.train.run import Run
from unmask.train.settings import ColumnSettings, FinetuneSettings, ModelSettings

log = logging.getLogger("unmask")

SCRATCH_VOCAB_SIZE = 8192
SCRATCH_LR = 5e-4
_KEEP = 2
_COLUMNS = ("text_column", "pair_column", "label_column")


@dataclass(frozen=True)
class FinetuneResult:
    """What a fine-tuning run ended with.

    Attributes:
        model: the model folder.
        report: the run's page.
        main_metric: name of the metric that the best step was chosen by.
        scores: metrics of the kept model on the dev rows.
        best_step: the step whose weights were kept.
    """

    model: Path
    report: Path
    main_metric: str
    scores: dict[str, Any]
    best_step: int


@dataclass(frozen=True)
class _Data:
    """Rows to train on and to choose by, and what the task makes of them."""

    train: Table
    dev: Table
    settings: Settings
    notes: list[str]


def finetune(
    file: Path,
    output: Path,
    *,
    dev: Path | None = None,
    model: Path | None = None,
    task: str | None = None,
    given: tuple[dict[str, Any], ...] = (),
) -> FinetuneResult:
    """Train a task on a file of rows; the same call again goes on where it ended.

    Args:
        file: labelled rows in any format that is read, or a folder with one such file for training.
        output: the run folder.
        dev: rows to choose the best epoch on; by default the folder's file, or a share of `file` that is split off.
        model: folder to start from; by default small random weights, and a tokenizer trained on the texts.
        task: name in `TASKS`, or `module:Class`; by default what the rows are for.
        given: layers of settings, such as a recipe and flags.

    Raises:
        DataError: a row, column or label is wrong; its line is named.
        ArtefactError: the model folder is missing or corrupt; nothing starts from random weights in silence.
    """
    if file.is_dir():
        splits = find_splits(file)
        file, dev = splits.train, dev or splits.dev
    asked = resolve(FinetuneSettings, *given).data
    table = _table(file, asked, find_task(task).form if task else None)
    task = task or _choose(table, asked)
    kind = find_task(task)
    start = load_model(model, head=kind.head_name) if model is not None else None
    settings = resolve(FinetuneSettings, {"optim": {"lr": _usual_lr(start)}}, *given)
    if start is not None and settings.model != ModelSettings():
        raise UsageError(
            "unused-settings", "--model.* shapes a network from random weights, but --model gives one", place="[model]"
        )
    data = _read(kind, table, dev, settings)
    inputs = {"file": storage.digest(file), "model": _fingerprint(model), "task": task}
    inputs |= {"dev": storage.digest(dev)} if dev else {}
    with Run.open(output, settings, inputs, keep=_KEEP) as run:
        if run.is_finished:
            log.info("this run is finished: %s", run.model)
        else:
            _Finetuning(run, data, settings).train(kind, start)
        final = run.events("final")[-1]
        report = run.folder / "report.html"
        return FinetuneResult(run.model, report, final["metric"], final["scores"], final["best_step"])


class _Finetuning:
    """One run: what stays the same from its start to its end."""

    def __init__(self, run: Run, data: _Data, settings: FinetuneSettings) -> None:
        self.run = run
        self.data = data
        self.settings = settings
        self.state: dict[str, Any] = {"best_step": 0, "best_score": None, "worse": 0}

    def train(self, kind: type[Task], start: Model | None) -> None:
        """Train, keep the weights of the best evaluation, write report and model."""
        settings = self.settings
        where = self.run.machine(settings.machine)
        task = self._build(kind, start)
        features = task.encode(self.data.train.rows, place=self.data.train.place, is_training=True)
        task.encode(self.data.dev.rows, place=self.data.dev.place, is_training=True)
        self._explain(task, features)
        units = units_of(features, is_coupled=task.is_coupled)
        lengths = np.array([sum(len(features[index]) for index in unit) for unit in units])
        per_epoch = len(shuffled_batches(lengths, batch_size=settings.batch_size, seed=settings.seed, epoch=0))
        max_steps = per_epoch * settings.epochs
        trainer = Trainer(task, settings.optim, max_steps=max_steps, machine=where, seed=settings.seed)
        self.state = self.run.restore(trainer) or self.state
        progress = Progress(self.run, trainer, settings.log_every)
        predictor = Predictor(task, where=where)
        batches = () if self._is_over() else self._batches(task, features, units, lengths, trainer.step)
        with stoppable() as stop:
            for step in self.run.steps(trainer, batches, lambda: self.state, stop):
                progress.show(step)
                is_epoch = step.step % per_epoch == 0
                if is_epoch:
                    with trainer.averaged():
                        self._evaluate(predictor, step.step, per_epoch)
                if is_epoch or step.step % settings.save_every == 0:
                    self.run.save(trainer, self.state)
                self.run.end_if_asked(stop, trainer, self.state)
                if self._is_over():
                    break
        self._finish(trainer)

    def _is_over(self) -> bool:
        return bool(self.state["worse"] >= self.settings.patience)

    def _build(self, kind: type[Task], start: Model | None) -> Task:
        settings = self.settings
        if start is None:
            texts = [text for row in self.data.train.rows for text in kind.texts(row, self.data.settings)]
            tokenizer = train(texts, vocab_size=SCRATCH_VOCAB_SIZE)
            config = resolve(
                EncoderConfig,
                settings.model.model_dump(),
                {"vocab_size": tokenizer.vocab_size, "pad_token_id": tokenizer.pad_id},
                place="[model]",
            )
            log.info(
                "no --model given: starting from small random weights (%d x %d) and a tokenizer of %d pieces "
                "trained on these texts; a pre-trained folder gives better answers",
                config.num_hidden_layers, config.hidden_size, tokenizer.vocab_size,
            )  # fmt: skip
        else:
            config, tokenizer = start.config, start.tokenizer
        task = kind(config, tokenizer, self.data.settings)
        task.encoder.set_attention_dropout(settings.attention_dropout)
        task.init_weights(settings.seed)
        if start is not None:
            fresh = task.load_weights(start)
            log.info("weights taken over; new for this task, with random values: %s", ", ".join(fresh) or "nothing")
        return task

    def _explain(self, task: Task, features: list[Features]) -> None:
        data, settings = self.data, self.settings
        for note in data.notes:
            log.info("%s", note)
        log.info(
            "up to %d epochs in batches of %d, learning rate %g",
            settings.epochs,
            settings.batch_size,
            settings.optim.lr,
        )
        say_truncated(features)
        known = {tuple(task.texts(row, task.settings)) for row in data.train.rows}
        shared = sum(tuple(task.texts(row, task.settings)) in known for row in data.dev.rows)
        if shared:
            log.warning(
                "%d of %d dev texts are among the training rows too: scores flatter", shared, len(data.dev.rows)
            )

    def _batches(
        self, task: Task, features: list[Features], units: list[np.ndarray], lengths: np.ndarray, step: int
    ) -> Iterator[list[Batch]]:
        epoch, size, seed = 0, self.settings.batch_size, self.settings.seed
        while True:
            order = shuffled_batches(lengths, batch_size=size, seed=seed, epoch=epoch)
            for chosen in order[step:]:
                parts = [np.concatenate([units[place] for place in part]) for part in self._cut(chosen, lengths)]
                yield [task.collate([features[index] for index in part]) for part in parts]
            step = max(0, step - len(order))
            epoch += 1

    def _cut(self, units: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
        """A batch in as many parts as `max_tokens` asks for."""
        num_parts = -(-int(lengths[units].sum()) // self.settings.max_tokens)
        return np.array_split(units, min(num_parts, len(units)))

    def _evaluate(self, predictor: Predictor, step: int, per_epoch: int) -> None:
        result = evaluate(predictor, self.data.dev)
        metric = self.settings.metric or result.main_metric
        numbers = {name: value for name, value in result.scores.items() if isinstance(value, int | float)}
        if metric not in numbers:
            raise UsageError(
                "unknown-metric", f"the task has no score '{metric}'", place="metric", expected=", ".join(numbers)
            )
        self.run.log("evaluation", step=step, epoch=step // per_epoch, **numbers)
        score, best = numbers[metric], self.state["best_score"]
        is_better = best is None or (score > best if predictor.task.higher_is_better else score < best)
        log.info("epoch %d: dev %s %.4f%s", step // per_epoch, metric, score, "  (best so far)" if is_better else "")
        if is_better:
            self.state = {"best_step": step, "best_score": score, "worse": 0}
        else:
            self.state |= {"worse": self.state["worse"] + 1}

    def _finish(self, trainer: Trainer) -> None:
        """Score the kept weights as users will run them, on the CPU in float32, and write report and model."""
        best_step = self.state["best_step"]
        self.run.load_weights(trainer, best_step)
        with trainer.averaged():
            task = trainer.task.cpu()
            result = evaluate(Predictor(task), self.data.dev, fit=True)
            metric = self.settings.metric or result.main_metric
            self.run.log("final", step=trainer.step, best_step=best_step, metric=metric, scores=result.scores)
            found = look_at(task, result.predictions, self.data.dev.rows)
            write_report(self.run, "Fine-tuning", result.scores, found)
            fingerprint = storage.digest(self.data.train.path)
            write_model(self.run, task, self.settings, {self.data.train.path.name: fingerprint})


def _table(file: Path, asked: ColumnSettings, form: Form | None) -> Table:
    """Rows of a file, of the named columns only where text and label are both named."""
    named = _named(asked)
    return read_rows(file, [*named.values()] if {"text_column", "label_column"} <= named.keys() else None, form)


def _choose(table: Table, asked: ColumnSettings) -> str:
    task = choose(table, _named(asked))
    log.info("task: %s, by the look of %s; another one: --task NAME", task, table.path.name)
    return task


def _named(asked: ColumnSettings) -> dict[str, str]:
    return {name: value for name in _COLUMNS if (value := getattr(asked, name)) is not None}


def _read(kind: type[Task], table: Table, dev: Path | None, settings: FinetuneSettings) -> _Data:
    asked = settings.data
    understood = kind.understand(table, settings.options | _named(asked))
    common = {"max_length": asked.max_length, "head_dropout": settings.head_dropout}
    common = {name: value for name, value in common.items() if name in kind.settings_class.model_fields}
    chosen = resolve(kind.settings_class, understood.settings, common, settings.options, place="[options]")
    if dev is not None:
        columns = [value for name, value in chosen if name.endswith("_column") and value is not None]
        given = read_rows(dev, columns if table.form == "table" else None, table.form)
        note = f"{len(table.rows)} rows to train on, {len(given.rows)} to choose the best epoch ({dev})"
        return _Data(table, given, chosen, [*understood.notes, note])
    rest, held = split_off(
        [kind.stratum(row, chosen) for row in table.rows],
        asked.dev_share,
        seed=settings.seed,
        groups=[kind.group(row, chosen) for row in table.rows],
    )
    if not held:
        raise DataError(
            "too-few-rows",
            "no label has two rows, so none can be held out",
            place=table.path,
            remedy="add rows, or give a file of their own for the choice of the best epoch: --dev FILE",
        )
    note = f"{len(rest)} rows to train on, {len(held)} to choose the best epoch (split off)"
    return _Data(table.part(rest), table.part(held), chosen, [*understood.notes, note])


def _fingerprint(model: Path | None) -> str:
    """Hash of a model folder's weights; `random` without a folder."""
    if model is None:
        return "random"
    return "-".join(storage.digest(path) for path in sorted(model.glob("*.safetensors")))


def _usual_lr(start: Model | None) -> float:
    """The field's usual peak learning rates: smaller for wider networks (Liu et al. 2019, Turc et al. 2019)."""
    if start is None:
        return SCRATCH_LR
    width = start.config.hidden_size
    return 1e-5 if width >= 1024 else 2e-5 if width >= 768 else 5e-5 if width >= 512 else 1e-4
