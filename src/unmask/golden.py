"""The parity certificate of a model folder: a few texts with their ids and logits, checked again on any machine."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unmask import storage
from unmask.engine.choice import runs
from unmask.errors import ArtefactError
from unmask.light import LightPredictor
from unmask.model.config import EncoderConfig
from unmask.predict import Predictor
from unmask.tasks.base import Task

log = logging.getLogger("unmask")

# Of the greatest certified logit, at least of 1: float32 kernels of different processors differ by about 1e-6.
TOLERANCE = 1e-4
_TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "Unmask: 3.14 \u2260 22/7, na\u00efve caf\u00e9!",
    "\u4eca\u5929\u5929\u6c14\u5f88\u597d\uff0c\u6211\u4eec\u53bb\u8d70\u8d70\u3002",
)
_KEPT = 32


def make_golden(task: Task) -> dict[str, Any]:
    """Run a few fixed texts through a task and note ids and the first logits of each."""
    texts = [_note(task, text) for text in _TEXTS]
    greatest = max(abs(value) for one in texts for value in one["logits"])
    return {"tolerance": TOLERANCE * max(1.0, greatest), "texts": texts}


def with_precisions(golden: dict[str, Any], certified: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The certificate with those of lower precisions, each with a tolerance of its own; older ones of them stay.

    Args:
        golden: of the exact model.
        certified: what `make_golden` gives in each precision.
    """
    return golden | {"precisions": golden.get("precisions", {}) | certified}


def verify(folder: Path) -> dict[str, Any]:
    """Check a folder's manifest and, for a model folder, its certificate: exact, and in each certified precision.

    Returns:
        `files` checked, `texts` of the certificate checked, the greatest `difference` of an exact logit, and in
        `precisions` that of each lower precision whose certified engine runs here.

    Raises:
        ArtefactError: a file differs from the manifest, or a text's ids or logits differ from the certificate.
    """
    storage.verify(folder)
    files = len(storage.read_json(folder / storage.MANIFEST)["files"])
    path = folder / "golden.json"
    if not path.is_file():
        return {"files": files, "texts": 0, "difference": 0.0, "precisions": {}}
    golden = storage.read_json(path)
    if "exported" in golden:
        worst = _compare_exported(path, golden)
        return {"files": files, "texts": len(golden["texts"]), "difference": worst, "precisions": {}}
    worst = _compare(path, golden, "float32")
    lower = {
        name: _compare(path, one, name, engine)
        for name, one in golden.get("precisions", {}).items()
        if _is_there(path.parent, engine := one.get("engine", "auto"), name)
    }
    return {"files": files, "texts": len(golden["texts"]), "difference": worst, "precisions": lower}


def _is_there(folder: Path, engine: str, precision: str) -> bool:
    """Whether the engine that a precision was certified in runs here; says so where it does not."""
    config = EncoderConfig.from_hf(storage.read_json(folder / "config.json"), place=folder)
    if engine == "auto" or runs(engine, precision, config):
        return True
    log.warning("%s was certified in the engine '%s', which does not run here: not checked", precision, engine)
    return False


def _compare(path: Path, golden: Mapping[str, Any], precision: str, engine: str = "auto") -> float:
    """The greatest difference of a logit from the certified ones in a precision."""
    task = Predictor.load(path.parent, precision=precision, engine=engine, device="cpu").task
    worst = 0.0
    for entry in golden["texts"]:
        found = _note(task, entry["text"])
        if found["input_ids"] != entry["input_ids"]:
            raise ArtefactError(
                "other-ids", "the tokenizer no longer gives the certified ids", place=path, value=entry["text"]
            )
        difference = np.abs(np.subtract(found["logits"], entry["logits"])).max()
        worst = float(np.maximum(worst, difference))  # unlike max(), keeps a NaN
    return _within(worst, golden["tolerance"], path, precision)


def _compare_exported(path: Path, golden: Mapping[str, Any]) -> float:
    """The greatest difference of a number of the exported graph from those that it gave when it was written."""
    exported = golden["exported"]
    if "rows" not in exported:
        raise ArtefactError(
            "older-export",
            "the certificate has the form of an earlier version",
            place=path,
            remedy="export the model anew: unmask export MODEL --output FOLDER",
        )
    light = LightPredictor.load(path.parent)
    pairs = [(light.note(one["row"]), one["numbers"]) for one in exported["rows"]]
    worst = float(np.max([np.abs(np.subtract(*pair)).max() for pair in pairs]))  # unlike max(), keeps a NaN
    greatest = max(abs(number) for _, numbers in pairs for number in numbers)
    tolerance = golden["tolerance"] if exported["precision"] == "float32" else 0.02 * max(1.0, greatest)
    return _within(worst, tolerance, path, exported["precision"])


def _within(worst: float, tolerance: float, path: Path, precision: str) -> float:
    if not worst <= tolerance:
        raise ArtefactError(
            "other-logits",
            f"logits in {precision} differ by {worst:.2g} from the certified ones",
            place=path,
            expected=f"at most {tolerance}",
            remedy="the folder or the libraries have changed; do not trust this model's answers here",
        )
    return worst


@torch.inference_mode()
def _note(task: Task, text: str) -> dict[str, Any]:
    task.eval()
    features = task.encode([task.example(text)])
    logits = task(task.collate(features).to(next(task.parameters()).device))
    return {
        "text": text,
        "input_ids": features[0].input_ids.tolist(),
        "logits": logits.float().flatten()[:_KEPT].cpu().tolist(),
    }
