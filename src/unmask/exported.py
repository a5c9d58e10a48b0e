"""An exported folder in the place of a model folder: answered and scored alike, by onnxruntime, with torch at hand."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from unmask import storage
from unmask.data.features import Features
from unmask.engine.choice import Engine
from unmask.errors import UsageError
from unmask.light import NOTE, LightPredictor, decided_by_export, read_exported
from unmask.predict import Predictor, Said
from unmask.tasks import find_task
from unmask.tasks.base import Place, Row, Task, row_number
from unmask.tasks.reader import Reader


class ExportedPredictor(Predictor):
    """Answers by an exported graph.

    Args:
        task: the folder's, without weights.
        light: what answers.
        engine: what it computes by.
    """

    def __init__(self, task: Task, light: LightPredictor, engine: Engine) -> None:
        super().__init__(task, max_tokens=light.max_tokens)
        self.engine = engine
        self._light = light

    def run(self, rows: Sequence[Row], *, place: Place = row_number, is_labelled: bool = False) -> list[Said]:
        """What the graph says about each row; see `Predictor.run`.

        Raises:
            UsageError: labelled rows of single texts are scored by dropout, which a graph does not have.
        """
        if is_labelled:
            self.refuse_dropout()
        return super().run(rows, place=place, is_labelled=is_labelled)

    def refuse_dropout(self) -> None:
        """Raise a UsageError where scores are made of passes with dropout."""
        if self.task.needs_dropout:
            raise UsageError(
                "no-dropout",
                "without pairs, vectors are scored by passes with dropout, which an exported model does not have",
                remedy="score the folder that it was exported from",
            )

    def answer(self, features: Sequence[Features]) -> list[Any]:
        """What the graph says about each of some features; see `Predictor.answer`."""
        self._light.max_tokens = self.max_tokens
        return self._light.answer(features)


def open_exported(
    folder: Path,
    *,
    columns: Mapping[str, str | None] | None = None,
    threads: int | None = None,
    max_tokens: int = 2048,
    is_labelled: bool = False,
    **asked: Any,
) -> ExportedPredictor:
    """Open a folder that `unmask export` wrote as a predictor.

    Args:
        folder: its files are checked against its manifest first.
        columns: other names for the columns of its settings; `None` keeps one.
        threads: of one pass; by default as many as torch has.
        max_tokens: limit of one batch in tokens, padding included; a longer text stands alone.
        is_labelled: whether labelled rows will be scored; what cannot be scored is refused here then.
        asked: other arguments of `Predictor.load`; they may name only what the folder has.

    Raises:
        ArtefactError: the folder is missing, corrupt, or no exported one.
        UsageError: something is asked for that was decided when the model was exported, or onnxruntime is missing.
    """
    threads = threads or torch.get_num_threads()
    light = LightPredictor.load(folder, threads=threads, columns=columns, max_tokens=max_tokens)
    told = storage.read_json(folder / NOTE)["meta"]
    name, precision = told["task"]["name"], told["export"]["precision"]
    has = {"task": name, "engine": "onnx", "precision": precision, "device": "cpu"}
    if asked.get("task") not in (None, name):
        raise UsageError(
            "exported-task",
            f"the folder was exported for the task {name}, and has no weights for {asked['task']}",
            place=folder,
            remedy=f"fine-tune with --task {asked['task']} and export that, or name the folder that this one is from",
        )
    for what, value in asked.items():
        if value not in (None, "auto", {}, has.get(what)):
            raise decided_by_export(what, value, has.get(what))
    predictor = ExportedPredictor(_task(name, light.reader), light, Engine("onnx", precision, threads, "as exported"))
    if is_labelled:
        predictor.refuse_dropout()
    return predictor


def exported_task(folder: Path, *, columns: Mapping[str, str | None] | None = None) -> Task:
    """The task of an exported folder without its graph, to read rows and to score answers.

    Args:
        folder: written by `unmask export`.
        columns: other names for the columns of its settings; `None` keeps one.

    Raises:
        ArtefactError: the folder is missing, corrupt, or no exported one.
    """
    reader, note = read_exported(folder, columns=columns)
    return _task(note["meta"]["task"]["name"], reader)


def _task(name: str, reader: Reader) -> Task:
    with torch.device("meta"):
        task = find_task(name)(reader.config, reader.tokenizer, reader.settings)
    chain = getattr(reader, "chain", None)
    if chain is not None:  # answers are read off it, outside the network
        task.take({f"head.crf.{part}": torch.from_numpy(values) for part, values in vars(chain).items()})
    return task.eval()
