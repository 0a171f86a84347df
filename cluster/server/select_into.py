"""Writes the rows of SELECT INTO: tablets of each target device, piece by piece."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from cluster.coordinator.inserter import InsertItem
from cluster.errors import OK, ClusterError, Status
from cluster.query.modern_into import Target
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


def write_rows(result: ResultSet, targets: Sequence[Target], write: Write) -> list[int]:
    """Write all rows of a result of 1.x; return how many points each target got.

    Args:
        result: its columns are those of the targets, behind a column Device where targets are of
            several devices; it is used up and closed. Rows without times are written to time 0.
        targets: see `cluster.query.modern_into`; device by device.
        write: writes tablets.

    Raises:
        ClusterError: of the query, or of the first tablet that was refused; what was written
            before it stays.
    """
    counts = [0] * len(targets)
    places: dict[str | None, list[int]] = defaultdict(list)
    for number, target in enumerate(targets):
        places[target.source_device].append(number)
    by_device = None not in places
    try:
        for batch in result.batches:
            for device, rows in _of_devices(batch) if by_device else [(None, batch)]:
                if result.ignore_time:
                    rows = ColumnBatch(np.zeros(rows.rows, np.int64), rows.columns)
                index = result.column_index[1:] if by_device else result.column_index
                numbers = places[device]
                for start in range(0, rows.rows, _MAX_ROWS):
                    part = slice_batch(rows, start, min(start + _MAX_ROWS, rows.rows))
                    for aligned in (False, True):
                        used = [
                            (number, column)
                            for number, column in zip(numbers, index, strict=True)
                            if targets[number].aligned is aligned
                        ]
                        paths = [targets[number].path for number, _ in used]
                        _write(write, part, [column for _, column in used], paths, aligned)
                    for number, column in zip(numbers, index, strict=True):
                        counts[number] += _count(part.columns[column])
        return counts
    finally:
        result.close()


def _write(
    write: Write, rows: ColumnBatch, index: Sequence[int], paths: Sequence[str], aligned: bool
) -> None:
    items = list(_tablets(rows, index, paths, aligned))
    for status in write(items) if items else ():
        if not status.ok:
            raise ClusterError(status.code, status.message)


def _count(column: Column) -> int:
    return len(column.values) if column.valid is None else int(np.count_nonzero(column.valid))


def _of_devices(batch: ColumnBatch) -> Iterator[tuple[str, ColumnBatch]]:
    """Cut rows whose first column is the device where it changes."""
    devices = batch.columns[0].values
    starts = [0, *(np.flatnonzero(devices[1:] != devices[:-1]) + 1).tolist()]
    for start, stop in zip(starts, [*starts[1:], batch.rows], strict=True):
        yield devices[start].decode(), slice_batch(batch, start, stop)


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
