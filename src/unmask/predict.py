"""The door that users enter by: texts in, plain dataclasses out. Evaluation and serving go through it too."""

import contextlib
import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unmask.bundled import find_model
from unmask.checkpoint import Model, load_model
from unmask.config import resolve
from unmask.data.batching import Features, sorted_batches, units_of
from unmask.engine.choice import Engine, choose, choose_card, install, runs
from unmask.errors import ArtefactError, UsageError
from unmask.runtime import Machine, one_thread, trim_heap, unload
from unmask.tasks import TASKS, find_task
from unmask.tasks.base import Place, Row, Task, row_number
from unmask.tasks.rows import check_rows, rows_of

log = logging.getLogger("unmask")

MAX_TOKENS = 8192
Said = tuple[list[Any], list[Features]]
Texts = str | Sequence[str] | Mapping[str, str]


class Predictor:
    """Answers a task's question about texts.

    Args:
        task: a network with its head and tokenizer.
        max_tokens: limit of one batch, in tokens; a longer text stands alone.
        where: machine whose number format is used; by default float32 on the CPU, the exact one.

    Attributes:
        engine: what computes the encoder; `None` while the task's own network does, as in training.
    """

    engine: Engine | None = None

    def __init__(self, task: Task, *, max_tokens: int = MAX_TOKENS, where: Machine | None = None) -> None:
        if max_tokens < 1:
            raise UsageError("bad-max-tokens", "a batch holds at least one token", place="max_tokens", value=max_tokens)
        self.task = task.eval()
        self.max_tokens = max_tokens
        self._has_told = False
        self._where = where or Machine(torch.device("cpu"), torch.float32, torch.get_num_threads(), "CPU", "exact")

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        task: str | None = None,
        columns: Mapping[str, str | None] | None = None,
        options: Mapping[str, Any] | None = None,
        engine: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        device: str = "auto",
        max_tokens: int = MAX_TOKENS,
        is_labelled: bool = False,
    ) -> "Predictor":
        """Open a model folder.

        Args:
            folder: written by unmask, or a published RoBERTa, XLM-R or BERT-form folder with a head; a run folder, for
                its model; or the name of a bundled model, such as `unmask-small-en`.
            task: name of the task; by default the one that the folder was made for.
            columns: other names for the columns of its settings, such as {"text_column": "review"}; `None` keeps one.
            options: other values for its settings, such as {"top_k": 3}.
            engine: `native` (compiled kernels), `onnx` (onnxruntime), `torch`, or `auto`.
            precision: `float32`, `bfloat16`, `int8`, or `auto`: float32, unless the folder certifies a faster one for
                its own task.
            threads: of one pass on the CPU; by default as many as torch has.
            device: `cpu`, `cuda`, or `auto`: a GPU where there is one, and neither int8 nor an engine of the CPU is
                asked for.
            max_tokens: limit of one batch, in tokens, which the memory of a pass hangs on; a longer text stands alone.
            is_labelled: labelled rows will be scored: `auto` is torch where that compares passes with dropout (SimCSE).

        Raises:
            ArtefactError: the folder is missing or corrupt, or has no head for the task.
            UsageError: the task has no such setting, or it cannot have this value; there is no such engine or device,
                or the engine is one of the CPU and the device is not.
            ResourceError: the engine or the precision does not run on this processor, or there is no GPU.
        """
        is_on_card = _is_for_card(device, engine, precision)
        folder = find_model(folder)
        model = load_model(folder)
        named = {name: column for name, column in (columns or {}).items() if column is not None}
        made = cls(build_task(model, task, place=folder, options={**(options or {}), **named}), max_tokens=max_tokens)
        if is_labelled and engine == "auto" and made.task.needs_dropout:
            engine = "torch"
        certified = model.meta.get("engine", {})
        is_its_task = made.task.name == model.meta.get("task", {}).get("name")
        proven = {kind: one["engine"] for kind, one in certified.items() if is_its_task}
        if is_on_card:
            chosen, made._where = choose_card(precision, certified=proven)
            made.task.to(made._where.device)
        else:
            chosen = choose(model.config, name=engine, precision=precision, certified=proven, threads=threads)
        kept = certified.get(chosen.precision, {}).get("keep", {})
        there = {name: kind if runs(chosen.name, kind, model.config) else "float32" for name, kind in kept.items()}
        made.engine = replace(chosen, keep=there)
        install(made.task, made.engine)
        unload(model.state_dict.values())
        del model
        trim_heap()
        return made

    def __call__(self, texts: Sequence[Texts]) -> list[Any]:
        """Predict for texts, pairs (two strings) or rows (mappings from column to text), in order.

        Raises:
            DataError: a text is empty or no text at all, with its number; or no list was given.
        """
        return self.predict_rows(rows_of(texts, self.task.text_columns))

    def predict_rows(self, rows: Sequence[Row], *, place: Place = row_number, is_labelled: bool = False) -> list[Any]:
        """Predict for rows; one prediction each, in order.

        Args:
            rows: mappings from column to text.
            place: says where row number i comes from, for errors.
            is_labelled: require a label that the model knows in each row.

        Raises:
            DataError: a column is missing, a text is empty or a label is unknown; the place is named.
            ResourceError: there is not enough memory for a batch.
        """
        check_rows(rows, place)
        said = self.run(rows, place=place, is_labelled=is_labelled)
        return [self.task.decode(parts, features, row) for (parts, features), row in zip(said, rows, strict=True)]

    @torch.inference_mode()
    def run(self, rows: Sequence[Row], *, place: Place = row_number, is_labelled: bool = False) -> list[Said]:
        """What the network says about each row, before the task makes answers of it.

        Args:
            rows: mappings from column to text, N of them.
            place: says where row number i comes from, for errors.
            is_labelled: require a label that the model knows in each row.

        Returns:
            N pairs of parts and features, in order, as long as each other and one entry for each window or choice of
            the row. A part is what `Task.answer` gives: of most tasks a float32 array of logits, (C,) or (n, C).

        Raises:
            DataError: a column is missing, a text is empty or a label is unknown; the place is named.
            ResourceError: there is not enough memory for a batch.
        """
        if not rows:
            return []
        features = self.task.encode(rows, place=place, is_training=is_labelled)
        if not self._has_told:
            self._has_told = say_truncated(features)
        parts = self.answer(features)
        ends = np.searchsorted([one.row for one in features], np.arange(len(rows) + 1))
        return [(parts[start:end], features[start:end]) for start, end in itertools.pairwise(ends)]

    @torch.inference_mode()
    def answer(self, features: Sequence[Features]) -> list[Any]:
        """What the network says about each of some features, in order, whose rows are in order; see `run`."""
        parts: list[Any] = [None] * len(features)
        if self.task.training:
            self.task.eval()
        units = units_of(features, is_coupled=self.task.is_coupled)
        lengths = np.array([sum(len(features[index]) for index in unit) for unit in units])
        for chosen in sorted_batches(lengths, max_tokens=self.max_tokens):
            indices = np.concatenate([units[place] for place in chosen])
            together = [features[index] for index in indices]
            with self._where.autocast(), self._threads():
                found = self.task.answer(self.task.collate(together).to(self._where.device), together)
            for index, part in zip(indices, found, strict=True):
                parts[index] = part
        return parts

    def _threads(self) -> contextlib.AbstractContextManager[None]:
        """One thread for torch where an engine has threads of its own and the head is small.

        Torch wakes all of its threads for a few hundred numbers; they and the engine's, which look for work for a while
        before they sleep, then hold each other up for as long as a short text takes.
        """
        is_alone = self.engine is None or self.engine.name == "torch" or self.task.has_wide_head
        return contextlib.nullcontext() if is_alone else one_thread()


def _is_for_card(device: str, engine: str, precision: str) -> bool:
    """Whether a GPU is to compute."""
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError("unknown-device", f"there is no device '{device}'", expected="auto, cpu, cuda")
    is_card_engine = engine in ("auto", "torch")
    if device == "cuda" and not is_card_engine:
        raise UsageError(
            "not-on-gpu",
            f"the engine '{engine}' does not compute on a GPU",
            place="--engine",
            expected="torch",
            remedy="leave out --engine or --device",
        )
    return device == "cuda" or (
        device == "auto" and is_card_engine and precision != "int8" and torch.cuda.is_available()
    )


def say_truncated(features: Sequence[Features]) -> bool:
    """Warn, with shares, when texts did not fit into the model; returns whether there were any."""
    cut = {one.row for one in features if one.num_truncated}
    if cut:
        lost, held = sum(one.num_truncated for one in features), sum(len(one) for one in features)
        log.warning(
            "%d of %d texts are longer than the model's input: %.1f %% of all tokens are cut off",
            len(cut), len({one.row for one in features}), 100 * lost / (lost + held),
        )  # fmt: skip
    return bool(cut)


def build_task(
    model: Model, name: str | None = None, *, place: object = None, options: Mapping[str, Any] | None = None
) -> Task:
    """The task of a loaded model folder, with its weights.

    Args:
        model: parts of the folder.
        name: of the task; by default the folder's own.
        place: the folder, for errors.
        options: values that its settings have instead of the folder's.

    Raises:
        ArtefactError: the folder has no head for this task, so that its answers would be noise.
        UsageError: the task has no such setting, or it cannot have this value.
    """
    stored = model.meta.get("task", {})
    own = stored.get("name") or _usual_task(model)
    wanted = name or own
    if name is None and wanted is not None and wanted not in TASKS:
        raise ArtefactError(
            "outside-task",
            f"the folder was made for '{wanted}' from outside the package; nothing in a folder is run unasked",
            place=place,
            remedy=f"if you trust it: --task {wanted}",
        )
    if model.other_vectors is not None and wanted in (None, "embedding"):
        raise model.other_vectors
    if wanted is None:
        raise ArtefactError(
            "no-head",
            "the folder holds an encoder without a head, so it cannot answer anything yet",
            place=place,
            remedy="fine-tune it first: unmask finetune FILE --model FOLDER",
        )
    kind = find_task(wanted)
    if "candidate_labels" in (options or {}) and "candidate_labels" not in kind.settings_class.model_fields:
        raise UsageError(
            "not-zero-shot",
            f"classes to choose from are for zero-shot classification; the task here is '{wanted}'",
            place="--labels, or the option candidate_labels",
            remedy="add --task zero_shot with a model of inference (NLI); a classifier has its own classes",
        )
    known: dict[str, Any] = {"multi_label": model.problem_type == "multi_label_classification"}
    labels = model.labels or []
    if kind.num_outputs in (None, len(labels)):
        known["labels"] = labels
    values = {name: value for name, value in known.items() if name in kind.settings_class.model_fields}
    if stored.get("name") in (None, wanted):
        values |= stored.get("settings", {})
    settings = resolve(kind.settings_class, values, dict(options or {}), place="options")
    # Weights are taken as they lie in the file, mapped into memory: drawing random ones and copying costs a second and
    # the model's size. A task from outside may keep tensors of its own, which need real memory.
    with torch.device("meta") if wanted in TASKS else contextlib.nullcontext():
        task = kind(model.config, model.tokenizer, settings)
    absent = task.load_weights(model)
    if absent:
        raise ArtefactError(
            "missing-weights",
            f"the folder lacks {len(absent)} of the task's parameters, first {absent[0]}; its answers would be noise",
            place=place,
            expected=f"weights for the task {wanted}" + (f", not {own}" if own not in (None, wanted) else ""),
            remedy="name a folder that was trained for this task",
        )
    return task.eval()


def _usual_task(model: Model) -> str | None:
    """What a published folder is for, by its head."""
    return "regression" if model.gives_number else model.head
