"""EXPLAIN: what a SELECT asks the groups for, told by running it over a backend that takes notes.

Without ANALYZE the backend answers that there are no points: look-ups are real, reading is not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from cluster.query.backend import QueryBackend
from cluster.query.context import QueryContext
from cluster.query.result import ResultSet, table
from cluster.scan.filters import RowFilter
from cluster.scan.windows import AggregateTable, Needs, Windows
from cluster.schema.meta_state import MetaState
from cluster.schema.paths import PathPattern
from cluster.schema.series import DeviceInfo, SeriesInfo
from cluster.sql.statements.explain import Explain
from cluster.sql.statements.select import Select
from iotdb_engine import T_MAX, T_MIN
from iotdb_engine.types import ColumnBatch, DataType

_MAX_LISTED = 100
"""Columns and requests that are listed; more are counted."""

_Execute = Callable[[Select, QueryBackend, QueryContext], ResultSet]


@dataclass
class _Request:
    """What was asked for, how often, and what came of it."""

    text: str
    times: int = 0
    rows: int = 0
    seconds: float = 0.0


class _Recorder(QueryBackend):
    """Passes on what it is asked and takes notes of it.

    Args:
        real: answers.
        dry: whether reading finds no points.
    """

    def __init__(self, real: QueryBackend, *, dry: bool) -> None:
        self._real = real
        self._dry = dry
        self.requests: list[_Request] = []

    def meta(self) -> MetaState:
        return self._real.meta()

    def storage_groups(self, pattern: PathPattern) -> list[str]:
        return self._real.storage_groups(pattern)

    def match_series(self, pattern: PathPattern) -> list[SeriesInfo]:
        (found,) = self.match_all([pattern])
        return found

    def match_all(
        self,
        patterns: Sequence[PathPattern],
        span: Callable[[], tuple[int, int]] = lambda: (T_MIN, T_MAX),
    ) -> list[list[SeriesInfo]]:
        began = time.perf_counter()
        found = self._real.match_all(patterns, span)
        seconds = time.perf_counter() - began
        for pattern, series in zip(patterns, found, strict=True):
            groups = sorted({info.storage_group for info in series})
            where = f" of {_listed(groups)}" if groups else ""
            request = self._noted(f"look up {pattern}: {len(series)} series{where}")
            request.seconds += seconds / len(patterns)
        return found

    def match_devices(self, pattern: PathPattern) -> list[DeviceInfo]:
        began = time.perf_counter()
        found = self._real.match_devices(pattern)
        request = self._noted(f"look up devices {pattern}: {len(found)}")
        request.seconds += time.perf_counter() - began
        return found

    def node_types(self, pattern: PathPattern, level: int | None = None) -> dict[str, str]:
        return self._real.node_types(pattern, level)

    def read(
        self,
        series: Sequence[SeriesInfo],
        t_min: int,
        t_max: int,
        *,
        selected: int | None = None,
        row_filter: RowFilter | None = None,
        descending: bool = False,
        max_rows: int | None = None,
    ) -> Iterator[ColumnBatch]:
        text = f"read {len(series)} series of {series[0].storage_group}, {_range(t_min, t_max)}"
        text += ", filtered there" if row_filter is not None else ""
        text += ", latest first" if descending else ""
        text += f", at most {max_rows} rows" if max_rows is not None else ""
        request = self._noted(text)
        if self._dry:
            return
        began = time.perf_counter()
        for batch in self._real.read(
            series,
            t_min,
            t_max,
            selected=selected,
            row_filter=row_filter,
            descending=descending,
            max_rows=max_rows,
        ):
            request.seconds += time.perf_counter() - began
            request.rows += len(batch.times)
            yield batch
            began = time.perf_counter()
        request.seconds += time.perf_counter() - began

    def aggregate(
        self,
        series: Sequence[SeriesInfo],
        windows: Windows,
        intervals: Sequence[tuple[int, int]],
        needs: Needs,
        *,
        selected: int | None = None,
        row_filter: RowFilter | None = None,
    ) -> AggregateTable:
        wanted = series[:selected]
        count = len(windows.lows)
        low, high = int(windows.lows[0]), int(windows.highs[-1])
        if intervals:
            low, high = max(low, intervals[0][0]), min(high, intervals[-1][1])
        span = _range(low, high)
        text = f"aggregate {len(wanted)} series there, {count} windows, {span}"
        text += ", filtered there" if row_filter is not None else ""
        request = self._noted(text)
        if self._dry:
            return AggregateTable([info.data_type for info in wanted], count, needs)
        began = time.perf_counter()
        found = self._real.aggregate(
            series, windows, intervals, needs, selected=selected, row_filter=row_filter
        )
        request.seconds += time.perf_counter() - began
        request.rows += count
        return found

    def last(self, series: Sequence[SeriesInfo]) -> list[tuple[int, Any] | None]:
        request = self._noted(f"latest points of {len(series)} series")
        if self._dry:
            return [None] * len(series)
        began = time.perf_counter()
        found = self._real.last(series)
        request.seconds += time.perf_counter() - began
        request.rows += sum(point is not None for point in found)
        return found

    def _noted(self, text: str) -> _Request:
        last = self.requests[-1] if self.requests else None
        request = last if last is not None and last.text == text else _Request(text)
        if request is not last:
            self.requests.append(request)
        request.times += 1
        return request


def explain(
    statement: Explain, backend: QueryBackend, context: QueryContext, execute: _Execute
) -> ResultSet:
    """Return lines that tell how a SELECT is answered.

    Args:
        statement: what to explain.
        backend: where the points are.
        context: of the query.
        execute: plans a SELECT.

    Raises:
        ClusterError: the SELECT can't be planned, or, with ANALYZE, run.
    """
    recorder = _Recorder(backend, dry=not statement.analyze)
    began = time.perf_counter()
    result = execute(replace(statement.select, into=None), recorder, context)
    planned = time.perf_counter() - began
    columns = list(zip(result.columns, result.types, strict=True))
    rows = 0
    try:
        streams = [result.batches, *(result.column_streams or ())]
        for stream in streams:
            for batch in stream:
                rows += len(batch.times)
                if not statement.analyze and len(recorder.requests) > _MAX_LISTED:
                    break
    finally:
        result.close()
    names = _listed([f"{name} {kind.name}" for name, kind in columns])
    lines = [f"columns: {names or 'none'}"]
    if not statement.analyze:
        lines += [request.text for request in recorder.requests[:_MAX_LISTED]]
        return _lines("distribution plan", lines)
    total = time.perf_counter() - began
    lines.append(
        f"planned in {1000 * planned:.3f} ms, answered in {1000 * total:.3f} ms: {rows} rows"
    )
    requests = recorder.requests if statement.verbose else _summed(recorder.requests)
    lines += [
        f"{request.text}: {request.rows} rows, {1000 * request.seconds:.3f} ms"
        + (f" in {request.times} requests" if request.times > 1 else "")
        for request in islice(requests, _MAX_LISTED)
    ]
    return _lines("Explain Analyze", lines)


def _summed(requests: Sequence[_Request]) -> list[_Request]:
    """Return one request for each kind of them."""
    kinds: dict[str, _Request] = {}
    for request in requests:
        kind = kinds.setdefault(request.text.split()[0], _Request(request.text.split()[0]))
        kind.times += request.times
        kind.rows += request.rows
        kind.seconds += request.seconds
    return list(kinds.values())


def _lines(header: str, lines: Sequence[str]) -> ResultSet:
    return table([(header, DataType.TEXT)], [[line] for line in lines])


def _range(low: int, high: int) -> str:
    if low == T_MIN and high == T_MAX:
        return "all times"
    return f"times [{'' if low == T_MIN else low}, {'' if high == T_MAX else high}]"


def _listed(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _MAX_LISTED} more" if len(texts) > _MAX_LISTED else ""
    return ", ".join(texts[:_MAX_LISTED]) + more
