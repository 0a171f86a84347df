"""Rows, windows, aggregates and FILL (sql.md 3.4, 3.6 to 3.8)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from harness.naive.columns import Column, columns_of, cut_columns, leaves, value_of
from harness.naive.conditions import Passes, literal_value
from harness.naive.data import NUMERIC, Answer, Cells, Data, RefusedError, Series, UndefinedError
from harness.naive.query import FillMode, Query, SeriesAt, TimeIs, Windows


def _at(time: int) -> Callable[[Series], Any]:
    return lambda one: one.points.get(time)


def rows_of(
    data: Data, query: Query, columns: Sequence[Column], aggregated: bool, passes: Passes
) -> list[Cells]:
    """Return rows, their time first."""
    if aggregated:
        return _aggregated(query, columns, passes)
    used = [leaf for column in columns for leaf in leaves(column.expression)]
    times = sorted({time for one in used for time in one.points})
    rows = []
    for time in times:
        if passes(time):
            cells = [
                value_of(column, lambda one, at=time: one.points.get(at)) for column in columns
            ]
            if any(cell is not None for cell in cells):
                rows.append([time, *cells])
    return rows[::-1] if query.order == "desc" else rows


class Window(NamedTuple):
    low: int
    high: int
    shown: int


def window_of(windows: Windows, number: int, end: int | None) -> Window:
    start = windows.start + number * windows.step
    stop = start + windows.interval
    if end is not None:
        stop = min(stop, end)
    if windows.left_open:
        return Window(start + 1, stop, stop)
    return Window(start, stop - 1, start)


def _aggregated(query: Query, columns: Sequence[Column], passes: Passes) -> list[Cells]:
    windows = query.windows
    if windows is None:
        return [[0, *_window_cells(columns, Window(-(2**63), 2**63 - 1, 0), passes)]]
    count = -(-(windows.end - windows.start) // windows.step)
    body = [window_of(windows, number, windows.end) for number in range(count)]
    if not query.filled or query.modern:
        rows = [[one.shown, *_window_cells(columns, one, passes)] for one in body]
    else:
        rows = _filled(query, columns, passes, windows, body)
    return rows[::-1] if query.order == "desc" else rows


def _window_cells(columns: Sequence[Column], window: Window, passes: Passes) -> Cells:
    def leaf(one: tuple[str, Series]) -> Any:
        name, series = one
        times = [t for t in sorted(series.points) if window.low <= t <= window.high and passes(t)]
        return aggregated_value(name, [(time, series.points[time]) for time in times])

    return [value_of(column, leaf) for column in columns]


def aggregated_value(name: str, points: Sequence[tuple[int, Any]]) -> Any:
    if name == "count":
        return len(points)
    if not points:
        return None
    values = [value for _, value in points]
    match name:
        case "first_value":
            return values[0]
        case "last_value":
            return values[-1]
        case "min_time":
            return points[0][0]
        case "max_time":
            return points[-1][0]
        case "sum":
            return _total(values)
        case "avg":
            return _total(values) / len(values)
    numbers = [value for value in values if value == value] or [math.nan]
    match name:
        case "min_value":
            return min(numbers)
        case "max_value":
            return max(numbers)
    low, high = min(numbers), max(numbers)
    return low if abs(low) > abs(high) or low != low else high


def _total(values: Sequence[Any]) -> float:
    """Return the sum in doubles; UndefinedError where another order would give another one.

    0.13's depends on where pages end, which this evaluator knows nothing of.
    """
    numbers = list(map(float, values))
    total = float(sum(numbers))
    size = sum(map(abs, numbers))
    exact = size <= 2.0**53 and all(map(float.is_integer, numbers))
    error = len(numbers) * 2.0**-53 * size
    if not exact and math.isfinite(size) and error > max(1e-10, 1e-7 * abs(total)):
        raise UndefinedError("the order of additions")
    return total


def constant_of(literal: str, data_type: str, *, modern: bool = False) -> Any:
    """Return what a constant fills cells of a type with, None for nothing."""
    if data_type == "TEXT":
        return literal.strip("'") if modern else literal
    if literal[0] == "'":
        return None
    if data_type == "BOOLEAN":
        return {"true": True, "false": False}.get(literal.lower())
    try:
        return literal_value(literal, data_type)
    except RefusedError:
        return None


def _filled(
    query: Query,
    columns: Sequence[Column],
    passes: Passes,
    windows: Windows,
    body: list[Window],
) -> list[Cells]:
    modes = [query.window_fill_of(column.type) for column in columns]
    reach_before = max((mode.before or 0 for mode in modes if mode is not None), default=0)
    reach_after = max((mode.after or 0 for mode in modes if mode is not None), default=0)
    count = len(body)
    head = [
        window_of(windows, -number, windows.start)
        for number in range(-(-reach_before // windows.step), 0, -1)
    ]
    tail = [
        window_of(windows, count + number, None)
        for number in range(-(-reach_after // windows.step))
    ]
    every = [*head, *body, *tail]
    times = [one.shown for one in every]
    cells = [_window_cells(columns, one, passes) for one in every]
    first, last = len(head), len(head) + count - 1
    done: list[Cells] = [[] for _ in body]
    for number, (column, mode) in enumerate(zip(columns, modes, strict=True)):
        values = [row[number] for row in cells]
        counts = isinstance(column.expression, tuple) and column.expression[0] == "count"
        for at in range(first, last + 1):
            value = values[at]
            if value is None and not counts and mode is not None:
                value = fill_cell(mode, column.type, times, values, at, last)
            done[at - first].append(value)
    return [[window.shown, *row] for window, row in zip(body, done, strict=True)]


def fill_cell(
    mode: FillMode, data_type: str, times: list[int], values: list[Any], at: int, last: int
) -> Any:
    if mode.method == "value":
        return constant_of(mode.literal, data_type, modern=mode.modern)
    before = next((n for n in range(at - 1, -1, -1) if values[n] is not None), None)
    if before is None or (mode.before is not None and abs(times[at] - times[before]) > mode.before):
        return None
    if mode.method == "previous":
        return values[before]
    if mode.method == "previousuntillast":
        later = any(values[n] is not None for n in range(at + 1, last + 1))
        return values[before] if later else None
    after = next((n for n in range(at + 1, len(values)) if values[n] is not None), None)
    if after is None or (mode.after is not None and abs(times[after] - times[at]) > mode.after):
        return None
    return _on_line(
        data_type, times[at], (times[before], values[before]), (times[after], values[after])
    )


def _on_line(data_type: str, time: int, before: tuple[int, Any], after: tuple[int, Any]) -> Any:
    if data_type not in NUMERIC:
        return None
    elapsed, total = float(time - before[0]), float(after[0] - before[0])
    if data_type in ("INT32", "INT64"):
        span = after[1] - before[1]
        steps = min(math.trunc(float(abs(span)) / total * elapsed), abs(span))
        return before[1] + (steps if span > 0 else -steps)
    low, high = before[1], after[1]
    if data_type == "FLOAT":
        with np.errstate(over="ignore", invalid="ignore"):
            rise = float(np.float32(high) - np.float32(low)) / total * elapsed
            line = float(np.float32(low) + np.float32(rise))
    else:
        rise = (high - low) / total * elapsed
        line = low + rise
    if math.isinf(rise):
        share = elapsed / total
        return low * (1 - share) + high * share
    return line


def fill_time(query: Query) -> int:
    if not isinstance(query.where, TimeIs) or query.where.operator != "=":
        raise RefusedError("FILL needs one time")
    return query.where.value


def point_fill(data: Data, query: Query) -> Answer:
    time = fill_time(query)
    if any(not isinstance(item.expression, SeriesAt) for item in query.items):
        raise RefusedError("FILL of functions")
    columns = cut_columns(query, columns_of(data, query))
    if not columns:
        return ["Time"], []
    cells = [point_cell(query, column.expression, time) for column in columns]
    return ["Time", *(column.name for column in columns)], [[time, *cells]]


def point_cell(query: Query, series: Series, time: int) -> Any:
    points, mode = series.points, query.fill_of(series.type)
    if time in points:
        return points[time]
    if mode.method == "value":
        return constant_of(mode.literal, series.type)
    before = max((at for at in points if at < time), default=None)
    if before is None or (mode.before is not None and time - before > mode.before):
        return None
    if mode.method == "previous":
        return points[before]
    after = min((at for at in points if at > time), default=None)
    if mode.method == "previousuntillast":
        return None if after is None else points[before]
    if after is None or (mode.after is not None and after - time > mode.after):
        return None
    return _on_line(series.type, time, (before, points[before]), (after, points[after]))
