"""Lines and documents of text files."""

import bz2
import gzip
import json
import lzma
from importlib import resources
from pathlib import Path

import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unmask.data import files
from unmask.data.files import Document, expand, kind, read_documents, read_lines, unpacked_bytes

COMPRESSORS = {
    "gz": gzip.compress,
    "xz": lzma.compress,
    "bz2": bz2.compress,
    "zst": lambda data: pyarrow.compress(data, codec="zstd", asbytes=True),
}


def slow_lines(data: bytes) -> list[str]:
    """Read character by character, as the rule says."""
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    lines, line, position = [], "", 0
    while position < len(text):
        if text[position] in "\r\n":
            position += text[position : position + 2] == "\r\n"
            lines.append(line)
            line = ""
        else:
            line += text[position]
        position += 1
    return [*lines, line] if line else lines


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a", ["a"]),
        (b"a\nb", ["a", "b"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"a\rb\r", ["a", "b"]),
        (b"a\r\r\nb", ["a", "", "b"]),
        (b"a\n\rb", ["a", "", "b"]),
        (b"\xef\xbb\xbfa\n", ["a"]),
        (b"a\n\xef\xbb\xbfb\n", ["a", "\ufeffb"]),
        ("a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\n".encode(), ["a\u2028b\u2029c\x85d\x0be\x0cf\x1cg"]),
        ("\u00e9\n\u5929\n\U0001f600\n".encode(), ["\u00e9", "\u5929", "\U0001f600"]),
    ],
)
def test_lines_end_where_they_should(tmp_path: Path, data: bytes, expected: list[str]) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(data)
    assert list(read_lines(path)) == expected == slow_lines(data)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    parts=st.lists(st.sampled_from(["a", "\r", "\n", "\r\n", "\u00e9", "\u5929\u6c14", "\u2028", " "]), max_size=30),
    block=st.integers(1, 7),
)
def test_lines_do_not_depend_on_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: list[str], block: int
) -> None:
    data = "".join(parts).encode()
    path = tmp_path / "text.txt"
    path.write_bytes(data)
    monkeypatch.setattr(files, "BLOCK_BYTES", block)
    assert list(read_lines(path)) == slow_lines(data)
    assert "".join(read_lines(path, keep_ends=True)).encode() == data


@pytest.mark.parametrize("name", COMPRESSORS)
def test_archives_are_known_by_their_bytes(tmp_path: Path, name: str) -> None:
    data = "first\nsecond \u5929\n".encode() * 1000
    path = tmp_path / "no-suffix"
    path.write_bytes(COMPRESSORS[name](data))
    assert list(read_lines(path)) == slow_lines(data)


@pytest.mark.parametrize("name", COMPRESSORS)
def test_archives_of_several_parts_are_read_to_their_end(tmp_path: Path, name: str) -> None:
    path = tmp_path / "text"
    path.write_bytes(COMPRESSORS[name](b"a\nb") + COMPRESSORS[name](b"c\n"))
    assert list(read_lines(path)) == ["a", "bc"]


def test_progress_counts_the_bytes_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "text.xz"
    path.write_bytes(lzma.compress(b"some text\n" * 500_000))
    counted: list[int] = []
    assert sum(1 for _ in read_lines(path, on_read=counted.append)) == 500_000
    assert sum(counted) == path.stat().st_size


def test_plain_documents_end_at_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"\n\na\n b\r\n \t\n\nc\n")
    assert list(read_documents([path])) == [Document("a\n b", path, 3), Document("c", path, 7)]


def test_json_documents_keep_empty_ones(tmp_path: Path) -> None:
    path = tmp_path / "text.JSONL.gz"
    lines = [json.dumps({"id": 1, "text": text}) for text in ("a\nb", "", "\u5929")]
    path.write_bytes(gzip.compress("\n\n".join(lines).encode()))
    assert [(document.text, document.line) for document in read_documents([path])] == [
        ("a\nb", 1),
        ("", 3),
        ("\u5929", 5),
    ]


def test_long_document_is_cut_at_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_DOCUMENT_BYTES", 25)
    path = tmp_path / "text.txt"
    path.write_text("".join(f"line {number:05d}\n" for number in range(10)))
    documents = list(read_documents([path]))
    assert [document.line for document in documents] == [1, 4, 7, 10]
    assert "\n".join(document.text for document in documents) == path.read_text().strip()


def test_folder_stands_for_its_files(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "sub/c.txt", ".hidden", ".git/d.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert [path.name for path in expand([tmp_path])] == ["a.txt", "b.txt", "c.txt"]
    assert expand([tmp_path / "b.txt", tmp_path / "a.txt"]) == [tmp_path / "b.txt", tmp_path / "a.txt"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.CSV", ".csv"), ("a.csv.gz", ".csv"), ("a.b.jsonl.xz", ".jsonl"), ("a", ""), ("a.zst", ""), ("a.txt", ".txt")],
)
def test_kind_looks_behind_the_compression(name: str, expected: str) -> None:
    assert kind(Path(name)) == expected


@pytest.mark.parametrize("suffix", sorted(COMPRESSORS))
def test_the_bytes_of_an_archive_are_estimated_within_a_factor_of_three(tmp_path: Path, suffix: str) -> None:
    text = (resources.files("unmask") / "bundled/text-en/carroll-alice-1865.txt").read_bytes()
    plain, packed = tmp_path / "plain.txt", tmp_path / f"packed.txt.{suffix}"
    plain.write_bytes(text)
    packed.write_bytes(COMPRESSORS[suffix](text))
    assert unpacked_bytes([plain]) == len(text)
    assert len(text) / 3 < unpacked_bytes([packed]) < len(text) * 3
