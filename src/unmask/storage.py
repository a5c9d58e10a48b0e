"""Durable artefacts: a folder appears whole, with a manifest of hashes, or it does not appear at all.

The protocol: write into a staging folder beside the target, fsync each file, write MANIFEST.json last, rename once,
fsync the parent. A process that dies on the way leaves a staging folder, which the next writer of the target sweeps.
"""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import xxhash

from unmask.errors import ArtefactError, ResourceError, UsageError

MANIFEST = "MANIFEST.json"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextlib.contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Give a fresh folder to fill; when the block ends well it becomes `target`, which must not exist before.

    Raises:
        UsageError: `target` exists already.
        ResourceError: the disk is full; the staging folder is removed and nothing else was touched.
    """
    target = Path(target)
    if target.exists():
        raise UsageError("exists", "the output folder exists already", place=target, remedy="choose another name")
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep(target)
    staging = target.parent / f".staging-{target.name}-{socket.gethostname()}-{os.getpid()}"
    staging.mkdir()
    try:
        with full_disk_is_an_error(target):
            yield staging
            seal(staging)
            staging.rename(target)
            sync(target.parent)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


@contextlib.contextmanager
def replaced(target: Path) -> Iterator[Path]:
    """Like `staged`, but an older `target` is moved aside first and deleted only when the new one stands.

    A process that died between the two renames leaves no `target`, but both copies; the next call puts the new one,
    which is whole, in its place before anything else.
    """
    old = target.with_name(f".old-{target.name}")
    fresh = target.with_name(f".new-{target.name}")
    if not target.exists() and (fresh.exists() or old.exists()):
        (fresh if fresh.exists() else old).rename(target)
    for leftover in (old, fresh):
        shutil.rmtree(leftover, ignore_errors=True)
    with staged(fresh) as staging:
        yield staging
    if target.exists():
        target.rename(old)
    fresh.rename(target)
    sync(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def seal(folder: Path) -> None:
    """fsync every file of a folder and write its MANIFEST.json (size and xxh3-128 of each), last."""
    files = {}
    for path in _files(folder):
        sync(path)
        files[path.relative_to(folder).as_posix()] = {"size_bytes": path.stat().st_size, "xxh3_128": digest(path)}
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({"format": 1, "files": files}, indent=1) + "\n")
    sync(manifest)
    sync(folder)


def verify(folder: Path) -> None:
    """Check each file of a folder against its manifest.

    Raises:
        ArtefactError: folder or manifest is missing, or a file is missing, extra, cut or changed; all are named.
    """
    folder = Path(folder)
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise ArtefactError(
            "no-manifest",
            "there is no MANIFEST.json, so nothing vouches for this folder" if folder.is_dir() else "no such folder",
            place=folder,
            remedy="name a folder that unmask has written to its end",
        )
    try:
        listed = json.loads(manifest.read_text("utf-8"))["files"]
        faults = [fault for name, entry in listed.items() if (fault := _fault(folder / name, entry))]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtefactError("bad-manifest", f"the manifest cannot be read: {error}", place=manifest) from None
    found = {path.relative_to(folder).as_posix() for path in _files(folder)} - {MANIFEST}
    faults += [f"{name}: not in the manifest" for name in sorted(found - set(listed))]
    if faults:
        raise ArtefactError(
            "corrupt",
            f"{len(faults)} of {len(listed)} files differ from the manifest: {'; '.join(faults[:5])}",
            place=folder,
            remedy="copy or make the folder again; do not use it as it is",
        )


def digest(path: Path) -> str:
    """The xxh3-128 of a file's bytes, as 32 hexadecimal digits."""
    state = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            state.update(block)
    return state.hexdigest()


def write_text(path: Path, text: str) -> None:
    """Replace one file in one step: a reader sees the old text or the new, never a part."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with full_disk_is_an_error(path):
        try:
            partial.write_text(text, "utf-8")
            sync(partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """Read one JSON file.

    Raises:
        ArtefactError: it is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ArtefactError("missing-file", "the file does not exist", place=path) from None
    except ValueError as error:
        raise ArtefactError("bad-json", f"the file is not JSON: {error}", place=path) from None


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for this process; the kernel frees it when the process ends, however it ends.

    Raises:
        UsageError: another living process holds it; its process id, host and start are named.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise UsageError(
                "locked",
                f"another process writes into this folder ({file.read().strip()})",
                place=folder,
                remedy="wait for it, or choose another --output",
            ) from None
        file.truncate(0)
        file.write(f"pid {os.getpid()} on {socket.gethostname()} since {time.strftime('%F %T')}")
        file.flush()
        yield


@contextlib.contextmanager
def full_disk_is_an_error(path: Path) -> Iterator[None]:
    """Name the path and the free bytes when a write inside the block finds no room."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        place = path if path.exists() else path.parent
        raise ResourceError(
            "disk-full",
            f"there is no room to write: {error.strerror}",
            place=path,
            value=f"{shutil.disk_usage(place).free:,} bytes are free",
            remedy="free some space and start the same command again",
            saved="everything written before is untouched",
        ) from None


def sync(path: Path) -> None:
    """fsync one file or folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(target: Path) -> None:
    """Remove the staging folders of `target` that dead processes of this host left.

    One with this process's own number is such a leftover too: in a container every start may have the same number.
    """
    for staging in target.parent.glob(f".staging-{target.name}-{socket.gethostname()}-*"):
        pid = staging.name.rpartition("-")[2]
        if pid.isdigit() and (int(pid) == os.getpid() or not _is_alive(int(pid))):
            shutil.rmtree(staging, ignore_errors=True)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _fault(path: Path, entry: dict[str, Any]) -> str | None:
    if not path.is_file():
        return f"{path.name}: missing"
    if path.stat().st_size != entry["size_bytes"]:
        return f"{path.name}: {path.stat().st_size} bytes instead of {entry['size_bytes']}"
    if digest(path) != entry["xxh3_128"]:
        return f"{path.name}: content changed"
    return None
