"""Vectors of a file of texts, written in one pass, and exact search in them by cosine similarity."""

import contextlib
import json
import logging
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from os import getpid
from pathlib import Path
from typing import IO

import numpy as np
import xxhash

from unmask import disk, storage
from unmask.data.files import kind, read_lines
from unmask.data.rows import Table, read_table
from unmask.errors import DataError, UsageError
from unmask.metrics.vectors import unit
from unmask.predict import Predictor
from unmask.tasks.embedding import Embedding

log = logging.getLogger("unmask")

CHUNK = 1024
FORMATS = (".npy", ".npz", ".jsonl")
_VECTORS, _KEY = "vectors", "key"
_LAYOUT = 2  # of kept vectors: a row for each line, empty ones too


@dataclass(frozen=True)
class Texts:
    """Texts of a file.

    Attributes:
        table: the file's rows; of a .txt file all lines, empty ones too, so that rows and lines stay in step.
        column: that holds them.
        key: changes when the file, the column, the model, its settings or its precision do.
        empty: numbers of the lines without a text; their vectors are zeros.
    """

    table: Table
    column: str
    key: str
    empty: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.table.rows)

    def __getitem__(self, index: int) -> str:
        text: str = self.table.rows[index][self.column]
        return text


@dataclass(frozen=True)
class Hit:
    """A text that was found.

    Attributes:
        index: its number in the file, from 0.
        score: cosine with the query, from -1 to 1.
    """

    index: int
    score: float


def open_embedder(folder: Path, **changes: object) -> Predictor:
    """A model folder of any task as a predictor of sentence vectors.

    Args:
        folder: with an encoder; one that was not trained for sentence vectors warns at its first answer.
        changes: settings of the task `embedding` that win over the folder's; `None` keeps one.
    """
    return Predictor.load(folder, task=Embedding.name, columns=changes)  # type: ignore[arg-type]  # any setting


def read_texts(file: Path, folder: Path, predictor: Predictor, *, column: str | None = None) -> Texts:
    """Read the texts of a file: one a line of a .txt file, or a column of a table.

    Args:
        file: to be read.
        folder: the predictor's model, for the key.
        predictor: names the column by default.
        column: of the texts.

    Raises:
        DataError: the file is damaged, has no texts or no such column.
    """
    named = column or ("text" if kind(file) == ".txt" else predictor.task.text_columns[0])
    has_lines = kind(file) == ".txt" and named == "text"
    table = _lines(file) if has_lines else read_table(file, [named])
    empty = [at for at, row in enumerate(table.rows) if not row[named].strip()] if has_lines else []
    if len(empty) == len(table.rows):
        raise DataError("no-rows", "the file has no texts", place=file, expected="one text a line")
    weights = storage.weights_digest(folder)
    settings = predictor.task.settings.model_dump(mode="json")
    precision = predictor.engine.precision if predictor.engine else "float32"
    parts = [_LAYOUT, storage.digest(file), named, weights, predictor.task.tokenizer.fingerprint, settings, precision]
    return Texts(table, named, xxhash.xxh3_128_hexdigest(json.dumps(parts).encode()), frozenset(empty))


def vector_chunks(predictor: Predictor, texts: Texts) -> Iterator[np.ndarray]:
    """The vectors of all texts in order, chunk by chunk, (n, D) float32; zeros for an empty line of a .txt file.

    Raises:
        DataError: a text of a table is empty; its line is named.
    """
    name, width = predictor.task.text_columns[0], predictor.task.config.hidden_size
    for start in range(0, len(texts), CHUNK):
        end = min(start + CHUNK, len(texts))
        filled = [at for at in range(start, end) if at not in texts.empty]
        rows = [{name: texts[at]} for at in filled]
        answers = predictor.predict_rows(rows, place=lambda at, filled=filled: texts.table.place(filled[at]))  # type: ignore[misc]
        vectors = np.zeros((end - start, width), np.float32)
        vectors[[at - start for at in filled]] = np.array([one.vector for one in answers]).reshape(-1, width)
        yield vectors


def write_vectors(
    predictor: Predictor, texts: Texts, output: Path, *, on_progress: Callable[[int, int], None] | None = None
) -> tuple[int, int]:
    """Write the vectors of texts to a file, whole or not at all, with one chunk in memory at a time.

    Args:
        predictor: of sentence vectors.
        texts: N of them.
        output: .npy has the matrix (N, D) float32; .npz has it as `vectors`, with a `key` by which `search` knows it;
            .jsonl has one object a line with `place` (file:line), `text` and `vector`.
        on_progress: told now and then how many of all texts are done.

    Returns:
        N and D.

    Raises:
        UsageError: the name ends otherwise.
        ResourceError: the disk is full.
    """
    check_output(output)
    shape = (0, 0)
    with _partial(output) as (partial, final):
        with partial.open("wb") as file:
            for chunk in vector_chunks(predictor, texts):
                if final.suffix == ".jsonl":
                    _write_lines(file, texts, shape[0], chunk)
                else:
                    file.write(chunk.tobytes())
                shape = (shape[0] + len(chunk), chunk.shape[1])
                if on_progress is not None:
                    on_progress(shape[0], len(texts))
        if final.suffix == ".jsonl":
            partial.replace(final)
        else:
            _pack(partial, final, shape, texts.key)
    return shape


def cached_vectors(
    predictor: Predictor, texts: Texts, cache: Path | None, *, on_progress: Callable[[int, int], None] | None = None
) -> np.ndarray:
    """The vectors of texts, (N, D) float32, from a .npz file if it has them; else they are computed, and kept there.

    Args:
        predictor: of sentence vectors.
        texts: N of them.
        cache: written by this function or by `write_vectors`; one of other texts or another model is replaced.
        on_progress: told now and then how many of all texts are done.
    """
    if cache is None:
        chunks = list(vector_chunks(predictor, texts))
        return np.concatenate(chunks)
    if cache.suffix != ".npz":
        raise UsageError("unknown-format", "vectors are kept in a .npz file", value=cache, remedy="name it so")
    if cache.exists():
        key, vectors = read_cache(cache)
        if key == texts.key:
            return vectors
        log.info("%s is of other texts or another model, and is made anew", cache)
    write_vectors(predictor, texts, cache, on_progress=on_progress)
    return read_cache(cache)[1]


def read_cache(path: Path) -> tuple[str, np.ndarray]:
    """Key and vectors of a .npz file of ours.

    Raises:
        DataError: it is another file, or a damaged one.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            key, vectors = (_entry(archive, name) for name in (_KEY, _VECTORS))
            return str(key), vectors
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(
            "bad-vectors", f"the file holds no vectors: {error}", place=path, remedy="delete it, or name another one"
        ) from None


def check_output(output: Path) -> None:
    """Refuse a name that ends in none of the formats.

    Raises:
        UsageError: before anything is computed.
    """
    if output.suffix not in FORMATS:
        raise UsageError(
            "unknown-format",
            "the name of the output does not say its format",
            value=output,
            expected=f"a name that ends in {', '.join(FORMATS)}",
        )


def find(predictor: Predictor, queries: Sequence[str], vectors: np.ndarray, *, top_k: int) -> list[list[Hit]]:
    """The nearest vectors of each query, a text; see `search`."""
    return search(np.array([one.vector for one in predictor(list(queries))], np.float32), vectors, top_k=top_k)


def search(queries: np.ndarray, vectors: np.ndarray, *, top_k: int) -> list[list[Hit]]:
    """The nearest vectors of each query by cosine, exactly: every one is looked at; of equals the first comes first.

    Args:
        queries: (Q, D).
        vectors: (N, D); those of zeros, which have no direction, are never found.
        top_k: hits of a query, if there are so many.
    """
    known = np.flatnonzero(vectors.any(axis=1))
    scores = unit(queries) @ unit(vectors[known]).T
    count = min(top_k, scores.shape[1])
    hits = []
    for row in scores:
        border = np.partition(row, len(row) - count)[len(row) - count]
        near = np.flatnonzero(row >= border)
        best = near[np.argsort(-row[near], kind="stable")][:count]
        hits.append([Hit(int(known[at]), float(row[at])) for at in best])
    return hits


def _lines(file: Path) -> Table:
    """A text file as a table, all of its lines."""
    rows = [{"text": line} for line in read_lines(file)]
    return Table(file, ("text",), rows, list(range(1, len(rows) + 1)))


def _entry(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(f"{name}.npy") as file:
        found: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
        return found


@contextlib.contextmanager
def _partial(output: Path) -> Iterator[tuple[Path, Path]]:
    """Two names beside the output; what stands under the second one at the end becomes the output."""
    disk.make_folder(output.parent)
    names = [output.with_name(f".{output.stem}.{getpid()}.{number}{output.suffix}") for number in range(2)]
    with disk.named_errors(output):
        try:
            yield names[0], names[1]
            disk.rename(names[1], output)
        finally:
            for name in names:
                name.unlink(missing_ok=True)


def _write_lines(file: IO[bytes], texts: Texts, start: int, chunk: np.ndarray) -> None:
    for at, vector in enumerate(chunk, start):
        # the shortest digits that give the same float32 again
        numbers = ", ".join(np.char.mod("%s", vector).tolist())
        place, text = (json.dumps(one, ensure_ascii=False) for one in (texts.table.place(at), texts[at]))
        file.write(f'{{"place": {place}, "text": {text}, "vector": [{numbers}]}}\n'.encode())


def _pack(raw: Path, final: Path, shape: tuple[int, int], key: str) -> None:
    """Put numpy's header before the numbers, and for .npz both into an archive."""
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(raw.open("rb"))
        if final.suffix == ".npy":
            target: IO[bytes] = stack.enter_context(final.open("wb"))
        else:
            archive = stack.enter_context(zipfile.ZipFile(final, "w"))
            with archive.open(f"{_KEY}.npy", "w") as small:
                np.lib.format.write_array(small, np.array(key))
            target = stack.enter_context(archive.open(f"{_VECTORS}.npy", "w", force_zip64=True))
        np.lib.format.write_array_header_1_0(target, header)
        shutil.copyfileobj(source, target, 1 << 20)
