"""Fine-tune on a file of rows: train with early stopping, keep the best weights, report."""

import contextlib
import json
import logging
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unmask import storage
from unmask.config import resolve
from unmask.data.batching import Features
from unmask.data.rows import Table
from unmask.errors import UsageError
from unmask.evaluate import Evaluation, evaluate
from unmask.model.config import EncoderConfig
from unmask.predict import Predictor, say_truncated
from unmask.runtime import Stop, stoppable
from unmask.tasks.base import Prediction, Task
from unmask.tokenizer.train import train as train_tokenizer
from unmask.train.answers import look_at
from unmask.train.collapse import is_one_answer, why_collapsed
from unmask.train.finish import certify_model, score_model, write_model
from unmask.train.fit import Trainer
from unmask.train.job import Job, read_job
from unmask.train.lora import choose_trained, merge
from unmask.train.predictions import PREDICTIONS, write_predictions
from unmask.train.progress import Progress
from unmask.train.regularize import Regularizer
from unmask.train.report import write_report
from unmask.train.run import Run
from unmask.train.sampling import Sampler
from unmask.train.settings import FinetuneSettings, RegularizeSettings

log = logging.getLogger("unmask")

SCRATCH_VOCAB_SIZE = 8192
_KEEP = 2


@dataclass(frozen=True)
class FinetuneResult:
    """What a fine-tuning run ended with.

    Attributes:
        model: the model folder.
        report: the run's page.
        predictions: what the kept model says about each dev row, one JSON object a line.
        main_metric: name of the metric that the best step was chosen by.
        scores: metrics of the kept model on the dev rows.
        best_step: the step whose weights were kept.
        best_epoch: the epoch that ended with it.
        collapsed: why the run counts as collapsed; `None` for one that has learned something.
    """

    model: Path
    report: Path
    predictions: Path
    main_metric: str
    scores: dict[str, Any]
    best_step: int
    best_epoch: int
    collapsed: str | None

    @property
    def main_score(self) -> float:
        """Value of the main metric."""
        return float(self.scores[self.main_metric])


@dataclass(frozen=True)
class Epoch:
    """A pass over the training rows and the evaluation behind it.

    Attributes:
        epoch: its number, from 1.
        score: main metric on the dev rows; 0 without dev rows.
    """

    epoch: int
    score: float


def finetune(
    file: Path,
    output: Path,
    *,
    dev: Path | None = None,
    model: Path | str | None = None,
    task: str | None = None,
    given: tuple[dict[str, Any], ...] = (),
) -> FinetuneResult:
    """Train a task on a file of rows; the same call again goes on where it ended.

    Args:
        file: labelled rows in any format that is read, or a folder with one such file for training.
        output: the run folder.
        dev: rows to choose the best epoch on; by default the folder's file, or a share of `file` that is split off.
        model: folder to start from, or name of a bundled model; `auto` takes the bundled one of the texts' script;
            by default small random weights, and a tokenizer trained on the texts.
        task: name in `TASKS`, or `module:Class`; by default what the rows are for.
        given: layers of settings, such as a recipe and flags.

    Raises:
        DataError: a row, column or label is wrong; its line is named.
        ArtefactError: the model folder is missing or corrupt; nothing starts from random weights in silence.
    """
    return run_job(*read_job(file, dev=dev, model=model, task=task, given=given, output=output), output)


def run_job(job: Job, settings: FinetuneSettings, output: Path) -> FinetuneResult:
    """Do a fine-tuning in its run folder, or what is left of it."""
    for _ in run_epochs(job, settings, output):
        pass
    return read_result(output)


def run_epochs(job: Job, settings: FinetuneSettings, output: Path) -> Generator[Epoch, None, None]:
    """The same as a generator: it yields after each evaluation, and who stops asking leaves a run that can go on."""
    with Run.open(output, settings, job.inputs, keep=_KEEP, places=job.places) as run:
        if run.is_finished:
            log.info("this run is finished: %s", run.model)
        else:
            yield from _Finetuning(run, job, settings).train()


def read_result(folder: Path) -> FinetuneResult:
    """What a finished run ended with."""
    lines = (folder / "events.jsonl").read_text("utf-8").splitlines()
    final = json.loads(next(line for line in reversed(lines) if line.startswith('{"event": "final"')))
    places = folder / "model", folder / "report.html", folder / PREDICTIONS
    kept = ("scores", "best_step", "best_epoch", "collapsed")
    return FinetuneResult(*places, final["metric"], **{name: final[name] for name in kept})


class _Finetuning:
    """One run: what stays the same from its start to its end."""

    def __init__(self, run: Run, job: Job, settings: FinetuneSettings) -> None:
        self.run = run
        self.job = job
        self.settings = settings
        self.state: dict[str, Any] = {
            "best_step": 0,
            "best_score": None,
            "worse": 0,
            "evaluated_step": 0,
            "has_begun": False,
        }
        self.per_epoch = 1

    def train(self) -> Iterator[Epoch]:
        """Train, keep the weights of the best evaluation, write report and model."""
        job, settings = self.job, self.settings
        where = self.run.machine(settings.machine)
        task = self._build()
        features = task.encode(job.train.rows, place=job.train.place, is_training=True)
        if job.dev is not None:
            task.encode(job.dev.rows, place=job.dev.place, is_training=True)
        self._explain(task, features)
        sampler = Sampler(features, settings, strata=job.strata(job.train), is_coupled=task.is_coupled)
        self.per_epoch = sampler.num_steps
        max_steps = self.per_epoch * settings.epochs
        trainer = Trainer(task, settings.optim, max_steps=max_steps, machine=where, seed=settings.seed)
        trainer.regularizer = Regularizer(task, settings.regularize)
        predictor = Predictor(task, where=where)
        if not self.run.events("step"):
            self._check(predictor)
        self.state |= self.run.restore(trainer) or {}
        progress = Progress(self.run, trainer, settings.log_every)
        with stoppable() as stop:
            if self._is_epoch(trainer.step) and self.state["evaluated_step"] < trainer.step:
                yield self._end_epoch(trainer, predictor, stop)
            chosen = () if self._is_over(trainer.step) else sampler.steps(trainer.step)
            batches = ([task.collate([features[at] for at in part]) for part in parts] for parts in chosen)
            for step in self.run.steps(trainer, batches, lambda: self.state, stop):
                progress.show(step)
                if self._is_epoch(step.step):
                    yield self._end_epoch(trainer, predictor, stop)
                elif step.step % settings.save_every == 0:
                    self.run.save(trainer, self.state)
                self.run.end_if_asked(stop, trainer, self.state)
                if self._is_over(step.step):
                    break
        self._finish(trainer)

    def _check(self, predictor: Predictor) -> None:
        """Find out before the first step whether the task has the metric that was asked for."""
        dev, asked = self.job.dev, self.settings.metric
        if dev is not None and asked not in (None, predictor.task.main_metric):
            self._numbers(evaluate(predictor, dev))

    def _is_epoch(self, step: int) -> bool:
        return step > 0 and step % self.per_epoch == 0

    def _is_over(self, step: int) -> bool:
        last = self.job.last_epoch
        return self.state["worse"] >= self.settings.patience or (last is not None and step >= last * self.per_epoch)

    def _build(self) -> Task:
        settings, start = self.settings, self.job.start
        if start is None:
            texts = [text for row in self.job.train.rows for text in self.job.kind.texts(row, self.job.options)]
            tokenizer = train_tokenizer(texts, vocab_size=SCRATCH_VOCAB_SIZE)
            config = resolve(
                EncoderConfig,
                settings.model.model_dump(),
                {"vocab_size": tokenizer.vocab_size, "pad_token_id": tokenizer.pad_id},
                place="[model]",
            )
            log.info(
                "starting from small random weights (%d x %d) and a tokenizer of %d pieces "
                "trained on these texts; a pre-trained folder gives better answers",
                config.num_hidden_layers, config.hidden_size, tokenizer.vocab_size,
            )  # fmt: skip
        else:
            config, tokenizer = start.config, start.tokenizer
        given = {"hidden_dropout_prob": settings.hidden_dropout, "classifier_pooling": settings.classifier_pooling}
        config = config.model_copy(update={name: value for name, value in given.items() if value is not None})
        task = self.job.kind(config, tokenizer, self.job.options)
        task.encoder.set_attention_dropout(settings.attention_dropout)
        task.init_weights(settings.seed)
        if start is not None:
            fresh = task.load_weights(start)
            log.info("weights taken over; new for this task, with random values: %s", ", ".join(fresh) or "nothing")
        choose_trained(task, settings)
        return task

    def _explain(self, task: Task, features: list[Features]) -> None:
        job, settings = self.job, self.settings
        for note in job.notes:
            log.info("%s", note)
        log.info(
            "up to %d epochs in batches of %d, learning rate %g",
            job.last_epoch or settings.epochs,
            settings.batch_size,
            settings.optim.lr,
        )
        sizes = [(one.numel(), one.requires_grad) for one in task.parameters()]
        if not all(is_trained for _, is_trained in sizes):
            trained = sum(size for size, is_trained in sizes if is_trained)
            log.info("%d of %d weights are trained", trained, sum(size for size, _ in sizes))
        if settings.balanced_sampling and len(set(job.strata(job.train))) < 2:
            log.warning("the rows have no classes that could be balanced: each epoch draws all of them")
        say_truncated(features)
        rows = len(job.train.rows)
        if len(features) > rows and not task.is_coupled:
            log.info("%d rows make %d inputs: long texts are read in overlapping windows", rows, len(features))
        dev = job.dev.rows if job.dev is not None else []
        known = {tuple(task.texts(row, task.settings)) for row in job.train.rows}
        shared = sum(tuple(task.texts(row, task.settings)) in known for row in dev)
        if shared:
            log.warning("%d of %d dev texts are among the training rows too: scores flatter", shared, len(dev))

    def _end_epoch(self, trainer: Trainer, predictor: Predictor, stop: Stop) -> Epoch:
        """Evaluate and save; when the process is asked to stop meanwhile, save and leave: the next start evaluates."""
        step, score = trainer.step, 0.0
        if self.job.dev is None:
            self.state |= {"best_step": step, "evaluated_step": step}
        else:
            try:
                with trainer.averaged(), _leaving(trainer.task, stop):
                    given = trainer.task.settings
                    result = evaluate(predictor, self.job.dev, fit=trainer.task.is_chosen_by_fit)
                    trainer.task.settings = given
            except _StopError:
                trainer.ranks.agree(stop)
                self.run.end_if_asked(stop, trainer, self.state)
                raise
            score = self._judge(result, self.job.dev, step)
        self.run.save(trainer, self.state)
        return Epoch(step // self.per_epoch, score)

    def _numbers(self, result: Evaluation) -> tuple[str, dict[str, float]]:
        """Name of the score to choose by, and all scores that are one number."""
        metric = self.settings.metric or result.main_metric
        numbers = {name: value for name, value in result.scores.items() if isinstance(value, int | float)}
        goals = [name for name in numbers if name not in self.job.kind.other_numbers]
        if metric not in goals:
            raise UsageError(
                "unknown-metric",
                f"the task has no score '{metric}' to choose a model by",
                place="metric",
                expected=", ".join(goals),
                remedy="give one of these as --metric, or none to take the task's own",
            )
        return metric, numbers

    def _judge(self, result: Evaluation, dev: Table, step: int) -> float:
        metric, numbers = self._numbers(result)
        epoch = step // self.per_epoch
        self.run.log("evaluation", step=step, epoch=epoch, **numbers)
        score, best = numbers[metric], self.state["best_score"]
        is_best = best is None or (score > best if self.job.kind.is_rising(metric) else score < best)
        log.info("epoch %d: dev %s %.4f%s", epoch, metric, score, "  (best so far)" if is_best else "")
        self.state["evaluated_step"] = step
        if is_best:
            self.state |= {"best_step": step, "best_score": score, "worse": 0}
        elif self.state["has_begun"]:
            self.state["worse"] += 1
        self.state["has_begun"] |= not is_one_answer(result.predictions, self.job.strata(dev))
        return score

    def _finish(self, trainer: Trainer) -> None:
        """Score the kept weights on the CPU, wherever they were trained, and write report and model."""
        best_step, dev = self.state["best_step"], self.job.dev
        self.run.load_weights(trainer, best_step)
        task = trainer.final_task().cpu()
        merge(task)
        scores, found, collapsed = self.job.estimate, None, None
        fitted: tuple[str, ...] = ()
        metric = self.settings.metric or task.main_metric
        if dev is not None:
            result = score_model(task, dev)
            scores, fitted = result.scores, result.fitted
            collapsed = self._why_collapsed(trainer.step, scores[metric], result.predictions, dev)
            found = look_at(task, result.predictions, dev.rows)
            write_predictions(self.run.folder / PREDICTIONS, task, result.predictions, dev)
        certificates = []
        if dev is not None and self.settings.certify and collapsed is None:  # who knows nothing has nothing to lose
            certificates = certify_model(task, dev)
        self.run.log(
            "final",
            step=trainer.step,
            best_step=best_step,
            best_epoch=best_step // self.per_epoch,
            metric=metric,
            scores=scores,
            scored_on="folds" if dev is None else "dev",
            data=self.job.data,
            fitted=fitted,
            collapsed=collapsed,
            precisions={one.precision: one.to_json() | {"is_passed": one.is_passed} for one in certificates},
        )
        write_report(self.run, "Fine-tuning", scores, found)
        fingerprint = storage.digest(self.job.train.path)
        data = {self.job.train.path.name: fingerprint, "started from": self.job.origin}
        write_model(self.run, task, self.settings, data, certificates=certificates)

    def _why_collapsed(self, step: int, score: float, answers: Sequence[Prediction], dev: Table) -> str | None:
        """Say it aloud too."""
        options, trained_on = self.job.options, self.job.strata(self.job.train)
        is_bare = (
            self.job.kind.name == "classification"
            and not getattr(options, "multi_label", False)
            and getattr(options, "class_weights", "none") == "none"
            and not getattr(options, "label_smoothing", 0.0)
            and self.settings.regularize == RegularizeSettings()
        )
        losses = [one["loss"] for one in self.run.events("step") if one["step"] > step - self.per_epoch]
        why = why_collapsed(
            loss=sum(losses) / len(losses) if is_bare and losses else None,
            score=score,
            train=sorted(set(trained_on)) if self.settings.balanced_sampling else trained_on,
            answers=answers,
            gold=self.job.strata(dev),
        )
        if why is not None:
            log.warning("this run has collapsed: %s; another --seed or a lower --optim.lr may help", why)
        return why


class _StopError(Exception):
    """The process was asked to stop in the middle of an evaluation."""


@contextlib.contextmanager
def _leaving(task: Task, stop: Stop) -> Iterator[None]:
    """Look between two batches whether the process was asked to stop, and leave the block then."""

    def look(*_: object) -> None:
        if stop.asked is not None:
            raise _StopError

    hook = task.encoder.register_forward_pre_hook(look)
    try:
        yield
    finally:
        hook.remove()
