"""How fast one size of network trains on this machine, from a few real optimizer steps."""

import gc
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import torch

from unmask.data.blocks import PretrainStream, Vocabulary
from unmask.data.corpus import Corpus
from unmask.runtime import Machine
from unmask.tasks.masked_lm import MaskedLM
from unmask.tokenizer.load import Tokenizer
from unmask.train.fit import Step, Trainer
from unmask.train.flops import pretraining_flops
from unmask.train.muon import Muon
from unmask.train.network import build_network
from unmask.train.settings import PretrainSettings

# The first step of a size is slower than the others and is not counted; of the others so many are enough.
_MIN_STEPS, _MAX_STEPS = 2, 30


@dataclass(frozen=True)
class Probe:
    """What is known of one size.

    Attributes:
        settings: of the run.
        num_parameters: all of them, the tied table once.
        body_parameters: those of the layers.
        moment_bytes: what the optimizer keeps.
        position_offset: of the network.
        step_seconds: time of one optimizer step.
        step_tokens: its real tokens.
        memory_bytes: most memory of the process.
        needed_bytes: what of it the training itself should need, by counting.
        flops_per_second: arithmetic of the products in that time.
        is_measured: whether steps were taken; else time and memory follow from a smaller size.
    """

    settings: PretrainSettings
    num_parameters: int
    body_parameters: int
    moment_bytes: int
    position_offset: int
    step_seconds: float
    step_tokens: float
    memory_bytes: int
    needed_bytes: int
    flops_per_second: float
    is_measured: bool

    @property
    def tokens_per_second(self) -> float:
        """Of training."""
        return self.step_tokens / self.step_seconds


def probe(
    corpora: Sequence[Corpus],
    tokenizer: Tokenizer,
    settings: PretrainSettings,
    where: Machine,
    *,
    seconds: float,
    limit: float,
    smaller: Probe | None = None,
) -> Probe:
    """Take optimizer steps for some seconds.

    Args:
        corpora: to train on.
        tokenizer: of the corpora.
        settings: of the run.
        where: the machine.
        seconds: to spend, about.
        limit: seconds that the fewest steps may take.
        smaller: a size whose pace says whether they do; without one they are taken in any case.
    """
    task = build_network(tokenizer, settings, None)
    stream = stream_of(corpora, tokenizer, settings, task.config.position_offset)
    trainer = _trainer(task, settings, where)
    flops = pretraining_flops(task.config, length=settings.block_length, mask_prob=settings.masking.prob_at(0.5))
    step_tokens = float(sum(batch.num_tokens for batch in stream.batch(settings.max_steps // 2)))
    expected = 0.0 if smaller is None else flops * step_tokens / smaller.flops_per_second
    is_measured = smaller is None or (1 + _MIN_STEPS) * expected <= limit
    moments = _moment_bytes(trainer)
    needed = _needed_bytes(task, moments, settings, where)
    if smaller is None or is_measured:
        _reset_peak(where)
        taken = _steps(trainer, stream, settings.max_steps // 2, seconds)
        step_seconds, step_tokens = median(one.seconds for one in taken), median(one.num_tokens for one in taken)
        memory = _peak_bytes(where)
    else:
        step_seconds, memory = expected, smaller.memory_bytes + max(0, needed - smaller.needed_bytes)
    return Probe(
        settings=settings,
        num_parameters=sum(one.numel() for one in task.parameters()),
        body_parameters=sum(one.numel() for one in task.encoder.layers.parameters()),
        moment_bytes=moments,
        position_offset=task.config.position_offset,
        step_seconds=step_seconds,
        step_tokens=step_tokens,
        memory_bytes=memory,
        needed_bytes=needed,
        flops_per_second=flops * step_tokens / step_seconds,
        is_measured=is_measured,
    )


def stream_of(
    corpora: Sequence[Corpus], tokenizer: Tokenizer, settings: PretrainSettings, position_offset: int
) -> PretrainStream:
    """The batches of a run with these settings."""
    return PretrainStream(corpora, settings, vocabulary=Vocabulary.of(tokenizer), position_offset=position_offset)


def _trainer(task: MaskedLM, settings: PretrainSettings, where: Machine) -> Trainer:
    return Trainer(task, settings.optim, max_steps=settings.max_steps, machine=where, seed=settings.seed)


def _steps(trainer: Trainer, stream: PretrainStream, first: int, seconds: float) -> list[Step]:
    """Steps in the middle of the run, where batches have their usual size, without the first one taken."""
    end = time.perf_counter() + seconds
    taken = []
    for step in trainer.fit(stream.steps(first)):
        taken.append(step)
        if len(taken) > _MAX_STEPS or (len(taken) > _MIN_STEPS and time.perf_counter() > end):
            break
    return taken[1:]


def _moment_bytes(trainer: Trainer) -> int:
    """float32 moments: one for each weight under Muon, two under AdamW."""
    return sum(
        4 * weight.numel() * (1 if isinstance(part, Muon) else 2)
        for part in trainer.optimizer.parts
        for group in part.param_groups
        for weight in group["params"]
    )


def _needed_bytes(task: MaskedLM, moments: int, settings: PretrainSettings, where: Machine) -> int:
    """Memory of training beside that of the libraries: weights, gradients, moments, and what the way back needs."""
    config = task.config
    item, tokens = where.dtype.itemsize, settings.micro_batch_size * settings.block_length
    weights = sum(one.numel() for one in task.parameters())
    # Numbers kept for each token and layer: measured peaks of 4 x 256 and 6 x 384 grow by this within a quarter.
    layer = 20 * config.hidden_size + 2 * config.num_attention_heads * settings.block_length
    targets = tokens * settings.masking.prob_at(0.5)
    return int(
        (8 + item) * weights
        + moments
        + tokens * config.num_hidden_layers * layer * item
        + targets * config.vocab_size * (8 + item)
    )


def _reset_peak(where: Machine) -> None:
    gc.collect()
    if where.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(where.device)


def _peak_bytes(where: Machine) -> int:
    """Most memory so far: on a card since the last reset, else of the process since its start."""
    if where.device.type == "cuda":
        return torch.cuda.max_memory_allocated(where.device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
