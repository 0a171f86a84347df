"""Decodes result pages of the legacy layout (client-protocol 5.4) into Python rows.

Fixed-width columns go through NumPy as a whole; only TEXT is read value by value.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from iotdb_client.errors import DataError, InternalError
from iotdb_client.types import TIME_COLUMN, TIME_TYPE, ColumnDescription

_DTYPES = {
    "BOOLEAN": np.dtype("?"),
    "INT32": np.dtype(">i4"),
    "DATE": np.dtype(">i4"),
    "INT64": np.dtype(">i8"),
    "TIMESTAMP": np.dtype(">i8"),
    "FLOAT": np.dtype(">f4"),
    "DOUBLE": np.dtype(">f8"),
}
_TIMES = np.dtype(">i8")
_LENGTH = struct.Struct(">i")


class Page(NamedTuple):
    """One page as it came: the three parts of a TSQueryDataSet."""

    time: bytes
    values: Sequence[bytes]
    bitmaps: Sequence[bytes]


class ResultShape(NamedTuple):
    """How the columns of a page become columns of rows.

    Attributes:
        description: of the rows' columns, Time first where there is one.
        has_time: whether the first column of the rows is Time.
        types: type name of each column of a page (each distinct column once).
        source: for each column of the rows but Time, its column in the page.
    """

    description: tuple[ColumnDescription, ...]
    has_time: bool
    types: tuple[str, ...]
    source: tuple[int, ...]


def result_shape(
    columns: Sequence[str],
    types: Sequence[str],
    name_index: dict[str, int] | None,
    *,
    ignore_time: bool,
) -> ResultShape:
    """Read a result's header (client-protocol 5.4, 5.5).

    Args:
        columns: as the statement listed them, duplicates included, without Time.
        types: type name of each of them.
        name_index: column name → column of the page; None: distinct names by first appearance.
        ignore_time: whether rows have no Time.
    """
    if len(columns) != len(types):
        raise InternalError(f"result header has {len(columns)} columns, {len(types)} types")
    if not name_index:
        name_index = {}
        for name in columns:
            name_index.setdefault(name, len(name_index))
    try:
        source = tuple(name_index[name] for name in columns)
    except KeyError as error:
        raise InternalError(f"result header does not say where column {error} is") from error
    by_source = dict(zip(source, types, strict=True))
    if sorted(by_source) != list(range(len(by_source))):
        raise InternalError(f"result header maps columns to {sorted(by_source)}")
    description = [ColumnDescription(name, kind) for name, kind in zip(columns, types, strict=True)]
    if not ignore_time:
        description.insert(0, ColumnDescription(TIME_COLUMN, TIME_TYPE, null_ok=False))
    return ResultShape(
        tuple(description),
        not ignore_time,
        tuple(by_source[number] for number in range(len(by_source))),
        source,
    )


def decode_page(page: Page, shape: ResultShape) -> list[tuple[Any, ...]]:
    """Return the rows of a page; null is None, Time an int.

    Raises:
        InternalError: the page's parts contradict one another.
        DataError: a text is not UTF-8.
    """
    rows = len(page.time) // 8
    if not rows:
        return []
    if len(page.time) % 8 or not len(page.values) == len(page.bitmaps) == len(shape.types):
        raise InternalError("a result page does not have the shape that its header announced")
    decoded = [
        _column(values, bitmap, kind, rows)
        for values, bitmap, kind in zip(page.values, page.bitmaps, shape.types, strict=True)
    ]
    output = [decoded[number] for number in shape.source]
    if shape.has_time:
        output.insert(0, np.frombuffer(page.time, _TIMES).tolist())
    return list(zip(*output, strict=True)) if output else [()] * rows


def _column(values: bytes, bitmap: bytes, kind: str, rows: int) -> list[Any]:
    if len(bitmap) < (rows + 7) // 8:
        raise InternalError(f"null bitmap of {len(bitmap)} bytes for {rows} rows")
    present = np.unpackbits(np.frombuffer(bitmap, np.uint8), count=rows).view(np.bool_)
    count = int(np.count_nonzero(present))
    dtype = _DTYPES.get(kind)
    if dtype is None:
        found = _texts(values, count, as_bytes=kind == "BLOB")
        return found if count == rows else _spread(found, present)
    if len(values) != count * dtype.itemsize:
        raise InternalError(f"{len(values)} bytes for {count} values of type {kind}")
    array = np.frombuffer(values, dtype)
    return array.tolist() if count == rows else _spread(array.tolist(), present)


def _spread(values: list[Any], present: npt.NDArray[np.bool_]) -> list[Any]:
    cells = np.full(len(present), None, dtype=object)
    # assigned one by one by NumPy, which would otherwise take nested sequences for dimensions
    cells[present] = np.fromiter(values, dtype=object, count=len(values))
    return cells.tolist()


def _texts(data: bytes, count: int, *, as_bytes: bool) -> list[Any]:
    found: list[Any] = []
    unpack = _LENGTH.unpack_from
    start = 0
    try:
        for _ in range(count):
            (length,) = unpack(data, start)
            start += 4 + length
            found.append(data[start - length : start])
            if length < 0:
                raise InternalError("negative text length in a result page")
    except struct.error as error:
        raise InternalError("text column of a result page is cut off") from error
    if start != len(data):
        raise InternalError("text column of a result page has the wrong length")
    if as_bytes:
        return found
    try:
        return [text.decode() for text in found]
    except UnicodeDecodeError as error:
        raise DataError(f"a TEXT value is not UTF-8: {error}") from error
