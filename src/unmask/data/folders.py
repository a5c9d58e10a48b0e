"""Data sets that are folders of small files: RACE's articles, and one sub-folder a class with one text a file."""

import logging
from pathlib import Path

from unmask.data.choices import looks_like_choices, read_choices
from unmask.data.files import expand, read_head, read_text
from unmask.data.rows import Form, Table
from unmask.errors import DataError

log = logging.getLogger("unmask")

COLUMNS = ("text", "label")
_UNLABELLED = ("unsup", "unlabeled", "unlabelled")  # aclImdb's texts without a class stand beside those with one


def is_data(folder: Path) -> bool:
    """Whether a folder holds rows itself, not files of rows."""
    return _is_choices(folder) or len(_classes(folder)) > 1


def read_folder(folder: Path, form: Form | None = None) -> Table:
    """Read a folder of questions with choices, one article a file (RACE), or of texts, one class a sub-folder.

    The second is how 20 Newsgroups and the Large Movie Review Dataset come: `pos/1_10.txt` is a text of the class
    `pos`. Its rows have the columns `text` and `label`.

    Args:
        folder: one part of the data set, such as `train`.
        form: what the rows have to be; by default what the folder looks like.

    Raises:
        DataError: it is neither, a file is no UTF-8, or what `read_choices` says; the place is `folder/class/file`.
    """
    if form in (None, "choices") and _is_choices(folder):
        return read_choices(folder)
    classes = _classes(folder)
    if form not in (None, "table") or len(classes) < 2:
        raise DataError(
            "unclear-folder",
            "the folder is not one of texts by their classes, nor of questions with choices",
            place=folder,
            value=", ".join(sorted(one.name for one in folder.iterdir()))[:200],
            expected="a sub-folder for each class, with one text a file; or RACE's files",
            remedy="name a file, or a folder with a train file in it",
        )
    files = [(file, one.name) for one in classes for file in expand([one])]
    log.info("%s: %d texts in folders of %d classes, one a file", folder, len(files), len(classes))
    rows = [{"text": read_text(file), "label": label} for file, label in files]
    return Table(folder, COLUMNS, rows, [1] * len(rows), files=tuple(str(file) for file, _ in files))


def _is_choices(folder: Path) -> bool:
    first = next((path for path in sorted(folder.glob("**/*.txt")) if path.is_file()), None)
    return first is not None and looks_like_choices(first, read_head(first))


def _classes(folder: Path) -> list[Path]:
    """Sub-folders that hold files alone, and at least one."""
    inside = sorted(one for one in folder.iterdir() if one.is_dir() and not one.name.startswith("."))
    return [one for one in inside if one.name not in _UNLABELLED and any(one.iterdir()) and _holds_files(one)]


def _holds_files(folder: Path) -> bool:
    return all(one.is_file() for one in folder.iterdir())
