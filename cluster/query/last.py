"""SELECT LAST (sql.md 3.14)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.query.backend import QueryBackend
from cluster.query.binding import (
    ItemKind,
    SeriesResolver,
    bind_items,
    cut_columns,
    match_over,
    shown_path,
)
from cluster.query.checks import is_last_filter, last_filter
from cluster.query.context import QueryContext
from cluster.query.errors import query_error
from cluster.query.expressions import SeriesLeaf
from cluster.query.modern_selection import ModernSelection
from cluster.query.result import MAX_BATCH_ROWS, ResultSet, limited
from cluster.query.text_values import text_of
from cluster.schema.paths import PathPattern
from cluster.schema.series import SeriesInfo
from cluster.sql.conditions import interval_of
from cluster.sql.statements.expressions import END_TIME, PathExpression
from cluster.sql.statements.select import Select, SortBy
from iotdb_engine.types import Column, ColumnBatch, DataType

_HEADER = ["timeseries", "value", "dataType"]
_MODERN_HEADER = ["Timeseries", "Value", "DataType"]

_TYPE_NAMES = {data_type: data_type.name for data_type in DataType}

_Row = tuple[int, str, str, str]
_PLACES = {SortBy.TIME: 0, SortBy.TIMESERIES: 1, SortBy.VALUE: 2, SortBy.DATATYPE: 3}


def _sorted(rows: list[_Row], select: Select) -> list[_Row]:
    """Sort by the keys that 1.x has for LAST, the least important first."""
    for key in reversed(select.sort_keys):
        place = _PLACES.get(key.by) if isinstance(key.by, SortBy) else None
        if place is None:
            raise query_error("ORDER BY of LAST is by TIME, TIMESERIES, VALUE or DATATYPE")
        rows = sorted(rows, key=lambda row, place=place: row[place], reverse=key.descending)  # type: ignore[misc]
    return rows


def select_last(select: Select, backend: QueryBackend, context: QueryContext) -> ResultSet:
    """Return the latest point of each selected series that has one.

    Raises:
        ClusterError: QUERY_PROCESS_ERROR: up to 0.13, a filter other than one `time >` or
            `time >=`. In 1.x any filter does, and it decides before the latest point is taken.
    """
    free = context.modern and not is_last_filter(select)
    predicate = None if free else last_filter(select.where)
    shown = _shown(select, backend, context)
    distinct = {info.series_id: info for info in shown.values()}
    series = list(distinct.values())
    points: dict[int, tuple[int, Any] | None] = {}
    if series and free:
        rest = replace(select, last=False, sort_keys=())
        points = ModernSelection(rest, ItemKind.AGGREGATE, backend, context).latest(series)
    elif series:
        points = dict(zip(distinct, backend.last(series), strict=True))
    low = None if predicate is None else interval_of(predicate)[0]
    rows = []
    for name, info in shown.items():
        point = points[info.series_id]
        if point is not None and (low is None or point[0] >= low):
            kind = info.data_type
            rows.append((point[0], name, text_of(point[1], kind), _TYPE_NAMES[kind]))
    if select.order_given:
        rows.sort(key=lambda row: row[0], reverse=select.order_descending)
    rows = _sorted(rows, select)
    return ResultSet(
        columns=list(_MODERN_HEADER if context.modern else _HEADER),
        types=[DataType.TEXT] * len(_HEADER),
        column_index=list(range(len(_HEADER))),
        batches=_limited(_batches(rows), select),
    )


def _shown(select: Select, backend: QueryBackend, context: QueryContext) -> dict[str, SeriesInfo]:
    """Return the selected series by what the answer calls them."""
    shown: dict[str, SeriesInfo] = {}
    path = _only_path(select)
    if path is not None:  # mostly, and then there is nothing to bind
        pattern = PathPattern.parse(path, prefix=context.prefix_dialect)
        for info in backend.match_series(pattern):
            shown.setdefault(info.path if info.alias is None else shown_path(info, path), info)
        return shown
    resolver = SeriesResolver(backend, prefix_dialect=context.prefix_dialect)
    resolver.prefetch(select)
    outputs = bind_items(select.items, match_over(select.prefixes, resolver))
    for output in cut_columns(outputs, select.series_limit, select.series_offset):
        if isinstance(output.expression, SeriesLeaf):
            shown.setdefault(output.name, output.expression.series)
    return shown


def _only_path(select: Select) -> str | None:
    """Return the full path of the only item, if all that it stands for is shown as it is."""
    if len(select.items) != 1 or len(select.prefixes) != 1:
        return None
    item = select.items[0]
    expression = item.expression
    if not isinstance(expression, PathExpression) or expression.path == END_TIME:
        return None
    if item.alias is not None:
        return None
    if select.where is not None or select.series_limit is not None or select.series_offset:
        return None
    return f"{select.prefixes[0]}.{expression.path}"


def _limited(batches: list[ColumnBatch], select: Select) -> Iterator[ColumnBatch]:
    if (
        select.limit is None
        and not select.offset
        and all(b.rows <= MAX_BATCH_ROWS for b in batches)
    ):
        return iter(batches)
    return limited(batches, select.offset, select.limit)


def _batches(rows: Sequence[tuple[Any, ...]]) -> list[ColumnBatch]:
    if not rows:
        return []
    if len(rows) == 1:  # mostly; its texts lie side by side, and each is a column
        time, *row = rows[0]
        cells = _encoded(row)
        columns = [Column(DataType.TEXT, cells[at : at + 1]) for at in range(len(row))]
        return [ColumnBatch(np.array((time,), np.int64), tuple(columns))]
    times, *texts = zip(*rows, strict=True)
    return [ColumnBatch(np.array(times, np.int64), tuple(map(_text_column, texts)))]


def _text_column(texts: Sequence[str]) -> Column:
    return Column(DataType.TEXT, _encoded(texts))


def _encoded(texts: Sequence[str]) -> npt.NDArray[Any]:
    return np.array([text.encode("utf-8", "surrogatepass") for text in texts], dtype=object)
