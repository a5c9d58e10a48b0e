"""The command that answers for texts."""

import logging
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from unmask.cli import ModelFolder, heavy, say
from unmask.cli.answers import Written
from unmask.cli.rows import file_rows, given_rows, has_lines
from unmask.cli.use import Asked
from unmask.errors import DataError, UsageError

log = logging.getLogger("unmask")

_TELL_SECONDS = 5.0
_CHUNK = 1024  # rows that are sorted by length and batched together


def predict(
    *texts: str,
    model: ModelFolder,
    pair: list[str] | None = None,
    file: Path | None = None,
    asked: Annotated[Asked, Parameter(name="*")] = Asked(),  # noqa: B008
    processes: Annotated[int, Parameter(validator=Number(gte=1))] = 1,
    written: Annotated[Written, Parameter(name="*")] = Written(),  # noqa: B008
    json: bool = False,
) -> None:
    """Answer for texts: classes, or what stands behind a mask.

    Without TEXT and --file it reads stdin, one text a line; for pairs, two texts with a tab between them. Texts and
    JSON lines are answered 1,024 at a time, in constant memory; lines that are typed, one by one. With --skip-bad a row
    that cannot be answered has an empty line; with --json its `output` is null, and `reason` says why.

    Args:
        texts: Texts to answer for, behind -- if one begins with a dash. Where a word is to be filled in, write <mask>;
            [MASK] is for models in BERT form alone.
        model: Model folder, run folder, or one that `unmask export` wrote.
        pair: Second text of each pair, once for each TEXT.
        file: Table with the model's text columns, or a .txt file with one text a line.
        processes: Processes that share the rows out, for many rows and a small model; each holds the model.
        json: Write one JSON object a line: `line` of the file, `input`, and the answer.
    """
    if (pair and len(pair) != len(texts)) or (file is not None and texts):
        raise UsageError(
            "unmatched-texts",
            f"{len(texts)} texts, {len(pair or [])} second texts" + (" and a file" if file else ""),
            remedy="give one --pair for each TEXT, and either texts or --file",
        )
    written.check()
    source: Any = asked.open(model) if processes == 1 else partial(asked.share(processes).open, model)
    task = source.task if processes == 1 else asked.task_of(model)
    if file is None or has_lines(task, file):
        _refuse_columns({**asked.reading.model_dump(), "keep": written.keep})
    if file is None:
        rows = given_rows(task, texts, pair or [])
    else:
        rows = file_rows(task, file, asked.reading.names, keep=written.keep or (), skip_bad=written.skip_bad)
    is_typed = not texts and file is None and sys.stdin.isatty()
    answers = heavy("unmask.stream:stream")(rows, source, processes=processes, chunk=1 if is_typed else _CHUNK)
    with written.open(task.text_columns, json=json) as write:
        for placed, answer in _checked(_told(answers), skip_bad=written.skip_bad):
            write(placed, answer)
    if written.output is not None:
        say(f"answers: {written.output}")


def _refuse_columns(named: dict[str, object]) -> None:
    for name, value in named.items():
        if value is not None:
            raise UsageError(
                "no-columns",
                "lines of text have no columns",
                place=f"--{name.replace('_', '-')}",
                value=value,
                remedy="leave it out; or name a table, such as a .csv, .tsv or .jsonl file, with --file",
            )


def _told(answers: Iterator[Any]) -> Iterator[Any]:
    """The same answers; how far they are is told now and then."""
    start = told = time.monotonic()
    for number, one in enumerate(answers, 1):
        yield one
        now = time.monotonic()
        if now - told > _TELL_SECONDS:
            told = now
            log.info("%s rows answered, %.0f a second", f"{number:,}", number / (now - start))


def _checked(answers: Iterator[Any], *, skip_bad: bool) -> Iterator[Any]:
    """The same answers; the first row without one ends them, or all such rows are counted and told at the end."""
    total, first, codes = 0, None, Counter[str]()
    for one in answers:
        (place, _), answer = one
        if isinstance(answer, DataError):
            if not skip_bad:
                fix = answer.details["fix"]
                answer.details["fix"] = f"{fix}; or --skip-bad" if fix else "--skip-bad goes on without it"
                raise answer
            codes[answer.code] += 1
            first = first or place
        total += 1
        yield one
    if codes:
        kinds = ", ".join(f"{count} {code}" for code, count in codes.most_common())
        log.warning("%d of %d rows have no answer (%s), first %s", codes.total(), total, kinds, first)
