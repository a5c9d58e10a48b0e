"""What is this file, if it is not UTF-8 text: binary formats by their first bytes, encodings by their statistics."""

import re
from pathlib import Path

from unmask.errors import DataError

_FORMATS = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"%PDF-": "a PDF document",
    b"PK\x03\x04": "a zip archive (or a .docx, .xlsx, .npz file)",
    b"PAR1": "a Parquet table",
    b"ARROW1": "an Arrow table",
    b"\x7fELF": "a program",
    b"SQLite format 3": "an SQLite database",
    b"\x1f\x8b": "a gzip archive inside an archive",
    b"\xfd7zXZ": "an xz archive inside an archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\xd0\xcf\x11\xe0": "an old Office document",
}
_BOMS = {
    b"\xff\xfe\x00\x00": "UTF-32LE",
    b"\x00\x00\xfe\xff": "UTF-32BE",
    b"\xff\xfe": "UTF-16LE",
    b"\xfe\xff": "UTF-16BE",
}
_SAMPLE_BYTES = 1 << 16


def refuse_binary(path: Path, block: bytes, *, line: int = 1) -> None:
    """Raise if a block of bytes cannot be text: a known binary format, a BOM of another encoding, or a NUL.

    Args:
        path: the file, for the error.
        block: bytes that begin at line `line`.
        line: number of the block's first line; formats are looked for in line 1 only.

    Raises:
        DataError: `binary` or `wrong-encoding`.
    """
    if line == 1:
        for magic, name in _FORMATS.items():
            if block.startswith(magic):
                raise _binary(path, 1, f"the file is {name}, not text")
        if block[257:262] == b"ustar":
            raise _binary(path, 1, "the file is a tar archive, not text", "unpack it: `tar xf FILE`")
        if any(block.startswith(bom) for bom in _BOMS):
            raise wrong_encoding(path, 1, block[:4], 0, block)
    nul = block.find(0)
    if nul >= 0:
        here = line + block.count(b"\n", 0, nul)
        if (guess_encoding(block[:_SAMPLE_BYTES]) or "").startswith("UTF-16"):
            raise wrong_encoding(path, here, b"\0", 0, block)
        raise _binary(path, here, "the line has a NUL byte, so the file is binary or damaged")


def wrong_encoding(path: Path, line: int, text: bytes, start: int, sample: bytes) -> DataError:
    """Describe bytes that are not UTF-8.

    Args:
        path: the file.
        line: number of the line.
        text: the line.
        start: offset of the bad byte in it; all before is UTF-8.
        sample: bytes around it, from which the encoding is guessed.
    """
    column = len(text[:start].decode("utf-8")) + 1
    at = max(sample.find(text[start : start + 16]), 0)
    guess = guess_encoding(sample[: 1 << 2] + sample[max(at - _SAMPLE_BYTES // 2, 4) : at + _SAMPLE_BYTES // 2])
    if guess == "UTF-8":
        reason = "the file is UTF-8, but some bytes in it are damaged"
        remedy = f"repair the line, or drop such bytes: `iconv -f utf-8 -t utf-8 -c {path} > FIXED`"
    elif guess:
        reason = f"the file is not UTF-8; it looks like {guess}"
        remedy = f"`iconv -f {guess.lower()} -t utf-8 {path} > FIXED` (decompress it first if it is compressed)"
    else:
        reason = "the file is not UTF-8, and its encoding is not recognised"
        remedy = f"find out its encoding X, then `iconv -f X -t utf-8 {path} > FIXED`"
    return DataError(
        "wrong-encoding",
        reason,
        place=f"{path}:{line}:{column}",
        value=f"byte 0x{text[start]:02X}",
        expected="text in UTF-8",
        remedy=remedy,
    )


def guess_encoding(sample: bytes) -> str | None:
    """Guess the encoding of bytes that are not clean UTF-8, from byte statistics; None if unsure.

    Returns:
        `UTF-16LE`, `UTF-16BE`, `UTF-32LE`, `UTF-32BE`, `UTF-8` (damaged), `GB18030`, `CP1252`, `ISO-8859-1` or None.
    """
    for bom, name in _BOMS.items():
        if sample.startswith(bom):
            return name
    nuls = sample.count(0)
    if nuls:
        odd = sample[1::2].count(0)
        is_regular = max(odd, nuls - odd) > 0.95 * nuls and nuls * 100 >= len(sample)
        return ("UTF-16LE" if odd * 2 > nuls else "UTF-16BE") if is_regular else None
    decoded = sample.decode("utf-8", "replace")
    num_bad = decoded.count("\ufffd")
    num_good = sum(character > "\x7f" for character in decoded) - num_bad
    if num_good > 4 * num_bad:
        return "UTF-8"
    high = re.findall(rb"[\x80-\xff]+", sample)
    num_high = sum(map(len, high))
    if not num_high:
        return None
    # Two-byte Chinese stands in runs; nearly all of it lies in punctuation (A1-A3) and the 3,755 common Hanzi (B0-D7,
    # by their sound: B0-BF is "a" to "j", a third of any text, while Russian letters begin at C0).
    pairs = [pair for run in high for pair in re.findall(rb"[\xa1-\xa3\xb0-\xd7][\xa1-\xfe]", run)]
    if 2 * len(pairs) > 0.8 * num_high and sum(pair < b"\xc0" for pair in pairs) > 0.15 * len(pairs):
        return "GB18030"
    # Western letters stand alone between ASCII ones.
    if sum(len(run) for run in high if len(run) <= 2) < 0.8 * num_high:
        return None
    if re.search(rb"[\x80-\x9f]", sample):
        return None if re.search(rb"[\x81\x8d\x8f\x90\x9d]", sample) else "CP1252"
    return "ISO-8859-1"


def _binary(path: Path, line: int, reason: str, remedy: str = "give a text file") -> DataError:
    return DataError("binary", reason, place=f"{path}:{line}", expected="text in UTF-8", remedy=remedy)
