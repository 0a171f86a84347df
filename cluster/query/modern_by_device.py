"""ALIGN BY DEVICE with what only 1.x has: each device is a SELECT of its own.

Rows of the devices follow each other, or are sorted where ORDER BY says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from cluster.query.align import nulls
from cluster.query.backend import QueryBackend
from cluster.query.binding import (
    ItemKind,
    SeriesResolver,
    aggregate_of,
    condition_paths,
    cut_columns,
    is_row_aggregate,
    paths_of,
)
from cluster.query.by_device import DEVICE
from cluster.query.context import QueryContext
from cluster.query.errors import query_error
from cluster.query.modern_rows import RowOrder, sorted_rows
from cluster.query.modern_selection import ModernSelection
from cluster.query.result import ResultSet, limited
from cluster.query.row_aggregates import COUNT_TIME
from cluster.query.without_null import listed_text, null_filter, without_null
from cluster.schema.paths import PathPattern, is_wildcard
from cluster.sql.statements.expressions import Expression, FunctionCall, PathExpression
from cluster.sql.statements.select import Alignment, Select, SelectItem, SortBy, SortKey
from iotdb_engine.types import Column, ColumnBatch, DataType


def matching_devices(prefixes: Sequence[str], backend: QueryBackend) -> list[str]:
    """Return the devices of FROM, in the order of an answer's rows."""
    found: dict[str, None] = {}
    for prefix in prefixes:
        for info in backend.match_devices(PathPattern.parse(prefix)):
            found.setdefault(info.path)
    return list(found)


class _Planned(NamedTuple):
    """One device: its query, and which items its columns belong to."""

    device: str
    result: ResultSet
    items: tuple[int, ...]


class ModernDeviceSelection:
    """One such SELECT … ALIGN BY DEVICE; arguments as of DeviceSelection."""

    def __init__(
        self, select: Select, kind: ItemKind, backend: QueryBackend, context: QueryContext
    ) -> None:
        self._select = select
        self._kind = kind
        self._backend = backend
        self._context = context
        self._resolver = SeriesResolver(backend, prefix_dialect=False)

    def result(self) -> ResultSet:
        """Plan all devices, and return the result to be computed."""
        select = self._select
        devices = self._devices()
        items = self._items(devices)
        items = cut_columns(items, select.series_limit, select.series_offset)
        planned = [plan for device in devices if (plan := self._plan(device, items)) is not None]
        types = self._types(planned, items)
        names = [item.alias or listed_text(item.expression) for item in items]
        batches = self._rows(planned, types)
        if select.sort_keys:
            order = [self._order(key, names) for key in select.sort_keys]
            batches = sorted_rows(batches, order, self._context)
        outputs = [_Named(name) for name in names]
        index = list(range(1, 1 + len(items)))
        keep = null_filter(
            select.without_null, outputs, index, lambda column: [listed_text(column)]
        )
        if keep is not None:
            batches = without_null(batches, keep)
        return ResultSet(
            columns=[DEVICE, *names],
            types=[DataType.TEXT, *types],
            column_index=[0, *index],
            batches=limited(batches, select.offset, select.limit),
            ignore_time=self._kind is ItemKind.AGGREGATE and not select.in_windows,
        )

    def _devices(self) -> list[str]:
        return matching_devices(self._select.prefixes, self._backend)

    def _items(self, devices: Sequence[str]) -> list[SelectItem]:
        """Return the items, those with a wildcard once for each measurement of the devices."""
        items: list[SelectItem] = []
        for item in self._select.items:
            wild = [path for path in paths_of(item.expression) if is_wildcard(path)]
            if any("." in path for path in paths_of(item.expression)) or "**" in wild:
                raise query_error(
                    "The paths of the SELECT clause can only be measurements or STAR."
                )
            if not wild or _counts_time(item.expression):
                items.append(item)
                continue
            names = dict.fromkeys(
                series.measurement
                for device in devices
                for series in self._resolver.match(f"{device}.{wild[0]}")
            )
            if item.alias is not None and len(names) != 1:
                raise query_error(f"alias {item.alias} can only be matched with one time series")
            items += [SelectItem(_named(item.expression, name), item.alias) for name in names]
        return items

    def _plan(self, device: str, items: Sequence[SelectItem]) -> _Planned | None:
        """Return the query of a device; None when it lacks what the items or conditions read."""
        select = self._select
        filters = list(condition_paths(select.where))
        for part in (select.rest, select.having):
            filters += paths_of(part) if part is not None else ()
        if select.segments is not None and select.segments.control is not None:
            filters += paths_of(select.segments.control)
        if not all(self._has(device, path) for path in filters):
            return None
        present = tuple(
            number
            for number, item in enumerate(items)
            if all(self._has(device, path) for path in paths_of(item.expression))
        )
        if not present:
            return None
        own = replace(
            select,
            items=tuple(SelectItem(items[number].expression) for number in present),
            prefixes=(device,),
            alignment=Alignment.TIME,
            limit=None,
            offset=0,
            series_limit=None,
            series_offset=0,
            sort_keys=(),
            without_null=None,
        )
        result = ModernSelection(own, self._kind, self._backend, self._context).result()
        return _Planned(device, result, present)

    def _has(self, device: str, path: str) -> bool:
        full = path if path.startswith("root.") else f"{device}.{path}"
        return bool(self._resolver.match(full))

    def _types(self, planned: Sequence[_Planned], items: Sequence[SelectItem]) -> list[DataType]:
        types: list[DataType | None] = [None] * len(items)
        for plan in planned:
            for number, data_type in zip(plan.items, plan.result.types, strict=True):
                if types[number] not in (None, data_type):
                    raise query_error(
                        "The data types of the same measurement column should be the same across "
                        "devices."
                    )
                types[number] = data_type
        return [DataType.TEXT if data_type is None else data_type for data_type in types]

    def _rows(
        self, planned: Sequence[_Planned], types: Sequence[DataType]
    ) -> Iterator[ColumnBatch]:
        for plan in planned:
            places = dict(zip(plan.items, plan.result.column_index, strict=True))
            for batch in plan.result.batches:
                count = len(batch.times)
                device = np.empty(count, dtype=object)
                device[:] = plan.device.encode()
                cells = [
                    batch.columns[places[number]] if number in places else nulls(data_type, count)
                    for number, data_type in enumerate(types)
                ]
                yield ColumnBatch(batch.times, (Column(DataType.TEXT, device), *cells))

    def _order(self, key: SortKey, names: Sequence[str]) -> RowOrder:
        if key.by is SortBy.TIME:
            return RowOrder(None, key.descending, key.nulls_first)
        if key.by is SortBy.DEVICE:
            return RowOrder(0, key.descending, key.nulls_first)
        if isinstance(key.by, SortBy):
            raise query_error(f"ORDER BY {key.by.value.upper()} needs rows that have it")
        text = listed_text(key.by)
        if text not in names:
            raise query_error(f"ORDER BY {text}: select it as well, to sort the rows of devices")
        return RowOrder(1 + names.index(text), key.descending, key.nulls_first)


def _counts_time(expression: Expression) -> bool:
    """Return whether a wildcard stands for all series of a device at once."""
    return (
        isinstance(expression, FunctionCall)
        and is_row_aggregate(expression)
        and expression.name.lower() == COUNT_TIME
    )


class _Named(NamedTuple):
    name: str


def _named(expression: Expression, measurement: str) -> Expression:
    """Return an expression of one wildcard for one measurement."""
    if isinstance(expression, PathExpression):
        return PathExpression(measurement)
    if isinstance(expression, FunctionCall) and (
        aggregate_of(expression) is not None or is_row_aggregate(expression)
    ):
        return replace(expression, arguments=(PathExpression(measurement),))
    raise query_error("a wildcard inside of an expression does not go with ALIGN BY DEVICE")
