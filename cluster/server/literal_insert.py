"""Turns rows of literals (SQL INSERT, string records) into an InsertItem.

Types come from the schema where a series exists, else from the literals (sql.md 1.10). A cell that
can't be converted becomes null and is reported with its row; the rest of the row is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cluster.coordinator.inserter import InsertItem
from cluster.coordinator.schema_cache import DeviceSchema
from cluster.errors import OK, Status, StatusCode
from cluster.sql.statements.literals import Literal, LiteralKind
from cluster.sql.values import InferenceSettings, encode_value, infer_type, parse_value
from iotdb_engine import DataType

_PLACEHOLDERS = {
    DataType.BOOLEAN: b"\x00",
    DataType.INT32: bytes(4),
    DataType.INT64: bytes(8),
    DataType.FLOAT: bytes(4),
    DataType.DOUBLE: bytes(8),
    DataType.TEXT: bytes(4),
}


class LiteralRows(NamedTuple):
    """What became of the rows: what to write (None: nothing), and a status for each row."""

    item: InsertItem | None
    row_statuses: list[Status]


def convert_rows(
    *,
    device: str,
    measurements: Sequence[str],
    aligned: bool,
    times: Sequence[int],
    rows: Sequence[Sequence[Literal]],
    schema: DeviceSchema,
    inference: InferenceSettings,
) -> LiteralRows:
    """Convert cells column by column; see the module's text."""
    problems: list[dict[str, str]] = [{} for _ in rows]
    columns: list[tuple[str, DataType, list[bytes | None]]] = []
    for number, name in enumerate(measurements):
        cells = [row[number] for row in rows]
        data_type = _column_type(name, cells, schema, inference)
        if data_type is None:
            continue  # only nulls for a series that does not exist: no column is created
        columns.append((name, data_type, _convert(name, data_type, cells, problems)))
    statuses = [_row_status(row_problems) for row_problems in problems]
    keep = [
        row for row in range(len(rows)) if any(cells[row] is not None for _, _, cells in columns)
    ]
    columns = [column for column in columns if any(cell is not None for cell in column[2])]
    if not keep or not columns:
        return LiteralRows(None, statuses)
    return LiteralRows(_item(device, aligned, times, columns, keep), statuses)


def _column_type(
    name: str, cells: Sequence[Literal], schema: DeviceSchema, inference: InferenceSettings
) -> DataType | None:
    info = schema.series.get(name)
    if info is not None:
        return info.data_type
    for cell in cells:
        inferred = infer_type(cell, inference)
        if inferred is not None:
            return inferred
    return None


def _convert(
    name: str, data_type: DataType, cells: Sequence[Literal], problems: list[dict[str, str]]
) -> list[bytes | None]:
    converted: list[bytes | None] = []
    for row, cell in enumerate(cells):
        if cell.kind is LiteralKind.NULL:
            converted.append(None)
            continue
        try:
            converted.append(encode_value(parse_value(cell, data_type), data_type))
        except ValueError as error:
            problems[row][name] = str(error)
            converted.append(None)
    return converted


def _row_status(problems: dict[str, str]) -> Status:
    if not problems:
        return OK
    return Status(
        StatusCode.STORAGE_ENGINE_ERROR,
        f"failed to insert measurements [{', '.join(problems)}] caused by "
        + ",".join(problems.values()),
    )


def _item(
    device: str,
    aligned: bool,
    times: Sequence[int],
    columns: list[tuple[str, DataType, list[bytes | None]]],
    keep: list[int],
) -> InsertItem:
    values: list[bytes] = []
    nulls: list[bytes] = []
    any_null = False
    for _, data_type, cells in columns:
        placeholder = _PLACEHOLDERS[data_type]
        kept = [cells[row] for row in keep]
        values.extend(placeholder if cell is None else cell for cell in kept)
        mask = np.array([cell is None for cell in kept], dtype=np.bool_)
        any_null = any_null or bool(mask.any())
        nulls.append(np.packbits(mask, bitorder="little").tobytes())
    return InsertItem(
        device=device,
        measurements=tuple(name for name, _, _ in columns),
        types=tuple(data_type for _, data_type, _ in columns),
        row_count=len(keep),
        times=np.array([times[row] for row in keep], dtype=">i8").tobytes(),
        values=b"".join(values),
        nulls=b"".join(nulls) if any_null else b"",
        aligned=aligned,
    )
