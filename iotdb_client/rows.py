"""Decoded pages as Python rows, and what their columns are (client-protocol 5.4, 5.5)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np

from iotdb_client.columns import (
    ColumnPart,
    Page,
    PageColumns,
    UnalignedPage,
    decode_columns,
    decode_texts,
)
from iotdb_client.errors import InternalError
from iotdb_client.types import TIME_COLUMN, TIME_TYPE, ColumnDescription

__all__ = ["Page", "ResultShape", "decode_page", "result_shape", "rows_of", "unaligned_rows"]


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

    def without_time(self) -> ResultShape:
        """Return the shape of the same rows without their Time."""
        if not self.has_time:
            return self
        return self._replace(description=self.description[1:], has_time=False)


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
    return rows_of(decode_columns(page, shape.types), shape) if page.time else []


def rows_of(page: PageColumns, shape: ResultShape) -> list[tuple[Any, ...]]:
    """Return the rows of a decoded page.

    Raises:
        DataError: a text is not UTF-8.
    """
    decoded = [_cells(part) for part in page.parts]
    output = [decoded[number] for number in shape.source]
    if shape.has_time:
        output.insert(0, [0] * page.rows if page.time is None else _cells(page.time))
    return list(zip(*output, strict=True)) if output else [()] * page.rows


def unaligned_shape(shape: ResultShape) -> ResultShape:
    """Return the shape of rows in which each column stands behind times of its own."""
    columns = shape.description[1:] if shape.has_time else shape.description
    time = ColumnDescription(TIME_COLUMN, TIME_TYPE)
    description = tuple(part for column in columns for part in (time, column))
    return shape._replace(description=description or (time,), has_time=False)


def unaligned_rows(pages: Sequence[UnalignedPage], shape: ResultShape) -> list[tuple[Any, ...]]:
    """Return the points of columns beside each other, each behind its time; None past the end.

    Raises:
        InternalError: the pages don't fit the header.
    """
    columns: list[tuple[list[Any], list[Any]]] = []
    for number, kind in enumerate(shape.types):
        times = b"".join(page.times[number] for page in pages)
        values = b"".join(page.values[number] for page in pages)
        rows = len(times) // 8
        page = decode_columns(Page(times, [values], [b"\xff" * (rows // 8 + 1)]), [kind])
        assert page.time is not None
        columns.append((_cells(page.time), _cells(page.parts[0])))
    output = [cells for number in shape.source for cells in columns[number]]
    return list(zip_longest(*output))


def _cells(part: ColumnPart) -> list[Any]:
    if isinstance(part.values, list):
        found: list[Any] = part.values if part.kind == "BLOB" else decode_texts(part.values)
    else:
        found = part.values.tolist()
    if part.present is None:
        return found
    cells = np.full(len(part.present), None, dtype=object)
    # assigned one by one by NumPy, which would otherwise take nested sequences for dimensions
    cells[part.present] = np.fromiter(found, dtype=object, count=len(found))
    return cells.tolist()
