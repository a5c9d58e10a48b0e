"""Fine-tune on a file of rows: infer the columns, split, train with early stopping, keep the best, report."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unmask import storage
from unmask.checkpoint import Model, load_model
from unmask.config import resolve
from unmask.data.batching import Batch, Features, shuffled_batches
from unmask.data.infer import Columns, infer_columns, split_off
from unmask.data.rows import Table, read_table
from unmask.errors import DataError, UsageError
from unmask.evaluate import Evaluation, evaluate
from unmask.model.config import EncoderConfig
from unmask.predict import Predictor, say_truncated
from unmask.runtime import stoppable
from unmask.tasks import find_task
from unmask.tasks.base import Task
from unmask.tokenizer.load import Tokenizer
from unmask.tokenizer.train import train
from unmask.train.finish import write_model
from unmask.train.fit import Trainer
from unmask.train.progress import Progress
from unmask.train.report import write_report
from unmask.train.run import Run
from unmask.train.settings import FinetuneSettings, ModelSettings

log = logging.getLogger("unmask")

SCRATCH_VOCAB_SIZE = 8192
SCRATCH_LR = 5e-4
_KEEP = 2


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
    columns: Columns
    train: Table
    dev: Table
    note: str


def finetune(
    file: Path,
    output: Path,
    *,
    dev: Path | None = None,
    model: Path | None = None,
    task: str = "classification",
    given: tuple[dict[str, Any], ...] = (),
) -> FinetuneResult:
    """Train a task on a file of rows; the same call again goes on where it ended.

    Args:
        file: CSV, TSV, JSONL or Parquet with a text column and a label column.
        output: the run folder.
        dev: rows to choose the best epoch on; by default a share of `file` is split off.
        model: folder to start from; by default small random weights, and a tokenizer trained on the texts.
        task: name in `TASKS`, or `module:Class`.
        given: layers of settings, such as a recipe and flags.

    Raises:
        DataError: a row, column or label is wrong; its line is named.
        ArtefactError: the model folder is missing or corrupt; nothing starts from random weights in silence.
    """
    kind = find_task(task)
    if "labels" not in kind.settings_class.model_fields:
        raise UsageError(
            "no-finetuning", f"the task '{task}' is trained by `unmask pretrain`", expected="classification"
        )
    start = load_model(model, head=kind.head_name) if model is not None else None
    settings = resolve(FinetuneSettings, {"optim": {"lr": _usual_lr(start)}}, *given)
    if start is not None and settings.model != ModelSettings():
        raise UsageError(
            "unused-settings", "--model.* shapes a network from random weights, but --model gives one", place="[model]"
        )
    data = _read(file, dev, settings)
    inputs = {"file": storage.digest(file), "model": _fingerprint(model), "task": task}
    inputs |= {"dev": storage.digest(dev)} if dev else {}
    with Run.open(output, settings, inputs, keep=_KEEP) as run:
        if run.is_finished:
            log.info("this run is finished: %s", run.model)
        else:
            _Finetuning(run, data, settings).train(kind, start)
        final = run.events("final")[-1]
        metric = settings.metric or kind.main_metric
        return FinetuneResult(run.model, run.folder / "report.html", metric, final["scores"], final["best_step"])


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
        lengths = np.array([len(one) for one in features])
        per_epoch = len(shuffled_batches(lengths, batch_size=settings.batch_size, seed=settings.seed, epoch=0))
        max_steps = per_epoch * settings.epochs
        trainer = Trainer(task, settings.optim, max_steps=max_steps, machine=where, seed=settings.seed)
        self.state = self.run.restore(trainer) or self.state
        progress = Progress(self.run, trainer, settings.log_every)
        predictor = Predictor(task, where=where)
        batches = () if self._is_over() else self._batches(task, features, lengths, trainer.step, per_epoch)
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
        columns, settings = self.data.columns, self.settings
        values = {
            "labels": columns.labels,
            "text_column": columns.text,
            "pair_column": columns.pair,
            "label_column": columns.label,
            "max_length": settings.data.max_length,
            "head_dropout": settings.head_dropout,
        }
        if start is None:
            tokenizer = _scratch_tokenizer(self.data)
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
        task = kind(config, tokenizer, kind.settings_class.model_validate(values))
        task.encoder.set_attention_dropout(settings.attention_dropout)
        task.init_weights(settings.seed)
        if start is not None:
            fresh = task.load_weights(start)
            log.info("weights taken over; new for this task, with random values: %s", ", ".join(fresh) or "nothing")
        return task

    def _explain(self, task: Task, features: list[Features]) -> None:
        columns, data, settings = self.data.columns, self.data, self.settings
        text = " + ".join(task.text_columns)
        log.info(
            "text: %s | label: %s | %d classes: %s", text, columns.label, len(columns.labels), _some(columns.labels)
        )
        log.info(
            "%d rows to train on, %d to choose the best epoch (%s)", len(data.train.rows), len(data.dev.rows), data.note
        )
        log.info(
            "up to %d epochs in batches of %d, learning rate %g",
            settings.epochs,
            settings.batch_size,
            settings.optim.lr,
        )
        say_truncated(features)
        known = {tuple(row[name] for name in task.text_columns) for row in data.train.rows}
        shared = sum(tuple(row[name] for name in task.text_columns) in known for row in data.dev.rows)
        if shared:
            log.warning(
                "%d of %d dev texts stand in the training rows too: the scores flatter", shared, len(data.dev.rows)
            )

    def _batches(
        self, task: Task, features: list[Features], lengths: np.ndarray, step: int, per_epoch: int
    ) -> Iterator[list[Batch]]:
        while True:
            epoch, first = divmod(step, per_epoch)
            order = shuffled_batches(lengths, batch_size=self.settings.batch_size, seed=self.settings.seed, epoch=epoch)
            for rows in order[first:]:
                yield [task.collate([features[row] for row in part]) for part in self._cut(rows, lengths)]
            step = (epoch + 1) * per_epoch

    def _cut(self, rows: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
        """A batch in as many parts as `max_tokens` asks for."""
        num_parts = -(-int(lengths[rows].sum()) // self.settings.max_tokens)
        return np.array_split(rows, min(num_parts, len(rows)))

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
            result = evaluate(Predictor(task), self.data.dev)
            self.run.log("final", step=trainer.step, best_step=best_step, scores=result.scores)
            write_report(self.run, "Fine-tuning", result.scores, _worst(result, self.data, task))
            fingerprint = storage.digest(self.data.train.path)
            write_model(self.run, task, self.settings, {self.data.train.path.name: fingerprint})


def _read(file: Path, dev: Path | None, settings: FinetuneSettings) -> _Data:
    asked = settings.data
    named = [name for name in (asked.text_column, asked.pair_column, asked.label_column) if name is not None]
    table = read_table(file, named if asked.text_column and asked.label_column else None)
    columns = infer_columns(table, text=asked.text_column, pair=asked.pair_column, label=asked.label_column)
    if dev is not None:
        used = [name for name in (columns.text, columns.pair, columns.label) if name is not None]
        return _Data(columns, table, read_table(dev, used), str(dev))
    rest, chosen = split_off([row[columns.label] for row in table.rows], asked.dev_share, seed=settings.seed)
    if not chosen:
        raise DataError(
            "too-few-rows",
            "no label has two rows, so none can be held out",
            place=file,
            remedy="add rows, or give a file of their own for the choice of the best epoch: --dev FILE",
        )
    return _Data(columns, _part(table, rest), _part(table, chosen), "split off")


def _fingerprint(model: Path | None) -> str:
    """Hash of a model folder's weights; `random` without a folder."""
    if model is None:
        return "random"
    return "-".join(storage.digest(path) for path in sorted(model.glob("*.safetensors")))


def _part(table: Table, indices: list[int]) -> Table:
    return Table(
        table.path, table.columns, [table.rows[index] for index in indices], [table.lines[index] for index in indices]
    )


def _usual_lr(start: Model | None) -> float:
    """The field's usual peak learning rates: smaller for wider networks (Liu et al. 2019, Turc et al. 2019)."""
    if start is None:
        return SCRATCH_LR
    width = start.config.hidden_size
    return 1e-5 if width >= 1024 else 2e-5 if width >= 768 else 5e-5 if width >= 512 else 1e-4


def _scratch_tokenizer(data: _Data) -> Tokenizer:
    columns = [name for name in (data.columns.text, data.columns.pair) if name is not None]
    texts = [row[name] for row in data.train.rows for name in columns]
    return train(texts, vocab_size=SCRATCH_VOCAB_SIZE)


def _worst(result: Evaluation, data: _Data, task: Task, count: int = 20) -> list[dict[str, Any]]:
    wrong = [
        {
            "text": " | ".join(row[name] for name in task.text_columns)[:300],
            "label": row[data.columns.label],
            "answer": answer.label,
            "score": answer.score,
        }
        for row, answer in zip(data.dev.rows, result.predictions, strict=True)
        if answer.label != row[data.columns.label]
    ]
    return sorted(wrong, key=lambda one: -one["score"])[:count]


def _some(names: tuple[str, ...], count: int = 6) -> str:
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")
