"""Pre-train a RoBERTa from a corpus folder: order, masks, loop, checkpoints, model folder."""

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from unmask.config import resolve
from unmask.data.batching import Batch
from unmask.data.blocks import MaskedBlocks
from unmask.data.corpus import Corpus
from unmask.data.packing import FullSentences
from unmask.model.config import EncoderConfig
from unmask.runtime import Machine, stoppable
from unmask.tasks.base import Task
from unmask.tasks.masked_lm import MaskedLM, MaskedLMSettings
from unmask.tokenizer.load import Tokenizer
from unmask.train.finish import write_model
from unmask.train.fit import Trainer
from unmask.train.report import write_report
from unmask.train.run import Progress, Run
from unmask.train.settings import PretrainSettings

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
    """

    model: Path
    report: Path
    steps: int
    loss: float
    perplexity: float


def pretrain(corpus_folder: Path, output: Path, settings: PretrainSettings) -> PretrainResult:
    """Train a masked language model from random weights; the same call again goes on where it ended.

    Args:
        corpus_folder: written by `unmask corpus build`.
        output: the run folder.
        settings: resolved settings.

    Raises:
        ArtefactError: corpus or checkpoints are missing or corrupt.
        UsageError: the run folder belongs to other settings, another corpus or another process.
    """
    corpus = Corpus.open(corpus_folder)
    tokenizer = Tokenizer.load(Path(corpus_folder) / "tokenizer")
    with Run.open(output, settings, {"corpus": corpus.fingerprint}) as run:
        if not run.is_finished:
            _train(run, corpus, tokenizer, settings)
        else:
            log.info("this run is finished: %s", run.model)
        final = run.events("final")[-1]
        scores = final["scores"]
        return PretrainResult(
            run.model, run.folder / "report.html", final["step"], scores["nats_per_token"], scores["perplexity"]
        )


def held_out_loss(task: Task, batches: Iterable[Batch], where: Machine) -> float:
    """Mean loss over the masked tokens of some batches, in nats, without dropout."""
    task.eval()
    total, count = 0.0, 0
    with torch.inference_mode(), where.autocast():
        for batch in batches:
            batch = batch.to(where.device)
            total += float(task.loss(task(batch), batch))
            count += batch.num_targets
    return total / max(1, count)


def _train(run: Run, corpus: Corpus, tokenizer: Tokenizer, settings: PretrainSettings) -> None:
    where = run.machine(settings.machine)
    task = _network(tokenizer, settings)
    blocks = _blocks(corpus, tokenizer, settings, task.config.position_offset)
    trainer = Trainer(task, settings.optim, max_steps=settings.max_steps, machine=where, seed=settings.seed)
    epochs = settings.max_steps * settings.global_batch_size / blocks.num_training
    log.info(
        "%s tokens in %s blocks of %d, %.1f epochs; %s parameters",
        f"{corpus.num_tokens:,}", f"{blocks.num_training:,}", settings.block_length, epochs,
        f"{sum(parameter.numel() for parameter in task.parameters()):,}",
    )  # fmt: skip
    run.restore(trainer)
    steps = blocks.steps(
        trainer.step, global_batch_size=settings.global_batch_size, micro_batch_size=settings.micro_batch_size
    )
    progress = Progress(run, settings.max_steps, settings.log_every)
    with stoppable() as stop:
        for step in run.steps(trainer, steps, dict):
            progress.show(step)
            is_last = step.step == settings.max_steps
            if is_last or step.step % settings.eval_every == 0:
                loss = held_out_loss(task, blocks.held_out(settings.micro_batch_size), where)
                run.log("evaluation", step=step.step, loss=loss)
                log.info("held out: %.4f nats per masked token, perplexity %.2f", loss, math.exp(min(700.0, loss)))
            if is_last or step.step % settings.save_every == 0:
                run.save(trainer, {}, keep=settings.keep_checkpoints)
            run.end_if_asked(stop, trainer, {}, keep=settings.keep_checkpoints)
    loss = run.events("evaluation")[-1]["loss"]
    scores = {"nats_per_token": loss, "perplexity": math.exp(min(700.0, loss))}
    run.log("final", step=trainer.step, scores=scores)
    write_report(run, "Pre-training", scores)
    write_model(run, task, settings, {"corpus": corpus.fingerprint})


def _network(tokenizer: Tokenizer, settings: PretrainSettings) -> MaskedLM:
    config = resolve(
        EncoderConfig,
        settings.model.model_dump(),
        {
            "family": tokenizer.family,
            "type_vocab_size": 2 if tokenizer.family == "bert" else 1,
            "vocab_size": tokenizer.vocab_size,
            "pad_token_id": tokenizer.pad_id,
            "max_length": max(settings.model.max_length, settings.block_length),
        },
        place="[model]",
    )
    task = MaskedLM(config, tokenizer, MaskedLMSettings(masking=settings.masking))
    task.init_weights(settings.seed)
    return task


def _blocks(corpus: Corpus, tokenizer: Tokenizer, settings: PretrainSettings, offset: int) -> MaskedBlocks:
    return MaskedBlocks(
        FullSentences(corpus, max_length=settings.block_length, cls_id=tokenizer.cls_id, sep_id=tokenizer.sep_id),
        settings.masking,
        seed=settings.seed,
        num_eval=settings.eval_blocks,
        mask_id=tokenizer.mask_id,
        special_ids=tokenizer.special_ids,
        vocab_size=tokenizer.vocab_size,
        position_offset=offset,
    )
