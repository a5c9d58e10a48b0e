"""Pre-train a RoBERTa from corpus folders: order, masks, loop, checkpoints, model folder."""

import contextlib
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from unmask import storage
from unmask.bundled import find_model
from unmask.data.batching import Batch
from unmask.data.blocks import PretrainStream, Vocabulary
from unmask.data.corpus import Corpus
from unmask.model.grow import POSITIONS
from unmask.model.places import with_continued
from unmask.runtime import Machine, Stop, stoppable
from unmask.tasks.base import Task
from unmask.tasks.mask_reader import MaskedLMSettings
from unmask.tasks.masked_lm import MaskedLM
from unmask.train.card import LEFT_OUT, is_about
from unmask.train.distributed import ALONE, Ranks, ranks
from unmask.train.finish import write_model
from unmask.train.fit import Trainer
from unmask.train.flops import peak_flops
from unmask.train.network import CorpusCheck, as_built, build_network, known_places, load_corpora
from unmask.train.progress import Progress
from unmask.train.report import write_report
from unmask.train.run import Run
from unmask.train.settings import CardSettings, PretrainSettings

log = logging.getLogger("unmask")


@dataclass(frozen=True)
class PretrainResult:
    """What a pre-training run ended with.

    Attributes:
        model: the model folder.
        report: the run's page.
        steps: optimizer steps.
        loss: nats per masked token on the held-out blocks.
        perplexity: e to the loss.
        bits_per_byte: the loss for each byte of text, comparable between vocabularies.
    """

    model: Path
    report: Path
    steps: int
    loss: float
    perplexity: float
    bits_per_byte: float


def pretrain(
    corpora: Sequence[Path], output: Path, settings: PretrainSettings, *, model: str | Path | None = None
) -> PretrainResult:
    """Train a masked language model; the same call again goes on where it ended.

    Args:
        corpora: written by `unmask corpus build`, all with the same tokenizer.
        output: the run folder.
        settings: resolved settings.
        model: folder to start from, or name of a bundled model; it grows to larger sizes in the settings. By default
            random weights.

    Raises:
        ArtefactError: corpus, model or checkpoints are missing or corrupt; nothing starts anew in silence.
        UsageError: the run folder belongs to other settings, another corpus or another process.
        DistributedError: another process of the run has died or hangs.
    """
    model = None if model is None else find_model(model)
    with ranks(settings.machine.strategy) as group:
        opened, tokenizer = load_corpora(corpora)
        settings = _with_own_card(settings, opened)
        task = build_network(tokenizer, settings, model)
        settings = as_built(settings, task.config)
        inputs = {"corpus": "+".join(corpus.fingerprint for corpus in opened)}
        sources = {f"corpus {corpus.folder.resolve().name}": corpus.fingerprint for corpus in opened}
        if model is not None:
            inputs["model"] = storage.weights_digest(model)
            sources[f"weights of {storage.told_name(model)}"] = inputs["model"]
        with Run.open(
            output,
            settings,
            inputs,
            keep=settings.keep_checkpoints,
            every=settings.save_every,
            is_async=settings.machine.async_save,
            ranks=group,
            places={"corpus": ", ".join(str(corpus.folder) for corpus in opened), "model": model},
        ) as run:
            if not run.is_finished:
                _Pretraining(run, opened, task, settings, sources, group, known_places(model)).train()
            else:
                log.info("this run is finished: %s", run.model)
            group.barrier()
        final = run.events("final")[-1]
        scores = final["scores"]
        return PretrainResult(
            run.model,
            run.folder / "report.html",
            final["step"],
            scores["nats_per_token"],
            scores["perplexity"],
            scores["bits_per_byte"],
        )


def held_out_losses(
    task: Task, batches: Iterable[Batch], where: Machine, *, group: Ranks = ALONE, stop: Stop | None = None
) -> list[float] | None:
    """Mean losses over some batches, in nats, without dropout; the ranks share the batches.

    Returns:
        One mean for each part of the objective, that of the masked tokens first; `None` when the process was asked to
        stop on the way.
    """
    task.eval()
    dealt, asked = list(batches), stop or Stop()
    totals = np.zeros((2, len(dealt[0].counts)))
    with torch.inference_mode(), where.autocast():
        for first in range(0, len(dealt), group.world_size):
            group.agree(asked)
            if asked.signal is not None:
                return None
            # A rank that is out of batches computes one all the same: where the weights are shared out, the other
            # ranks wait for its part of them.
            is_mine = first + group.rank < len(dealt)
            batch = dealt[first + group.rank if is_mine else first].to(where.device)
            sums = task.loss(task(batch), batch).reshape(-1).tolist()
            if is_mine:
                totals += (sums, batch.counts)
    losses, counts = np.reshape(group.sum(totals.flatten().tolist()), totals.shape)
    return list(losses / np.maximum(counts, 1))


def _with_own_card(settings: PretrainSettings, corpora: Sequence[Corpus]) -> PretrainSettings:
    """The settings, without a card that tells of other text than that of the corpora."""
    if is_about(settings.card.sources, (source.xxh3_128 for corpus in corpora for source in corpus.meta.sources)):
        return settings
    log.info(LEFT_OUT)
    return settings.model_copy(update={"card": CardSettings()})


class _Pretraining:
    """One run: what stays the same from its start to its end."""

    def __init__(
        self,
        run: Run,
        corpora: Sequence[Corpus],
        task: MaskedLM,
        settings: PretrainSettings,
        sources: dict[str, str],
        group: Ranks,
        known_places: int,
    ) -> None:
        self.run = run
        self.known_places = known_places
        self.sources = sources
        self.group = group
        self.settings = settings
        self.corpora = corpora
        self.where = run.machine(settings.machine)
        self.stream = PretrainStream(
            corpora,
            settings,
            vocabulary=Vocabulary.of(task.tokenizer),
            position_offset=task.config.position_offset,
        )
        self.trainer = Trainer(
            task,
            settings.optim,
            max_steps=settings.max_steps,
            machine=self.where,
            seed=settings.seed,
            max_seconds=settings.max_hours and settings.max_hours * 3600,
            guard=settings.guard,
            ranks=group,
        )

    def train(self) -> None:
        """Train, evaluate, save, and write report and model at the end."""
        settings, trainer, run = self.settings, self.trainer, self.run
        log.info("%s", self.stream.describe())
        log.info("%s parameters", f"{sum(one.numel() for one in trainer.task.parameters()):,}")
        run.checkpoints.check_space(_checkpoint_bytes(trainer))
        run.restore(trainer)
        self._saved_seconds = trainer.seconds
        peak = peak_flops(self.where) * self.group.world_size
        progress = Progress(run, trainer, settings.log_every, peak=peak)
        steps = self.stream.steps(
            trainer.step,
            rank=self.group.rank,
            world_size=self.group.world_size,
            workers=settings.machine.data_threads,
        )
        check = CorpusCheck(self.corpora if self.group.is_main else ())
        with stoppable() as stop, contextlib.closing(steps):
            self._evaluate_if_due(stop)
            run.end_if_asked(stop, trainer, {})
            for step in run.steps(trainer, steps, dict, stop):
                progress.show(step)
                if step.verdict == "roll back":
                    self._continue_places(run.roll_back(trainer))
                if self.stream.is_turn(trainer.step):
                    trainer.guard.renew()
                    self._continue_places(trainer.step)
                self._evaluate_if_due(stop)
                if self._is_saving_due():
                    check.look(wait=True)
                    run.save(trainer, {})
                run.end_if_asked(stop, trainer, {})
        run.checkpoints.wait()
        self._finish()

    def _continue_places(self, step: int) -> None:
        """Let places that no block before a step had go on from those before: longer blocks and texts read them."""
        config = self.trainer.task.config
        places = range(self._learned_places(step), config.max_length)
        if places and places.start:
            self.trainer.change(POSITIONS, partial(with_continued, offset=config.position_offset, places=places))

    def _learned_places(self, step: int) -> int:
        return min(max(self.stream.reached(step), self.known_places), self.trainer.task.config.max_length)

    def _is_saving_due(self) -> bool:
        settings, trainer = self.settings, self.trainer
        is_due = trainer.seconds - self._saved_seconds >= 60 * settings.save_minutes
        is_due |= trainer.is_over or trainer.step % settings.save_every == 0
        if is_due:
            self._saved_seconds = trainer.seconds
        return is_due

    def _evaluate_if_due(self, stop: Stop) -> None:
        """Score the held-out text, unless the run does not end here, or has done so before it was interrupted."""
        trainer, run = self.trainer, self.run
        is_due = trainer.is_over or (trainer.step > 0 and trainer.step % self.settings.eval_every == 0)
        known = {event["step"] for event in run.events("evaluation")} if is_due and self.group.is_main else set()
        if not is_due or self.group.sum([trainer.step in known])[0]:
            return
        self._continue_places(trainer.step)
        with trainer.averaged() as task:
            losses = held_out_losses(task, self.stream.held_out(), self.where, group=self.group, stop=stop)
        if losses is None:
            return
        loss = float(losses[0])
        bits = loss / math.log(2) / self.stream.bytes_per_token
        perplexity = math.exp(min(700.0, loss))
        pairs = {"pair_loss": float(losses[1])} if len(losses) > 1 else {}
        run.log("evaluation", step=trainer.step, loss=loss, perplexity=perplexity, bits_per_byte=bits, **pairs)
        told = [f"{loss:.4f} nats per masked token", f"perplexity {perplexity:.2f}", f"{bits:.4f} bits per byte"]
        told += [f"{value:.4f} nats per pair" for value in pairs.values()]
        log.info("held out: %s", ", ".join(told))

    def _finish(self) -> None:
        """Gather the weights of all ranks and write report and model."""
        with self.trainer.averaged():
            weights = self.trainer.parallel.whole_weights()
        if self.group.is_main:  # the others may not see yet what this rank has written
            last = self.run.events("evaluation")[-1]
            scores = {"nats_per_token": last["loss"]} | {name: last[name] for name in ("perplexity", "bits_per_byte")}
            task = self.trainer.task
            kept = MaskedLM(task.config, task.tokenizer, MaskedLMSettings())
            kept.load_state_dict({name: weights[name] for name in kept.state_dict()})
            self.run.log("final", step=self.trainer.step, scores=scores)
            write_report(self.run, "Pre-training", scores)
            places = self._learned_places(self.trainer.step)
            write_model(self.run, kept, self.settings, self.sources, notes={"places": places})


def _checkpoint_bytes(trainer: Trainer) -> int:
    """Weights, two moments and the running mean."""
    copies = 3 + bool(trainer.settings.ema_decay)
    return copies * sum(one.numel() * one.element_size() for one in trainer.task.parameters())
