"""One step of everything that a pre-training run does, and what the whole run would take."""

import json
import resource
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unmask.checkpoint import load_model
from unmask.errors import UsageError
from unmask.runtime import world_size
from unmask.train.pretrain import pretrain
from unmask.train.run import clock
from unmask.train.settings import PretrainSettings


@dataclass(frozen=True)
class DryRun:
    """What one step of everything took.

    Attributes:
        num_parameters: of the network, the tied table once.
        tokens_per_second: of the one optimizer step, which is slower than later ones.
        step_seconds: time of that step.
        total_seconds: time of all steps at that rate.
        peak_bytes: most memory that the process took.
        checkpoint_bytes: one checkpoint on disk.
        disk_bytes: checkpoints and model at the same time.
        free_bytes: room on the disk.
    """

    num_parameters: int
    tokens_per_second: float
    step_seconds: float
    total_seconds: float
    peak_bytes: int
    checkpoint_bytes: int
    disk_bytes: int
    free_bytes: int

    def to_lines(self) -> list[str]:
        """One line a figure."""
        return [
            f"parameters       {self.num_parameters:,}",
            f"one step         {self.step_seconds:.2f} s, {self.tokens_per_second:,.0f} tokens/s (the first is slow)",
            f"all steps        {clock(self.total_seconds)} at that rate",
            f"memory           {self.peak_bytes / 1e6:,.0f} MB at most",
            f"checkpoint       {self.checkpoint_bytes / 1e6:,.1f} MB each",
            f"disk             {self.disk_bytes / 1e6:,.1f} MB of {self.free_bytes / 1e6:,.0f} MB that are free",
        ]


def dry_run(corpora: Sequence[Path], output: Path, settings: PretrainSettings, *, model: Path | None = None) -> DryRun:
    """Take one full optimizer step, evaluate, save, and write a model, in a folder that is deleted again.

    Args:
        corpora: as for `pretrain`.
        output: where the run would be; only its disk is used.
        settings: of the run.
        model: folder to start from.

    Raises:
        UnmaskError: whatever the run would raise at its start, such as `disk-space`.
    """
    if world_size() > 1:
        raise UsageError("dry-run", "a dry run is for one process", remedy="start it without torchrun")
    place = next(folder for folder in Path(output).absolute().parents if folder.is_dir())
    once = {"max_steps": 1, "max_hours": None, "eval_every": 1, "save_every": 1, "log_every": 1}
    shift = settings.shift_of(settings.block_length)  # of the last phase, whose blocks are the longest
    short = settings.model_copy(update={**once, "max_shift": shift, "curriculum": type(settings.curriculum)()})
    with tempfile.TemporaryDirectory(prefix=".dry-run-", dir=place) as folder:
        run = Path(folder) / "run"
        result = pretrain(corpora, run, short, model=model)
        events = map(json.loads, (run / "events.jsonl").read_text("utf-8").splitlines())
        step = next(event for event in events if event["event"] == "step")
        checkpoint, model_bytes = _size(run / "checkpoints" / "step-000000001"), _size(result.model)
        state_dict = load_model(result.model).state_dict
    return DryRun(
        num_parameters=sum(one.numel() for one in state_dict.values()),
        tokens_per_second=step["num_tokens"] / step["seconds"],
        step_seconds=step["seconds"],
        total_seconds=min(step["seconds"] * settings.max_steps, 3600 * (settings.max_hours or float("inf"))),
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        checkpoint_bytes=checkpoint,
        disk_bytes=(settings.keep_checkpoints + 1) * checkpoint + model_bytes,
        free_bytes=shutil.disk_usage(place).free,
    )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
