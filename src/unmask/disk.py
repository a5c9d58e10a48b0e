"""Changes of the disk, made to last; each one goes past `watch` first.

A test puts its own function into `watch` and so sees, counts, refuses or dies at every single change.
"""

import contextlib
import errno
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unmask.errors import ResourceError, UsageError

log = logging.getLogger("unmask")

PART_BYTES = 4 << 20
RETRY_SECONDS = (0.2, 1.0, 5.0)
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Numbers of errors that say that there is no room."""
_REFUSED = {
    errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR,
}  # fmt: skip


@dataclass(frozen=True)
class Operation:
    """One change of the disk.

    Attributes:
        kind: `make` a folder, `create` an empty file, `write` a part to a file's end, `sync` a file or a folder,
            `rename`, `unlink` a file, `remove` an empty folder.
        path: what is changed.
        data: what a `write` adds.
        target: the new name of a `rename`.
    """

    kind: Literal["make", "create", "write", "sync", "rename", "unlink", "remove"]
    path: Path
    data: bytes | memoryview = b""
    target: Path | None = None


def _ignore(_: Operation) -> None:
    pass


watch: Callable[[Operation], None] = _ignore
"""Called before each change of the disk; an `OSError` that it raises is taken for the disk's own."""


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write one new file and flush it to the disk; its rights follow the umask.

    An input/output error is tried again three times, each time with a file begun anew: after a failed fsync the kernel
    may hold pages for written that never were, so a second fsync alone would prove nothing.

    Raises:
        OSError: the disk still refuses; `named_errors` names it.
    """
    for pause in RETRY_SECONDS:
        try:
            _write_new(path, memoryview(data))
            return
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            log.warning("%s: %s; trying again in %g seconds", path, error.strerror, pause)
            time.sleep(pause)
            if path.exists():
                unlink(path)
    _write_new(path, memoryview(data))


@contextlib.contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Name the path and the free bytes when the disk has no room for a write inside the block, or refuses it."""
    try:
        yield
    except OSError as error:
        saved = "everything written before is untouched"
        if error.errno in FULL:
            raise ResourceError(
                "disk-full",
                f"there is no room to write: {error.strerror}",
                place=path,
                value=f"{free_bytes(path):,} bytes are free",
                remedy="free some space and start the same command again",
                saved=saved,
            ) from None
        if error.errno in _REFUSED:
            raise ResourceError(
                "disk-refuses",
                f"the disk refuses a write: {error.strerror}",
                place=path,
                value=error.filename,
                remedy="see to the disk and the rights of this folder, then start the same command again",
                saved=saved,
            ) from None
        raise


def free_bytes(path: Path) -> int:
    """Bytes that are free where `path` lies or will lie."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def sync(path: Path) -> None:
    """fsync one file or folder."""
    watch(Operation("sync", path))
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def rename(source: Path, target: Path) -> None:
    """Give a file or a folder another name; `sync` the parent to make it last."""
    watch(Operation("rename", source, target=target))
    source.replace(target)


def make_folder(path: Path) -> None:
    """Make a folder and its parents where they are missing, so that they last.

    Raises:
        UsageError: a file, or a link to nowhere, has the name.
    """
    if path.is_dir():
        return
    if path.exists() or path.is_symlink():
        raise UsageError(
            "not-a-folder", "a folder is wanted, but something else has this name", place=path, remedy="choose another"
        )
    make_folder(path.parent)
    watch(Operation("make", path))
    path.mkdir(exist_ok=True)
    sync(path.parent)


def unlink(path: Path) -> None:
    """Delete one file."""
    watch(Operation("unlink", path))
    path.unlink()


def remove(folder: Path) -> None:
    """Delete a folder and all that is in it, if it is there."""
    for parent, folders, files in os.walk(folder, topdown=False):
        for path in (Path(parent, name) for name in sorted(files + folders)):
            if path.is_dir() and not path.is_symlink():
                watch(Operation("remove", path))
                path.rmdir()
            else:
                unlink(path)
    if folder.is_dir():
        watch(Operation("remove", folder))
        folder.rmdir()


def _write_new(path: Path, data: memoryview) -> None:
    watch(Operation("create", path))
    data = data.cast("B")
    with path.open("xb", buffering=0) as file:
        for start in range(0, len(data), PART_BYTES):
            part = data[start : start + PART_BYTES]
            watch(Operation("write", path, data=part))
            while part:
                part = part[file.write(part) :]
        watch(Operation("sync", path))
        os.fsync(file.fileno())
