"""Whole answers: by time, by level, by device, the latest points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from harness.naive.columns import (
    Column,
    aggregate_type,
    bind,
    check_aggregate,
    columns_of,
    cut_columns,
    kind_of,
    leaves,
)
from harness.naive.conditions import MissingError, check_where, compared, ordered, passes_of
from harness.naive.data import Answer, Cells, Data, Path, RefusedError, Series, UndefinedError
from harness.naive.query import Aggregate, Query, SeriesAt, TimeIs, Windows
from harness.naive.rows import (
    Window,
    aggregated_value,
    fill_cell,
    fill_time,
    point_cell,
    point_fill,
    rows_of,
    window_of,
)


def evaluate(data: Data, query: Query) -> Answer:
    """Return header and rows.

    Raises:
        RefusedError: the statement is an error.
        UndefinedError: the rules leave open what it answers.
    """
    if query.last:
        return _last(data, query)
    if query.modern and query.order and query.by_device:
        first = (None, query.order == "desc", False)
        query = replace(query, order="", keys=(first, *query.keys))
    kinds = {kind_of(item.expression) for item in query.items}
    if len(kinds) > 1:
        raise RefusedError("series and aggregates")
    aggregated = kinds == {"aggregate"}
    if query.windows is not None:
        _check_windows(query.windows, modern=query.modern)
    if (query.windows or query.levels or query.having) and not aggregated:
        raise RefusedError("windows of series")
    if query.by_device and query.modern:
        try:
            return _by_device(data, query, aggregated)
        except RefusedError as refused:
            # a device that lacks what WHERE looks at is left out before its types are looked at
            raise UndefinedError("errors of devices that are left out") from refused
    if query.by_device:
        return _by_device(data, query, aggregated)
    if query.levels:
        return _levels(data, query)
    if query.filled and not aggregated and not query.modern:
        return point_fill(data, query)
    columns = cut_columns(query, columns_of(data, query))
    if not columns:
        check_where(data, query)
        return ["Time"], []
    hidden: list[Column] = []
    if query.modern:
        columns, hidden = _with_hidden(data, query, query.prefixes, columns)
    functions = any(not isinstance(item.expression, SeriesAt) for item in query.items)
    if functions and not aggregated and not query.modern:
        used = [leaf for column in columns for leaf in leaves(column.expression)]
        if any(one.aligned for one in used):
            raise RefusedError("functions of aligned series")
    rows = rows_of(data, query, columns, aggregated, passes_of(data, query, query.prefixes))
    if query.modern:
        by_time = bool(query.keys) and query.keys[0][0] is None  # no two rows have the same
        keys = tuple(_key(data, query, key) for key in query.keys[: 1 if by_time else None])
        rows = _ordered_rows(replace(query, keys=keys), _after(query, columns, rows, hidden), 1)
        columns = columns[: len(columns) - len(hidden)]
        rows = [row[: 1 + len(columns)] for row in rows]
    return _finish(query, columns, rows, plain=aggregated and query.windows is None)


def _with_hidden(
    data: Data, query: Query, prefixes: Sequence[Path], columns: list[Column]
) -> tuple[list[Column], list[Column]]:
    """Return the columns with those that HAVING looks at, and the latter."""
    if query.having is None:
        return columns, []
    hidden = bind(data, prefixes, query.having[0])
    if not hidden and not query.by_device:
        raise RefusedError("HAVING of nothing")
    return columns + hidden, hidden


def _after(
    query: Query, columns: Sequence[Column], rows: list[Cells], hidden: Sequence[Column]
) -> list[Cells]:
    """Apply HAVING and FILL."""
    if query.having is not None:
        _, operator, literal = query.having
        first = 1 + len(columns) - len(hidden)
        rows = [
            row
            for row in rows
            if all(
                cell is not None and compared(operator, float(cell), float(literal))
                for cell in row[first:]
            )
        ]
    if not query.filled:
        return rows
    filled = [list(row) for row in rows]
    times = [row[0] for row in rows]
    for number, column in enumerate(columns, 1):
        mode = query.fill_of(column.type)
        values = [row[number] for row in rows]
        for at, value in enumerate(values):
            if value is None:
                filled[at][number] = fill_cell(mode, column.type, times, values, at, len(rows) - 1)
    return filled


def _ordered_rows(query: Query, rows: list[Cells], first: int) -> list[Cells]:
    """Apply ORDER BY of expressions; item `n` is in the column `first + n`."""
    for number, descending, nulls_first in reversed(query.keys):
        place = 0 if number is None else first + number
        given = [row for row in rows if row[place] is not None]
        nulls = [row for row in rows if row[place] is None]
        given.sort(key=lambda row, at=place: _sortable(row[at]), reverse=descending)
        rows = [*nulls, *given] if nulls_first else [*given, *nulls]
    return rows


def _key(
    data: Data, query: Query, key: tuple[int | None, bool, bool]
) -> tuple[int | None, bool, bool]:
    """Return a key with the number of its column in place of its item's."""
    if key[0] is None:
        return key
    counts = [len(bind(data, query.prefixes, item.expression)) for item in query.items]
    if counts[key[0]] != 1:
        raise RefusedError("a key of several columns or of none")
    return sum(counts[: key[0]]), *key[1:]


def _sortable(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else ordered(value)


def _finish(query: Query, columns: Sequence[Column], rows: list[Cells], *, plain: bool) -> Answer:
    rows = _without_null(query, columns, rows)
    stop = None if query.limit is None else query.offset + query.limit
    rows = rows[query.offset : stop]
    names = [column.name for column in columns]
    return (names, [row[1:] for row in rows]) if plain else (["Time", *names], rows)


def _check_windows(windows: Windows, *, modern: bool) -> None:
    shorter = windows.step < windows.interval and not modern
    if windows.start >= windows.end or windows.interval <= 0 or windows.step <= 0 or shorter:
        raise RefusedError("windows")


def _levels(data: Data, query: Query) -> Answer:
    groups: dict[str, tuple[str, list[Series]]] = {}
    aliases: dict[str, str] = {}
    for item in query.items:
        if not isinstance(item.expression, Aggregate):
            raise RefusedError("expressions and levels")
        function, path = item.expression
        own: list[str] = []
        for prefix in query.prefixes:
            for one in data.match((*prefix, *path)):
                check_aggregate(function, one.type)
                nodes = [
                    node if not level or level in query.levels else "*"
                    for level, node in enumerate(one.device)
                ]
                counts = function.lower() == "count" and path in (("*",), ("**",))
                name = f"{function}({'.'.join([*nodes, '*' if counts else one.name])})"
                members = groups.setdefault(name, (function.lower(), []))[1]
                if not any(one is other for other in members):
                    members.append(one)
                if name not in own:
                    own.append(name)
        if item.alias is not None and (
            len(own) != 1 or aliases.setdefault(own[0], item.alias) != item.alias
        ):
            raise RefusedError("alias")
    kinds = {one.type for _, members in groups.values() for one in members}
    first = next((function for function, _ in groups.values()), "")
    if first in ("sum", "avg", "min_value", "max_value") and len(kinds) > 1:
        raise RefusedError("types")
    named = [(aliases.get(name, name), *group) for name, group in groups.items()]
    named = cut_columns(query, named)
    passes = passes_of(data, query, query.prefixes)
    if not named:
        return ["Time"], []
    columns = []
    for name, function, members in named:
        types = {one.type for one in members}
        if len(types) > 1 and aggregate_type(function, "TEXT") == "TEXT":
            raise UndefinedError("mixed types")
        columns.append(Column(name, aggregate_type(function, members[0].type), (function, members)))
    windows = query.windows
    if windows is None:
        spans = [Window(-(2**63), 2**63 - 1, 0)]
    else:
        count = -(-(windows.end - windows.start) // windows.step)
        spans = [window_of(windows, number, windows.end) for number in range(count)]
    rows = []
    for span in spans:
        cells = []
        for column in columns:
            function, members = column.expression
            points = sorted(
                (
                    (time, value)
                    for one in members
                    for time, value in one.points.items()
                    if span.low <= time <= span.high and passes(time)
                ),
                key=lambda point: point[0],
            )
            if function in ("first_value", "last_value") and len({t for t, _ in points}) < len(
                points
            ):
                raise UndefinedError("which of two points at one time is first")
            cells.append(aggregated_value(function, points))
        rows.append([span.shown, *cells])
    if query.order == "desc" and windows is not None:
        rows.reverse()
    return _finish(query, columns, rows, plain=windows is None)


def _by_device(data: Data, query: Query, aggregated: bool) -> Answer:
    if query.levels:
        raise RefusedError("levels by device")
    devices = list(dict.fromkeys(d for prefix in query.prefixes for d in data.devices(prefix)))
    named = [_measurement(item.expression) for item in query.items]
    expanded: list[tuple[str, str | None]] = []
    titles: dict[str, str] = {}
    for item, (pattern, function) in zip(query.items, named, strict=True):
        names = [pattern]
        if "*" in pattern:
            names = list(
                dict.fromkeys(
                    one.name
                    for device in devices
                    for prefix in query.prefixes
                    for one in data.match((*prefix, pattern))
                    if one.device == device
                )
            )
        if item.alias is not None and len(names) != 1:
            raise RefusedError("alias of several columns")
        for name in names:
            expanded.append((name, function))
            if item.alias is not None:
                titles[_title(name, function)] = item.alias
    columns = cut_columns(query, expanded)
    types = [
        _device_type(data, devices, name, function, modern=query.modern)
        for name, function in columns
    ]
    shown = [titles.get(_title(*column), _title(*column)) for column in columns]
    rows: list[Cells] = []
    for device in devices:
        present = {
            name: found[0]
            for name, _ in columns
            if (found := [o for o in data.match((*device, name)) if o.device == device])
        }
        if not present:
            continue
        if query.filled and not aggregated and not query.modern:
            time = fill_time(query)
            cells = [
                point_cell(query, present[name], time) if name in present else None
                for name, _ in columns
            ]
            rows.append([time, ".".join(device), *cells])
            continue
        try:
            passes = passes_of(data, query, [device])
        except MissingError:
            continue
        bound = [
            Column(name, kind, _bound_cell(present[name], function))
            for (name, function), kind in zip(columns, types, strict=True)
            if name in present
        ]
        hidden: list[Column] = []
        if query.modern:
            bound, hidden = _with_hidden(data, query, [device], bound)
            if query.having is not None and not hidden:
                continue
        found = rows_of(data, query, bound, aggregated, passes)
        if query.modern:
            found = _after(query, bound, found, hidden)
        for time, *values in found:
            own = iter(values)
            cells = [next(own) if name in present else None for name, _ in columns]
            rows.append([time, ".".join(device), *cells])
    rows = _ordered_rows(query, rows, 2)
    header = [
        Column(name, kind, None)
        for name, kind in zip(["Device", *shown], ["TEXT", *types], strict=True)
    ]
    return _finish(query, header, rows, plain=aggregated and query.windows is None)


def _bound_cell(series: Series, function: str | None) -> Any:
    return series if function is None else (function.lower(), series)


def _measurement(expression: Any) -> tuple[str, str | None]:
    match expression:
        case SeriesAt((name,)):
            return name, None
        case Aggregate(function, (name,)):
            return name, function
    raise RefusedError("expressions by device")


def _title(name: str, function: str | None) -> str:
    return name if function is None else f"{function}({name})"


def _device_type(
    data: Data, devices: Sequence[Path], name: str, function: str | None, *, modern: bool
) -> str:
    types = set()
    for device in devices:
        for one in data.match((*device, name)):
            if function is not None:
                check_aggregate(function, one.type)
            types.add(one.type if function is None else aggregate_type(function, one.type))
    if len(types) > 1:
        if modern:
            raise UndefinedError("devices that are left out may be of other types")
        raise RefusedError("types differ between devices")
    return types.pop() if types else "TEXT"


def _last(data: Data, query: Query) -> Answer:
    if not all(isinstance(item.expression, SeriesAt) for item in query.items):
        raise RefusedError("LAST of functions")
    if query.by_device or query.windows or query.levels or query.filled:
        raise RefusedError("LAST")
    header = ["Time", "timeseries", "value", "dataType"]
    if query.modern:
        header = ["Time", "Timeseries", "Value", "DataType"]
    if query.where is not None and (
        not isinstance(query.where, TimeIs) or query.where.operator not in (">", ">=")
    ):
        raise RefusedError("LAST")
    columns = cut_columns(query, columns_of(data, query))
    shown: dict[str, Series] = {}
    for column in columns:
        shown.setdefault(column.name, column.expression)
    rows: list[Cells] = []
    for name, series in shown.items():
        if not series.points:
            continue
        time = max(series.points)
        if query.where is None or compared(query.where.operator, time, query.where.value):
            rows.append([time, name, as_text(series.points[time], series.type), series.type])
    if query.order:
        rows.sort(key=lambda row: row[0], reverse=query.order == "desc")
    stop = None if query.limit is None else query.offset + query.limit
    return header, rows[query.offset : stop]


def as_text(value: Any, data_type: str) -> Any:
    """Return a value as LAST shows it; numbers are compared as numbers (`same`)."""
    if data_type == "BOOLEAN":
        return "true" if value else "false"
    return value if data_type == "TEXT" else NumberText(value)


class NumberText(NamedTuple):
    """A text that stands for a number."""

    number: Any


def _without_null(query: Query, columns: Sequence[Column], rows: list[Cells]) -> list[Cells]:
    if not query.without_null:
        return rows
    places = list(range(len(columns)))
    if query.by_device:
        places = places[1:]
    if query.null_items:
        places = [place for place in places if place in query.null_items]
    if not places:
        return rows
    dropped = any if query.without_null == "any" else all
    return [row for row in rows if not dropped(row[1 + place] is None for place in places)]


def same(expected: Any, found: Any) -> bool:
    """Whether two cells are the same; floating-point numbers may differ by what sums differ."""
    if isinstance(found, bytes):
        found = found.decode()
    if isinstance(expected, NumberText):
        return isinstance(found, str) and same(expected.number, type(expected.number)(found))
    if isinstance(expected, float) and isinstance(found, float):
        if math.isnan(expected) or math.isnan(found):
            return math.isnan(expected) and math.isnan(found)
        return expected == found or math.isclose(expected, found, rel_tol=1e-6, abs_tol=1e-9)
    return type(expected) is type(found) and bool(expected == found)
