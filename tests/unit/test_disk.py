"""Files are written whole, in parts, past one hook; what the disk refuses is named."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from unmask import disk
from unmask.errors import ResourceError, UsageError


@pytest.mark.parametrize("size", [0, 1, 6, 7, 8, 21, 1000])
def test_a_file_is_written_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    log: list[disk.Operation] = []
    monkeypatch.setattr(disk, "watch", log.append)
    monkeypatch.setattr(disk, "PART_BYTES", 7)
    data = os.urandom(size)
    disk.write_bytes(tmp_path / "file", data)
    assert (tmp_path / "file").read_bytes() == data
    assert [operation.kind for operation in log] == ["create", *["write"] * -(-size // 7), "sync"]
    assert b"".join(operation.data for operation in log) == data


def test_arrays_are_written_as_their_bytes(tmp_path: Path) -> None:
    values = np.arange(10, dtype="<u4")
    disk.write_bytes(tmp_path / "file", values.data)
    assert (tmp_path / "file").read_bytes() == values.tobytes()


def test_an_older_file_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(FileExistsError):
        disk.write_bytes(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_text() == "old"


def test_folders_are_made_with_their_parents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[tuple[str, Path]] = []
    monkeypatch.setattr(disk, "watch", lambda operation: log.append((operation.kind, operation.path)))
    a, b = tmp_path / "a", tmp_path / "a" / "b"
    for _ in range(2):
        disk.make_folder(b)
    assert log == [("make", a), ("sync", tmp_path), ("make", b), ("sync", a)]
    (b / "file").touch()
    with pytest.raises(UsageError, match="not-a-folder"):
        disk.make_folder(b / "file" / "c")


def test_a_tree_is_removed_but_not_what_its_links_lead_to(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("precious")
    (tmp_path / "tree" / "a" / "b").mkdir(parents=True)
    (tmp_path / "tree" / "a" / "file").touch()
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "other")
    disk.remove(tmp_path / "tree")
    disk.remove(tmp_path / "tree")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
    assert (tmp_path / "other" / "file").read_text() == "precious"


@pytest.mark.parametrize(
    ("code", "name"), [(errno.ENOSPC, "disk-full"), (errno.EDQUOT, "disk-full"), (errno.EACCES, "disk-refuses")]
)
def test_what_the_disk_refuses_is_named(tmp_path: Path, code: int, name: str) -> None:
    path = tmp_path / "not" / "yet"
    with pytest.raises(ResourceError) as caught, disk.named_errors(path):
        raise OSError(code, os.strerror(code), str(path))
    assert caught.value.code == name
    assert os.strerror(code) in caught.value.reason
    assert caught.value.details["place"] == path
    assert caught.value.details["saved"]
    with pytest.raises(FileNotFoundError), disk.named_errors(path):
        path.read_text()


def test_free_bytes_are_those_of_the_nearest_folder(tmp_path: Path) -> None:
    assert disk.free_bytes(tmp_path / "not" / "yet") == pytest.approx(disk.free_bytes(tmp_path), rel=0.1)
