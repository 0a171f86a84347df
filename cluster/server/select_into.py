"""Writes the rows of SELECT INTO: tablets of each target device, piece by piece."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from cluster.coordinator.inserter import InsertItem
from cluster.errors import OK, Status
from cluster.query.result import ResultSet, slice_batch
from cluster.scan.filters import first_columns
from cluster.schema.paths import join_path, split_path
from iotdb_engine.types import WIRE_DTYPES, Column, ColumnBatch, DataType

_MAX_ROWS = 10_000
"""Rows of one tablet (0.13 `select_into_insert_tablet_plan_row_limit`)."""

Write = Callable[[Sequence[InsertItem]], list[Status]]


def write_result(
    result: ResultSet, targets: Sequence[str], write: Write, *, aligned: bool
) -> Status:
    """Write all rows of a result.

    Args:
        result: columns parallel to `targets`; it is used up and closed.
        targets: full paths of series.
        write: writes tablets.
        aligned: whether devices that are new become aligned ones.

    Returns:
        Success, or the first failure; what was written before it stays.
    """
    try:
        for batch in result.batches:
            for start in range(0, len(batch.times), _MAX_ROWS):
                part = slice_batch(batch, start, min(start + _MAX_ROWS, len(batch.times)))
                items = list(_tablets(part, result.column_index, targets, aligned))
                for status in write(items) if items else ():
                    if not status.ok:
                        return status
        return OK
    finally:
        result.close()


def _tablets(
    batch: ColumnBatch, index: Sequence[int], targets: Sequence[str], aligned: bool
) -> Iterator[InsertItem]:
    devices: dict[str, list[tuple[str, Column]]] = defaultdict(list)
    for target, number in zip(targets, index, strict=True):
        nodes = split_path(target)
        devices[join_path(nodes[:-1])].append((nodes[-1], batch.columns[number]))
    for device, columns in devices.items():
        rows = ColumnBatch(batch.times, tuple(column for _, column in columns))
        filled = first_columns(rows, len(columns))
        if filled is not None and len(filled.times):
            yield _tablet(device, [name for name, _ in columns], filled, aligned)


def _tablet(device: str, names: Sequence[str], rows: ColumnBatch, aligned: bool) -> InsertItem:
    """Return rows as a client would send them."""
    values = []
    nulls = []
    any_null = False
    for column in rows.columns:
        missing = np.zeros(len(rows.times), np.bool_) if column.valid is None else ~column.valid
        any_null = any_null or bool(missing.any())
        nulls.append(np.packbits(missing, bitorder="little").tobytes())
        values.append(_value_bytes(column, missing))
    return InsertItem(
        device=device,
        measurements=tuple(names),
        types=tuple(column.type for column in rows.columns),
        row_count=len(rows.times),
        times=rows.times.astype(">i8").tobytes(),
        values=b"".join(values),
        nulls=b"".join(nulls) if any_null else b"",
        aligned=aligned,
    )


def _value_bytes(column: Column, missing: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> bytes:
    if column.type is DataType.TEXT:
        texts = [
            b"" if null else bytes(text)
            for text, null in zip(column.values.tolist(), missing.tolist(), strict=True)
        ]
        return b"".join(len(text).to_bytes(4, "big") + text for text in texts)
    values = np.where(missing, 0, column.values)
    return values.astype(WIRE_DTYPES[column.type]).tobytes()
