"""How large a network, and for how many steps: what fits into some hours on this machine with this corpus."""

import logging
import math
import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unmask.config import field_names, resolve, to_toml
from unmask.data.corpus import Corpus
from unmask.runtime import machine, use_cpu
from unmask.study.pace import Probe, probe, stream_of
from unmask.tokenizer.load import Tokenizer
from unmask.train.network import load_corpora
from unmask.train.settings import PretrainSettings

log = logging.getLogger("unmask")

# Layers and width: BERT-tiny and BERT-mini (Turc et al. 2019), one between, and RoBERTa-base.
SIZES = ((2, 128), (4, 256), (6, 384), (12, 768))
_HEAD_WIDTH = 64
# Share of the time that evaluations, checkpoints and the start take.
OVERHEAD = 0.05
# Compute-optimal language models see about so many tokens for each parameter (Hoffmann et al. 2022, table 3).
TOKENS_PER_PARAMETER = 20
# Up to so many passes repeated text is about as good as new one, and beyond the second number it gives next to nothing
# (Muennighoff et al. 2023, sections 5 and 6).
GOOD_EPOCHS, LAST_EPOCHS = 4, 16
# MiniBERTas (Zhang et al. 2021): words of text, the size that did best on them, its perplexity.
MINIBERTAS = ((1e6, "6 x 512", 134.2), (1e7, "12 x 768", 10.78), (1e8, "12 x 768", 4.61), (1e9, "12 x 768", 3.84))
_BYTES_PER_WORD = 6
# Below so much text MiniBERTas of 12 layers did worse than those of 6.
_LITTLE_TEXT_BYTES = 3e6 * _BYTES_PER_WORD
_SMALL_LAYERS = 6
_EVALUATIONS = 40
_SAVE_SECONDS, _LOG_SECONDS = 600.0, 20.0


@dataclass(frozen=True)
class Candidate:
    """One size of network and what the time gives it.

    Attributes:
        num_hidden_layers: layers.
        hidden_size: width.
        num_parameters: all of them, the tied table once.
        body_parameters: those of the layers.
        tokens_per_second: of training.
        is_measured: whether it was measured here; else it follows from the arithmetic of the largest measured size.
        num_steps: optimizer steps in the time.
        step_seconds: time of one.
        num_tokens: tokens seen in all steps.
        epochs: passes over the training text.
        hours: time of the whole run.
        memory_bytes: most memory of the process, about.
        disk_bytes: of checkpoints and model at the same time.
        settings: of such a run.
    """

    num_hidden_layers: int
    hidden_size: int
    num_parameters: int
    body_parameters: int
    tokens_per_second: float
    is_measured: bool
    num_steps: int
    step_seconds: float
    num_tokens: int
    epochs: float
    hours: float
    memory_bytes: int
    disk_bytes: int
    settings: PretrainSettings

    @property
    def tokens_per_parameter(self) -> float:
        """Tokens seen for each parameter of the layers."""
        return self.num_tokens / self.body_parameters


@dataclass(frozen=True)
class Plan:
    """What to train.

    Attributes:
        candidates: the sizes, smallest first.
        chosen: number of the recommended one.
        reasons: why, one sentence each.
        probe_seconds: time that measuring took.
    """

    candidates: tuple[Candidate, ...]
    chosen: int
    reasons: tuple[str, ...]
    probe_seconds: float

    @property
    def best(self) -> Candidate:
        """The recommended candidate."""
        return self.candidates[self.chosen]

    def to_lines(self) -> Iterator[str]:
        """A table of the candidates, and the reasons."""
        yield (
            f"{'':<2}{'size':<9} {'parameters':>12} {'tokens/s':>9} {'steps':>10} {'tokens':>8} {'a parameter':>11} "
            f"{'epochs':>7} {'lr':>8} {'hours':>6} {'memory':>8} {'disk':>8}"
        )
        for number, one in enumerate(self.candidates):
            yield (
                f"{'> ' if number == self.chosen else '  '}{f'{one.num_hidden_layers} x {one.hidden_size}':<9} "
                f"{one.num_parameters:>12,} {one.tokens_per_second:>8,.0f}{' ' if one.is_measured else '*'} "
                f"{one.num_steps:>10,} {one.num_tokens / 1e6:>7,.0f}M {one.tokens_per_parameter:>11,.1f} "
                f"{one.epochs:>7.2f} {one.settings.optim.lr:>8.1e} {one.hours:>6.2f} "
                f"{one.memory_bytes / 1e6:>6,.0f}MB {one.disk_bytes / 1e6:>6,.0f}MB"
            )
        if not all(one.is_measured for one in self.candidates):
            yield "* not measured: from the arithmetic of the largest size that was"
        settings = self.best.settings
        yield f"a step: {settings.global_batch_size} blocks of {settings.block_length} tokens"
        yield from self.reasons

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        rows = [
            {
                **vars(one),
                "tokens_per_parameter": one.tokens_per_parameter,
                "settings": one.settings.model_dump(mode="json"),
            }
            for one in self.candidates
        ]
        return {"candidates": rows, "chosen": self.chosen, "reasons": self.reasons, "probe_seconds": self.probe_seconds}


def plan(
    folders: Sequence[Path],
    settings: PretrainSettings,
    *,
    hours: float,
    probe_seconds: float = 60.0,
    sizes: Sequence[tuple[int, int]] = SIZES,
) -> Plan:
    """Measure this machine with real optimizer steps and count what each size of network gets in some hours.

    Args:
        folders: of the corpora.
        settings: of a run; its size, learning rate, number of steps and intervals are replaced.
        hours: of the whole run.
        probe_seconds: of measuring, about; sizes that do not fit into it follow from the arithmetic.
        sizes: layers and width of each candidate, smallest first.

    Raises:
        ArtefactError: a folder is no corpus, or is damaged.
        UsageError: the settings do not fit the corpora.
    """
    start = time.perf_counter()
    corpora, tokenizer = load_corpora(folders)
    use_cpu(settings.machine.threads or None)
    where = machine(settings.machine.dtype, settings.machine.device)
    candidates: list[Candidate] = []
    last: Probe | None = None
    for number, size in enumerate(sizes):
        sized = with_size(settings, *size)
        left = start + probe_seconds - time.perf_counter()
        share = left / (len(sizes) - number)
        last = probe(corpora, tokenizer, sized, where, seconds=share, limit=left, smaller=last)
        log.info(
            "%d x %d: %s tokens/s%s",
            *size,
            f"{last.tokens_per_second:,.0f}",
            "" if last.is_measured else " (not measured)",
        )
        candidates.append(_candidate(last, corpora, tokenizer, hours))
    num_bytes = sum(corpus.meta.total("num_bytes") for corpus in corpora)
    chosen, reasons = choose(candidates, num_bytes)
    return Plan(tuple(candidates), chosen, tuple(reasons), time.perf_counter() - start)


def choose(candidates: Sequence[Candidate], num_bytes: int) -> tuple[int, list[str]]:
    """Recommend a size: the one whose tokens for each parameter are nearest to those of compute-optimal models.

    Args:
        candidates: smallest first.
        num_bytes: of text in the corpora.

    Returns:
        Number of the candidate, and the reasons.
    """
    ratios = [max(1e-9, one.tokens_per_parameter / TOKENS_PER_PARAMETER) for one in candidates]
    chosen = min(range(len(candidates)), key=lambda at: abs(math.log(ratios[at])))
    reasons = [
        f"{candidates[chosen].tokens_per_parameter:,.1f} tokens for each parameter of the layers: of these sizes the "
        f"nearest to the {TOKENS_PER_PARAMETER} of compute-optimal models"
    ]
    if num_bytes < _LITTLE_TEXT_BYTES and candidates[chosen].num_hidden_layers > _SMALL_LAYERS:
        chosen = max(at for at, one in enumerate(candidates) if one.num_hidden_layers <= _SMALL_LAYERS or at == 0)
        reasons.append(f"no more than {_SMALL_LAYERS} layers for so little text, as the MiniBERTa of a million words")
    epochs, words = candidates[chosen].epochs, num_bytes / _BYTES_PER_WORD
    if epochs > LAST_EPOCHS:
        reasons.append(f"{epochs:.0f} passes over the text are many: more text would help more than more hours")
    elif epochs > GOOD_EPOCHS:
        reasons.append(f"{epochs:.0f} passes over the text: dropout helps then (--model.hidden-dropout-prob 0.1)")
    near = min(MINIBERTAS, key=lambda one: abs(math.log(one[0] / words)))
    reasons.append(
        f"about {words / 1e6:,.1f} M words; the MiniBERTa of {near[0] / 1e6:,.0f} M words, {near[1]}, trained to the "
        f"end, has perplexity {near[2]} with its own vocabulary"
    )
    return chosen, reasons


def command(folders: Sequence[Path], recipe: str, base: PretrainSettings, chosen: PretrainSettings) -> str:
    """The command that starts a run with these settings.

    Args:
        folders: of the corpora.
        recipe: name or file.
        base: settings of that recipe.
        chosen: of the run; flags give what differs.
    """
    words = ["unmask", "pretrain", *(word for folder in folders for word in ("--corpus", str(folder)))]
    words += ["--output", "run", "--recipe", recipe]
    changed = [name for name in field_names(PretrainSettings) if _value(chosen, name) != _value(base, name)]
    words += [word for name in changed for word in (f"--{name.replace('_', '-')}", str(_value(chosen, name)))]
    return shlex.join(words)


def recipe_text(found: Candidate, reasons: Sequence[str]) -> str:
    """A recipe of the candidate's run, as TOML."""
    head = [
        f"A plan of `unmask plan`: {found.num_hidden_layers} x {found.hidden_size}, {found.hours:.2f} hours.",
        *reasons,
    ]
    lines = "".join(f"# {line}\n" for line in head)
    return f'{lines}command = "pretrain"\n{to_toml(found.settings)}'


def with_size(settings: PretrainSettings, layers: int, width: int) -> PretrainSettings:
    """The same run with another network.

    The learning rate falls with the width (6e-4 at 768 and 4e-4 at 1,024 in the paper; 1 / width by Yang et al. 2021)
    and does not rise for narrower ones.
    """
    shape = {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": max(1, width // _HEAD_WIDTH),
        "intermediate_size": 4 * width,
    }
    lr = settings.optim.lr * min(1.0, settings.model.hidden_size / width)
    return resolve(PretrainSettings, settings.model_dump(), {"model": shape, "optim": {"lr": float(f"{lr:.2g}")}})


def _candidate(found: Probe, corpora: Sequence[Corpus], tokenizer: Tokenizer, hours: float) -> Candidate:
    training_seconds = hours * 3600 * (1 - OVERHEAD)
    steps = max(1, int(training_seconds / found.step_seconds))
    timed = {
        "max_steps": steps,
        "max_hours": float(f"{training_seconds / 3600:.4g}"),
        "eval_every": max(1, steps // _EVALUATIONS),
        "save_every": max(1, min(steps, round(_SAVE_SECONDS / found.step_seconds))),
        "log_every": max(1, min(steps, round(_LOG_SECONDS / found.step_seconds))),
    }
    settings = resolve(PretrainSettings, found.settings.model_dump(), timed)
    stream = stream_of(corpora, tokenizer, settings, found.position_offset)
    weights = 4 * found.num_parameters
    copies = 1 + bool(settings.optim.ema_decay)
    return Candidate(
        num_hidden_layers=settings.model.num_hidden_layers,
        hidden_size=settings.model.hidden_size,
        num_parameters=found.num_parameters,
        body_parameters=found.body_parameters,
        tokens_per_second=found.tokens_per_second,
        is_measured=found.is_measured,
        num_steps=steps,
        step_seconds=found.step_seconds,
        num_tokens=int(steps * found.step_tokens),
        epochs=stream.epochs(steps),
        hours=steps * found.step_seconds / 3600 / (1 - OVERHEAD),
        memory_bytes=found.memory_bytes,
        disk_bytes=(settings.keep_checkpoints + 1) * (copies * weights + found.moment_bytes) + weights,
        settings=settings,
    )


def _value(settings: PretrainSettings, name: str) -> Any:
    value: Any = settings
    for part in name.split("."):
        value = getattr(value, part)
    return value
