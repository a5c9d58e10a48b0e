"""Commands that score and check a model, and what is asked of one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from pydantic import Field

from unmask.cli import ModelFolder, heavy, say
from unmask.cli.computing import Computing
from unmask.cli.rows import labelled
from unmask.config import Settings

_MOST_LETTERS = 12  # of a class over its column


class Question(Settings):
    """Which question a model is asked."""

    task: str | None = None
    """Task to answer; by default the one that the folder was made for."""
    labels: str | None = None
    """Classes to choose from with `--task zero_shot`, with commas between them."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Other values for the task's settings, such as `--options.top_k 3`; docs/reference/settings.md lists them."""

    def changes(self, **columns: str | None) -> dict[str, Any]:
        """Task and settings that are asked for, as `Predictor.load` takes them.

        Args:
            columns: names of columns.
        """
        candidates = {} if self.labels is None else {"candidate_labels": self.labels}
        return {"task": self.task, "columns": columns, "options": self.options | candidates}


class Reading(Settings):
    """Which columns of a file are read."""

    text_column: str | None = None
    """Column of the text in FILE, if it has another name there."""
    pair_column: str | None = None
    """Column of the second text in FILE."""
    columns: str | None = None
    """Names of all columns of FILE, with commas between them, if it has no header."""

    @property
    def named(self) -> dict[str, str | None]:
        """The columns of texts, as settings of a task."""
        return {"text_column": self.text_column, "pair_column": self.pair_column}

    @property
    def names(self) -> list[str] | None:
        """Names of all columns, where they were given."""
        return [name.strip() for name in self.columns.split(",")] if self.columns else None


class Asked(Settings):
    """What is asked of a model about the rows of a file, and what computes it."""

    question: Annotated[Question, Parameter(name="*")] = Question()
    """The question."""
    reading: Annotated[Reading, Parameter(name="*")] = Reading()
    """The columns."""
    computing: Annotated[Computing, Parameter(name="*")] = Computing()
    """What computes the answers."""

    def changes(self, **columns: str | None) -> dict[str, Any]:
        """The question, with the columns of FILE and further ones."""
        return self.question.changes(**self.reading.named, **columns)

    def share(self, processes: int) -> "Asked":
        """The same for each of several processes, which share the cores."""
        threads = self.computing.threads or max(1, heavy("unmask.runtime:cpu_cores")() // processes)
        return self.model_copy(update={"computing": self.computing.model_copy(update={"threads": threads})})

    def task_of(self, model: Path) -> Any:
        """The task, to read rows for other processes that answer them: weights are mapped, and nothing is packed."""
        if heavy("unmask.checkpoint:is_exported")(model):
            return heavy("unmask.exported:exported_task")(model, columns=self.changes()["columns"])
        exact = {"engine": "torch", "precision": "float32", "device": "cpu"}
        return heavy("unmask.predict:Predictor").load(model, **self.changes(), **exact).task

    def open(self, model: Path, *, is_labelled: bool = False, **columns: str | None) -> Any:
        """A predictor that answers this or is scored by it."""
        return self.computing.open(model, is_labelled=is_labelled, **self.changes(**columns))


def evaluate(
    file: Path,
    *,
    model: ModelFolder,
    asked: Annotated[Asked, Parameter(name="*")] = Asked(),  # noqa: B008
    label_column: str | None = None,
    skip_bad: bool = False,
    json: bool = False,
) -> None:
    """Score a model on a file of labelled rows.

    Args:
        file: Table with the model's text and label columns; for a masked language model, a column of texts.
        model: Model folder, run folder, or one that `unmask export` wrote.
        label_column: Column of the label in FILE.
        skip_bad: Leave bad rows out, and list them with their reasons in a file of this folder, `FILE.rejects`.
        json: Write one JSON object.
    """
    predictor = asked.open(model, is_labelled=True, label_column=label_column)
    table = labelled(file, predictor.task, asked.reading.names, skip_bad=skip_bad)
    result = heavy("unmask.evaluate:evaluate")(predictor, table)
    scores = dict(result.scores)
    if scores.get("coverage") == 0:  # training needs a number to choose by, a reader is misled by one
        scores["accuracy_answered"] = None
    if json:
        say({"rows": result.rows, "seconds": round(result.seconds, 3), **scores})
        return
    for line in _scores(scores):
        say(line)
    say(f"{result.rows} rows in {result.seconds:.2f} s, {result.rows / max(result.seconds, 1e-9):.0f} a second")


def _scores(scores: dict[str, Any]) -> Iterator[str]:
    for name, value in scores.items():
        if isinstance(value, float):
            yield f"{name:<16} {value:.4f}"
        elif value is None and name != "interval":
            yield f"{name:<16} none"
    if scores.get("interval") is not None:
        yield "95 % interval    {:.4f} to {:.4f}".format(*scores["interval"])
    for name, one in scores.get("per_class", {}).items():
        yield f"  {name:<24} P {one['precision']:.3f}  R {one['recall']:.3f}  F1 {one['f1']:.3f}  rows {one['rows']}"
    if len(scores.get("labels", ())) in range(1, 13):
        yield from _confusion(scores["labels"], scores["confusion"])


def _confusion(labels: list[str], confusion: list[list[int]]) -> Iterator[str]:
    widths = [max(6, min(len(name), _MOST_LETTERS)) for name in labels]
    yield "confusion (rows: label, columns: answer)"
    yield f"  {'':<24} " + " ".join(f"{name[:width]:>{width}}" for name, width in zip(labels, widths, strict=True))
    for name, counts in zip(labels, confusion, strict=True):
        yield f"  {name:<24} " + " ".join(f"{count:>{width}}" for count, width in zip(counts, widths, strict=True))


def verify(folder: ModelFolder, *, json: bool = False) -> None:
    """Check a folder's files against its manifest and, for a model, its texts against the parity certificate.

    Args:
        folder: Model, corpus or checkpoint folder.
        json: Write one JSON object.
    """
    found = heavy("unmask.golden:verify")(folder)
    if json:
        say(found)
        return
    say(f"{found['files']} files as written")
    if found["texts"]:
        say(f"{found['texts']} certified texts: same ids, logits within {found['difference']:.1e}")
    for precision, difference in found["precisions"].items():
        say(f"{precision}: logits within {difference:.1e} of those that were certified in it")
