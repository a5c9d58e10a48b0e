"""The corpus folder: token ids of whole sentences on disk, built once, then only mapped into memory.

`build` writes it and `Corpus` reads it; `packing` cuts it into blocks. The build is restartable: the same command
goes on behind the last finished shard, and the result does not depend on interruptions or on the number of processes.
"""

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from unmask import disk, storage
from unmask.config import Settings
from unmask.data.distinct import Distinct
from unmask.data.encoding import Encoded, Encoder, id_dtype
from unmask.data.files import Document, expand, read_documents, unpacked_bytes
from unmask.data.pools import Batch, OpenPool, encode_in_order, in_processes
from unmask.data.shards import CorpusMeta, Shard, Source, fingerprint, open_shard, read_meta, shard_files, write_shard
from unmask.data.words import Segmenter
from unmask.errors import ArtefactError, DataError, ResourceError, UsageError
from unmask.tokenizer.load import Tokenizer

log = logging.getLogger("unmask")

SHARD_TOKENS = 16_000_000
BATCH_CHARACTERS = 1 << 20
# Share of documents that are copies of others, from which on it is said.
_MANY_COPIES = 0.1
# Bytes of a corpus for each byte of text, roughly, for the check of free space.
_CORPUS_BYTES_PER_BYTE = {"uint16": 0.6, "uint32": 1.1}


class Progress(Settings):
    """What an unfinished build has done, on disk behind each shard."""

    meta: CorpusMeta
    """The corpus so far."""
    file: int = 0
    """Number of the file that the last finished shard ends in."""
    document: int = 0
    """Documents of that file that were used up."""


@dataclass(frozen=True)
class CorpusReport:
    """What a build did.

    Attributes:
        folder: the corpus.
        meta: counts, sources and settings.
        num_resumed_shards: shards that an earlier, interrupted build had finished.
        is_new: False if the finished corpus was there already.
        seconds: time of this build.
    """

    folder: Path
    meta: CorpusMeta
    num_resumed_shards: int
    is_new: bool
    seconds: float


@dataclass(frozen=True)
class Corpus:
    """A finished corpus folder.

    Attributes:
        folder: where it is.
        meta: counts, sources and settings.
        shards: its parts.
        fingerprint: hash over tokens, boundaries and tokenizer, the same wherever the corpus was built.
    """

    folder: Path
    meta: CorpusMeta
    shards: tuple[Shard, ...]
    fingerprint: str

    @classmethod
    def open(cls, folder: Path | str, *, verify: bool = False) -> "Corpus":
        """Map a corpus folder into memory.

        Args:
            folder: as written by `build`.
            verify: compare the hash of every file with the manifest first, at the speed of the disk; sizes are
                always compared.

        Raises:
            ArtefactError: there is no finished corpus in the folder, or it is damaged.
        """
        folder = Path(folder)
        if verify:
            storage.verify(folder)
        meta = read_meta(folder)
        shards = tuple(open_shard(folder, number, meta) for number in range(len(meta.shards)))
        return cls(folder, meta, shards, fingerprint(folder, meta))

    @property
    def num_tokens(self) -> int:
        """Tokens without special ones."""
        return self.meta.total("num_tokens")

    @property
    def num_documents(self) -> int:
        """Documents with text."""
        return self.meta.total("num_documents")

    @property
    def tokenizer_fingerprint(self) -> str:
        """Fingerprint of the tokenizer whose ids these are."""
        return self.meta.tokenizer_fingerprint

    @property
    def tokenizer_folder(self) -> Path:
        """The corpus' own copy of its tokenizer."""
        return self.folder / "tokenizer"


def build(
    files: Sequence[Path | str],
    *,
    tokenizer_folder: Path | str,
    output: Path | str,
    processes: int | None = None,
    workers: OpenPool | None = None,
    segmenter: Segmenter | None = None,
    shard_tokens: int = SHARD_TOKENS,
    on_progress: Callable[[int, int], None] | None = None,
) -> CorpusReport:
    """Encode files into a corpus folder.

    Args:
        files: plain text (a blank line ends a document) or JSON Lines with `text`, compressed or not; a folder
            stands for all files in it.
        tokenizer_folder: the tokenizer.
        output: the folder to make. If an earlier build into it was interrupted, this one goes on; if the same
            corpus is there already, nothing is done.
        processes: that encode; default: one for each core that this process may use.
        workers: that encode, in place of processes of this machine.
        segmenter: says where the words of Chinese begin, for whole-word masking; None takes the tokenizer's pre-tokens.
        shard_tokens: tokens of a shard, about.
        on_progress: called with the bytes on disk that were read so far, and their total.

    Raises:
        UsageError: another corpus, or something else, is in `output`; or an interrupted build had other inputs.
        DataError: a file cannot be read as text, with `file:line`; or there is no text at all.
        ResourceError: disk or memory does not suffice; what was finished is kept for the next start.
    """
    began = time.monotonic()
    output = Path(output)
    paths = expand([Path(file) for file in files])
    _refuse_output_among_inputs(files, output)
    tokenizer = Tokenizer.load(tokenizer_folder)
    stamps = [_stamp(path) for path in paths]
    meta = CorpusMeta(
        tokenizer_fingerprint=tokenizer.fingerprint,
        vocab_size=tokenizer.vocab_size,
        dtype=id_dtype(tokenizer),
        words=segmenter.name if segmenter else "pieces",
        shard_tokens=shard_tokens,
        sources=tuple(
            Source(name=path.name, size_bytes=size, xxh3_128=storage.digest(path))
            for path, (size, _) in zip(paths, stamps, strict=True)
        ),
    )
    work = output.parent / f".building-{output.name}"
    if output.exists():
        finished = _same_or_refuse(output, meta)
        shutil.rmtree(work, ignore_errors=True)
        return CorpusReport(output, finished, 0, False, time.monotonic() - began)
    with disk.named_errors(output), storage.locked(work):
        progress = _resume(work, meta)
        resumed = len(progress.meta.shards)
        _check_space(output, paths, progress)
        reader = _Reader(paths, progress, on_progress)
        done = progress
        with (workers or in_processes(processes or _cores()))(Encoder(tokenizer, segmenter)) as pool:
            for done in _shards(encode_in_order(reader.batches(), pool), work / "corpus", progress):
                storage.write_text(work / "progress.json", done.model_dump_json())
        for path, stamp in zip(paths, stamps, strict=True):
            if _stamp(path) != stamp:
                raise DataError("changed-input", "the file changed while it was read", place=path, remedy="start again")
        _finish(work, output, done.meta, tokenizer)
    reader.warn_of_copies()
    return CorpusReport(output, done.meta, resumed, True, time.monotonic() - began)


class _Reader:
    """Reads the files from where the progress record ends and reports the bytes read."""

    def __init__(self, paths: list[Path], progress: Progress, on_progress: Callable[[int, int], None] | None) -> None:
        self._paths = paths
        self._progress = progress
        self._report = on_progress
        sizes = [path.stat().st_size for path in paths]
        self._total = sum(sizes)
        self._done = sum(sizes[: progress.file])
        self._distinct = Distinct()

    def batches(self) -> Iterator[Batch]:
        """All documents that are still to be encoded, about a mebibyte of text at a time."""
        documents: list[Document] = []
        places: list[tuple[int, int]] = []
        size = 0
        for document, place in self._documents():
            if document.text:
                self._distinct.add(document.text)
            documents.append(document)
            places.append(place)
            size += len(document.text)
            if size >= BATCH_CHARACTERS:
                yield Batch(documents, np.array(places))
                documents, places, size = [], [], 0
        if documents:
            yield Batch(documents, np.array(places))

    def warn_of_copies(self) -> None:
        """Say it when many documents are copies: a model learns copies by heart, and counts them again and again."""
        share = self._distinct.copies_share
        if share >= _MANY_COPIES:
            log.warning(
                "about %.0f %% of the %d documents are copies of others; keep one of each",
                100 * share,
                self._distinct.total,
            )

    def _documents(self) -> Iterator[tuple[Document, tuple[int, int]]]:
        for file in range(self._progress.file, len(self._paths)):
            skipped = self._progress.document if file == self._progress.file else 0
            for number, document in enumerate(read_documents([self._paths[file]], on_read=self._count), 1):
                if number > skipped:
                    yield document, (file, number)

    def _count(self, num_bytes: int) -> None:
        self._done += num_bytes
        if self._report and num_bytes:
            self._report(self._done, self._total)


def _shards(results: Iterator[tuple[np.ndarray, Encoded]], folder: Path, begin: Progress) -> Iterator[Progress]:
    """Write shard after shard and give the record behind each."""
    meta, limit = begin.meta, begin.meta.shard_tokens
    parts: list[Encoded] = []
    size = 0
    last = begin.file, begin.document
    for places, rest in results:
        while size + len(rest.ids) >= limit:
            document = int(np.argmax(size + rest.document_ends() >= limit)) + 1
            head, rest = rest.split(document)
            meta = write_shard(folder, [*parts, head], meta)
            yield Progress(meta=meta, file=int(places[document - 1, 0]), document=int(places[document - 1, 1]))
            parts, size, places = [], 0, places[document:]
        if len(places):
            parts.append(rest)
            size += len(rest.ids)
            last = int(places[-1, 0]), int(places[-1, 1])
    if parts:
        yield Progress(meta=write_shard(folder, parts, meta), file=last[0], document=last[1])


def _resume(work: Path, meta: CorpusMeta) -> Progress:
    """Read the record of an interrupted build and sweep what it had not finished."""
    folder, record = work / "corpus", work / "progress.json"
    folder.mkdir(exist_ok=True)
    progress = Progress(meta=meta)
    if record.exists():
        try:
            progress = Progress.model_validate(storage.read_json(record))
        except ValidationError as error:
            raise ArtefactError(
                "bad-progress", f"the record of the interrupted build is damaged: {error}", place=record
            ) from None
        _refuse_changes(progress.meta, meta, work)
        log.info("going on behind %d finished shards", len(progress.meta.shards))
    kept = {path for number in range(len(progress.meta.shards)) for path in shard_files(folder, number)}
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path not in kept:
            path.unlink()
    for number in range(len(progress.meta.shards)):
        open_shard(folder, number, progress.meta)
    return progress


def _refuse_changes(old: CorpusMeta, new: CorpusMeta, work: Path) -> None:
    changed = _differences(old, new)
    if changed:
        raise UsageError(
            "changed-inputs",
            f"an interrupted build into this folder had other inputs: {changed}",
            place=work,
            remedy=f"give it the same inputs again, or begin anew: rm -r {work}",
        )


def _same_or_refuse(output: Path, meta: CorpusMeta) -> CorpusMeta:
    """The record of the finished corpus if it is the one that was asked for."""
    try:
        finished = read_meta(output)
    except ArtefactError:
        raise UsageError(
            "exists", "the output folder exists and holds no corpus", place=output, remedy="choose another name"
        ) from None
    changed = _differences(finished, meta)
    if changed:
        raise UsageError(
            "exists",
            f"the output folder holds a corpus of other inputs: {changed}",
            place=output,
            remedy="choose another name, or remove the folder",
        )
    return finished


def _differences(old: CorpusMeta, new: CorpusMeta) -> str:
    fields = ("tokenizer_fingerprint", "words", "shard_tokens", "format")
    changed = [f"{name} was {getattr(old, name)}" for name in fields if getattr(old, name) != getattr(new, name)]
    if old.sources != new.sources:
        names = [source.name for source in new.sources if source not in old.sources]
        names += [f"{source.name} (missing now)" for source in old.sources if source not in new.sources]
        changed.append(f"files: {', '.join(names[:5]) or 'their order'}")
    return "; ".join(changed)


def _refuse_output_among_inputs(files: Sequence[Path | str], output: Path) -> None:
    for file in map(Path, files):
        if file.is_dir() and output.resolve().is_relative_to(file.resolve()):
            raise UsageError(
                "output-in-input",
                "the output folder lies inside an input folder, so the next build would read it as text",
                place=output,
                value=file,
                remedy="choose an output folder elsewhere",
            )


def _check_space(output: Path, paths: list[Path], progress: Progress) -> None:
    rest = paths[progress.file :]
    needed = int(unpacked_bytes(rest) * _CORPUS_BYTES_PER_BYTE[progress.meta.dtype])
    free = shutil.disk_usage(output.parent).free
    log.info("the corpus will take about %.0f MB; %.0f MB are free", needed / 1e6, free / 1e6)
    if needed > free:
        raise ResourceError(
            "disk-space",
            f"the corpus will take about {needed:,} bytes, and {free:,} are free",
            place=output.parent,
            remedy="free some space, or build on another disk",
            saved="nothing was written" if not progress.meta.shards else "the shards finished earlier are kept",
        )


def _finish(work: Path, output: Path, meta: CorpusMeta, tokenizer: Tokenizer) -> None:
    folder = work / "corpus"
    if not meta.total("num_tokens"):
        shutil.rmtree(work)
        raise DataError(
            "no-text",
            "there is no text in the input",
            place=", ".join(source.name for source in meta.sources[:5]),
            value=f"{meta.total('num_empty_documents')} documents, all empty",
        )
    tokenizer.save(folder / "tokenizer")
    (folder / "meta.json").write_text(meta.model_dump_json(indent=1) + "\n", "utf-8")
    storage.seal(folder)
    folder.rename(output)
    disk.sync(output.parent)
    shutil.rmtree(work)


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
