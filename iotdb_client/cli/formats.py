"""Results as text for people and programs: table, csv, json, markdown. Rows are streamed."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from iotdb_client.cli.csv_cells import csv_line
from iotdb_client.cli.tables import Rows, cell_renderers, table_lines
from iotdb_client.cursor import Cursor
from iotdb_client.types import ColumnDescription

FORMATS = ("table", "csv", "json", "markdown")
_BLOCK_ROWS = 1000


class FirstRows:
    """The first rows of a result, for what shows them.

    Args:
        cursor: with a result set.
        most: rows at most; None: all.
    """

    def __init__(self, cursor: Cursor, most: int | None = None) -> None:
        self._cursor = cursor
        self._left = most

    @property
    def description(self) -> Sequence[ColumnDescription] | None:
        """Of the columns."""
        return self._cursor.description

    def fetchmany(self, size: int) -> list[tuple[Any, ...]]:
        """Return further rows, [] at the end."""
        if self._left is None:
            return self._cursor.fetchmany(size)
        found = self._cursor.fetchmany(min(size, self._left))
        self._left -= len(found)
        return found

    def has_more(self) -> bool:
        """Whether rows were left out; asks for one of them."""
        return self._left == 0 and self._cursor.fetchone() is not None


def result_lines(
    cursor: Rows, form: str, zone: dt.tzinfo, precision: str, *, numbers: bool = False
) -> Iterator[str]:
    """Yield the lines of a result; reads the cursor to its end.

    Args:
        cursor: with a result set.
        form: one of FORMATS. csv is RFC 4180, null an empty cell, an empty text a quoted one. json
            is one array of objects, a line each, with numbers as numbers, Time as shown in the
            table, NaN as null. markdown is a pipe table.
        zone: of times.
        precision: of times.
        numbers: times as numbers, not as dates.
    """
    if form == "table":
        return table_lines(cursor, zone, precision, numbers=numbers)
    description = cursor.description or ()
    renderers = cell_renderers(description, zone, precision, numbers=numbers)
    make: dict[str, Callable[..., Iterator[str]]] = {
        "csv": _csv_lines,
        "json": _json_lines,
        "markdown": _markdown_lines,
    }
    return make[form](cursor, [column.name for column in description], description, renderers)


Renderers = Sequence[Callable[[Any], str]]


def _rows(cursor: Rows) -> Iterator[tuple[Any, ...]]:
    while rows := cursor.fetchmany(_BLOCK_ROWS):
        yield from rows


def _csv_lines(
    cursor: Rows,
    names: list[str],
    _description: Sequence[ColumnDescription],
    renderers: Renderers,
) -> Iterator[str]:
    yield csv_line(names)
    for row in _rows(cursor):
        yield csv_line(
            [
                cell if cell is None or isinstance(cell, str) else render(cell)
                for render, cell in zip(renderers, row, strict=True)
            ]
        )


def _json_lines(
    cursor: Rows,
    names: list[str],
    description: Sequence[ColumnDescription],
    renderers: Renderers,
) -> Iterator[str]:
    values = [
        _json_value(column, render) for column, render in zip(description, renderers, strict=True)
    ]
    keys = [json.dumps(name, ensure_ascii=False) for name in _unlike(names)]
    lead = "["
    for row in _rows(cursor):
        cells = (
            f"{key}: {'null' if cell is None else value(cell)}"
            for key, value, cell in zip(keys, values, row, strict=True)
        )
        yield f"{lead}{{{', '.join(cells)}}}"
        lead = ","
    yield "[]" if lead == "[" else "]"


def _json_value(column: ColumnDescription, render: Callable[[Any], str]) -> Callable[[Any], str]:
    if column.type_code in ("BOOLEAN", "INT32", "INT64"):
        return lambda cell: json.dumps(cell)
    if column.type_code in ("FLOAT", "DOUBLE"):
        return lambda cell: render(cell) if math.isfinite(cell) else "null"

    def text(cell: Any) -> str:  # noqa: ANN401
        shown = cell if isinstance(cell, str) else render(cell)
        return shown if _is_number(shown, cell) else json.dumps(shown, ensure_ascii=False)

    return text


def _is_number(shown: str, cell: object) -> bool:
    """Whether a time is shown as a number."""
    return isinstance(cell, int) and shown == str(cell)


def _unlike(names: list[str]) -> list[str]:
    """Return names of which none stands twice: an object has each key once."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found


def _markdown_lines(
    cursor: Rows,
    names: list[str],
    description: Sequence[ColumnDescription],
    renderers: Renderers,
) -> Iterator[str]:
    yield _markdown_line(names)
    right = {"INT32", "INT64", "FLOAT", "DOUBLE"}
    yield _markdown_line(
        ["---:" if column.type_code in right else "---" for column in description], plain=True
    )
    for row in _rows(cursor):
        yield _markdown_line([render(cell) for render, cell in zip(renderers, row, strict=True)])


def _markdown_line(cells: Sequence[str], *, plain: bool = False) -> str:
    if not plain:
        cells = [cell.replace("\\", "\\\\").replace("|", "\\|") for cell in cells]
    return f"| {' | '.join(cells)} |"
