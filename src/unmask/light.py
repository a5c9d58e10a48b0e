"""A predictor without torch: it opens what `unmask export` wrote, with numpy, onnxruntime and tokenizers."""

import itertools
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unmask import storage
from unmask.config import Settings, resolve
from unmask.data.features import Features, sorted_batches
from unmask.engine.onnx_run import Runner, read_graph, saturates
from unmask.errors import ArtefactError, UsageError
from unmask.model.chain import Chain
from unmask.model.config import EncoderConfig
from unmask.tasks.choice_reader import ChoiceReader, MultipleChoiceSettings
from unmask.tasks.class_reader import ClassificationSettings, ClassReader
from unmask.tasks.mask_reader import MaskedLMSettings, MaskReader
from unmask.tasks.number_reader import NumberReader, RegressionSettings
from unmask.tasks.reader import Reader
from unmask.tasks.rows import Place, Row, check_rows, row_number, rows_of
from unmask.tasks.span_reader import SpanQASettings, SpanReader
from unmask.tasks.tag_reader import TaggingSettings, TagReader
from unmask.tasks.text_reader import Seq2SeqSettings, TextReader
from unmask.tasks.vector_reader import EmbeddingSettings, VectorReader
from unmask.tasks.zero_reader import ZeroReader, ZeroShotSettings
from unmask.tokenizer.load import Tokenizer

log = logging.getLogger("unmask")

NOTE, CONFIG = "unmask.json", "config.json"
FORMAT = 1
READERS: dict[str, tuple[type[Reader], type[Settings]]] = {
    "classification": (ClassReader, ClassificationSettings),
    "embedding": (VectorReader, EmbeddingSettings),
    "masked_lm": (MaskReader, MaskedLMSettings),
    "multiple_choice": (ChoiceReader, MultipleChoiceSettings),
    "regression": (NumberReader, RegressionSettings),
    "seq2seq": (TextReader, Seq2SeqSettings),
    "span_qa": (SpanReader, SpanQASettings),
    "tagging": (TagReader, TaggingSettings),
    "zero_shot": (ZeroReader, ZeroShotSettings),
}
"""Of each task."""

_NOTED = 32


class LightPredictor:
    """Answers a task's question about texts, as `Predictor` does.

    Args:
        reader: of the task.
        runner: its network.
        max_tokens: limit of one batch in tokens, padding included; a longer text stands alone.
    """

    def __init__(self, reader: Reader, runner: Runner, *, max_tokens: int = 2048) -> None:
        self.reader = reader
        self.max_tokens = max_tokens
        self._runner = runner

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        threads: int | None = None,
        columns: Mapping[str, str | None] | None = None,
        max_tokens: int = 2048,
    ) -> "LightPredictor":
        """Open a folder that `unmask export` wrote.

        Args:
            folder: its files are checked against its manifest first.
            threads: of one pass; by default the cores that this process may use.
            columns: other names for the columns of its settings, such as {"text_column": "review"}; `None` keeps one.
            max_tokens: limit of one batch in tokens, padding included; a longer text stands alone.

        Raises:
            ArtefactError: the folder is missing, corrupt, no exported one, or keeps weights in other files.
            UsageError: onnxruntime is not installed, or the task has no such column.
        """
        reader, note = read_exported(folder, columns=columns)
        exported = note["meta"]["export"]
        if exported["weight_levels"] > 63 and exported["precision"] == "int8" and saturates():
            log.warning(
                "this model was exported for processors with VNNI; sums of its int8 products can overflow on this one, "
                "so export it anew here"
            )
        return cls(reader, Runner(read_graph(Path(folder) / storage.GRAPH), threads or _cores()), max_tokens=max_tokens)

    def __call__(self, texts: Sequence[str | Sequence[str] | Mapping[str, str]]) -> list[Any]:
        """Predict for texts, pairs (two strings) or rows (mappings from column to text), in order.

        Raises:
            DataError: a text is empty or no text at all, with its number; or no list was given.
        """
        return self.predict_rows(rows_of(texts, self.reader.text_columns))

    def predict_rows(self, rows: Sequence[Row], *, place: Place = row_number, is_labelled: bool = False) -> list[Any]:
        """Predict for rows; one prediction each, in order.

        Args:
            rows: mappings from column to text.
            place: says where row number i comes from, for errors.
            is_labelled: require a label that the model knows in each row.

        Raises:
            DataError: a column is missing, a text is empty or a label is unknown; the place is named.
            ResourceError: there is not enough memory for a batch, or the graph fails.
        """
        check_rows(rows, place)
        said = self.run(rows, place=place, is_labelled=is_labelled)
        return [self.reader.decode(parts, features, row) for (parts, features), row in zip(said, rows, strict=True)]

    def numbers(self, row: Row) -> np.ndarray:
        """What the network says about a row, for comparing it with another machine's: logits, end to end, float32."""
        features = self.reader.encode([row])
        return self.reader.numbers(self.reader.logits(self._runner, features), features)

    def note(self, row: Row) -> list[float]:
        """The first of those numbers."""
        return [float(one) for one in self.numbers(row)[:_NOTED]]

    def run(
        self, rows: Sequence[Row], *, place: Place = row_number, is_labelled: bool = False
    ) -> list[tuple[list[Any], list[Features]]]:
        """What the network says about each row, before it becomes an answer.

        Args:
            rows: mappings from column to text, N of them.
            place: says where row number i comes from, for errors.
            is_labelled: require a label that the model knows in each row.

        Returns:
            N pairs of parts and features, in order, as long as each other and one entry for each window or choice of
            the row. A part is what `Reader.answer` gives: of most tasks a float32 array of logits, (C,) or (n, C).

        Raises:
            DataError: a column is missing, a text is empty or a label is unknown; the place is named.
            ResourceError: there is not enough memory for a batch, or the graph fails.
        """
        features = self.reader.encode(rows, place=place, is_training=is_labelled)
        parts = self.answer(features)
        ends = np.searchsorted([one.row for one in features], np.arange(len(rows) + 1))
        return [(parts[start:end], features[start:end]) for start, end in itertools.pairwise(ends)]

    def answer(self, features: Sequence[Features]) -> list[Any]:
        """What the network says about each of some features, in order, whose rows are in order; see `run`."""
        parts: list[Any] = [None] * len(features)
        lengths = np.array([len(one) for one in features], dtype=np.int64)
        for chosen in sorted_batches(lengths, max_tokens=self.max_tokens):
            together = [features[index] for index in chosen]
            for index, part in zip(chosen, self.reader.answer(self._runner, together), strict=True):
                parts[index] = part
        return parts


def read_exported(
    folder: str | Path, *, columns: Mapping[str, str | None] | None = None
) -> tuple[Reader, dict[str, Any]]:
    """All of an exported folder but its graph.

    Args:
        folder: its files are checked against its manifest first.
        columns: other names for the columns of its settings; `None` keeps one.

    Returns:
        The reader of its task, and what `unmask export` noted in unmask.json.

    Raises:
        ArtefactError: the folder is missing, corrupt, no exported one, or of a version that is newer than this one.
        UsageError: the task has no such column, or another setting is named with another value than the folder's.
    """
    folder = Path(folder)
    storage.verify(folder)
    note = storage.read_json(folder / NOTE)
    _check(note, folder)
    told = note["meta"]["task"]
    kind, settings = READERS[told["name"]]
    named = {name: column for name, column in (columns or {}).items() if column is not None}
    config = EncoderConfig.from_hf(storage.read_json(folder / CONFIG), place=folder / CONFIG)
    chain = {"chain": Chain.of(told["chain"])} if "chain" in told else {}
    has, asked = (resolve(settings, told["settings"], more, place="columns") for more in ({}, named))
    for name in named:
        if not name.endswith(("_column", "_columns")) and getattr(asked, name) != getattr(has, name):
            raise decided_by_export(name, named[name], str(getattr(has, name)))
    return kind(config, Tokenizer.load(folder), asked, **chain), note


def decided_by_export(name: str, value: object, has: str | None) -> UsageError:
    """The error of who asks an exported folder for something else than it has."""
    return UsageError(
        "decided-by-export",
        f"an exported model has the {name} that it was exported with",
        place=f"--{name}",
        value=value,
        expected=has,
        remedy="leave it out, or name the folder that it was exported from",
    )


def _check(note: dict[str, Any], folder: Path) -> None:
    task = note["meta"].get("task", {}).get("name")
    if note["meta"].get("export") is None:
        raise ArtefactError(
            "not-exported",
            "the folder was not written by `unmask export`",
            place=folder,
            remedy="export it where torch is installed: unmask export MODEL --output FOLDER",
        )
    if note["format"] > FORMAT:
        raise storage.newer_format(folder / NOTE, note["format"], FORMAT)
    if task not in READERS:
        raise ArtefactError(
            "unknown-task",
            f"the folder was exported for a task that this version does not read, by unmask "
            f"{note.get('versions', {}).get('unmask', 'of an unknown version')}",
            place=folder / NOTE,
            value=task,
            expected=f"one of {', '.join(READERS)}",
            remedy="pip install --upgrade unmask",
        )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
