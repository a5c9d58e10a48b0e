"""Commands to begin with."""

import importlib.metadata
import itertools
import platform
import shutil
from pathlib import Path

from unmask.cli import heavy, say

EXTRAS = {
    "onnx": ("onnx", "onnxruntime"),
    "generation": ("sacrebleu", "rouge-score"),
    "zh": ("rjieba",),
    "tune": ("optuna",),
    "ray": ("ray",),
}
"""Packages of each extra of pyproject.toml."""
_CORE = ("unmask", "torch", "tokenizers", "safetensors", "numpy", "pyarrow", "pydantic", "scikit-learn")


def demo(*, output: Path | None = None, seed: int = 0) -> None:
    """Go the whole way on bundled text, offline: tokenizer, corpus, pre-training, fine-tuning, answers.

    Args:
        output: Folder for everything that is made; it must not exist. By default `demo`, or `demo-2` and so on.
        seed: Decides weights, order, masks and dropout.
    """
    names = (Path("demo" if number == 1 else f"demo-{number}") for number in itertools.count(1))
    free = output or next(folder for folder in names if not folder.exists())
    heavy("unmask.train.demo:demo")(free, seed=seed, tell=say)


def doctor(*, json: bool = False) -> None:
    """Say what this machine and this installation can do.

    Args:
        json: Write one JSON object.
    """
    where = heavy("unmask.runtime:machine")()
    found = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": heavy("unmask.runtime:processor")(),
        "cores": heavy("unmask.runtime:cpu_cores")(),
        "device": str(where.device),
        "device_name": where.name,
        "dtype": str(where.dtype).removeprefix("torch."),
        "why": where.note,
        "engines": _engines(),
        "kernels": heavy("unmask.engine.choice:why_not")(),
        "free_disk_gigabytes": round(shutil.disk_usage(Path.cwd()).free / 1e9, 1),
        "versions": {name: _version(name) for name in _CORE},
        "extras": {extra: all(_version(name) for name in names) for extra, names in EXTRAS.items()},
    }
    if json:
        say(found)
        return
    for name in ("python", "system", "processor", "cores", "device", "free_disk_gigabytes"):
        card = f", {where.name}" if name == "device" and where.device.type == "cuda" else ""
        say(f"{name.replace('_', ' '):<20} {found[name]}{card}")
    say(f"{'number format':<20} {found['dtype']}: {found['why']}")
    say(f"{'versions':<20} " + ", ".join(f"{name} {version}" for name, version in found["versions"].items()))
    for name, formats in found["engines"].items():
        say(f"{'engine ' + name:<20} " + (", ".join(formats) or "does not run here"))
    say(f"{'compiled kernels':<20} {found['kernels']}")
    for extra, is_there in found["extras"].items():
        say(f"{'extra ' + extra:<20} " + ("installed" if is_there else f"pip install 'unmask[{extra}]'"))


def _engines() -> dict[str, list[str]]:
    """The precisions that each engine computes in here, for a network of the usual shape."""
    choice, shape = "unmask.engine.choice:", heavy("unmask.model.config:EncoderConfig")(vocab_size=50_265)
    runs, precisions = heavy(choice + "runs"), heavy(choice + "PRECISIONS")
    return {name: [one for one in precisions if runs(name, one, shape)] for name in heavy(choice + "NAMES")}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
