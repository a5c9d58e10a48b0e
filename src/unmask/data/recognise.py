"""What is in a labelled file: the one door through which training, evaluation and prediction read rows."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from unmask.data.choices import looks_like_choices, read_choices
from unmask.data.conll import looks_like_conll, looks_like_joined, read_conll, read_joined
from unmask.data.conllu import looks_like_conllu, read_conllu
from unmask.data.files import kind, read_head
from unmask.data.folders import is_data, read_folder
from unmask.data.parallel import looks_like_parallel, read_parallel
from unmask.data.questions import looks_like_questions, read_questions
from unmask.data.rows import Form, Reject, Table, read_table
from unmask.data.span_json import looks_like_span_json, read_span_json
from unmask.errors import DataError

log = logging.getLogger("unmask")

TRAIN_NAMES = ("train", "training")
DEV_NAMES = ("dev", "val", "valid", "validation", "testa", "development")
TEST_NAMES = ("test", "testb")


@dataclass(frozen=True)
class Reader:
    """A file format other than tables.

    Attributes:
        form: of its rows.
        looks_like: whether a file with this path and these first characters is one.
        read: the file's rows.
        has_columns: whether `read` also takes the column of the tags.
    """

    form: Form
    looks_like: Callable[[Path, str], bool]
    read: Callable[..., Table]
    has_columns: bool = False


# Asked in this order; what none of them takes is a table.
READERS: tuple[Reader, ...] = (
    Reader("questions", looks_like_questions, read_questions),
    Reader("choices", looks_like_choices, read_choices),
    Reader("table", looks_like_parallel, read_parallel),
    Reader("tagged", looks_like_conllu, read_conllu, has_columns=True),
    Reader("tagged", looks_like_span_json, read_span_json),
    Reader("tagged", looks_like_joined, read_joined),
    Reader("tagged", looks_like_conll, read_conll, has_columns=True),
)


def read_rows(
    path: Path | str,
    columns: Sequence[str] | None = None,
    form: Form | None = None,
    *,
    names: Sequence[str] | None = None,
    like: Sequence[str] = (),
    reject: Reject | None = None,
    tags: str | None = None,
) -> Table:
    """Read the rows of a file, whatever its format.

    Args:
        path: the file, compressed or not; or a folder of small files, as `read_folder` takes it.
        columns: for tables, the columns to read; default: all.
        form: what the rows have to be; by default what the file looks like.
        names: of all columns of a table without a header.
        like: names of the columns of another table, for the case that this one has no header and as many cells.
        reject: is told of each bad row of a table, which is then left out.
        tags: for files of words in columns, the one with the tags: its number or name, or `Table.tag_column` of
            another file; by default it is found.

    Raises:
        DataError: the file is damaged, has no rows, or does not look like the form that is asked for.
    """
    path = Path(path)
    if path.is_dir():
        return read_folder(path, form)
    if kind(path) == ".parquet":
        return read_table(path, columns, names=names, like=like, reject=reject)
    head = read_head(path)
    for reader in READERS:
        if form in (None, reader.form) and reader.looks_like(path, head):
            return reader.read(path, tags) if reader.has_columns else reader.read(path)
    if form not in (None, "table"):
        raise DataError(
            "other-form",
            f"the file does not look like {_NAMES[form or 'table']}",
            place=path,
            value=head[:80],
            remedy="docs/guides/check-your-data.md shows each format; `unmask debug data FILE` says what a file is",
        )
    return read_table(path, columns, names=names, like=like, reject=reject)


_NAMES: dict[Form, str] = {
    "table": "a table",
    "tagged": "text with labelled words or spans",
    "questions": "questions about texts",
    "choices": "questions with choices",
}


@dataclass(frozen=True)
class Splits:
    """Files of one data set.

    Attributes:
        train: to learn from.
        dev: to choose by.
        test: to score once.
    """

    train: Path
    dev: Path | None
    test: Path | None


def find_splits(folder: Path) -> Splits:
    """Find the files of a data set by their names: train, dev (val, valid, validation, testa) and test.

    Without a file for training, sub-folders of these names are looked for, and a folder that holds rows itself, as
    `read_folder` takes it, is its own part for training.

    Raises:
        DataError: there is not exactly one file for training.
    """
    inside = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and not _is_beside(path))
    files = [path for path in inside if path.is_file()]
    if not _named(files, TRAIN_NAMES):
        folders = [path for path in inside if path.is_dir()]
        if not _named(folders, TRAIN_NAMES) and is_data(folder):
            return Splits(folder, None, None)
        files = folders if _named(folders, TRAIN_NAMES) else files
    train = _named(files, TRAIN_NAMES)
    if len(train) != 1:
        raise DataError(
            "unclear-train-file",
            f"the folder has {len(train) or 'no'} files with '{TRAIN_NAMES[0]}' in their names",
            place=folder,
            value=", ".join(path.name for path in train or files)[:200],
            expected="one file for training, and perhaps one each with dev and test in their names",
            remedy="name the file itself, and --dev FILE",
        )
    # a file has one part: `dev.test.tsv` is no test file as well
    dev = _named([path for path in files if path not in train], DEV_NAMES)
    test = _named([path for path in files if path not in (*train, *dev)], TEST_NAMES)
    for name, found in (("dev", dev), ("test", test)):
        if len(found) > 1:
            shown = ", ".join(path.name for path in found)
            log.warning("%s: several files could be the %s file, so none is taken: %s", folder, name, shown)
    return Splits(train[0], dev[0] if len(dev) == 1 else None, test[0] if len(test) == 1 else None)


def _named(files: Sequence[Path], names: Sequence[str]) -> list[Path]:
    """Files one of whose words is one of the names: `train.tsv`, `sts-train.csv`, `eng.testa`, `stsa.binary.train`."""
    return [path for path in files if any(name in _words(path) for name in names)]


def _is_beside(path: Path) -> bool:
    """Whether a file has the answers of another one, as ChID's train_answer.json has those of train.json."""
    return "_answer." in path.name and path.with_name(path.name.replace("_answer.", ".")).exists()


def _words(path: Path) -> list[str]:
    return path.name.lower().replace("-", ".").replace("_", ".").split(".")
