"""Commands that look at data before anything is trained on them."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from pydantic import Field, field_validator

from unmask.cli import MaybeModelFolder, heavy, say
from unmask.config import Settings
from unmask.errors import DataError, UsageError
from unmask.train.settings import ColumnSettings

_NAMES = ("train", "dev", "test")


class Purpose(Settings):
    """What the rows are for."""

    task: str | None = None
    """Name of the task; by default what the rows are for."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Settings of the task, such as `--options.span_policy contract`; docs/reference/settings.md lists them by task."""

    @field_validator("options")
    @classmethod
    def _with_underscores(cls, options: dict[str, Any]) -> dict[str, Any]:
        """Names as flags write them, such as `span-policy`, are those of the settings."""
        return {name.replace("-", "_"): value for name, value in options.items()}


def debug_data(
    *files: Path,
    dev: Path | None = None,
    test: Path | None = None,
    model: MaybeModelFolder = None,
    purpose: Annotated[Purpose, Parameter(name="*")] = Purpose(),  # noqa: B008
    allow_overlap: bool = False,
    data: Annotated[ColumnSettings, Parameter(name="data")] = ColumnSettings(),  # noqa: B008
    json: bool = False,
) -> None:
    """Look at labelled files before anything is trained on them: labels, lengths, copies, odd rows.

    It ends with code 3 and lines that begin with FAIL if something has to be mended: rows that cannot be read, are
    empty or are refused by the task, labels that the first file does not have or that differ only by spaces, case or
    zeros, files that share more than 1 % of their rows.

    Args:
        files: Rows to train on, or a folder with train, dev and test files; further files are compared with the first.
        dev: Rows to choose by.
        test: Rows to score.
        model: Model folder, in whose tokens lengths are counted; by default words.
        allow_overlap: Tell of rows that are in two files, and do not fail.
        json: Write one JSON object.
    """
    if not files:
        raise UsageError("no-file", "no file is given", remedy="unmask debug data FILE")
    _refuse_unused(data, has_model=model is not None)
    start = heavy("unmask.checkpoint:load_model")(model) if model else None
    limit = _limit(data, start.config.max_length) if start else None
    view = heavy("unmask.study.rows:look_at_rows")(
        _named(files, dev, test),
        task=purpose.task,
        asked=data,
        given=purpose.options,
        measure=heavy("unmask.study.rows:Measure")(start.tokenizer if start else None, limit),
        max_overlap=1.0 if allow_overlap else heavy("unmask.study.rows:MAX_OVERLAP"),
    )
    if json:
        say(view.to_json())
    else:
        for line in heavy("unmask.study.row_lines:to_lines")(view):
            say(line)
    if view.failures:
        raise DataError(
            "data-failed",
            "the data have to be mended before they are trained on or scores are believed",
            place=files[0],
            value=view.failures[0],
            remedy=_remedy(view),
        )


def _remedy(view: Any) -> str:
    """What to do about the failures, as far as they have something in common."""
    ways = ["mend the rows"]
    if any(one.is_failure and one.name.startswith("a span ") for one in view.troubles):
        ways.append("--options.span_policy contract, expand or drop says what becomes of such spans")
    if any(one.told() in view.failures for one in view.overlaps):
        ways.append("--allow-overlap accepts rows that are in two files")
    return "; ".join(ways)


def _refuse_unused(data: ColumnSettings, *, has_model: bool) -> None:
    """Settings that are for training alone, or have no meaning without a model, are errors."""
    for name in ("skip_bad", "dev_share"):
        if name in data.model_fields_set:
            raise UsageError(
                "unused-settings",
                f"{name} is for training; this command looks at all rows and lists the bad ones",
                place=f"data.{name}",
                remedy="leave it out",
            )
    if data.max_length is not None and not has_model:
        raise UsageError(
            "unused-settings",
            "without a model lengths are counted in words, and max_length is in tokens",
            place="data.max_length",
            value=data.max_length,
            remedy="give --model FOLDER too",
        )


def _limit(data: ColumnSettings, most: int) -> int:
    """Longest input: what is asked for, or the most that the model takes."""
    if data.max_length is not None and data.max_length > most:
        raise UsageError(
            "max-length",
            f"the model takes {most} tokens",
            place="data.max_length",
            value=data.max_length,
            remedy="leave it out or give less",
        )
    return data.max_length or most


def _named(files: tuple[Path, ...], dev: Path | None, test: Path | None) -> dict[str, Path]:
    """The files by name: those of a folder and of the flags by their part, others by their own."""
    found: dict[str, Path] = {}
    for number, file in enumerate(files):
        if file.is_dir():
            splits = heavy("unmask.data.recognise:find_splits")(file)
            named = {name: getattr(splits, name) for name in _NAMES}
        else:
            named = {"train" if number == 0 else file.name: file}
        # files of one name from two folders are two files
        found |= {str(path) if name in found else name: path for name, path in named.items() if path is not None}
    return found | {name: path for name, path in (("dev", dev), ("test", test)) if path is not None}
