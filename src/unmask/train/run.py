"""The run folder: settings, events, checkpoints and the finished model; the same command again goes on from it."""

import contextlib
import json
import logging
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from unmask import disk, storage
from unmask.config import Settings, to_toml
from unmask.data.batching import Batch
from unmask.errors import InterruptedRunError, NumericError, UsageError
from unmask.runtime import Machine, Stop, machine, use_cpu
from unmask.train.checkpoints import Checkpoints
from unmask.train.distributed import ALONE, Ranks
from unmask.train.fit import Step, Trainer
from unmask.train.settings import MachineSettings

log = logging.getLogger("unmask")

MACHINE = "machine.json"

# Settings that decide how a run talks and where it computes, not what comes out; they may change when it goes on.
_FREE = ("machine", "card", "log_every", "save_every", "save_minutes", "keep_checkpoints")


class Run:
    """One run's folder, held by this process: `Run.open`.

    Args:
        folder: of the run.
        checkpoints: in it.
        ranks: of a distributed run; the first one writes the folder.
    """

    def __init__(self, folder: Path, checkpoints: Checkpoints, ranks: Ranks) -> None:
        self.folder = folder
        self.checkpoints = checkpoints
        self.ranks = ranks
        self._events = folder / "events.jsonl"

    def _take(self, settings: Settings, inputs: dict[str, str], places: Mapping[str, object]) -> None:
        """Make the folder this run's own, or find that it is already."""
        folder = self.folder
        config, fingerprints = folder / "config.toml", folder / "inputs.json"
        if config.is_file() and fingerprints.is_file():
            wanted = settings.model_dump(mode="json", exclude_none=True) | {"inputs": inputs}
            stored = _completed(settings, tomllib.loads(config.read_text("utf-8")))
            stored |= {"inputs": storage.read_json(fingerprints)}
            if self._events.is_file() or any((folder / "checkpoints").glob("*")):  # else nothing has begun
                _refuse_other(folder, stored, wanted, places)
            _end_torn_line(self._events)
        elif any(path.name != ".lock" for path in folder.iterdir()):
            raise UsageError(
                "foreign-folder",
                "the output folder holds something that is not a run",
                place=folder,
                remedy="choose an empty or a new folder",
            )
        storage.write_text(config, to_toml(settings))
        storage.write_text(fingerprints, json.dumps(inputs, indent=1) + "\n")

    @classmethod
    @contextlib.contextmanager
    def open(
        cls,
        folder: Path,
        settings: Settings,
        inputs: dict[str, str],
        *,
        keep: int = 2,
        every: int = 0,
        is_async: bool = False,
        ranks: Ranks = ALONE,
        places: Mapping[str, object] | None = None,
    ) -> Iterator["Run"]:
        """Create a run's folder or open an unfinished one, and hold it against other processes.

        Args:
            folder: of the run.
            settings: resolved and complete.
            inputs: fingerprints of what is read, such as the corpus; a run goes on only with the same.
            keep: checkpoints that stay beside the best one.
            every: steps between regular checkpoints.
            is_async: write checkpoints while training goes on.
            ranks: of a distributed run; the first one writes the folder.
            places: file or folder of each input, for the error when it has changed.

        Raises:
            UsageError: another process holds it, it belongs to other settings or inputs, or it is no run.
            ResourceError: the disk refused the checkpoint that was on its way at the end.
        """
        folder = Path(folder)
        with storage.locked(folder) if ranks.is_main else contextlib.nullcontext():
            saved = Checkpoints(folder / "checkpoints", keep=keep, every=every, is_async=is_async, ranks=ranks)
            run = cls(folder, saved, ranks)
            if ranks.is_main:
                run._take(settings, inputs, places or {})
            ranks.barrier()
            try:
                yield run
            finally:
                run.checkpoints.wait()

    @property
    def model(self) -> Path:
        """The finished model folder."""
        return self.folder / "model"

    @property
    def is_finished(self) -> bool:
        """Whether the run has come to its end before."""
        return (self.model / storage.MANIFEST).is_file()

    def machine(self, asked: MachineSettings) -> Machine:
        """The machine to compute on; its number format stays that of the run's start, unless it is asked for."""
        path, before = self.folder / MACHINE, self._last_machine()
        dtype = before.get("dtype", "auto") if asked.dtype == "auto" else asked.dtype
        use_cpu(asked.threads or None)
        where = machine(dtype, asked.device)
        if dtype == "auto" and self.ranks.world_size > 1:
            is_narrow = self.ranks.sum([self.ranks.is_main and where.dtype == torch.bfloat16])[0]
            where = machine("bfloat16" if is_narrow else "float32", asked.device)
        now = {"name": where.name, "dtype": str(where.dtype).removeprefix("torch."), "threads": where.threads}
        other = [name for name, value in now.items() if value != before.get(name, value)]
        changes = [f"{name} {before[name]} -> {now[name]}" for name in other]
        if changes:
            log.warning("this run began elsewhere, so the last bits may differ: %s", ", ".join(changes))
        self.ranks.barrier()
        if self.ranks.is_main:
            storage.write_text(path, json.dumps(now, indent=1) + "\n")
        log.info("%s, %s (%s), %d threads", where.name, now["dtype"], where.note, where.threads)
        return where

    @property
    def machine_name(self) -> str:
        """Processor or card that the last start has computed on, in words; empty before the first one."""
        return str(self._last_machine().get("name", ""))

    def _last_machine(self) -> dict[str, Any]:
        path = self.folder / MACHINE
        return storage.read_json(path) if path.is_file() else {}

    def log(self, kind: str, **values: Any) -> None:
        """Append one event to events.jsonl."""
        if not self.ranks.is_main:
            return
        record = {"event": kind, "time": round(time.time(), 3), **values}
        with disk.named_errors(self.folder), self._events.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def events(self, kind: str) -> list[dict[str, Any]]:
        """All events of one kind, the last one of each step, in order, without those that a resumed run has undone."""
        lines = self._events.read_text("utf-8").splitlines() if self._events.is_file() else []
        found: dict[int, dict[str, Any]] = {}
        for line in lines:
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                if record["event"] == "resume":
                    found = {step: event for step, event in found.items() if step <= record["step"]}
                if record["event"] == kind:
                    found[record.get("step", len(found))] = record
        return [found[step] for step in sorted(found)]

    def save(self, trainer: Trainer, state: dict[str, Any]) -> Path:
        """Write a checkpoint of the trainer's step, and say so in the events."""
        folder = self.checkpoints.save(trainer, state)
        self.log("checkpoint", step=trainer.step)
        return folder

    def restore(self, trainer: Trainer) -> dict[str, Any] | None:
        """Go on from the newest valid checkpoint: `Checkpoints.restore`."""
        state = self.checkpoints.restore(trainer)
        if state is not None:
            place = self.checkpoints.path(trainer.step)
            log.info("going on after step %d of %d (%s)", trainer.step, trainer.max_steps, place)
        self.log("resume", step=trainer.step)
        return state

    def load_weights(self, trainer: Trainer, step: int) -> None:
        """Put the weights of one checkpoint into the trainer, but not its counters."""
        trainer.read_weights(self.checkpoints.folder_of(step))

    def steps(
        self,
        trainer: Trainer,
        batches: Iterable[Sequence[Batch]],
        state: Callable[[], dict[str, Any]],
        stop: Stop | None = None,
    ) -> Iterator[Step]:
        """The trainer's steps; before a step that is not finite ends the run, the weights before it are saved."""
        if trainer.is_over:
            return
        try:
            yield from trainer.fit(batches, stop)
        except NumericError as error:
            folder = self.checkpoints.save(trainer, state(), is_pruning=False)
            error.details["saved"] = f"the weights of step {trainer.step}, which are finite: {folder}"
            self._dump(trainer.evidence)
            self._settle()
            raise

    def roll_back(self, trainer: Trainer) -> int:
        """Give the trainer the weights from before the first spike; its step, and with it the data, goes on.

        Returns:
            The step that the weights are of.

        Raises:
            NumericError: there is no checkpoint yet.
        """
        folder = self.checkpoints.before(trainer.guard.spikes[0])
        if folder is None:
            raise NumericError(
                "unstable",
                f"step {trainer.step}: the loss jumps again and again, and there is no checkpoint to return to",
                remedy="start anew with a lower --optim.lr, a longer warm-up or a larger batch, and another --output",
            )
        trainer.read_weights(folder)
        trainer.guard.forgive()
        self.log("rollback", step=trainer.step, to=folder.name)
        log.warning("step %d: back to the weights of %s; the data goes on", trainer.step, folder.name)
        return int(folder.name.rpartition("-")[2])

    def end_if_asked(self, stop: Stop, trainer: Trainer, state: dict[str, Any]) -> None:
        """Save and leave when the process was asked to stop."""
        if stop.signal is not None:
            folder = self.save(trainer, state)
            self._settle()
            raise InterruptedRunError(stop.signal, f"step {trainer.step} in {folder}")

    def _settle(self) -> None:
        """Wait until what was saved stands, on all ranks: none may leave while another writes."""
        self.checkpoints.wait()
        self.ranks.barrier()

    def _dump(self, evidence: dict[str, Any]) -> None:
        """Name the samples of a bad step."""
        rank = f"-rank-{self.ranks.rank}" if self.ranks.world_size > 1 else ""
        name = f"bad-step-{evidence['step']:09d}{rank}.json"
        storage.write_text(self.folder / name, json.dumps(evidence, indent=1) + "\n")
        log.error("its samples are named in %s", self.folder / name)


def clock(seconds: float) -> str:
    """A duration in words: `42s`, `3m20s`, `5h07m`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def _completed(settings: Settings, stored: dict[str, Any]) -> dict[str, Any]:
    """Stored settings with the defaults of those that were not known when they were stored."""
    try:
        return type(settings).model_validate(stored).model_dump(mode="json", exclude_none=True)
    except ValidationError:
        return stored


def _refuse_other(path: Path, stored: dict[str, Any], wanted: dict[str, Any], places: Mapping[str, object]) -> None:
    before, now = (
        _flat({name: value for name, value in values.items() if name not in _FREE})
        for values in (stored, json.loads(json.dumps(wanted)))
    )
    names = {f"inputs.{name}": place for name, place in places.items()}
    changed = {
        name: f"{names[name]} has changed since, or is another one ({name})"
        if name in names and name in before
        else f"{name} {before.get(name, 'unset')!r} -> {now.get(name, 'unset')!r}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    }
    if changed:
        same = "data as they were" if all(name in names for name in changed) else "the same settings"
        raise UsageError(
            "other-run",
            f"the folder belongs to a run with other settings or data: {'; '.join([*changed.values()][:8])}",
            place=path,
            remedy=f"use {same} to go on with it, or another --output",
            saved="the run in the folder is untouched",
        )


def _end_torn_line(path: Path) -> None:
    """Close a line that a killed process left unfinished, so that the next event is not lost in it."""
    if path.is_file() and path.stat().st_size and not path.read_bytes().endswith(b"\n"):
        with path.open("a") as file:
            file.write("\n")


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
