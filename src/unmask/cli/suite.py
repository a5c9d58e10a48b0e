"""The command that runs a suite."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from unmask.cli import heavy, say
from unmask.config import flags
from unmask.errors import DataError, UsageError
from unmask.train.settings import FinetuneSettings


def suite(
    name: str,
    data: Path,
    *,
    output: Path,
    model: str = "auto",
    seeds: str = "0",
    only: list[str] | None = None,
    against: Path | None = None,
    settings: Annotated[FinetuneSettings, Parameter(name="*")] = FinetuneSettings(),  # noqa: B008
) -> None:
    """Fine-tune and score a model on every set of a suite: glue, clue, squad, or one of your own in a TOML file.

    The same command again goes on where it ended; flags win over the suite's settings. A set whose files are not in
    DATA is left out, and said.

    Args:
        name: Name of a suite, or a TOML file.
        data: Folder of the sets, in their published layout.
        output: Folder for the runs, results.json and report.html.
        model: Model folder to start from, name of a bundled model, `random`, or `auto`: the bundled model of the text's
            script.
        seeds: Seeds of the runs, such as 0,1,2: the median and the range are reported.
        only: Names of some sets, with commas between, or the flag again for each. By default all.
        against: Output folder of the same suite with another model: is the difference more than chance?
    """
    if not all(part.strip().isdecimal() for part in seeds.split(",")):
        raise UsageError(
            "bad-seeds", "the seeds are not whole numbers with commas between", place="--seeds", value=seeds
        )
    study = "unmask.study.suites:"
    outcomes = heavy(study + "run_suite")(
        heavy(study + "load_suite")(name),
        data,
        output,
        model=model,
        seeds=[int(part) for part in seeds.split(",")],
        only=[name for names in only or () for name in names.split(",")],
        given=(flags(settings),),
        against=against,
    )
    rows = [heavy(study + "HEAD"), *heavy(study + "table_of")(outcomes)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    for row in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    say(f"report: {output / 'report.html'}")
    failed = [one.name for one in outcomes if (one.missing or "").startswith(heavy(study + "FAILED"))]
    if failed:
        raise DataError(
            "sets-failed",
            "some sets have ended with an error, which the table tells",
            place=output,
            value=", ".join(failed),
            remedy="mend what it says; the same command runs these sets again and keeps the others",
        )
