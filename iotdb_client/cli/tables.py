"""Results as text tables, in the form of the family's shell."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from prompt_toolkit.utils import get_cwidth

from iotdb_client.types import TIME_TYPE, ColumnDescription, iso_time

_BLOCK_ROWS = 1000
_CONTROLS = {code: repr(chr(code))[1:-1] for code in (*range(32), *range(127, 160))}


class Rows(Protocol):
    """What is shown of a result: a Cursor, or a part of one."""

    @property
    def description(self) -> Sequence[ColumnDescription] | None:
        """Of the columns."""

    def fetchmany(self, size: int, /) -> list[tuple[Any, ...]]:
        """Return further rows, [] at the end."""


def table_lines(
    cursor: Rows, zone: dt.tzinfo, precision: str, *, numbers: bool = False
) -> Iterator[str]:
    """Yield the lines of a result's table and its row count; reads the cursor to its end.

    Widths come from the first block of rows; when a later block needs more, the head is written
    again, wider. So a result of any size is shown with the memory of one block.
    """
    description = cursor.description or ()
    renderers = cell_renderers(description, zone, precision, numbers=numbers)
    names = [column.name.translate(_CONTROLS) for column in description]
    widths = [get_cwidth(name) for name in names]
    border = ""
    total = 0
    while rows := cursor.fetchmany(_BLOCK_ROWS):
        cells = [
            [render(cell) for render, cell in zip(renderers, row, strict=True)] for row in rows
        ]
        needed = [
            max(width, *(get_cwidth(row[number]) for row in cells))
            for number, width in enumerate(widths)
        ]
        if needed != widths or not border:
            widths = needed
            border = _border(widths)
            yield from (border, _line(names, widths), border)
        for row in cells:
            yield _line(row, widths)
        total += len(rows)
    if not total:
        border = _border(widths)
        yield from (border, _line(names, widths), border)
    yield border
    yield f"Total line number = {total}" if total else "Empty set."


def _border(widths: Sequence[int]) -> str:
    return "+" + "+".join("-" * width for width in widths) + "+"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (
        " " * (width - get_cwidth(cell)) + cell for cell, width in zip(cells, widths, strict=True)
    )
    return "|" + "|".join(padded) + "|"


def cell_renderers(
    description: Sequence[ColumnDescription],
    zone: dt.tzinfo,
    precision: str,
    *,
    numbers: bool = False,
) -> list[Callable[[Any], str]]:
    """Return what turns the cells of each column into text; with `numbers` times stay numbers."""
    return [
        _plain if numbers and column.type_code == TIME_TYPE else _renderer(column, zone, precision)
        for column in description
    ]


def _renderer(column: ColumnDescription, zone: dt.tzinfo, precision: str) -> Callable[[Any], str]:
    if column.type_code == TIME_TYPE:
        return lambda cell: "null" if cell is None else iso_time(cell, zone, precision)
    if column.type_code == "FLOAT":
        # the shortest text that is this number in 32 bits, not in the 64 of a Python float
        return lambda cell: "null" if cell is None else str(np.float32(cell))
    return _plain


def _plain(cell: object) -> str:
    if cell is None:
        return "null"
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, bytes):
        return "0x" + cell.hex()
    return str(cell).translate(_CONTROLS)
