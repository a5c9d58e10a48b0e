"""The checkpoints of a run: one folder a step, whole or not there, verified before it is read, the newest few kept."""

import contextlib
import functools
import json
import logging
import re
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open

from unmask import disk, storage
from unmask.checkpoint import refuse_large_header
from unmask.errors import ArtefactError, ResourceError
from unmask.train.distributed import ALONE, Ranks
from unmask.train.snapshot import Snapshot

log = logging.getLogger("unmask")

FORMAT = 1
STATE = "state.json"
_OWN = ("trainer", "format", "version")
_NAME = re.compile(r"step-(\d+)")


class Resumable(Protocol):
    """What can be saved and put back; `unmask.train.fit.Trainer` is one."""

    step: int

    def snapshot(self) -> Snapshot:
        """A copy of everything that moves, which later steps do not change."""
        ...

    def restore(self, folder: Path, values: dict[str, Any]) -> None:
        """Take over what a snapshot wrote into a folder."""
        ...


class Checkpoints:
    """The folder of a run's checkpoints, held by one run at a time.

    Args:
        folder: where they lie.
        keep: how many of the newest stay; the best one stays too.
        every: steps between regular checkpoints, of which as many stay, whatever was saved between them; 0 for none.
        is_async: write in a thread while training goes on; of no effect on a sharded snapshot, whose parts are live.
        ranks: of a distributed run, on one shared disk. All of them make the same calls; the first one alone verifies,
            renames and deletes.
    """

    def __init__(
        self, folder: Path, *, keep: int, every: int = 0, is_async: bool = False, ranks: Ranks = ALONE
    ) -> None:
        self.folder = folder
        self.keep = keep
        self.every = every
        self.ranks = ranks
        self._thread = ThreadPoolExecutor(1, "checkpoint") if is_async else None
        self._pending: Future[None] | None = None

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step stands or would stand."""
        return self.folder / f"step-{step:09d}"

    def save(self, trainer: Resumable, state: dict[str, Any], *, is_pruning: bool = True) -> Path:
        """Write a checkpoint of the trainer's step; an older one of the same step stays whole until the new one is.

        Args:
            trainer: copied before this returns.
            state: JSON values that go with it; `best_step` among them names a checkpoint that must stay.
            is_pruning: delete the older checkpoints, once the new one was read back and verified.

        Raises:
            ResourceError: the disk is full or refuses; all that stood before is untouched. An asynchronous save raises
                it in the next call.
        """
        self.wait()
        step, snapshot = trainer.step, trainer.snapshot()
        own = {"trainer": snapshot.values, "step": step, "format": FORMAT, "version": version("unmask")}
        text = json.dumps({**state, **own}, indent=1)
        kept = {step, state.get("best_step"), *self._regular(step)[: self.keep]} if is_pruning else None
        write = functools.partial(self._write, self.path(step), snapshot, text, kept)
        if self._thread is not None and not snapshot.is_sharded:
            self._pending = self._thread.submit(write)
        else:
            write()
        return self.path(step)

    def wait(self) -> None:
        """Wait for an asynchronous save and raise its error."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def restore(self, trainer: Resumable) -> dict[str, Any] | None:
        """Put the newest valid checkpoint back into the trainer.

        Returns:
            The state that was saved with it, and its `step`; `None` where there is no checkpoint.

        Raises:
            ArtefactError: as `newest`; or the checkpoint has other tensors than the trainer.
        """
        folder = self.newest()
        if folder is None:
            return None
        state: dict[str, Any] = storage.read_json(folder / STATE)
        trainer.restore(folder, state["trainer"])
        return {name: value for name, value in state.items() if name not in _OWN}

    def newest(self) -> Path | None:
        """The newest valid checkpoint; each one that is rejected on the way is named and moved aside.

        Raises:
            ArtefactError: there are checkpoints, but none is valid, so nothing starts anew in silence; or one was
                written by a newer version.
        """
        self.wait()
        found = self._newest_valid() if self.ranks.is_main else 0
        step = int(self.ranks.sum([found])[0])
        return None if step < 0 else self.path(step)

    def folder_of(self, step: int) -> Path:
        """The checkpoint of one step, verified.

        Raises:
            ArtefactError: it is missing, damaged, of a newer format, or holds values that are not finite.
        """
        self.wait()
        if self.ranks.is_main:
            _check(self.path(step))
        self.ranks.barrier()
        return self.path(step)

    def before(self, step: int) -> Path | None:
        """The newest regular checkpoint from before a step, else the oldest one; which it is does not depend on when
        the run was interrupted and saved beside its turn. `None` where there is none.

        Raises:
            ArtefactError: it is damaged.
        """
        self.wait()
        newest = max(self._steps(), default=0) if self.ranks.is_main else 0
        there = [one for one in self._regular(newest) if self.path(one).is_dir()]
        chosen = next((one for one in there if one < step), there[-1] if there else 0)
        chosen = int(self.ranks.sum([chosen])[0])
        return self.folder_of(chosen) if chosen else None

    def _regular(self, step: int) -> range:
        """Steps up to this one that are saved in their turn, the newest first."""
        return range(step // self.every * self.every, 0, -self.every) if self.every else range(0)

    def check_space(self, size_bytes: int) -> None:
        """Refuse to start when the disk cannot hold the checkpoints that will lie there at the same time.

        Args:
            size_bytes: of one checkpoint, about; a tenth is added.

        Raises:
            ResourceError: there is too little room; nothing was written.
        """
        count = max(2, self.keep + 1 - len(self._steps()))
        needed, free = int(1.1 * count * size_bytes), disk.free_bytes(self.folder)
        if self.ranks.is_main and free < needed:
            raise ResourceError(
                "disk-space",
                f"{count} checkpoints of {size_bytes:,} bytes need more room than there is",
                place=self.folder,
                value=f"{free:,} bytes are free",
                expected=f"{needed:,} bytes",
                remedy="free some space, choose an --output on another disk, or keep fewer checkpoints",
            )

    def _write(self, target: Path, snapshot: Snapshot, text: str, stay: set[int | None] | None) -> None:
        """Write one checkpoint; the parts of a sharded one come from all ranks."""
        is_main = self.ranks.is_main
        with disk.named_errors(target), self._staging(target) as staging:
            if snapshot.is_sharded:
                self.ranks.barrier()
                snapshot.write_shards(staging)
                self.ranks.barrier()
            elif is_main:
                for name, data in snapshot.files():
                    disk.write_bytes(staging / name, data)
            if is_main:
                disk.write_bytes(staging / STATE, text.encode())
                storage.seal(staging)
                storage.settle(target)
                storage.put(staging, target)
                storage.verify(target)
                if stay is not None:
                    self._prune(stay)
        if snapshot.is_sharded:
            self.ranks.barrier()

    @contextlib.contextmanager
    def _staging(self, target: Path) -> Iterator[Path]:
        """The folder that a checkpoint is filled in; its name is the same on all ranks."""
        staging = target.with_name(f".staging-{target.name}")
        if not self.ranks.is_main:
            yield staging
            return
        try:
            disk.remove(staging)
            disk.make_folder(staging)
            yield staging
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise

    def _prune(self, stay: set[int | None]) -> None:
        for step in self._steps()[self.keep :]:
            if step not in stay:
                storage.retire(self.path(step))

    def _steps(self) -> list[int]:
        """Steps that have a folder, the newest first; by name, because times of files change when they are copied."""
        names = [path.name for path in self.folder.iterdir() if path.is_dir()] if self.folder.is_dir() else []
        steps = [int(match[1]) for name in names if (match := _NAME.fullmatch(name))]
        return sorted((step for step in steps if self.path(step).name in names), reverse=True)

    def _newest_valid(self) -> int:
        """Step of the newest valid checkpoint; -1 where there is none at all."""
        self._tidy()
        rejected: dict[int, str] = {}
        for step in self._steps():
            try:
                _check(self.path(step))
            except ArtefactError as error:
                if error.code == "newer-format":
                    raise
                rejected[step] = error.reason
                log.warning("rejected %s: %s", self.path(step).name, error.reason)
                continue
            for bad in map(self.path, rejected):
                disk.rename(bad, bad.with_name(f"rejected-{bad.name}-{time.time_ns()}"))
            return step
        if rejected:
            raise ArtefactError(
                "no-valid-checkpoint",
                "none of the checkpoints is valid: "
                + "; ".join(f"{self.path(step).name}: {reason}" for step, reason in rejected.items()),
                place=self.folder,
                remedy="restore one from a copy, or choose another --output to start anew",
            )
        return -1

    def _tidy(self) -> None:
        """Finish or remove what a process left that died while it saved or deleted."""
        for left in sorted(self.folder.glob(".*-step-*")):
            kind, _, name = left.name[1:].partition("-")
            if kind in ("staging", "dead"):
                log.info("removed %s, left by a process that is dead", left)
                disk.remove(left)
            elif kind in ("new", "old"):
                storage.settle(self.folder / name)


def _check(folder: Path) -> None:
    """Look at every byte of a checkpoint before any of it is used."""
    storage.verify(folder)
    state = storage.read_json(folder / STATE)
    number = state.get("format") if isinstance(state, dict) else None
    if isinstance(number, int) and number > FORMAT:
        raise storage.newer_format(folder, number, FORMAT, writer=f"version {state.get('version')}")
    if number != FORMAT or "trainer" not in state:
        raise ArtefactError(
            "other-format",
            "it is no checkpoint of this version",
            place=folder / STATE,
            value=number,
            expected=f"format {FORMAT}",
            remedy="go on with the version that wrote it, or choose another --output to start anew",
        )
    broken = [name for path in sorted(folder.glob("*.safetensors")) for name in _not_finite(path)]
    if broken:
        raise ArtefactError(
            "nonfinite-weights",
            f"{len(broken)} tensors hold NaN or infinite values: {', '.join(broken[:10])}",
            place=folder,
            remedy="the training that wrote them had diverged; use an earlier checkpoint",
        )


def _not_finite(path: Path) -> Iterator[str]:
    """Names of the tensors of a file that hold NaN or infinite values, read one at a time."""
    refuse_large_header(path)
    try:
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 (it is no dict)
                if not torch.isfinite(file.get_tensor(name)).all():
                    yield name
    except SafetensorError as error:
        raise ArtefactError(
            "corrupt-weights",
            f"the tensors cannot be read: {error}",
            place=path,
            remedy="restore the file from a copy; it is cut or damaged",
        ) from None
