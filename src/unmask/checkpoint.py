"""The one model folder: saved whole or not at all, in the published layout; loaded only after a look at every byte."""

import json
import math
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from unmask import storage
from unmask.bundled import find_model, model_names
from unmask.errors import ArtefactError
from unmask.model.config import EncoderConfig, Head, named_head
from unmask.model.convert import StateDict, from_hf, to_hf
from unmask.model.sentence import read_sentence_files
from unmask.runtime import unload
from unmask.tokenizer.load import Tokenizer

WEIGHTS = "model.safetensors"
SHARDS = "model.safetensors.index.json"
META = "unmask.json"
GOLDEN = "golden.json"
_EVENTS = "events.jsonl"  # of a run folder
FORMAT = 1
MAX_HEADER_BYTES = 1 << 20  # large models need a tenth of it; more would cost seconds before anything is checked
_PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt", "pytorch_model.bin.index.json")
_LIBRARIES = ("unmask", "torch", "tokenizers", "safetensors", "numpy")


@dataclass(frozen=True)
class Model:
    """A model folder in memory.

    Attributes:
        config: shape of the encoder.
        state_dict: fp32 weights under the names of memory: `encoder.*` whole, `head.*` as far as found.
        tokenizer: the one that the model was trained with.
        labels: names of the classes in the order of the logits; None without a head that has classes.
        meta: what the writer noted, such as task and settings; empty for a published folder.
        head: `masked_lm`, `classification`, or None for an encoder alone.
        missing: parameters of the head that the file lacks; their values would be random, so say so.
        unused: published names that were left aside, such as those of another task's head.
        golden: the parity certificate, where there is one.
        problem_type: transformers' name of the loss of a classification head; None where it is the usual one.
        dtype: number format of the weights on disk, where it is one of half the size; float32 else.
        other_vectors: why the vectors of a folder of sentence-transformers are not computed here; None where they are.
    """

    config: EncoderConfig
    state_dict: StateDict
    tokenizer: Tokenizer
    labels: list[str] | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    head: Head | None = None
    missing: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    golden: dict[str, Any] | None = None
    problem_type: str | None = None
    dtype: torch.dtype = torch.float32
    other_vectors: ArtefactError | None = None

    @property
    def gives_number(self) -> bool:
        """Whether a published classification head has a single output, or the folder was made for a number."""
        if self.meta.get("task", {}).get("name") is not None:
            return self.problem_type == "regression"
        is_single = self.head == "classification" and len(self.labels or ()) == 1
        return is_single and self.problem_type in (None, "regression")


def save_model(
    folder: Path,
    *,
    config: EncoderConfig,
    state_dict: Mapping[str, torch.Tensor],
    tokenizer: Tokenizer,
    head: Head | None,
    labels: list[str] | None,
    meta: dict[str, Any],
    card: str,
    golden: dict[str, Any] | None,
    problem_type: str | None = None,
    dtype: torch.dtype = torch.float32,
    files: Mapping[str, Any] | None = None,
) -> None:
    """Write a model folder that this package and transformers open; an older one is replaced when the new one stands.

    Args:
        folder: target.
        config: shape of the encoder.
        state_dict: all weights under the names of memory, on any device.
        tokenizer: goes with the weights.
        head: which head the weights hold.
        labels: names of the classes; None without a classification head.
        meta: task, settings and provenance; JSON values.
        card: text of README.md.
        golden: the parity certificate.
        problem_type: transformers' name of the loss, where its head has several.
        dtype: number format of the weights on disk. config.json names float32 whatever it is, so that they are read as
            such here and in transformers: products in float16 are slow and coarse on a processor.
        files: further ones, path to JSON.

    Raises:
        ResourceError: the disk is full; an older folder is untouched.
    """
    published = {name: tensor.to(dtype) for name, tensor in to_hf(state_dict, config, head).items()}
    content = config.to_hf(head=head, labels=labels)
    content |= {"bos_token_id": tokenizer.cls_id, "eos_token_id": tokenizer.sep_id}
    content |= {} if problem_type is None else {"problem_type": problem_type}
    with storage.replaced(Path(folder)) as staging:
        _write_json(staging / "config.json", content)
        # not save_file: it hides a full disk in an error of its own, and makes its file for the owner alone
        (staging / WEIGHTS).write_bytes(safetensors.torch.save(published, metadata={"format": "pt"}))
        tokenizer.save(staging)
        storage.write_text(staging / "README.md", card)
        for path, inside in (dict(files or {}) | ({} if golden is None else {GOLDEN: golden})).items():
            (staging / path).parent.mkdir(exist_ok=True)
            _write_json(staging / path, inside)
        fingerprints = {"tokenizer": tokenizer.fingerprint, "weights": storage.digest(staging / WEIGHTS)}
        versions = {name: version(name) for name in _LIBRARIES} | {"python": platform.python_version()}
        note = {"format": FORMAT, "head": head, "labels": labels, "meta": meta}
        _write_json(staging / META, note | {"versions": versions, "fingerprints": fingerprints})


def load_model(folder: str | Path, *, head: Head | None = None) -> Model:
    """Read a folder of ours or a published one (RoBERTa, XLM-R, CamemBERT, BERT form), from disk only.

    Args:
        folder: with config.json, model.safetensors (or its shards) and tokenizer files; a run folder, for its model; or
            the name of a bundled model.
        head: the head that is wanted; None takes the one that the folder holds.

    Raises:
        ArtefactError: the folder is missing, incomplete, corrupt, or holds weights in an unsafe or unknown form.
    """
    folder = find_model(folder)
    if (folder / _EVENTS).is_file() and not (folder / "model").exists():
        raise ArtefactError(
            "no-model",
            "the run in this folder has not come to its end, so there is no model yet",
            place=folder,
            remedy="start its command again, which goes on where it ended",
        )
    if not (folder / "config.json").is_file():
        raise ArtefactError(
            "no-model",
            "the folder has no config.json, so it is no model" if folder.is_dir() else "there is no such model folder",
            place=folder,
            expected="a folder with config.json, model.safetensors and tokenizer.json on this machine",
            remedy="check the path; a published model must be downloaded first, nothing here goes online; with unmask "
            f"come {' and '.join(model_names())}",
        )
    note = _read_note(folder)
    content = storage.read_json(folder / "config.json")
    if not isinstance(content, dict):
        raise ArtefactError(
            "bad-model-config",
            "config.json is not an object",
            place=folder / "config.json",
            remedy="copy the folder again",
        )
    config = EncoderConfig.from_hf(content, place=folder / "config.json")
    tokenizer = Tokenizer.load(folder)
    if tokenizer.vocab_size > config.vocab_size:
        raise ArtefactError(
            "tokenizer-mismatch",
            f"the tokenizer has {tokenizer.vocab_size} ids, the model only {config.vocab_size}",
            place=folder,
            remedy="put the tokenizer files that belong to these weights into the folder",
        )
    published = _read_weights(folder)
    _refuse_nonfinite(published, folder)
    formats = {tensor.dtype for tensor in published.values() if tensor.is_floating_point()}
    found = from_hf(published, config, head or note.get("head") or named_head(content), place=folder)
    unload(published.values())  # parts of joined matrices are not read again
    is_labelled = found.head in ("classification", "tagging")
    labels = note["labels"] if "labels" in note else _labels(content, found.state_dict, folder) if is_labelled else None
    golden = storage.read_json(folder / GOLDEN) if (folder / GOLDEN).is_file() else None
    meta, other_vectors = (note.get("meta", {}), None) if note else _published_meta(folder)
    return Model(
        config,
        found.state_dict,
        tokenizer,
        labels=labels,
        meta=meta,
        other_vectors=other_vectors,
        head=found.head,
        missing=found.missing,
        unused=found.unused + found.unknown,
        golden=golden,
        problem_type=content.get("problem_type"),
        dtype=formats.pop() if len(formats) == 1 and formats < {torch.float16, torch.bfloat16} else torch.float32,
    )


def is_exported(folder: Path) -> bool:
    """Whether a folder holds a graph in place of weights, as `unmask export` writes it."""
    names = (storage.GRAPH, storage.MANIFEST)
    has_graph = all((folder / name).is_file() for name in names)
    return has_graph and not any((folder / name).is_file() for name in (WEIGHTS, SHARDS))


def refuse_large_header(path: Path) -> None:
    """Look at the length of a safetensors header before it is read.

    Raises:
        ArtefactError: it is longer than that of any encoder.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER_BYTES:
        raise ArtefactError(
            "corrupt-weights",
            f"the header claims {length:,} bytes, more than {MAX_HEADER_BYTES:,}",
            place=path,
            remedy="copy the file again; it is damaged, or no file of weights",
        )


def _read_note(folder: Path) -> dict[str, Any]:
    """What the writer noted in a folder of ours, which is verified first; empty for a published folder."""
    if not ((folder / storage.MANIFEST).exists() or (folder / META).exists()):
        return {}
    storage.verify(folder)
    if not (folder / META).is_file():
        return {}
    note: dict[str, Any] = storage.read_json(folder / META)
    if note.get("format", FORMAT) > FORMAT:
        writer = f"version {note.get('versions', {}).get('unmask')}"
        raise storage.newer_format(folder / META, note["format"], FORMAT, writer)
    return note


def _published_meta(folder: Path) -> tuple[dict[str, Any], ArtefactError | None]:
    """The task of a folder from elsewhere, where files beside the model tell it; or why that task is not done here."""
    try:
        settings = read_sentence_files(folder)
    except ArtefactError as error:
        return {}, error
    return {} if settings is None else {"task": {"name": "embedding", "settings": settings}}, None


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _read_weights(folder: Path) -> StateDict:
    names = [WEIGHTS]
    if not (folder / WEIGHTS).is_file():
        if not (folder / SHARDS).is_file():
            raise _no_weights(folder)
        names = _shard_names(folder / SHARDS)
    weights: StateDict = {}
    for name in names:
        try:
            refuse_large_header(folder / name)
            weights |= safetensors.torch.load_file(folder / name)
        except (safetensors.SafetensorError, OSError) as error:
            raise ArtefactError(
                "corrupt-weights",
                f"the weights cannot be read: {error}",
                place=folder / name,
                remedy="copy the file again; it is cut, damaged or missing",
            ) from None
    return weights


def _shard_names(index: Path) -> list[str]:
    content = storage.read_json(index)
    listed = content.get("weight_map") if isinstance(content, dict) else None
    names = sorted(set(map(str, listed.values()))) if isinstance(listed, dict) else []
    if not names or any(Path(name).name != name or not name.endswith(".safetensors") for name in names):
        raise ArtefactError(
            "bad-index", "the index of the shards names no usable files", place=index, remedy="copy the folder again"
        )
    return names


def _no_weights(folder: Path) -> ArtefactError:
    pickles = sorted({path.name for pattern in _PICKLES for path in folder.glob(pattern)})
    if pickles:
        return ArtefactError(
            "unsafe-weights",
            "the weights are a pickle, which can run any program when it is opened, so it is not",
            place=folder / pickles[0],
            expected=WEIGHTS,
            remedy="take the model.safetensors of the same model; if you trust the file, convert it once with "
            "transformers: AutoModel.from_pretrained(DIR).save_pretrained(NEW_DIR), and copy the tokenizer files",
        )
    if is_exported(folder):
        return ArtefactError(
            "exported-model",
            f"the folder was written by `unmask export`: it has no weights but those in its graph, {storage.GRAPH}",
            place=folder,
            remedy="take it with `unmask predict`, `evaluate`, `compare`, `embed` or `search`, or from Python with "
            "unmask.light.LightPredictor.load; for all else name the folder that it was exported from",
        )
    return ArtefactError(
        "no-weights",
        "the folder has no weights, and nothing here starts from random ones in silence",
        place=folder,
        expected=WEIGHTS,
        remedy="copy the whole folder; to start at random: --model random, or for `unmask pretrain` none",
    )


def _refuse_nonfinite(weights: StateDict, folder: Path) -> None:
    broken = [name for name, tensor in weights.items() if tensor.is_floating_point() and not _is_finite(tensor)]
    if broken:
        raise ArtefactError(
            "nonfinite-weights",
            f"{len(broken)} weights hold NaN or infinite values: {', '.join(broken[:10])}",
            place=folder,
            remedy="the training that wrote them had diverged; use an earlier checkpoint",
        )


def _is_finite(tensor: torch.Tensor) -> bool:
    """A finite sum has finite parts, and is ten times faster than a look at each; few finite tensors have another."""
    is_finite = math.isfinite(tensor.sum(dtype=torch.float32)) or bool(torch.isfinite(tensor).all())
    unload([tensor])
    return is_finite


def _labels(content: dict[str, Any], state_dict: StateDict, folder: Path) -> list[str] | None:
    """Class names of a published classifier, in the order of its outputs."""
    if "head.out.weight" not in state_dict:
        return None
    count = len(state_dict["head.out.weight"])
    named = content.get("id2label") or {str(index): f"LABEL_{index}" for index in range(count)}
    if not isinstance(named, dict) or set(named) != {str(index) for index in range(count)}:
        raise ArtefactError(
            "bad-labels",
            f"id2label does not name the {count} outputs of the classifier",
            place=folder / "config.json",
            value=named,
            remedy="use the config.json that belongs to these weights",
        )
    return [str(named[str(index)]) for index in range(count)]
