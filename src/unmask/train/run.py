"""The run folder: settings, events, checkpoints and the finished model; the same command again goes on from it."""

import contextlib
import json
import logging
import shutil
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save

from unmask import storage
from unmask.config import Settings, to_toml
from unmask.data.batching import Batch
from unmask.errors import ArtefactError, InterruptedRunError, NumericError, UsageError
from unmask.runtime import Machine, Stop, machine, use_cpu
from unmask.train.fit import Step, Trainer
from unmask.train.settings import MachineSettings

log = logging.getLogger("unmask")


# Settings that decide how a run talks and where it computes, not what comes out; they may change when it goes on.
_FREE = ("machine", "log_every", "save_every", "keep_checkpoints")


class Run:
    """One run's folder, held by this process.

    Args:
        folder: of the run.
        settings: resolved and complete.
        inputs: fingerprints of what is read, such as the corpus; a run goes on only with the same.
    """

    def __init__(self, folder: Path, settings: Settings, inputs: dict[str, str]) -> None:
        self.folder = folder
        self._checkpoints = folder / "checkpoints"
        self._events = folder / "events.jsonl"
        config, fingerprints = folder / "config.toml", folder / "inputs.json"
        if config.is_file() and fingerprints.is_file():
            wanted = settings.model_dump(mode="json", exclude_none=True) | {"inputs": inputs}
            stored = tomllib.loads(config.read_text("utf-8")) | {"inputs": storage.read_json(fingerprints)}
            _refuse_other(folder, stored, wanted)
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
    def open(cls, folder: Path, settings: Settings, inputs: dict[str, str]) -> Iterator["Run"]:
        """Create a run's folder or open an unfinished one, and hold it against other processes.

        Raises:
            UsageError: another process holds it, it belongs to other settings or inputs, or it is no run.
        """
        folder = Path(folder)
        with storage.locked(folder):
            yield cls(folder, settings, inputs)

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
        path = self.folder / "machine.json"
        before = storage.read_json(path) if path.is_file() else {}
        dtype = before.get("dtype", "auto") if asked.dtype == "auto" else asked.dtype
        use_cpu(asked.threads or None)
        where = machine(dtype, asked.device)
        now = {"name": where.name, "dtype": str(where.dtype).removeprefix("torch."), "threads": where.threads}
        other = [name for name, value in now.items() if value != before.get(name, value)]
        changes = [f"{name} {before[name]} -> {now[name]}" for name in other]
        if changes:
            log.warning("this run began elsewhere, so the last bits may differ: %s", ", ".join(changes))
        storage.write_text(path, json.dumps(now, indent=1) + "\n")
        log.info("%s, %s (%s), %d threads", where.name, now["dtype"], where.note, where.threads)
        return where

    def log(self, kind: str, **values: Any) -> None:
        """Append one event to events.jsonl."""
        record = {"event": kind, "time": round(time.time(), 3), **values}
        with storage.full_disk_is_an_error(self.folder), self._events.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def events(self, kind: str) -> list[dict[str, Any]]:
        """All events of one kind, the last one of each step, in order."""
        lines = self._events.read_text("utf-8").splitlines() if self._events.is_file() else []
        found: dict[int, dict[str, Any]] = {}
        for line in lines:
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                if record["event"] == kind:
                    found[record.get("step", len(found))] = record
        return [found[step] for step in sorted(found)]

    def save(self, trainer: Trainer, state: dict[str, Any], *, keep: int) -> Path:
        """Write a checkpoint of this step and delete older ones but `keep`, never the best one's."""
        target = self._checkpoints / f"step-{trainer.step:09d}"
        if target.exists():
            return target
        with storage.staged(target) as staging:
            (staging / "model.safetensors").write_bytes(save(_contiguous(trainer.task.state_dict())))
            (staging / "optimizer.safetensors").write_bytes(save(_optimizer_tensors(trainer)))
            (staging / "state.json").write_text(json.dumps({**state, "step": trainer.step}, indent=1))
        self.log("checkpoint", step=trainer.step)
        best = state.get("best_step")
        for old in self._found()[keep:]:
            if old.name != f"step-{best or 0:09d}":
                shutil.rmtree(old)
        return target

    def restore(self, trainer: Trainer) -> dict[str, Any] | None:
        """Load the newest valid checkpoint into the trainer; each one that is rejected is named.

        Returns:
            The state that was saved with it, or `None` where there is no checkpoint.

        Raises:
            ArtefactError: there are checkpoints, but none is valid; nothing starts anew in silence.
        """
        rejected: list[str] = []
        aside: list[Path] = []
        for folder in self._found():
            try:
                storage.verify(folder)
            except ArtefactError as error:
                rejected.append(f"{folder.name}: {error.reason}")
                log.warning("rejected %s", rejected[-1])
                aside.append(folder)
                continue
            for bad in aside:
                bad.rename(bad.with_name(f"rejected-{bad.name}-{time.time_ns()}"))
            state: dict[str, Any] = storage.read_json(folder / "state.json")
            trainer.task.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
            _restore_optimizer(trainer, load_file(folder / "optimizer.safetensors"))
            trainer.step = state["step"]
            log.info("going on after step %d of %d (%s)", trainer.step, trainer.max_steps, folder)
            return state
        if rejected:
            raise ArtefactError(
                "no-valid-checkpoint",
                f"none of the checkpoints is valid: {'; '.join(rejected)}",
                place=self._checkpoints,
                remedy="restore one from a copy, or choose another --output to start anew",
            )
        return None

    def load_weights(self, trainer: Trainer, step: int) -> None:
        """Put the weights of one checkpoint into the trainer's task."""
        folder = self._checkpoints / f"step-{step:09d}"
        storage.verify(folder)
        trainer.task.load_state_dict(load_file(folder / "model.safetensors"), strict=True)

    def steps(
        self, trainer: Trainer, batches: Iterable[Sequence[Batch]], state: Callable[[], dict[str, Any]]
    ) -> Iterator[Step]:
        """The trainer's steps; before a step that is not finite ends the run, the weights before it are saved."""
        if trainer.step >= trainer.max_steps:
            return
        try:
            yield from trainer.fit(batches)
        except NumericError as error:
            folder = self.save(trainer, state(), keep=1 << 30)
            error.details["saved"] = f"the weights of step {trainer.step}, which are finite: {folder}"
            raise

    def end_if_asked(self, stop: Stop, trainer: Trainer, state: dict[str, Any], *, keep: int) -> None:
        """Save and leave when the process was asked to stop."""
        if stop.signal is not None:
            folder = self.save(trainer, state, keep=keep)
            raise InterruptedRunError(stop.signal, f"step {trainer.step} in {folder}")

    def _found(self) -> list[Path]:
        return sorted(self._checkpoints.glob("step-*"), reverse=True)


class Progress:
    """Writes a line every few steps: loss, rate, real tokens a second, share of waiting and time to go."""

    def __init__(self, run: Run, max_steps: int, every: int) -> None:
        self._run = run
        self._max_steps = max_steps
        self._every = every
        self._recent: list[Step] = []

    def show(self, step: Step) -> None:
        """Note a step; log and print the mean of the last few when it is time."""
        self._recent.append(step)
        if step.step % self._every and step.step != self._max_steps:
            return
        recent, self._recent = self._recent, []
        seconds = sum(one.seconds for one in recent)
        speed = sum(one.num_tokens for one in recent) / seconds
        loss = sum(one.loss * one.num_targets for one in recent) / sum(one.num_targets for one in recent)
        wait = sum(one.data_seconds for one in recent) / seconds
        to_go = (self._max_steps - step.step) * seconds / len(recent)
        self._run.log("step", **(asdict(step) | {"loss": loss, "tokens_per_second": round(speed, 1)}))
        log.info(
            "step %d/%d  loss %.4f  lr %.2e  grad %.2f  %s tokens/s  data wait %.0f %%  %s to go",
            step.step, self._max_steps, loss, step.lr, step.grad_norm, f"{speed:,.0f}", 100 * wait, clock(to_go),
        )  # fmt: skip


def clock(seconds: float) -> str:
    """A duration in words: `42s`, `3m20s`, `5h07m`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def _refuse_other(path: Path, stored: dict[str, Any], wanted: dict[str, Any]) -> None:
    before, now = (
        _flat({name: value for name, value in values.items() if name not in _FREE})
        for values in (stored, json.loads(json.dumps(wanted)))
    )
    changed = [
        f"{name} {before.get(name, 'unset')!r} -> {now.get(name, 'unset')!r}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
    if changed:
        raise UsageError(
            "other-run",
            f"the folder belongs to a run with other settings or data: {'; '.join(changed[:8])}",
            place=path,
            remedy="use the same settings to go on with it, or another --output",
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


def _contiguous(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _optimizer_tensors(trainer: Trainer) -> dict[str, torch.Tensor]:
    tensors = {}
    for name, parameter in trainer.task.named_parameters():
        for part, value in trainer.optimizer.state.get(parameter, {}).items():
            tensors[f"{name}/{part}"] = value
    return _contiguous(tensors)


def _restore_optimizer(trainer: Trainer, tensors: dict[str, torch.Tensor]) -> None:
    parameters = dict(trainer.task.named_parameters())
    for key, value in tensors.items():
        name, _, part = key.rpartition("/")
        trainer.optimizer.state[parameters[name]][part] = value.to(trainer.machine.device)
