"""Commands that look: at what a model has learned, at what it is trained on, at what a run would take."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter, validators

from unmask.cli import ModelFolder, heavy, say
from unmask.config import flags, load_recipe, resolve
from unmask.storage import write_text
from unmask.train.settings import PretrainSettings

log = logging.getLogger("unmask")

WithinWord = Literal["l2r", "original"]
Dtype = Literal["float32", "bfloat16", "auto"]


def probe_blimp(
    folder: Path,
    *,
    model: ModelFolder,
    limit: int | None = None,
    within_word: WithinWord = "l2r",
    dtype: Dtype = "float32",
    threads: int | None = None,
    output: Path | None = None,
    json: bool = False,
) -> None:
    """Ask a masked language model which sentence of each minimal pair is likelier.

    Chance is 0.5. Intervals are 95 % bootstrap intervals over pairs.

    Args:
        folder: Folder of BLiMP's .jsonl files, or one table with the columns sentence_good and sentence_bad.
        model: Model folder with the head of a masked language model.
        limit: Take only the first pairs of each file.
        within_word: Hide with a piece also the later pieces of its word (l2r), or the piece alone (original: as in most
            published figures).
        dtype: Number format; bfloat16 is faster and decides a pair or two in a hundred otherwise.
        threads: Threads on the CPU; by default one for each core.
        output: File to write all figures to, as JSON.
        json: Write one JSON object.
    """
    start = time.perf_counter()
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
    paradigms = heavy("unmask.study.pairs:read_pairs")(folder, limit=limit)
    task, where = _masked_lm(model), _machine(dtype, threads)
    scores = heavy("unmask.study.pairs:score_pairs")(
        task, paradigms, machine=where, within_word=within_word, on_progress=progress("pieces")
    )
    seconds = round(time.perf_counter() - start, 1)
    found = {"model": str(model), "limit": limit, "dtype": dtype, "seconds": seconds, **asdict(scores)}
    if output is not None:
        write_text(output, dumps(found, indent=2) + "\n")
    if json:
        say(found)
        return
    for line in _pair_lines(scores):
        say(line)


def probe_sentences(
    file: Path,
    *,
    model: ModelFolder,
    text_column: str = "text",
    within_word: WithinWord = "l2r",
    dtype: Dtype = "float32",
    threads: int | None = None,
    json: bool = False,
) -> None:
    """Give the pseudo-log-likelihood of sentences, in nats: one line each, the sum, its mean over pieces, the text.

    Args:
        file: Table with a column of sentences, or a .txt file with one a line.
        model: Model folder with the head of a masked language model.
        text_column: Column of the sentences.
        within_word: Hide with a piece also the later pieces of its word (l2r), or the piece alone (original).
        dtype: Number format.
        threads: Threads on the CPU; by default one for each core.
        json: Write one JSON object a line, with the log-probability of each piece.
    """
    table = heavy("unmask.data.rows:read_table")(file, [text_column])
    texts = [row[text_column] for row in table.rows]
    task = _masked_lm(model)
    scores = heavy("unmask.study.likelihood:pseudo_log_likelihoods")(
        task,
        texts,
        machine=_machine(dtype, threads),
        within_word=within_word,
        place=table.place,
        on_progress=progress("pieces"),
    )
    for text, ids, score in zip(texts, task.tokenizer.encode_ids(texts), scores, strict=True):
        total = float(score.sum(dtype="float64"))
        if json:
            pieces = [[task.tokenizer.piece(id), round(float(one), 4)] for id, one in zip(ids, score, strict=True)]
            say({"text": text, "pseudo_log_likelihood": total, "pieces": pieces})
        else:
            say(f"{total:.3f}\t{total / len(score):.3f}\t{text}")
    found = heavy("unmask.study.likelihood:text_scores")(scores, texts)
    told = (len(texts), found["pseudo_perplexity"], found["bits_per_byte"])
    log.info("%d sentences: pseudo-perplexity %.2f, %.3f bits a byte", *told)


def probe_corpus(
    *,
    corpus: list[Path],
    model: ModelFolder,
    lengths: tuple[int, ...] = (128,),
    blocks: int = 256,
    dtype: Dtype = "float32",
    threads: int | None = None,
    json: bool = False,
) -> None:
    """Say how well a masked language model guesses held-out text: nats a masked token, perplexity, bits a byte.

    Held out is what `unmask pretrain` with its default settings never reads of these corpora.

    Args:
        corpus: Corpus folder; give it again for each further corpus.
        model: Model folder with the head of a masked language model.
        lengths: Most tokens of a block; give it again for each further length.
        blocks: Most blocks of each length.
        dtype: Number format.
        threads: Threads on the CPU; by default one for each core.
        json: Write one JSON object a length.
    """
    task, where = _masked_lm(model), _machine(dtype, threads)
    for one in heavy("unmask.study.held_out:score_held_out")(task, corpus, lengths, blocks=blocks, machine=where):
        if json:
            say(asdict(one))
            continue
        told = f"{one.nats_per_token:.4f} nats per masked token, perplexity {one.perplexity:.2f}"
        say(f"blocks of {one.block_length}: {told}, {one.bits_per_byte:.4f} bits per byte")


def inspect_corpus(folder: Path, *, top: int = 20, json: bool = False) -> None:
    """Show what is in a corpus: lengths, frequent pieces and words, duplicates, examples.

    Args:
        folder: Corpus folder.
        top: Pieces and words to show.
        json: Write one JSON object.
    """
    corpora, tokenizer = heavy("unmask.train.network:load_corpora")([folder])
    found = heavy("unmask.study.corpora:inspect_corpus")(corpora[0], tokenizer, top=top)
    if json:
        say(found.to_json())
        return
    for line in found.to_lines():
        say(line)


def inspect_batch(
    *,
    corpus: list[Path],
    recipe: str = "mini",
    step: Annotated[int, Parameter(validator=validators.Number(gte=1))] = 1,
    texts: int = 8,
    html: Path | None = None,
    settings: Annotated[PretrainSettings, Parameter(name="*")] = PretrainSettings(),  # noqa: B008
) -> None:
    """Show the batch that a pre-training run with these settings takes at a step.

    On a terminal in colours, elsewhere with the marks [MASK:original], {seen:original} and =original=.

    Args:
        corpus: Corpus folder; give it again for each further corpus.
        recipe: Name of a recipe, or a TOML file such as config.toml of a run; flags win over it.
        step: Optimizer step, from 1.
        texts: Blocks to show; the figures are always those of all.
        html: File to write a page to, in place of the terminal.
    """
    resolved = _settings(recipe, settings)
    shown = heavy("unmask.study.batches:batch_at")(corpus, resolved, step=step)
    if html is None:
        heavy("unmask.study.show:show")(shown, texts=texts)
        return
    write_text(html, heavy("unmask.study.page:page")(shown, texts=texts))
    say(f"page: {html}")


def plan(
    *,
    corpus: list[Path],
    hours: Annotated[float, Parameter(validator=validators.Number(gt=0))],
    recipe: str = "mini",
    output: Path | None = None,
    probe_seconds: float = 60.0,
    json: bool = False,
    settings: Annotated[PretrainSettings, Parameter(name="*")] = PretrainSettings(),  # noqa: B008
) -> None:
    """Say which size of network to pre-train in some hours on this machine, and with which command.

    Takes a few real optimizer steps of each size. Run it when the machine is as busy as it will be.

    Args:
        corpus: Corpus folder; give it again for each further corpus.
        hours: Time of the whole run.
        recipe: Name of a recipe, or a TOML file, for all but the size; flags win over it.
        output: File to write the recommended run to, as a recipe.
        probe_seconds: Time to measure, about; sizes that do not fit into it are estimated.
        json: Write one JSON object.
    """
    base = resolve(PretrainSettings, load_recipe(recipe, "pretrain"))
    asked = _settings(recipe, settings)
    found = heavy("unmask.study.plan:plan")(corpus, asked, hours=hours, probe_seconds=probe_seconds)
    if output is not None:
        write_text(output, heavy("unmask.study.plan:recipe_text")(found.best, found.reasons))
    chosen = found.best.settings
    start = (recipe, base) if output is None else (str(output), chosen)
    command = heavy("unmask.study.plan:command")(corpus, *start, chosen)
    if json:
        say({**found.to_json(), "command": command})
        return
    for line in found.to_lines():
        say(line)
    say(command)


def progress(unit: str) -> Callable[[int, int], None]:
    """A listener that tells every few seconds how much of a long work is done and how long the rest will take."""
    start = last = time.perf_counter()

    def show(done: int, total: int) -> None:
        nonlocal last
        now = time.perf_counter()
        if now - last >= 5 and done:
            last = now
            rate = done / (now - start)
            log.info("%d of %d %s  %.0f/s  %.0f s to go", done, total, unit, rate, (total - done) / rate)

    return show


def _settings(recipe: str, given: PretrainSettings) -> PretrainSettings:
    return resolve(PretrainSettings, load_recipe(recipe, "pretrain"), flags(given), place=f"recipe {recipe} and flags")


def _masked_lm(folder: Path) -> Any:
    return heavy("unmask.predict:Predictor").load(folder, task="masked_lm").task


def _machine(dtype: str, threads: int | None) -> Any:
    heavy("unmask.runtime:use_cpu")(threads)
    return heavy("unmask.runtime:machine")(dtype)


def _pair_lines(scores: Any) -> Iterator[str]:
    def line(name: str, one: Any) -> str:
        return f"{name:<56} {one.accuracy:.4f}  {one.interval[0]:.3f} to {one.interval[1]:.3f}  {one.pairs:>6}"

    yield f"{'':<56} {'score':<6}  {'95 % interval':<14}  {'pairs':>6}"
    for group in (scores.paradigms, scores.fields):
        yield from (line(name, one) for name, one in group.items())
        yield ""
    yield line(f"mean of {len(scores.paradigms)} paradigms", scores.mean)
    yield line(f"mean of {len(scores.fields)} fields", scores.mean_of_fields)
