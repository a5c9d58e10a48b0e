"""A model as one ONNX file with all that predicts with it, for machines without torch; written only with its proof."""

import json
import logging
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unmask import storage
from unmask.certify import MAX_DROP, Certificate, certify, changes, drop_of, sample
from unmask.data.rows import Table
from unmask.engine.onnx_decoder import PRODUCTS
from unmask.engine.onnx_graph import weight_levels
from unmask.engine.onnx_heads import task_graph
from unmask.engine.onnx_run import Runner
from unmask.errors import NumericError, UsageError
from unmask.golden import make_golden
from unmask.light import CONFIG, FORMAT, NOTE, READERS, LightPredictor
from unmask.model.crf import CrfHead
from unmask.tasks.base import Row, Task
from unmask.tasks.masked_lm import MaskedLM
from unmask.tasks.seq2seq import MAX_SCORES, Seq2Seq

log = logging.getLogger("unmask")

MIN_COSINE = {"float32": 0.999999, "int8": 0.99}
"""Of all logits of the certified texts; in float32 none may differ by more than a certificate allows either."""
_LIBRARIES = ("unmask", "torch", "onnx", "onnxruntime", "tokenizers", "numpy")


@dataclass(frozen=True)
class Export:
    """What was written, and how near it is to the float32 network.

    Attributes:
        precision: float32 or int8.
        difference: greatest one of a logit on the certified texts.
        cosine: of all their logits, seen as one vector.
        size_bytes: of the graph.
        certificate: what it costs on labelled rows; `None` where none were given.
    """

    precision: str
    difference: float
    cosine: float
    size_bytes: int
    certificate: Certificate | None = None

    def __str__(self) -> str:
        shown = (
            f"{self.precision}, {self.size_bytes / 1e6:,.1f} MB: logits differ by {self.difference:.1e}, "
            f"cosine {self.cosine:.6f}"
        )
        return shown if self.certificate is None else f"{shown}\n{self.certificate}"


def export(
    task: Task,
    output: Path,
    *,
    precision: str = "float32",
    dev: Table | None = None,
    max_drop: float = MAX_DROP,
    threads: int = 1,
) -> Export:
    """Write a task as a folder that `LightPredictor` opens: graph, tokenizer, settings and certificate.

    Args:
        task: float32 weights, with the encoder of training.
        output: must not exist.
        precision: of the products: float32 or int8; those of heads stay float32, those of a decoder do not.
        dev: labelled rows that the model has not learned from, which int8 needs, to measure what it costs; products
            that cost too much are kept in float32.
        max_drop: most points of the main metric that may be lost on them.
        threads: of the check.

    Raises:
        UsageError: `output` exists, the task has no exported form, there is no such precision, int8 has no `dev`, or
            the extra `onnx` is not installed.
        NumericError: the graph is too far from the network, or costs too much on `dev`; nothing is written.
    """
    if output.exists():
        raise UsageError("exists", "the output folder exists already", place=output, remedy="choose another name")
    if task.name not in READERS:
        raise UsageError("no-export", f"'{task.name}' is not exported yet", expected=f"one of {', '.join(READERS)}")
    if precision not in MIN_COSINE:
        raise UsageError("unknown-precision", f"there is no exported '{precision}'", expected=" or ".join(MIN_COSINE))
    found = None if precision == "float32" else _gate(task, dev, precision, max_drop, threads)
    keep = {} if found is None else dict(found.keep)
    content = task_graph(task, precision, keep=keep)
    golden = make_golden(task)
    light = LightPredictor(task.reader, Runner(content, threads))
    rows = [task.example(one["text"]) for one in golden["texts"]]
    difference, cosine = _compare(task, light, rows)
    is_near = difference <= golden["tolerance"] or precision != "float32"
    if not (cosine >= MIN_COSINE[precision] and is_near):  # written so that a NaN does not pass
        raise NumericError(
            "no-parity",
            f"the graph's logits differ by {difference:.2g} from the network's, their cosine is {cosine:.5f}; nothing "
            "was written",
            value=precision,
            expected=f"a cosine of at least {MIN_COSINE[precision]}; float32: differences of {golden['tolerance']:.0e}",
            remedy="take --precision float32",
        )
    golden["exported"] = {
        "max_difference": difference,
        "cosine": cosine,
        "precision": precision,
        "rows": [{"row": row, "numbers": light.note(row)} for row in rows],
    }
    if found is not None:
        found = replace(found, difference=difference, cosine=cosine)  # of the graph, heads and all
    made = Export(precision, difference, cosine, len(content), found)
    _write(output, task, content, made, golden)
    return made


def _gate(task: Task, dev: Table | None, precision: str, max_drop: float, threads: int) -> Certificate:
    if dev is None:
        raise UsageError(
            "no-dev-rows",
            f"what {precision} costs is not known without labelled rows that the model has not learned from",
            place="dev",
            remedy="give such rows, with --dev FILE; or take --precision float32",
        )
    (found,) = certify(task, dev, [precision], max_drop=max_drop, engine="onnx", threads=threads)
    if found.is_passed and isinstance(task, Seq2Seq):
        found = _written(task, dev, found, threads)
    if not found.is_passed:
        raise NumericError(
            "too-inexact",
            f"{precision} loses {found.drop:.2f} of {found.metric} on these rows; nothing was written",
            place=dev.path,
            value=f"{found.score:.4f}, exact {found.exact_score:.4f}",
            expected=f"a loss of at most {max_drop:g}",
            remedy="allow more with --max-drop, or take --precision float32",
        )
    return found


def _written(task: Seq2Seq, dev: Table, encoder: Certificate, threads: int) -> Certificate:
    """The certificate of the decoder too, which `certify` leaves in float32: the graph itself writes the dev texts.

    Where it loses too much, the products that change the logits most stay in float32, as many as a bisection finds.
    """
    found = _scored(task, dev, encoder, [], threads)
    if found.is_passed:
        return found
    log.info("%s", found)
    order = _sensitive(task, dev, encoder.precision)
    found = _scored(task, dev, encoder, order, threads)
    too_few, enough = 0, len(order)
    while found.is_passed and enough - too_few > 1:
        number = (too_few + enough) // 2
        tried = _scored(task, dev, encoder, order[:number], threads)
        log.info("%s", tried)
        if tried.is_passed:
            found, enough = tried, number
        else:
            too_few = number
    return found


def _scored(task: Seq2Seq, dev: Table, encoder: Certificate, keep: list[str], threads: int) -> Certificate:
    """What the graph loses with some products of the decoder in float32, beside those of the encoder."""
    kept = {**encoder.keep, **dict.fromkeys(keep, "float32")}
    rows = dev.rows[: task.settings.dev_texts]
    light = LightPredictor(task.reader, Runner(task_graph(task, encoder.precision, keep=kept), threads))
    score = float(task.score(light.predict_rows(rows, place=dev.place), rows)[encoder.metric])
    drop = drop_of(encoder.exact_score, score, higher_is_better=task.is_rising(encoder.metric))
    return replace(encoder, score=score, drop=drop, rows=len(rows), agreement=None, keep=kept)


def _sensitive(task: Seq2Seq, dev: Table, precision: str) -> list[str]:
    """Products of the decoder, those first that change the logits most."""
    room = max(1, MAX_SCORES // (task.config.vocab_size * task.reader.max_target_length))
    batch = task.eval().collate(sample(task, dev)[:room])
    return [f"decoder.{name}" for name in changes(task.head.layers, PRODUCTS, precision, lambda: task(batch))]


def _compare(task: Task, light: LightPredictor, rows: list[Row]) -> tuple[float, float]:
    """Greatest difference of a logit, and cosine of all, between the graph and the network."""
    ours = np.concatenate([light.numbers(row) for row in rows]).astype(np.float64)
    theirs = np.concatenate([_numbers(task, row) for row in rows]).astype(np.float64)
    scale = float(np.linalg.norm(ours) * np.linalg.norm(theirs))
    return float(np.abs(ours - theirs).max()), float(ours @ theirs) / max(scale, 1e-30)


@torch.inference_mode()
def _numbers(task: Task, row: Row) -> np.ndarray:
    """What the network says about a row, in the order of `LightPredictor.numbers`."""
    features = task.encode([row])
    batch = task.collate(features)
    logits = task.eval()(batch).float()
    if isinstance(task, MaskedLM):
        return logits.numpy().ravel()
    return np.concatenate([np.ravel(part) for part in task.parts(logits, batch, features)])


def _write(output: Path, task: Task, content: bytes, made: Export, golden: dict[str, Any]) -> None:
    certified = {} if made.certificate is None else {made.precision: made.certificate.to_json()}
    chain = {"chain": task.head.chain().to_json()} if isinstance(task.head, CrfHead) else {}
    notes = {
        "task": {"name": task.name, "settings": task.settings.model_dump(mode="json"), **chain},
        "export": {"precision": made.precision, "weight_levels": weight_levels()},
        "engine": certified,
    }
    versions = {name: version(name) for name in _LIBRARIES}
    with storage.staged(output) as staging:
        (staging / storage.GRAPH).write_bytes(content)
        task.tokenizer.save(staging)
        for name, values in (
            (CONFIG, task.config.to_hf(head=task.head_name, labels=task.labels)),
            (NOTE, {"format": FORMAT, "labels": task.labels, "meta": notes, "versions": versions}),
            ("golden.json", golden),
        ):
            (staging / name).write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", "utf-8")
