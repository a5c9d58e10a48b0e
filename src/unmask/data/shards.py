"""The files of a corpus folder: what stands in them, writing and mapping them.

Each shard has four files of little-endian numbers: `tokens-N.bin` (ids), `sentences-N.bin` (token that each sentence
begins at, and the end), `documents-N.bin` (sentence that each document begins at, and the end) and `words-N.bin` (one
bit a token, set where a word begins).
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash
from pydantic import ValidationError

from unmask import storage
from unmask.config import Settings
from unmask.data.encoding import Encoded
from unmask.errors import ArtefactError

_TOKENS, _SENTENCES, _DOCUMENTS, _WORDS = "tokens", "sentences", "documents", "words"


class Source(Settings):
    """One input file of a corpus."""

    name: str
    """Its name, without the folders above the given path."""
    size_bytes: int
    """Its size on disk."""
    xxh3_128: str
    """Hash of its bytes on disk."""


class ShardMeta(Settings):
    """Counts of one shard."""

    num_tokens: int
    """Tokens."""
    num_sentences: int
    """Sentences."""
    num_documents: int
    """Documents with text."""
    num_empty_documents: int
    """Documents without text, which were skipped."""
    num_bytes: int
    """Text in UTF-8."""


class CorpusMeta(Settings):
    """What meta.json of a corpus folder holds."""

    format: int = 1
    """Version of the layout."""
    tokenizer_fingerprint: str
    """Fingerprint of the tokenizer whose ids these are."""
    vocab_size: int
    """Ids of the tokenizer."""
    dtype: str
    """Number format of the ids: `uint16`, or `uint32` above 65,536 ids."""
    words: str = "pieces"
    """What says where words begin: `pieces` (the pre-tokens), or the name and version of a segmenter of Chinese."""
    shard_tokens: int
    """A shard ends with the document in which it reaches so many tokens."""
    sources: tuple[Source, ...]
    """Input files in their order."""
    shards: tuple[ShardMeta, ...] = ()
    """Shards in their order."""

    def total(self, name: str) -> int:
        """Sum of one count, such as `num_tokens`, over the shards."""
        return sum(getattr(shard, name) for shard in self.shards)


@dataclass(frozen=True)
class Shard:
    """One part of a corpus, mapped into memory.

    Attributes:
        ids: (n,) uint16 or uint32.
        sentence_starts: token that each sentence begins at, and the end, (m + 1,) uint64.
        document_starts: sentence that each document begins at, and the end, (d + 1,) uint64.
        word_bits: one bit a token, lowest bit first, set where a word begins, (ceil(n / 8),) uint8.
    """

    ids: np.ndarray
    sentence_starts: np.ndarray
    document_starts: np.ndarray
    word_bits: np.ndarray

    def word_starts(self, start: int, stop: int) -> np.ndarray:
        """Whether a word begins at each token from `start` to `stop`, (stop - start,) bool."""
        first = start // 8
        bits = np.unpackbits(self.word_bits[first : (stop + 7) // 8], bitorder="little")
        return bits[start - 8 * first : stop - 8 * first].astype(bool)


def write_shard(folder: Path, parts: list[Encoded], meta: CorpusMeta) -> CorpusMeta:
    """Write the files of the next shard, fsync them, and add the shard to the record.

    A shard without tokens only counts its empty documents.
    """
    number, dtype = len(meta.shards), np.dtype(meta.dtype).newbyteorder("<")
    sentences = np.concatenate([part.sentence_lengths for part in parts])
    documents = np.concatenate([part.document_sentences for part in parts])
    words = np.packbits(np.concatenate([part.word_starts for part in parts]), bitorder="little")
    _write(_path(folder, _TOKENS, number), (part.ids.astype(dtype, copy=False) for part in parts))
    _write(_path(folder, _SENTENCES, number), [_starts(sentences)])
    _write(_path(folder, _DOCUMENTS, number), [_starts(documents[documents > 0])])
    _write(_path(folder, _WORDS, number), [words])
    shard = ShardMeta(
        num_tokens=sum(len(part.ids) for part in parts),
        num_sentences=len(sentences),
        num_documents=int(np.count_nonzero(documents)),
        num_empty_documents=int(np.count_nonzero(documents == 0)),
        num_bytes=sum(int(part.document_bytes.sum()) for part in parts),
    )
    return meta.model_copy(update={"shards": (*meta.shards, shard)})


def shard_files(folder: Path, number: int) -> list[Path]:
    """The files of one shard."""
    return [_path(folder, name, number) for name in (_TOKENS, _SENTENCES, _DOCUMENTS, _WORDS)]


def read_meta(folder: Path) -> CorpusMeta:
    """Read meta.json of a finished corpus.

    Raises:
        ArtefactError: there is none, or it is damaged.
    """
    if not (folder / storage.MANIFEST).is_file() or not (folder / "meta.json").is_file():
        raise ArtefactError(
            "no-corpus",
            "there is no finished corpus in this folder" if folder.is_dir() else "there is no such folder",
            place=folder,
            remedy="build it: unmask corpus build FILE... --tokenizer DIR --output DIR",
        )
    try:
        return CorpusMeta.model_validate(storage.read_json(folder / "meta.json"))
    except ValidationError as error:
        raise ArtefactError(
            "bad-meta", f"meta.json does not describe a corpus: {error}", place=folder / "meta.json"
        ) from None


def open_shard(folder: Path, number: int, meta: CorpusMeta) -> Shard:
    """Map one shard into memory.

    Raises:
        ArtefactError: a file is missing or has not the size that the record gives.
    """
    counts = meta.shards[number]
    forms = {
        _TOKENS: (np.dtype(meta.dtype).newbyteorder("<"), counts.num_tokens),
        _SENTENCES: (np.dtype("<u8"), counts.num_sentences + 1),
        _DOCUMENTS: (np.dtype("<u8"), counts.num_documents + 1),
        _WORDS: (np.dtype("u1"), (counts.num_tokens + 7) // 8),
    }
    arrays = []
    for name, (dtype, length) in forms.items():
        path = _path(folder, name, number)
        size = path.stat().st_size if path.is_file() else -1
        if size != length * dtype.itemsize:
            raise ArtefactError(
                "corrupt",
                "a file of the corpus is missing" if size < 0 else "a file of the corpus is cut or changed",
                place=path,
                value=f"{size} bytes" if size >= 0 else None,
                expected=f"{length * dtype.itemsize} bytes",
                remedy="copy or build the corpus again",
            )
        arrays.append(np.memmap(path, dtype, "r") if length else np.empty(0, dtype))
    return Shard(*arrays)


def fingerprint(folder: Path, meta: CorpusMeta) -> str:
    """Hash of tokens, boundaries and tokenizer of a finished corpus, from its manifest."""
    files = storage.read_json(folder / storage.MANIFEST)["files"]
    parts = [f"{name} {files[name]['xxh3_128']}" for name in sorted(files) if name.endswith(".bin")]
    return xxhash.xxh3_128_hexdigest("\n".join([meta.tokenizer_fingerprint, *parts]).encode())


def _write(path: Path, arrays: Iterable[np.ndarray]) -> None:
    with path.open("wb") as file:
        for array in arrays:
            file.write(array.tobytes())
        file.flush()
        os.fsync(file.fileno())


def _starts(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype("<u8")


def _path(folder: Path, name: str, number: int) -> Path:
    return folder / f"{name}-{number:05d}.bin"
