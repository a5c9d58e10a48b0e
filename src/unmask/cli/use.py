"""Commands that use a model."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number
from pydantic import Field

from unmask.cli import ModelFolder, heavy, say
from unmask.cli.computing import Computing
from unmask.config import Settings
from unmask.errors import DataError, UsageError

log = logging.getLogger("unmask")

_TELL_SECONDS = 5.0
_CHUNK = 1024  # rows that are sorted by length and batched together


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


class Asked(Settings):
    """What is asked of a model about the rows of a file, and what computes it."""

    question: Annotated[Question, Parameter(name="*")] = Question()
    """The question."""
    text_column: str | None = None
    """Column of the text in FILE, if it has another name there."""
    pair_column: str | None = None
    """Column of the second text in FILE."""
    columns: str | None = None
    """Names of all columns of FILE, with commas between them, if it has no header."""
    computing: Annotated[Computing, Parameter(name="*")] = Computing()
    """What computes the answers."""

    @property
    def names(self) -> list[str] | None:
        """Names of all columns, where they were given."""
        return [name.strip() for name in self.columns.split(",")] if self.columns else None

    def changes(self, **columns: str | None) -> dict[str, Any]:
        """The question, with the columns of FILE and further ones."""
        return self.question.changes(text_column=self.text_column, pair_column=self.pair_column, **columns)

    def share(self, processes: int) -> "Asked":
        """The same for each of several processes, which share the cores."""
        threads = self.computing.threads or max(1, heavy("unmask.runtime:cpu_cores")() // processes)
        return self.model_copy(update={"computing": self.computing.model_copy(update={"threads": threads})})

    def reading(self, model: Path) -> Any:
        """The task, to read rows for other processes that answer them: weights are mapped, and nothing is packed."""
        if heavy("unmask.checkpoint:is_exported")(model):
            return heavy("unmask.exported:exported_task")(model, columns=self.changes()["columns"])
        exact = {"engine": "torch", "precision": "float32", "device": "cpu"}
        return heavy("unmask.predict:Predictor").load(model, **self.changes(), **exact).task

    def open(self, model: Path, **columns: str | None) -> Any:
        """A predictor that answers this, by a model folder or by one that `unmask export` wrote."""
        if heavy("unmask.checkpoint:is_exported")(model):
            return self.computing.open_by(heavy("unmask.exported:open_exported"), model, **self.changes(**columns))
        return self.computing.open(model, **self.changes(**columns))


def predict(
    *texts: str,
    model: ModelFolder,
    pair: list[str] | None = None,
    file: Path | None = None,
    asked: Annotated[Asked, Parameter(name="*")] = Asked(),  # noqa: B008
    processes: Annotated[int, Parameter(validator=Number(gte=1))] = 1,
    json: bool = False,
) -> None:
    """Answer for texts: classes, or what stands behind a mask.

    Without TEXT and --file it reads stdin, one text a line; for pairs, two texts with a tab between them. Texts and
    JSON lines are answered 1,024 at a time, in constant memory; lines that are typed, one by one.

    Args:
        texts: Texts to answer for; write <mask> (or [MASK]) where a word is to be filled in.
        model: Model folder, or one that `unmask export` wrote.
        pair: Second text of each pair, once for each TEXT.
        file: Table with the model's text columns, or a .txt file with one text a line.
        processes: Processes that share the rows out, for many rows and a small model; each holds the model.
        json: Write one JSON object a line.
    """
    source: Any = asked.open(model) if processes == 1 else partial(asked.share(processes).open, model)
    task = source.task if processes == 1 else asked.reading(model)
    rows = _rows(task, texts, pair or [], file, asked.names)
    is_typed = not texts and file is None and sys.stdin.isatty()
    answers = heavy("unmask.stream:stream")(rows, source, processes=processes, chunk=1 if is_typed else _CHUNK)
    for (_, row), answer in _told(answers):
        say(_record(row, answer) if json else _line(task.text_columns, row, answer))


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
        model: Model folder, or one that `unmask export` wrote.
        label_column: Column of the label in FILE.
        skip_bad: Leave bad rows out, and list them with their reasons in a file of this folder, `FILE.rejects`.
        json: Write one JSON object.
    """
    predictor = asked.open(model, label_column=label_column)
    table = labelled(file, predictor.task, asked.names, skip_bad=skip_bad)
    result = heavy("unmask.evaluate:evaluate")(predictor, table)
    if json:
        say({"rows": result.rows, "seconds": round(result.seconds, 3), **result.scores})
    else:
        for line in _scores(result):
            say(line)


def labelled(file: Path, task: Any, names: list[str] | None, *, skip_bad: bool = False) -> Any:
    """Rows of a file; with `skip_bad` those that the task can take."""
    rejects = heavy("unmask.data.rejects:Rejects")() if skip_bad else None
    tags = getattr(task.settings, "label_column", None)
    read = heavy("unmask.data.recognise:read_rows")
    table = read(file, task.columns, task.form, names=names, reject=rejects, tags=tags)
    if rejects is not None:
        table = heavy("unmask.tasks.sound:sound_rows")(task, table, rejects)
        rejects.write(Path(f"{file.name}.rejects"))
    return table


def _scores(result: Any) -> Iterator[str]:
    for name, value in result.scores.items():
        if isinstance(value, float):
            yield f"{name:<16} {value:.4f}"
    if "interval" in result.scores:
        yield "95 % interval    {:.4f} to {:.4f}".format(*result.scores["interval"])
    for name, one in result.scores.get("per_class", {}).items():
        yield f"  {name:<24} P {one['precision']:.3f}  R {one['recall']:.3f}  F1 {one['f1']:.3f}  rows {one['rows']}"
    if len(result.scores.get("labels", ())) in range(1, 13):
        yield "confusion (rows: label, columns: answer)"
        for name, counts in zip(result.scores["labels"], result.scores["confusion"], strict=True):
            yield f"  {name:<24} " + " ".join(f"{count:>6}" for count in counts)
    yield f"{result.rows} rows in {result.seconds:.2f} s, {result.rows / max(result.seconds, 1e-9):.0f} a second"


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


Placed = tuple[object, dict[str, Any]]


def _told(answers: Iterator[Any]) -> Iterator[Any]:
    """The same answers; how far they are is told now and then."""
    start = told = time.monotonic()
    for number, one in enumerate(answers, 1):
        yield one
        now = time.monotonic()
        if now - told > _TELL_SECONDS:
            told = now
            log.info("%s rows answered, %.0f a second", f"{number:,}", number / (now - start))


def _rows(
    task: Any, texts: tuple[str, ...], pairs: list[str], file: Path | None, names: list[str] | None
) -> Iterator[Placed]:
    columns = task.text_columns
    if (pairs and len(pairs) != len(texts)) or (file is not None and texts):
        raise UsageError(
            "unmatched-texts",
            f"{len(texts)} texts, {len(pairs)} second texts" + (" and a file" if file else ""),
            remedy="give one --pair for each TEXT, and either texts or --file",
        )
    if file is not None and (file.suffix != ".txt" or task.form != "table"):
        if task.form == "table" and file.is_file():
            yield from heavy("unmask.data.rows:iter_table")(file, columns, names=names)
            return
        form = None if task.form == "tagged" else task.form  # a tagger answers about texts of any file
        table = heavy("unmask.data.recognise:read_rows")(file, columns, form, names=names)
        yield from ((table.place(index), row) for index, row in enumerate(table.rows))
        return
    if texts:
        given: Iterable[list[str]] = (
            [list(one) for one in zip(texts, pairs, strict=True)] if pairs else [[text] for text in texts]
        )
        source = "text"
    else:
        lines = heavy("unmask.data.files:read_lines")(file) if file else _stdin()
        given = (line.split("\t") if len(columns) > 1 else [line] for line in lines)
        source = str(file or "stdin")
    for number, parts in enumerate(given, 1):
        if len(parts) != len(columns):
            raise UsageError(
                "wrong-number-of-texts",
                f"this model reads {len(columns)} text(s), {len(parts)} were given",
                place=f"{source}:{number}",
                remedy="give the second text with --pair, or after a tab" if len(columns) == 2 else "leave out --pair",
            )
        yield f"{source}:{number}", dict(zip(columns, parts, strict=True))


def _stdin() -> Iterator[str]:
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            yield line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise DataError(
                "wrong-encoding",
                f"byte {error.start + 1} of the line is not UTF-8",
                place=f"stdin:{number}",
                value=f"0x{line[error.start]:02x}",
                remedy="pipe it through iconv -t utf-8 first",
            ) from None


def _record(row: dict[str, Any], answer: Any) -> dict[str, Any]:
    return {"input": row, **asdict(answer)}


def _line(columns: tuple[str, ...], row: dict[str, Any], answer: Any) -> str:
    told: str = answer.summary()
    return told if "\n" in told else "\t".join([told, *(str(row[name]) for name in columns if name in row)])
