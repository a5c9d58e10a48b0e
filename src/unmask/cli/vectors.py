"""Commands that make vectors of texts and words, search with them, and measure them."""

import logging
import sys
from collections.abc import Iterator
from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter, validators
from pydantic import Field

from unmask.cli import ModelFolder, heavy, say
from unmask.cli.computing import Computing
from unmask.cli.rows import stdin_lines
from unmask.cli.study import progress
from unmask.config import Settings
from unmask.errors import DataError, UsageError
from unmask.storage import refuse_existing, write_text

log = logging.getLogger("unmask")

Pooling = Literal["mean", "cls"]
Count = Annotated[int, Parameter(validator=validators.Number(gte=1))]


def embed(
    file: Path,
    *,
    model: ModelFolder,
    output: Path,
    text_column: str | None = None,
    pooling: Pooling | None = None,
    layers: list[int] | None = None,
    computing: Annotated[Computing, Parameter(name="*")] = Computing(),  # noqa: B008
) -> None:
    """Write the vectors of a file of texts, float32, one a text and in order.

    Vector N is that of line N of a .txt file: an empty line has a vector of zeros, and that is told.

    Args:
        file: .txt file with one text a line, or a table.
        model: Model folder, at best one that was fine-tuned with --task embedding.
        output: New file whose name ends in .npy (a matrix), .npz (the same, known again by `unmask search`) or .jsonl.
        text_column: Column of the text in a table.
        pooling: Mean of all tokens, or the first token; by default what the model was trained with.
        layers: Layers whose mean is taken, from 0 (what goes into the first) or from the end (-1 the last).
    """
    heavy("unmask.study.search:check_output")(output)
    refuse_existing(output)
    predictor = computing.open(model, task="embedding", columns={"pooling": pooling, "layers": layers})
    texts = heavy("unmask.study.search:read_texts")(file, model, predictor, column=text_column)
    if texts.empty:
        first = texts.table.place(min(texts.empty))
        log.warning("%d of %d lines are empty and have vectors of zeros, first %s", len(texts.empty), len(texts), first)
    rows, width = heavy("unmask.study.search:write_vectors")(predictor, texts, output, on_progress=progress("texts"))
    say(f"{rows} vectors of {width} numbers: {output}")


def search(
    *queries: str,
    model: ModelFolder,
    file: Path,
    top_k: Count = 5,
    text_column: str | None = None,
    vectors: Path | None = None,
    computing: Annotated[Computing, Parameter(name="*")] = Computing(),  # noqa: B008
    json: bool = False,
) -> None:
    """Find the texts of a file that are nearest to each query: cosine, place and text, the nearest first.

    Every text is compared; nothing is approximate. Without QUERY it reads queries from stdin, one a line.

    Args:
        queries: What to look for; behind -- if one begins with a dash.
        model: Model folder, at best one that was fine-tuned with --task embedding.
        file: .txt file with one text a line, or a table.
        top_k: Texts to show for each query.
        text_column: Column of the text in a table.
        vectors: .npz file that keeps the vectors of FILE for the next search; made anew when file or model change.
        json: Write one JSON object a line.
    """
    queries = queries or tuple(_piped())
    if not queries:
        raise UsageError(
            "no-query", "there is nothing to look for", remedy='unmask search "some words" --file FILE ...'
        )
    predictor = computing.open(model, task="embedding")
    texts = heavy("unmask.study.search:read_texts")(file, model, predictor, column=text_column)
    known = heavy("unmask.study.search:cached_vectors")(predictor, texts, vectors, on_progress=progress("texts"))
    found = heavy("unmask.study.search:find")(predictor, queries, known, top_k=top_k)
    for query, hits in zip(queries, found, strict=True):
        if len(queries) > 1 and not json:
            say(f"# {query}")
        for hit in hits:
            place, text = texts.table.place(hit.index), texts[hit.index]
            told = {"query": query, "score": round(hit.score, 6), "place": place, "text": text}
            say(told if json else f"{hit.score:.4f}\t{place}\t{text}")


def _piped() -> Iterator[str]:
    """Lines of standard input that hold something, unless it is a terminal."""
    for line in () if sys.stdin.isatty() else stdin_lines():
        if isinstance(line, DataError):
            raise line
        if line.strip():
            yield line


class WordSettings(Settings):
    """How words become vectors, and which of a set are asked."""

    corpus: Path | None = None
    """Texts, one a line, over whose contexts a word's vector is averaged; by default the word stands alone."""
    max_occurrences: Annotated[int, Field(ge=1)] = 50
    """Contexts of a word, at most."""
    layers: tuple[int, ...] = ()
    """Layers whose mean is taken, from 0 (what goes into the first) or from the end; by default all but 0."""
    pieces: Literal["mean", "first"] = "mean"
    """Mean of a word's pieces, or the first one."""
    center: bool = False
    """Take away from all vectors what they have in common."""
    segment: bool = False
    """Find Chinese words in the corpus with rjieba."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Take only so many pairs of each set, or questions of each category, evenly from first to last."""


def probe_words(
    *sets: Path,
    model: ModelFolder,
    threads: int | None = None,
    output: Path | None = None,
    json: bool = False,
    settings: Annotated[WordSettings, Parameter(name="*")] = WordSettings(),  # noqa: B008
) -> None:
    """Measure a model's word vectors: Spearman's correlation on scored pairs, accuracy of 3CosAdd on analogies.

    Scores are over what is covered, and that is shown. Answers of analogies are looked for among the words of the set.

    Args:
        sets: Files, or folders of them: pairs such as WordSim, SimLex, MEN, RW; analogies such as Google's or CA8.
        model: Model folder.
        threads: Threads on the CPU; by default one for each core.
        output: File to write all figures to, as JSON.
        json: Write one JSON object.
    """
    if not sets:
        raise UsageError("no-sets", "no set of words is named", remedy="unmask probe words FILE ... --model FOLDER")
    heavy("unmask.runtime:use_cpu")(threads)
    read = [one for path in sets for one in heavy("unmask.study.similarity:read_sets")(path, limit=settings.limit)]
    task = heavy("unmask.study.search:open_embedder")(model).task
    words = sorted({word for one in read for word in one.words})
    found = heavy("unmask.study.similarity:static_vectors")(
        task,
        words,
        corpus=settings.corpus,
        max_occurrences=settings.max_occurrences,
        layers=settings.layers or range(1, task.config.num_hidden_layers + 1),
        pooling=settings.pieces,
        segmenter=heavy("unmask.data.chinese:Rjieba")() if settings.segment else None,
    )
    scored = heavy("unmask.study.similarity:centred")(found) if settings.center else found
    scores = heavy("unmask.study.similarity:score_sets")(scored, read)
    log.info("%d of %d words have a vector", int((found.counts > 0).sum()), len(words))
    figures = {"model": str(model), **settings.model_dump(mode="json"), "sets": list(map(asdict, scores))}
    if output is not None:
        write_text(output, dumps(figures, indent=2, ensure_ascii=False) + "\n")
    if json:
        say(figures)
        return
    for one in scores:
        for line in _set_lines(one):
            say(line)


def _set_lines(one: Any) -> Iterator[str]:
    tail = f"{one.candidates} candidates" if one.interval is None else "{:.3f} to {:.3f}".format(*one.interval)
    yield f"{one.name:<28} {one.metric:<9} {one.score:.4f}  {one.covered} of {one.total} covered  {tail}"
    for name, (score, count) in one.categories.items():
        yield f"  {name:<36} {score:.4f}  {count} questions"
