"""Two files whose lines belong together: `train.en` and `train.de`, as translations are published."""

from pathlib import Path

from unmask.data.files import read_lines
from unmask.data.names import LANGUAGES
from unmask.data.rows import Table
from unmask.errors import DataError


def looks_like_parallel(path: Path, head: str) -> bool:
    """Whether a file is named by a language and another file has the same name in one other language."""
    del head
    return _language(path) in LANGUAGES and len(_others(path)) == 1


def read_parallel(path: Path) -> Table:
    """Read both files; the columns are the languages, that of `path` first.

    Raises:
        DataError: the files do not have the same number of lines, or one is damaged.
    """
    (other,) = _others(path)
    columns = _language(path), _language(other)
    texts = [list(read_lines(one)) for one in (path, other)]
    if len(texts[0]) != len(texts[1]):
        raise DataError(
            "unequal-files",
            f"the files have {len(texts[0])} and {len(texts[1])} lines, which do not belong together then",
            place=path,
            value=other,
            expected="one text a line, on the same line in both files",
        )
    pairs = [(number, pair) for number, pair in enumerate(zip(*texts, strict=True), 1) if any(pair)]
    rows = [dict(zip(columns, pair, strict=True)) for _, pair in pairs]
    return Table(path, columns, rows, [number for number, _ in pairs])


def _language(path: Path) -> str:
    return path.suffix.removeprefix(".").lower()


def _others(path: Path) -> list[Path]:
    """Files of the same name in other languages."""
    near = path.parent.glob(f"{path.stem}.*") if path.parent.is_dir() else ()
    return sorted(one for one in near if one != path and one.stem == path.stem and _language(one) in LANGUAGES)
