"""SELECT LAST (sql.md 3.14)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cluster.query.backend import QueryBackend
from cluster.query.binding import ItemKind, SeriesResolver, bind_items, cut_columns, match_over
from cluster.query.checks import is_last_filter, last_filter
from cluster.query.context import QueryContext
from cluster.query.errors import query_error
from cluster.query.expressions import SeriesLeaf
from cluster.query.modern_selection import ModernSelection
from cluster.query.result import ResultSet, limited
from cluster.query.text_values import text_of
from cluster.schema.series import SeriesInfo
from cluster.sql.conditions import interval_of
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
    resolver = SeriesResolver(backend, prefix_dialect=context.prefix_dialect)
    resolver.prefetch(select)
    outputs = bind_items(select.items, match_over(select.prefixes, resolver))
    outputs = cut_columns(outputs, select.series_limit, select.series_offset)
    shown: dict[str, SeriesInfo] = {}
    for output in outputs:
        if isinstance(output.expression, SeriesLeaf):
            shown.setdefault(output.name, output.expression.series)
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
        batches=limited(_batches(rows), select.offset, select.limit),
    )


def _batches(rows: Sequence[tuple[Any, ...]]) -> list[ColumnBatch]:
    if not rows:
        return []
    times, *texts = zip(*rows, strict=True)
    return [ColumnBatch(np.array(times, np.int64), tuple(map(_text_column, texts)))]


def _text_column(texts: Sequence[str]) -> Column:
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    return Column(DataType.TEXT, np.array(encoded, dtype=object))
