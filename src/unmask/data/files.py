"""Raw files to lines and documents: strict UTF-8, decompressed by magic bytes, in bounded memory.

`sniff` explains what a file is when it is not UTF-8 text; `rows` reads tables on top of `read_lines`.
"""

import bz2
import contextlib
import gzip
import io
import json
import logging
import lzma
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from unmask.data.sniff import refuse_binary, wrong_encoding
from unmask.errors import DataError

log = logging.getLogger("unmask")

BLOCK_BYTES = 1 << 20
MAX_LINE_BYTES = 16 << 20
MAX_DOCUMENT_BYTES = 16 << 20
# An archive that gives more than this, and so many times its own size, holds nothing but one thing again and again.
BOMB_BYTES = 1 << 28
BOMB_RATIO = 1000


def _open_zstd(raw: io.BufferedReader) -> Any:
    import pyarrow

    return pyarrow.CompressedInputStream(raw, "zstd")


# What begins an archive, and what reads it.
_OPENERS: tuple[tuple[bytes, Callable[[io.BufferedReader], Any]], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"\xfd7zXZ\x00", lzma.open),
    (b"\x28\xb5\x2f\xfd", _open_zstd),
    (b"BZh", bz2.open),
)
# Bytes of text for each byte of an archive, roughly.
_RATIOS = {b"\x1f\x8b": 3.0, b"\xfd7zX": 4.5, b"\x28\xb5\x2f\xfd": 3.5, b"BZh": 4.0}
_DAMAGED = (EOFError, OSError, zlib.error, lzma.LZMAError)
_BOM = b"\xef\xbb\xbf"
_COMPRESSED_SUFFIXES = {".gz", ".xz", ".zst", ".bz2"}
JSON_LINES_SUFFIXES = {".jsonl", ".ndjson", ".json"}
_TABLE_SUFFIXES = {".csv", ".tsv", ".parquet"}


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a corpus.

    Attributes:
        text: its text, with a newline between paragraphs.
        path: the file it comes from.
        line: the line it begins at, 1-based.
    """

    text: str
    path: Path
    line: int


def expand(paths: Sequence[Path]) -> list[Path]:
    """List the files that `paths` name: a folder stands for all files in it, sorted, hidden ones left out.

    Raises:
        DataError: a path does not exist, or a folder has no files.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        if not path.is_dir():
            if not path.exists():
                raise DataError("missing-file", "the file does not exist", place=path, remedy="check its name")
            files.append(path)
            continue
        inside = sorted(entry for entry in path.rglob("*") if entry.is_file() and not _is_hidden(entry, path))
        if not inside:
            raise DataError("empty-folder", "there are no files in this folder", place=path)
        files += inside
    return files


def read_lines(path: Path, *, keep_ends: bool = False, on_read: Callable[[int], None] | None = None) -> Iterator[str]:
    r"""Read a text file line by line; lines end with \n, \r\n or \r and with nothing else (not U+2028, not \v).

    Args:
        path: the file; .xz .gz .zst .bz2 are recognised by their first bytes, whatever the name.
        keep_ends: leave the line ends as they stand in the file.
        on_read: called with the number of bytes of the file on disk that each block has used up.

    Raises:
        DataError: it cannot be opened, is binary, is not UTF-8 (with place, byte and a guess of the encoding), is a
            damaged archive, unpacks to a thousand times its size, or has a line above 16 MiB; the place is `file:line`
            or `file:line:column`.
    """
    path = Path(path)
    number, carry, size = 1, b"", 0
    with _opened(path) as (stream, raw):
        while True:
            before = raw.tell() if on_read else 0
            block = _read_block(stream, raw, path, number)
            size += len(block)
            _refuse_bomb(path, number, size, raw)
            if number == 1 and not carry:
                refuse_binary(path, block)
                block = block.removeprefix(_BOM)
            data = carry + block
            if b"\0" in block:
                refuse_binary(path, data, line=number)
            # A \r at the very end may be the first half of \r\n: it waits for the next block.
            cut = max(data.rfind(b"\n"), data.rfind(b"\r", 0, len(data) - 1)) + 1 if block else len(data)
            if len(data) > MAX_LINE_BYTES:
                _refuse_long_line(path, number, data)
            for line in data[:cut].splitlines(keep_ends):
                try:
                    text = line.decode("utf-8")
                except UnicodeDecodeError as error:
                    raise wrong_encoding(path, number, line, error.start, data) from None
                yield text
                number += 1
            if on_read:
                on_read(raw.tell() - before)
            if not block:
                return
            carry = data[cut:]


def read_documents(paths: Sequence[Path], *, on_read: Callable[[int], None] | None = None) -> Iterator[Document]:
    """Read documents: JSON Lines (`.jsonl`, `.ndjson`, `.json`) with the key `text`, or plain text with blank lines.

    Documents without any text are passed on, so that they can be counted. In plain text a document above 16 MiB is
    cut at a line end, with a warning, so that a file without blank lines cannot fill the memory.

    Args:
        paths: files or folders (see `expand`).
        on_read: called with the number of bytes on disk that were used up, again and again.

    Raises:
        DataError: as `read_lines`; a line that is not a JSON object, or has no text under `text`; a table or binary.
    """
    for path in expand(paths):
        suffix = kind(path)
        if suffix in _TABLE_SUFFIXES:
            raise DataError(
                "not-a-corpus",
                f"a {suffix} table is not read as a corpus",
                place=path,
                expected="plain text with blank lines between documents, or JSON Lines with the key 'text'",
            )
        reader = _json_documents if suffix in JSON_LINES_SUFFIXES else _plain_documents
        yield from reader(path, on_read)


def unpacked_bytes(paths: Sequence[Path]) -> int:
    """Estimate the bytes of text in files, from their sizes and, for archives, the usual ratio of their kind."""
    total = 0.0
    for path in paths:
        with path.open("rb") as file:
            magic = file.read(4)
        total += path.stat().st_size * next((ratio for start, ratio in _RATIOS.items() if magic.startswith(start)), 1.0)
    return int(total)


def kind(path: Path) -> str:
    """The suffix that says what a file holds, lower case, without that of its compression: `.csv` of `a.CSV.gz`."""
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    while suffixes and suffixes[-1] in _COMPRESSED_SUFFIXES:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def read_bytes(path: Path) -> bytes:
    """Read a whole file, decompressed by magic bytes.

    Raises:
        DataError: it cannot be opened, is a damaged archive, or unpacks to a thousand times its size.
    """
    blocks, size = [], 0
    with _opened(Path(path)) as (stream, raw):
        while block := _read_block(stream, raw, Path(path), 1):
            blocks.append(block)
            size += len(block)
            _refuse_bomb(Path(path), 1, size, raw)
    return b"".join(blocks)


def read_head(path: Path, size: int = 8192) -> str:
    """The first characters of a file, decompressed; what is not UTF-8 is replaced, because they are only looked at.

    Raises:
        DataError: it cannot be opened, is a damaged archive, or is binary or UTF-16, of which nothing can be told.
    """
    with _opened(Path(path)) as (stream, raw):
        block = _read_block(stream, raw, Path(path), 1)
    refuse_binary(Path(path), block)
    return block.removeprefix(_BOM)[: 4 * size].decode("utf-8", "replace")[:size]


def parse_json(path: Path, line: int, text: str, decoder: json.JSONDecoder) -> dict[str, object]:
    """Decode one line of JSON Lines.

    Raises:
        DataError: it is not one JSON object.
    """
    try:
        value = decoder.decode(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            "bad-json",
            f"the line is not JSON: {error}",
            place=f"{path}:{line}",
            value=text.strip()[:80],
            expected="one JSON object on each line",
            remedy="correct the line; `jq -c '.[]' FILE` turns a JSON array into JSON Lines",
        ) from None
    if not isinstance(value, dict):
        raise DataError(
            "bad-json",
            f"the line holds a {type(value).__name__}, not an object",
            place=f"{path}:{line}",
            value=text.strip()[:80],
            expected='one JSON object on each line, such as {"text": "..."}',
        )
    return value


def _json_documents(path: Path, on_read: Callable[[int], None] | None) -> Iterator[Document]:
    decoder = json.JSONDecoder()
    for number, line in enumerate(read_lines(path, on_read=on_read), 1):
        if not line.strip():
            continue
        text = parse_json(path, number, line, decoder).get("text")
        if not isinstance(text, str):
            raise DataError(
                "missing-text",
                "the line has no key 'text'" if text is None else f"the key 'text' holds a {type(text).__name__}",
                place=f"{path}:{number}",
                value=line.strip()[:80],
                expected='one object on each line with the document under "text"',
            )
        yield Document(text, path, number)


def _plain_documents(path: Path, on_read: Callable[[int], None] | None) -> Iterator[Document]:
    lines: list[str] = []
    start, size = 1, 0
    for number, line in enumerate(read_lines(path, on_read=on_read), 1):
        is_blank = not line.strip()
        if lines and (is_blank or size > MAX_DOCUMENT_BYTES):
            if not is_blank:
                log.warning("%s:%d: no blank line in 16 MiB of text; the document is cut here", path, number)
            yield Document("\n".join(lines), path, start)
            lines, size = [], 0
        if not is_blank:
            start = start if lines else number
            lines.append(line)
            size += len(line)
    if lines:
        yield Document("\n".join(lines), path, start)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], io.BufferedReader]]:
    """Open a file; gives its decompressed stream and the file on disk."""
    try:
        raw = path.open("rb")
    except OSError as error:
        raise DataError("unreadable", f"the file cannot be opened: {error.strerror}", place=path) from None
    with raw:
        magic = raw.peek(6)[:6]
        for prefix, opener in _OPENERS:
            if magic.startswith(prefix):
                with opener(raw) as stream:
                    yield stream, raw
                return
        yield raw, raw


def _read_block(stream: IO[bytes], raw: io.BufferedReader, path: Path, line: int) -> bytes:
    try:
        return stream.read(BLOCK_BYTES)
    except _DAMAGED as error:
        where = raw.tell()
        raise DataError(
            "damaged-archive",
            f"the file is cut or damaged; reading stopped at byte {where:,} of {path.stat().st_size:,}: {error}",
            place=f"{path}:{line}",
            remedy="copy or download the file again",
        ) from None


def _refuse_bomb(path: Path, line: int, size: int, raw: io.BufferedReader) -> None:
    if size > BOMB_BYTES and size > BOMB_RATIO * raw.tell():
        raise DataError(
            "archive-bomb",
            f"the archive unpacks to more than {BOMB_RATIO:,} times its size; reading stopped at byte {raw.tell():,}",
            place=f"{path}:{line}",
            value=f"{size:,} bytes so far",
            remedy="look at what it holds; if it is what you want, unpack it first",
        )


def _refuse_long_line(path: Path, number: int, data: bytes) -> None:
    for offset, line in enumerate(data.splitlines()):
        if len(line) > MAX_LINE_BYTES:
            raise DataError(
                "long-line",
                f"the line is longer than {MAX_LINE_BYTES >> 20} MiB",
                place=f"{path}:{number + offset}",
                value=line[:40].decode("utf-8", "replace") + "...",
                remedy="break the text into lines; is this file text at all?",
            )


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def read_text(path: Path) -> str:
    """The whole text of a file, decompressed, without a byte order mark.

    Raises:
        DataError: `wrong-encoding`, with the place of the first byte that is not UTF-8.
    """
    try:
        return read_bytes(path).removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            "wrong-encoding",
            f"byte {error.start + 1} of the file is not UTF-8",
            place=path,
            value=f"0x{error.object[error.start]:02x}",
            remedy="convert it: iconv -t utf-8",
        ) from None
