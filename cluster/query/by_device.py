"""ALIGN BY DEVICE: the rows of one device after the other, under common columns (sql.md 3.12)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from cluster.query.aggregates import AggregateFunction, FunctionCells
from cluster.query.aggregation import AggregateSource, needs_of, reversed_rows, rows_of
from cluster.query.align import joined, nulls
from cluster.query.backend import QueryBackend
from cluster.query.binding import ItemKind, SeriesResolver, aggregate_of, cut_columns
from cluster.query.checks import fill_time
from cluster.query.context import QueryContext
from cluster.query.errors import query_error
from cluster.query.group_by import WindowSeries
from cluster.query.point_fill import fill_cells
from cluster.query.result import ResultSet, limited
from cluster.query.rows import RowSource
from cluster.query.selection import check_series_count
from cluster.query.where import (
    PlannedWhere,
    SeriesColumns,
    UnknownFilterPathError,
    plan_where,
)
from cluster.query.window_fill import filled_windows
from cluster.query.without_null import listed_text, null_filter, without_null
from cluster.schema.paths import PathPattern, is_wildcard, split_path
from cluster.schema.series import SeriesInfo
from cluster.sql.statements.expressions import Expression, FunctionCall, PathExpression
from cluster.sql.statements.select import Select, SelectItem
from iotdb_engine.types import Column, ColumnBatch, DataType

_MAX_CELLS = 1 << 19
"""Aggregates (devices × columns × windows) that are computed at once."""

DEVICE = "Device"


class DeviceColumn(NamedTuple):
    """One column of the answer."""

    name: str
    measurement: str
    """Or alias."""
    function: AggregateFunction | None
    data_type: DataType


@dataclass
class _Device:
    """A device, its series by the names that the query uses, and what its filter reads."""

    path: str
    series: dict[str, SeriesInfo] = field(default_factory=dict)


class DeviceSelection:
    """One SELECT … ALIGN BY DEVICE.

    Args:
        select: the query.
        kind: series or aggregates.
        backend: schema and points.
        context: of the query.
    """

    def __init__(
        self, select: Select, kind: ItemKind, backend: QueryBackend, context: QueryContext
    ) -> None:
        self.backend = backend
        self.context = context
        self._select = select
        self._kind = kind
        self._filter_paths: dict[str, dict[str, list[SeriesInfo]]] = {}
        self._resolver = SeriesResolver(backend, prefix_dialect=context.prefix_dialect)

    def result(self) -> ResultSet:
        """Plan, and return the result to be computed."""
        select = self._select
        items = [_measurement_of(item) for item in select.items]
        self._resolver.prefetch(select)
        devices = self._devices([measurement for measurement, _ in items])
        columns = self._columns(items, devices)
        distinct: dict[tuple[str, AggregateFunction | None], int] = {}
        index = [
            distinct.setdefault((column.measurement, column.function), len(distinct))
            for column in columns
        ]
        by_number = dict(zip(index, columns, strict=True))
        needed = [by_number[number] for number in range(len(distinct))]
        batches = self._batches(devices, needed)
        keep = null_filter(
            select.without_null,
            columns,
            [1 + number for number in index],
            lambda column: self._listed(column, devices),
        )
        if keep is not None:
            batches = without_null(batches, keep)
        return ResultSet(
            columns=[DEVICE, *(column.name for column in columns)],
            types=[DataType.TEXT, *(column.data_type for column in columns)],
            column_index=[0, *(1 + number for number in index)],
            batches=limited(batches, select.offset, select.limit),
            ignore_time=self._kind is ItemKind.AGGREGATE and select.windows is None,
        )

    # ---- schema ----

    def _devices(self, measurements: Sequence[str]) -> list[_Device]:
        """Return the devices of all prefixes, in order, with the series that are selected."""
        found: dict[str, _Device] = {}
        for prefix in self._select.prefixes:
            pattern = PathPattern.parse(prefix, prefix=self.context.prefix_dialect)
            for info in self.backend.match_devices(pattern):
                found.setdefault(info.path, _Device(info.path))
        wanted = list(dict.fromkeys(measurements))
        for prefix in self._select.prefixes:
            for measurement in wanted:
                for series in self._resolver.match(f"{prefix}.{measurement}"):
                    device = found.get(series.device)
                    if device is not None:
                        device.series.setdefault(_called(series, measurement), series)
        return list(found.values())

    def _columns(
        self,
        items: Sequence[tuple[str, AggregateFunction | None]],
        devices: Sequence[_Device],
    ) -> list[DeviceColumn]:
        """Return the columns, SLIMIT applied.

        Raises:
            ClusterError: QUERY_PROCESS_ERROR: an alias for several columns, types that differ.
        """
        # an alias belongs to the measurement: every column of it has that title
        aliases: dict[str, str] = {}
        expanded: list[tuple[str, AggregateFunction | None, str]] = []
        for item, (measurement, function) in zip(self._select.items, items, strict=True):
            names = self._expanded(measurement, devices)
            if item.alias is not None and len(names) != 1:
                raise query_error(f"alias {item.alias} can only be matched with one time series")
            for name in names:
                title = _title(item.expression, name)
                if item.alias is not None:
                    aliases[title] = item.alias
                expanded.append((name, function, title))
        select = self._select
        return [
            DeviceColumn(
                aliases.get(title, title), name, function, _common_type(name, function, devices)
            )
            for name, function, title in cut_columns(
                expanded, select.series_limit, select.series_offset
            )
        ]

    def _expanded(self, measurement: str, devices: Sequence[_Device]) -> list[str]:
        """Return the measurements of an item: those of all devices, by first appearance."""
        if not is_wildcard(measurement):
            return [measurement]
        found: dict[str, list[str]] = {device.path: [] for device in devices}
        for prefix in self._select.prefixes:
            for series in self._resolver.match(f"{prefix}.{measurement}"):
                if series.device in found:
                    found[series.device].append(series.measurement)
        return list(dict.fromkeys(name for names in found.values() for name in names))

    def _listed(self, column: Expression | str, devices: Sequence[_Device]) -> list[str]:
        """Return the names that a column of WITHOUT NULL stands for: none if no device has it."""
        if isinstance(column, FunctionCall) and column.arguments:
            measurement = listed_text(column.arguments[0])
        else:
            measurement = listed_text(column)
        known = any(measurement in device.series for device in devices) or any(
            self._resolver.match(f"{prefix}.{measurement}")
            for prefix in self._select.prefixes
            if isinstance(column, (PathExpression, FunctionCall))
        )
        return [listed_text(column)] if known else []

    # ---- rows ----

    def _batches(
        self, devices: Sequence[_Device], columns: Sequence[DeviceColumn]
    ) -> Iterator[ColumnBatch]:
        active = [
            device
            for device in devices
            if any(column.measurement in device.series for column in columns)
        ]
        for device in active:  # before any rows are told, and each device is read by itself
            chosen = {column.measurement for column in columns} & device.series.keys()
            check_series_count(len(chosen), self.context)
        if self._select.fill is not None and self._select.windows is None:
            return self._filled(active, columns)
        if self._kind is ItemKind.AGGREGATE:
            return self._aggregated(active, columns)
        return self._points(active, columns)

    def plan_filter(self, device: _Device, columns: SeriesColumns) -> PlannedWhere | None:
        """Plan the filter for one device; None when the device lacks a series of it."""

        def match(path: str) -> Sequence[SeriesInfo]:
            if path == "root" or path.startswith("root."):
                return self._resolver.match(path)
            return self._filter_series(path).get(device.path, ())

        try:
            return plan_where(self._select.where, match, columns, modern=self._select.modern)
        except UnknownFilterPathError:
            return None

    def _filter_series(self, path: str) -> dict[str, list[SeriesInfo]]:
        """Return the series that a relative path of the filter means, by device."""
        known = self._filter_paths.get(path)
        if known is None:
            depth = len(split_path(f"root.{path}")) - 1
            known = self._filter_paths[path] = defaultdict(list)
            for prefix in self._select.prefixes:
                for series in self._resolver.match(f"{prefix}.{path}"):
                    nodes = split_path(series.path)
                    owner = ".".join(nodes[: len(nodes) - depth])
                    if series not in known[owner]:
                        known[owner].append(series)
        return known

    def _points(
        self, devices: Sequence[_Device], columns: Sequence[DeviceColumn]
    ) -> Iterator[ColumnBatch]:
        select = self._select
        max_rows = None
        if select.limit is not None and select.without_null is None:
            max_rows = select.offset + select.limit
        for device in devices:
            reads = SeriesColumns()
            places = [
                reads.number_of(device.series[column.measurement])
                if column.measurement in device.series
                else None
                for column in columns
            ]
            selected = len(reads.series)
            where = self.plan_filter(device, reads)
            if where is None:
                continue
            source = RowSource(self.backend, self.context, reads.series, selected, where)
            for batch in source.stream(descending=select.order_descending, max_rows=max_rows):
                count = len(batch.times)
                cells = [
                    nulls(column.data_type, count) if at is None else batch.columns[at]
                    for at, column in zip(places, columns, strict=True)
                ]
                yield _with_device(device.path, ColumnBatch(batch.times, tuple(cells)))

    def _filled(
        self, devices: Sequence[_Device], columns: Sequence[DeviceColumn]
    ) -> Iterator[ColumnBatch]:
        select = self._select
        assert select.fill is not None
        time = fill_time(select.where)
        for device in devices:
            present = {
                column.measurement: device.series[column.measurement]
                for column in columns
                if column.measurement in device.series
            }
            values = fill_cells(
                list(present.values()), time, select.fill, self.backend, self.context
            )
            cells = dict(zip(present, values, strict=True))
            row = tuple(cells.get(c.measurement) or nulls(c.data_type, 1) for c in columns)
            yield _with_device(device.path, ColumnBatch(np.array([time], np.int64), row))

    # ---- aggregates ----

    def _aggregated(
        self, devices: Sequence[_Device], columns: Sequence[DeviceColumn]
    ) -> Iterator[ColumnBatch]:
        """Compute several devices at once where nothing makes each a case of its own."""
        size = 1
        if self._has_time_filter_only() and self._select.fill is None:
            size = max(1, _MAX_CELLS // (max(1, len(columns)) * self._window_count()))
        for start in range(0, len(devices), size):
            together = devices[start : start + size]
            reader = _DeviceAggregates(self, together, columns)
            if reader.where is None:
                continue
            if len(together) == 1:
                yield from self._one_device(together[0], columns, reader)
            else:
                yield self._several_devices(together, reader)

    def _has_time_filter_only(self) -> bool:
        try:
            plan_where(self._select.where, lambda _: (), SeriesColumns())
        except UnknownFilterPathError:
            return False
        return True

    def _window_count(self) -> int:
        spec = self._select.windows
        if spec is None:
            return 1
        if spec.sliding.months:
            return 128
        return max(1, min(8192, (spec.end - spec.start) // spec.sliding.units))

    def _windows(self) -> WindowSeries | None:
        spec = self._select.windows
        return None if spec is None else WindowSeries(spec, self.context)

    def _one_device(
        self, device: _Device, columns: Sequence[DeviceColumn], reader: _DeviceAggregates
    ) -> Iterator[ColumnBatch]:
        select = self._select
        windows = self._windows()
        descending = select.order_descending and windows is not None

        def read(part: WindowSeries | None, *, backwards: bool = False) -> Iterator[ColumnBatch]:
            for (batch,) in reader.read(part, descending=backwards):
                yield batch

        if select.fill is not None and windows is not None:
            rows = filled_windows(
                select.fill,
                windows,
                [column.data_type for column in columns],
                read,
                self.context,
                unfilled=[
                    column.measurement not in device.series
                    or bool(column.function and column.function.counts)
                    for column in columns
                ],
            )
            if descending:
                rows = reversed_rows(rows)
        else:
            rows = read(windows, backwards=descending)
        for batch in rows:
            yield _with_device(device.path, batch)

    def _several_devices(
        self, devices: Sequence[_Device], reader: _DeviceAggregates
    ) -> ColumnBatch:
        windows = self._windows()
        descending = self._select.order_descending and windows is not None
        held: list[list[ColumnBatch]] = [[] for _ in devices]
        for piece in reader.read(windows, descending=descending):
            for number, batch in enumerate(piece):
                held[number].append(batch)
        rows = joined([batch for batches in held for batch in batches])
        counts = [sum(len(batch.times) for batch in batches) for batches in held]
        names = np.empty(len(devices), dtype=object)
        names[:] = [device.path.encode() for device in devices]
        owners = Column(DataType.TEXT, np.repeat(names, counts))
        return ColumnBatch(rows.times, (owners, *rows.columns))


class _DeviceAggregates:
    """Aggregates of some devices: one, or any number if there is no value filter.

    `where` is None when the only device lacks a series of the filter.
    """

    def __init__(
        self,
        selection: DeviceSelection,
        devices: Sequence[_Device],
        columns: Sequence[DeviceColumn],
    ) -> None:
        self._backend = selection.backend
        self._context = selection.context
        self._devices = devices
        self._columns = columns
        reads = SeriesColumns()
        for device in devices:
            for column in columns:
                if column.measurement in device.series:
                    reads.number_of(device.series[column.measurement])
        self._selected = len(reads.series)
        self.where = selection.plan_filter(devices[0], reads)
        self._series = reads.series
        self._numbers = {info.series_id: number for number, info in enumerate(reads.series)}

    def read(
        self, windows: WindowSeries | None, *, descending: bool
    ) -> Iterator[list[ColumnBatch]]:
        """Yield the rows of windows, piece by piece: a batch for each device."""
        assert self.where is not None
        source = AggregateSource(
            self._backend, self._context, self._series, self._selected, self.where, windows
        )
        functions = [column.function for column in self._columns]
        needs = needs_of([function for function in functions if function is not None])
        for piece in source.pieces(descending=descending):
            found = FunctionCells(source.aggregate(piece.windows, needs))
            yield [
                rows_of(piece, self._cells(device, found, len(piece.times)), descending=descending)
                for device in self._devices
            ]

    def _cells(self, device: _Device, found: FunctionCells, count: int) -> list[Column]:
        cells = []
        for column in self._columns:
            series = device.series.get(column.measurement)
            if series is None or column.function is None:
                cells.append(nulls(column.data_type, count))
            else:
                cells.append(found.column(column.function, self._numbers[series.series_id]))
        return cells


def _measurement_of(item: SelectItem) -> tuple[str, AggregateFunction | None]:
    """Return the measurement (or pattern) of an item, and its aggregate function.

    Raises:
        ClusterError: QUERY_PROCESS_ERROR: more than one node.
    """
    expression = item.expression
    function = aggregate_of(expression)
    if function is not None and isinstance(expression, FunctionCall):
        if len(expression.arguments) != 1 or expression.attributes:
            raise query_error("The argument of the aggregation function must be a time series.")
        expression = expression.arguments[0]
    if not isinstance(expression, PathExpression):
        raise query_error("ALIGN BY DEVICE clause is not supported in UDF queries.")
    if len(split_path(f"root.{expression.path}")) != 2 or expression.path == "**":
        raise query_error("The paths of the SELECT clause can only be measurements or STAR.")
    return expression.path, function


def _called(series: SeriesInfo, measurement: str) -> str:
    """Return the name by which a query calls a series: its alias if that is what it says."""
    if not is_wildcard(measurement) and series.measurement != measurement:
        return measurement
    return series.measurement


def _title(expression: Expression, measurement: str) -> str:
    if isinstance(expression, FunctionCall):
        return f"{expression.name}({measurement})"
    return measurement


def _common_type(
    measurement: str, function: AggregateFunction | None, devices: Sequence[_Device]
) -> DataType:
    """Return the type of a column; TEXT when no device has the measurement.

    Raises:
        ClusterError: QUERY_PROCESS_ERROR: the devices' types differ, or the function refuses one.
    """
    types: set[DataType] = set()
    for device in devices:
        series = device.series.get(measurement)
        if series is not None:
            if function is not None:
                function.check_type(series.data_type)
            types.add(
                series.data_type if function is None else function.result_type(series.data_type)
            )
    if len(types) > 1:
        raise query_error(
            "The data types of the same measurement column should be the same across devices."
        )
    return types.pop() if types else DataType.TEXT


def _with_device(device: str, batch: ColumnBatch) -> ColumnBatch:
    values = np.empty(len(batch.times), dtype=object)
    values[:] = device.encode()
    return ColumnBatch(batch.times, (Column(DataType.TEXT, values), *batch.columns))
