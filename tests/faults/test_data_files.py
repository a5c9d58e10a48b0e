"""Files that are not what they should be: each gets its place, its value and a remedy, never a traceback."""

import bz2
import gzip
import lzma
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from unmask.data import files
from unmask.data.files import read_documents, read_lines
from unmask.data.rows import read_table
from unmask.errors import DataError

CHINESE = "天地玄黄，宇宙洪荒。我们今天去学校学习语文和数学。\n"
COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "xz": lzma.compress,
    "bz2": bz2.compress,
    "zst": lambda data: pyarrow.compress(data, codec="zstd", asbytes=True),
}


def error_of(read: Callable[[], object]) -> DataError:
    with pytest.raises(DataError) as caught:
        read()
    assert caught.value.exit_code == 3
    return caught.value


def lines_error(path: Path, data: bytes) -> DataError:
    path.write_bytes(data)
    return error_of(lambda: list(read_lines(path)))


@pytest.mark.parametrize(
    ("data", "place", "byte", "guess"),
    [
        (b"fine\nd'accord, na\xefve caf\xe9 garni\n", "2:13", "0xEF", "iso-8859-1"),
        (b"one \x93two\x94 three\n", "1:5", "0x93", "cp1252"),
        (b"fine\n" + CHINESE.encode("gb18030"), "2:1", "0xCC", "gb18030"),
        (CHINESE.encode("utf-16"), "1:1", "0xFF", "utf-16le"),
        (("a line\n" * 9).encode("utf-16-be"), "1:1", "0x00", "utf-16be"),
        ((CHINESE * 9).encode() + b"x\xff\n", "10:2", "0xFF", "iconv -f utf-8 -t utf-8 -c"),
        ("\u00e9\u5929\n\u5929\u6c14 ".encode() + b"\xe5\xa4\n", "2:4", "0xE5", "iconv"),
    ],
)
def test_tx1_wrong_encoding(tmp_path: Path, data: bytes, place: str, byte: str, guess: str) -> None:
    path = tmp_path / "text.txt"
    error = lines_error(path, data)
    assert error.code == "wrong-encoding"
    assert error.details["place"] == f"{path}:{place}"
    assert error.details["value"] == f"byte {byte}"
    assert guess in str(error.details["fix"])
    assert "iconv" in str(error.details["fix"])


def test_tx1_guessed_remedy_works(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    remedy = str(lines_error(path, CHINESE.encode("gb18030")).details["fix"])
    command = remedy.split("`")[1].replace("FIXED", str(tmp_path / "fixed"))
    subprocess.run(command, shell=True, check=True)
    assert list(read_lines(tmp_path / "fixed")) == [CHINESE.strip()]


def test_tx1_lines_before_a_bad_one_are_given(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"one\ntwo\n\xff\n")
    lines = read_lines(path)
    assert [next(lines), next(lines)] == ["one", "two"]
    assert error_of(lambda: next(lines)).details["place"] == f"{path}:3:1"


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"\x89PNG\r\n\x1a\n rest", "PNG"),
        (b"%PDF-1.7\n", "PDF"),
        (b"PAR1....PAR1", "Parquet"),
        (gzip.compress(gzip.compress(b"text", mtime=0), mtime=0), "archive inside"),
        (b"a\nb\0\nc\0\0\0x", "NUL"),
        (b"name" + b"\0" * 253 + b"ustar", "tar xf"),
    ],
)
def test_tx2_binary_is_refused(tmp_path: Path, data: bytes, word: str) -> None:
    error = lines_error(tmp_path / "text.txt", data)
    assert error.code == "binary"
    assert word in str(error)


def test_tx2_zip_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "text.txt", "w") as archive:
        archive.writestr("a", "b")
    assert "zip" in str(error_of(lambda: list(read_lines(tmp_path / "text.txt"))))


def test_tx2_nul_is_placed_in_its_line(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    assert lines_error(path, b"a\n" * 500 + b"b\0c\n").details["place"] == f"{path}:501"


@pytest.mark.parametrize("name", COMPRESSORS)
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_tx7_cut_archive(tmp_path: Path, name: str, share: float) -> None:
    path = tmp_path / f"text.{name}"
    data = COMPRESSORS[name](b"".join(b"line %d\n" % (number * 7919 % 100_003) for number in range(300_000)))
    error = lines_error(path, data[: int(len(data) * share)])
    assert error.code == "damaged-archive"
    assert str(error.details["place"]).startswith(f"{path}:")
    assert "byte" in error.reason


@pytest.mark.parametrize("name", ["gz", "xz", "bz2"])
def test_tx7_flipped_bits_in_an_archive(tmp_path: Path, name: str) -> None:
    data = bytearray(COMPRESSORS[name](b"".join(b"line %d\n" % number for number in range(50_000))))
    data[len(data) // 2] ^= 0x55
    assert lines_error(tmp_path / "text", bytes(data)).code in ("damaged-archive", "wrong-encoding", "binary")


def test_tx3_long_line_is_refused_by_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_LINE_BYTES", 100)
    monkeypatch.setattr(files, "BLOCK_BYTES", 64)
    path = tmp_path / "text.txt"
    path.write_bytes(b"a" * 100 + b"\n" + b"b" * 100 + b"\n")
    assert len(list(read_lines(path))) == 2
    for data in (b"a\n\n" + b"b" * 101 + b"\nc\n", b"a\n\n" + b"b" * 500):
        error = lines_error(path, data)
        assert (error.code, error.details["place"]) == ("long-line", f"{path}:3")


@pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux does")
def test_tx3_endless_line_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "text.xz"
    path.write_bytes(lzma.compress(b"a" * (400 << 20), preset=0))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert error_of(lambda: list(read_lines(path))).code == "long-line"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    assert error_of(lambda: list(read_documents([tmp_path / "none"]))).code == "missing-file"
    assert error_of(lambda: list(read_lines(tmp_path / "none"))).code == "unreadable"
    assert error_of(lambda: list(read_lines(tmp_path))).code == "unreadable"
    (tmp_path / "folder").mkdir()
    assert error_of(lambda: list(read_documents([tmp_path / "folder"]))).code == "empty-folder"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"text": "a"}\n{"text": "b\n', "bad-json"),
        ('{"text": "a"}\n[1]\n', "bad-json"),
        ('{"text": "a"}\n{"title": "b"}\n', "missing-text"),
        ('{"text": "a"}\n{"text": null}\n', "missing-text"),
        ('{"text": "a"}\n{"text": ["b"]}\n', "missing-text"),
        ('{"text": "a"}\n' + "[" * 100_000 + "\n", "bad-json"),
    ],
)
def test_bad_json_documents(tmp_path: Path, text: str, code: str) -> None:
    path = tmp_path / "text.jsonl"
    path.write_text(text)
    error = error_of(lambda: list(read_documents([path])))
    assert (error.code, error.details["place"]) == (code, f"{path}:2")


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_table_is_no_corpus(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a.{suffix}").write_text("text\n")
    assert error_of(lambda: list(read_documents([tmp_path]))).code == "not-a-corpus"


@pytest.mark.parametrize(
    ("name", "text", "code", "line"),
    [
        ("a.csv", "text,label\na,1\nb,c,2\n", "ragged-row", 3),
        ("a.csv", 'text,label\n"a\nb",1\nb\n', "ragged-row", 4),
        ("a.csv", 'text,label\na,1\n"b,2\nc,3\n', "bad-csv", 3),
        ("a.csv", 'text,label\n"a"b,1\n', "bad-csv", 2),
        ("a.csv", "text,text\na,1\n", "duplicate-column", 1),
        ("a.tsv", "text\tlabel\na\t1\nb\n", "ragged-row", 3),
        ("a.jsonl", '{"text": "a"}\n{"text": null}\n', "missing-value", 2),
        ("a.jsonl", '{"text": "a"}\n{"label": "b"}\n', "missing-value", 2),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text": "b"}\n', "missing-value", 2),
        ("a.jsonl", '{"text": "a"}\n{"text": {"a": 1}}\n', "nested-value", 2),
        ("a.jsonl", '{"text": "a"}\n{"text": "b", "text": "c"}\n', "bad-json", 2),
        ("a.jsonl", '{"text": "a"}\n{"text": "\\ud83d"}\n', "lone-surrogate", 2),
        ("a.jsonl", '{"text": "a"}\n{"text": "b"', "bad-json", 2),
    ],
)
def test_bad_rows(tmp_path: Path, name: str, text: str, code: str, line: int) -> None:
    path = tmp_path / name
    path.write_text(text)
    error = error_of(lambda: read_table(path))
    assert (error.code, error.details["place"]) == (code, f"{path}:{line}")


def test_ragged_row_is_shown(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\na, b,1\n")
    assert "row: expected 2 fields, saw 3: 'a |  b | 1'" in str(error_of(lambda: read_table(tmp_path / "a.csv")))


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("a.csv", b"", "empty-file"),
        ("a.csv", b"\n\n", "empty-file"),
        ("a.csv", b"text,label\n", "no-rows"),
        ("a.jsonl", b"\n", "empty-file"),
        ("a.csv", b"PAR1\0", "binary"),
        ("a.csv", b"text,label\ncaf\xe9,1\n", "wrong-encoding"),
        ("a.parquet", b"text,label\na,1\n", "bad-parquet"),
        ("a.xlsx", b"PK\x03\x04", "binary"),
        ("a", b"text", "unknown-format"),
    ],
)
def test_bad_tables(tmp_path: Path, name: str, data: bytes, code: str) -> None:
    (tmp_path / name).write_bytes(data)
    assert error_of(lambda: read_table(tmp_path / name)).code == code


def test_bad_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"text": ["a", None], "list": [[[1]], [[2]]], "bytes": [b"a", b"b"]}), path)
    assert error_of(lambda: read_table(path, ["text"])).details["place"] == f"{path}:row 2"
    assert error_of(lambda: read_table(path, ["list"])).code == "nested-value"
    assert error_of(lambda: read_table(path, ["bytes"])).code == "nested-value"
    path.write_bytes(path.read_bytes()[:-20])
    assert error_of(lambda: read_table(path)).code == "bad-parquet"


def test_missing_column_gets_a_suggestion(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\na,1\n")
    assert "did you mean 'label'?" in str(error_of(lambda: read_table(tmp_path / "a.csv", ["text", "lable"])))
