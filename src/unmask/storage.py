"""Durable artefacts: a folder appears whole, with a manifest of hashes, or it does not appear at all.

The protocol: write into a staging folder beside the target, fsync each file, write MANIFEST.json last, rename once,
fsync the parent. A process that dies on the way leaves a staging folder, which the next writer of the target sweeps.
"""

import contextlib
import fcntl
import json
import logging
import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import xxhash

from unmask import disk
from unmask.errors import ArtefactError, UsageError

log = logging.getLogger("unmask")

MANIFEST = "MANIFEST.json"
GRAPH = "model.onnx"
"""Of an exported model, which has no other weights."""
FORMAT = 1


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
    with _filled(target) as staging:
        yield staging


@contextlib.contextmanager
def replaced(target: Path) -> Iterator[Path]:
    """Like `staged`, but an older `target` stays whole until the new one is, and is deleted then."""
    target = Path(target)
    settle(target)
    with _filled(target) as staging:
        yield staging


@contextlib.contextmanager
def _filled(target: Path) -> Iterator[Path]:
    disk.make_folder(target.parent)
    sweep(target)
    staging = target.parent / f".staging-{target.name}-{socket.gethostname()}-{os.getpid()}"
    with disk.named_errors(target):
        try:
            disk.make_folder(staging)
            yield staging
            seal(staging)
            put(staging, target)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise


def put(staging: Path, target: Path) -> None:
    """Give a sealed folder its name; where an older one has it, `settle` can finish this after a death on the way."""
    if not target.exists():
        disk.rename(staging, target)
        disk.sync(target.parent)
        return
    old, fresh = _names_of(target)
    disk.rename(staging, fresh)
    disk.sync(target.parent)
    disk.rename(target, old)
    disk.rename(fresh, target)
    disk.sync(target.parent)
    disk.remove(old)


def settle(target: Path) -> None:
    """Finish what a process that died inside `put` has left: the new folder takes the name, or the old one keeps it."""
    old, fresh = _names_of(target)
    if not target.exists() and (fresh.exists() or old.exists()):
        disk.rename(fresh if fresh.exists() else old, target)
        disk.sync(target.parent)
    for leftover in (old, fresh):
        disk.remove(leftover)


def retire(folder: Path) -> None:
    """Delete a folder; it loses its name first, so that nobody ever takes a part of it for the whole."""
    dead = folder.with_name(f".dead-{folder.name}")
    disk.remove(dead)
    disk.rename(folder, dead)
    disk.sync(folder.parent)
    disk.remove(dead)


def seal(folder: Path) -> None:
    """fsync every file of a folder and write its MANIFEST.json (size and xxh3-128 of each), last."""
    if (folder / MANIFEST).exists():  # of a process that died between sealing and renaming
        disk.unlink(folder / MANIFEST)
    files = {}
    for path in _files(folder):
        disk.sync(path)
        files[path.relative_to(folder).as_posix()] = {"size_bytes": path.stat().st_size, "xxh3_128": digest(path)}
    disk.write_bytes(folder / MANIFEST, _manifest({"format": FORMAT, "files": files}).encode())
    for path in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        disk.sync(path)
    disk.sync(folder)


def verify(folder: Path) -> None:
    """Check each file of a folder against its manifest.

    Raises:
        ArtefactError: folder or manifest is missing, or a file is missing, extra, cut or changed; all are named.
    """
    folder = Path(folder)
    listed = _listed(folder)
    try:
        faults = [fault for name, entry in listed.items() if (fault := _fault(folder / name, entry))]
    except (KeyError, TypeError) as error:
        raise _bad_manifest(folder, f"an entry lacks {error}") from None
    found = {path.relative_to(folder).as_posix() for path in _files(folder)} - {MANIFEST}
    faults += [f"{name}: not in the manifest" for name in sorted(found - set(listed))]
    if faults:
        raise ArtefactError(
            "corrupt",
            f"{len(faults)} of {len(listed)} files differ from the manifest: {'; '.join(faults[:5])}",
            place=folder,
            remedy="copy or make the folder again; do not use it as it is",
        )


def told_name(folder: Path) -> str:
    """What to call a folder in a text: its name, with that of the folder above where all runs call theirs `model`."""
    folder = folder.resolve()
    return f"{folder.parent.name}/{folder.name}" if folder.name == "model" else folder.name


def weights_digest(folder: Path) -> str:
    """Hash of a model folder's weights, or of an exported graph; of several files, theirs with dashes between."""
    weights = sorted(folder.glob("*.safetensors")) or folder.glob(GRAPH)
    return "-".join(digest(path) for path in weights)


def text_digest(text: str) -> str:
    """The xxh3-128 of a text's UTF-8 bytes, as 32 hexadecimal digits."""
    return xxhash.xxh3_128_hexdigest(text.encode())


def digest(path: Path) -> str:
    """The xxh3-128 of a file's bytes, as 32 hexadecimal digits; of a folder, of the names and digests of its files."""
    state = xxhash.xxh3_128()
    if path.is_dir():
        for inside in sorted(one for one in path.rglob("*") if one.is_file()):
            state.update(f"{inside.relative_to(path).as_posix()} {digest(inside)}\n".encode())
        return state.hexdigest()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            state.update(block)
    return state.hexdigest()


def write_text(path: Path, text: str) -> None:
    """Replace one file in one step: a reader sees the old text or the new, never a part."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with disk.named_errors(path):
        try:
            partial.unlink(missing_ok=True)
            disk.write_bytes(partial, text.encode())
            disk.rename(partial, path)
            disk.sync(path.parent)
        finally:
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[TextIO]:
    """Give a fresh text file to fill; when the block ends well it becomes `path`, which must not exist before.

    Raises:
        UsageError: `path` exists already.
        ResourceError: the disk is full; nothing is left of the file.
    """
    refuse_existing(path)
    disk.make_folder(path.parent)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with disk.named_errors(path):
        try:
            disk.watch(disk.Operation("create", partial))
            with partial.open("w", encoding="utf-8", newline="") as file:
                yield file
            disk.sync(partial)
            disk.rename(partial, path)
            disk.sync(path.parent)
        finally:
            partial.unlink(missing_ok=True)


def refuse_existing(path: Path) -> None:
    """Refuse to write over a file or a folder.

    Raises:
        UsageError: `path` exists already.
    """
    if path.exists():
        raise UsageError("exists", "the output exists already", place=path, remedy="choose another name, or remove it")


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
        ResourceError: the disk gives no place for it.
    """
    with disk.named_errors(folder):
        disk.make_folder(folder)
        file = (folder / ".lock").open("a+")
    with file:
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


def sweep(target: Path) -> None:
    """Remove the staging folders of `target` that dead processes of this host left, and say which are left alone.

    One with this process's own number is such a leftover too: in a container every start may have the same number.
    """
    for staging in target.parent.glob(f".staging-{target.name}-*"):
        host, _, pid = staging.name.removeprefix(f".staging-{target.name}-").rpartition("-")
        if not pid.isdigit() or not host:
            continue
        if host == socket.gethostname() and (int(pid) == os.getpid() or not _is_alive(int(pid))):
            log.info("removed %s, left by a process that is dead", staging)
            shutil.rmtree(staging, ignore_errors=True)
        else:
            log.warning("%s belongs to process %s on %s; it is left alone", staging, pid, host)


def _names_of(target: Path) -> tuple[Path, Path]:
    """Where an older folder and its successor stand while `put` changes one for the other."""
    return target.with_name(f".old-{target.name}"), target.with_name(f".new-{target.name}")


def _manifest(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=1) + "\n"


def _listed(folder: Path) -> dict[str, Any]:
    """The files that a manifest lists; a text that is not just as `seal` writes it is refused."""
    path = folder / MANIFEST
    if not path.is_file():
        raise ArtefactError(
            "no-manifest",
            "there is no MANIFEST.json, so nothing vouches for this folder" if folder.is_dir() else "no such folder",
            place=folder,
            remedy="name a folder that unmask has written to its end",
        )
    try:
        text = path.read_text("utf-8")
        content = json.loads(text)
        number, listed = content["format"], content["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _bad_manifest(folder, str(error)) from None
    if isinstance(number, int) and number > FORMAT:
        raise newer_format(path, number, FORMAT)
    if number != FORMAT or not isinstance(listed, dict) or _manifest(content) != text:
        raise _bad_manifest(folder, "it was edited or damaged")
    return listed


def _bad_manifest(folder: Path, reason: str) -> ArtefactError:
    return ArtefactError(
        "bad-manifest",
        f"the manifest cannot be read: {reason}",
        place=folder / MANIFEST,
        remedy="copy or make the folder again; do not use it as it is",
    )


def newer_format(place: Path, found: int, known: int, writer: str = "a newer version") -> ArtefactError:
    """The error of an artefact in a format that this version does not know yet."""
    return ArtefactError(
        "newer-format",
        f"it was written by {writer} of unmask in format {found}, this version knows formats up to {known}",
        place=place,
        remedy="install a newer unmask",
    )


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
    try:
        return None if digest(path) == entry["xxh3_128"] else f"{path.name}: content changed"
    except OSError as error:
        return f"{path.name}: cannot be read: {error.strerror}"
