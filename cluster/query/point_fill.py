"""FILL at one point in time: `WHERE time = T FILL (…)` (sql.md 3.8)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cluster.query.backend import QueryBackend
from cluster.query.binding import SeriesResolver, bind_items, cut_columns, match_over
from cluster.query.checks import fill_time
from cluster.query.context import QueryContext
from cluster.query.expressions import SeriesLeaf
from cluster.query.fill import constant_value, mode_of, on_line, reach_of
from cluster.query.result import ResultSet
from cluster.scan.windows import NUMERIC_TYPES
from cluster.schema.series import SeriesInfo
from cluster.sql.statements.select import Fill, FillMethod, Select
from iotdb_engine.types import BATCH_DTYPES, T_MAX, T_MIN, Column, ColumnBatch

_Point = tuple[int, Any]


def select_filled(select: Select, backend: QueryBackend, context: QueryContext) -> ResultSet:
    """Return the one row at a time, its null cells filled.

    Raises:
        ClusterError: QUERY_PROCESS_ERROR: the WHERE clause is not `time = constant`.
    """
    time = fill_time(select.where)
    assert select.fill is not None
    resolver = SeriesResolver(backend, prefix_dialect=context.prefix_dialect)
    resolver.prefetch(select)
    outputs = bind_items(select.items, match_over(select.prefixes, resolver))
    outputs = cut_columns(outputs, select.series_limit, select.series_offset)
    if not outputs:
        return ResultSet([], [], [], iter(()))
    series = [
        output.expression.series for output in outputs if isinstance(output.expression, SeriesLeaf)
    ]
    distinct = {info.series_id: info for info in series}
    cells = fill_cells(list(distinct.values()), time, select.fill, backend, context)
    numbers = {series_id: number for number, series_id in enumerate(distinct)}
    return ResultSet(
        columns=[output.name for output in outputs],
        types=[info.data_type for info in series],
        column_index=[numbers[info.series_id] for info in series],
        batches=iter([ColumnBatch(np.array([time], np.int64), tuple(cells))]),
    )


def fill_cells(
    series: Sequence[SeriesInfo],
    time: int,
    fill: Fill,
    backend: QueryBackend,
    context: QueryContext,
) -> list[Column]:
    """Return a column of one row for each series: its value at a time, or a filled one."""
    return [_cell(info, _value(info, time, fill, backend, context)) for info in series]


def _cell(info: SeriesInfo, value: Any) -> Column:  # noqa: ANN401
    values = np.zeros(1, BATCH_DTYPES[info.data_type])
    if value is None:
        return Column(info.data_type, values, np.zeros(1, np.bool_))
    values[0] = value
    return Column(info.data_type, values)


def _value(
    info: SeriesInfo, time: int, fill: Fill, backend: QueryBackend, context: QueryContext
) -> Any:  # noqa: ANN401
    context.check()
    mode = mode_of(fill, info.data_type)
    reach = reach_of(mode, context.precision)
    earliest = T_MIN if reach.before is None else max(T_MIN, time - reach.before)
    looks_back = mode.method is not FillMethod.VALUE
    before = _point(backend, info, earliest if looks_back else time, time, descending=True)
    if before is not None and before[0] == time:
        return before[1]
    if mode.method is FillMethod.VALUE:
        return constant_value(mode, info.data_type)
    if before is None:
        return None
    if mode.method is FillMethod.PREVIOUS:
        return before[1]
    if mode.method is FillMethod.PREVIOUS_UNTIL_LAST:
        (last,) = backend.last([info])
        return before[1] if last is not None and last[0] >= time else None
    if info.data_type not in NUMERIC_TYPES:
        return None
    latest = T_MAX if reach.after is None else min(T_MAX, time + reach.after)
    after = _point(backend, info, time + 1, latest, descending=False)
    return None if after is None else _on_line(info, time, before, after)


def _point(
    backend: QueryBackend, info: SeriesInfo, low: int, high: int, *, descending: bool
) -> _Point | None:
    """Return the latest (or earliest) point in an inclusive range."""
    if low > high:
        return None
    for batch in backend.read([info], low, high, descending=descending, max_rows=1):
        if len(batch.times):
            value = batch.columns[0].values[0]
            return int(batch.times[0]), value.item() if isinstance(value, np.generic) else value
    return None


def _on_line(info: SeriesInfo, time: int, before: _Point, after: _Point) -> Any:  # noqa: ANN401
    dtype = BATCH_DTYPES[info.data_type]
    times = (np.array([at], np.int64) for at in (time, before[0], after[0]))
    values = (np.array([value], dtype) for value in (before[1], after[1]))
    return on_line(*times, *values)[0]
