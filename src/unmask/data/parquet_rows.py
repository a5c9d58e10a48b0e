"""Parquet as rows of texts and lists of texts."""

import io
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import compute, parquet, types

from unmask.data.files import read_bytes
from unmask.errors import DataError

Placed = tuple[int, dict[str, Any] | DataError]


def open_parquet(path: Path) -> pyarrow.Table:
    """The whole file.

    Raises:
        DataError: it is not Parquet, or it is cut.
    """
    try:
        return parquet.read_table(io.BytesIO(read_bytes(path)))
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(
            "bad-parquet",
            f"the file is not Parquet, or it is cut: {str(error).splitlines()[0]}",
            place=path,
            remedy="write or copy the file again",
        ) from None


def parquet_rows(path: Path, table: pyarrow.Table, columns: Sequence[str]) -> Iterator[Placed]:
    """Number and cells of each row, or the error that it is.

    Raises:
        DataError: a column holds neither texts, numbers, dates, truth values nor lists of them.
    """
    cells = [_cells(path, name, table.column(name)) for name in columns]
    nulls = {name: table.column(name).null_count for name in columns}
    for number, row in enumerate(zip(*cells, strict=True), 1):
        missing = next((name for name, value in zip(columns, row, strict=True) if value is None), None)
        if missing is None:
            yield number, dict(zip(columns, row, strict=True))
            continue
        yield (
            number,
            DataError(
                "missing-value",
                f"the column '{missing}' has {nulls[missing]} nulls"
                if nulls[missing]
                else f"a list in '{missing}' has a null",
                place=f"{path}:row {number}",
                remedy="fill them in, drop the rows, or name only the columns that are needed",
            ),
        )


def _cells(path: Path, name: str, column: pyarrow.ChunkedArray) -> list[Any]:
    form = column.type
    if _is_list(form) and not _is_list(form.value_type):
        items = iter(_cells(path, name, compute.list_flatten(column)))
        sizes = compute.list_value_length(column).to_pylist()
        found = [None if size is None else list(itertools.islice(items, size)) for size in sizes]
        return [None if row is None or None in row else row for row in found]
    if types.is_dictionary(form):
        form = form.value_type
        column = column.cast(form)
    is_text = types.is_string(form) or types.is_large_string(form) or types.is_string_view(form)
    is_value = types.is_integer(form) or types.is_floating(form) or types.is_boolean(form) or types.is_decimal(form)
    if not (is_text or is_value or types.is_temporal(form) or types.is_null(form)):
        raise DataError(
            "nested-value",
            f"the column '{name}' holds {form}, not texts, numbers, dates or truth values",
            place=path,
            remedy="flatten it, or name only the columns that are needed",
        )
    if types.is_floating(form):
        # Arrow's own cast would write 1e+22 and 1.0 in other ways than everybody else.
        return [None if value is None else str(form.to_pandas_dtype()(value)) for value in column.to_pylist()]
    try:
        return column.cast(pyarrow.string()).to_pylist()
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise DataError("bad-parquet", f"the column '{name}' is not text: {error}", place=path) from None


def _is_list(form: pyarrow.DataType) -> bool:
    return types.is_list(form) or types.is_large_list(form)
