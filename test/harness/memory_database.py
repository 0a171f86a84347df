"""A whole database in dictionaries: the real parser, executor and schema over points in memory.

For tests of SQL semantics without Raft, network or disk. Not thread-safe.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from cluster.errors import ClusterError, StatusCode
from cluster.query.context import QueryContext
from cluster.query.executor import execute_query
from cluster.query.result import limited
from cluster.scan.filters import RowFilter, passing
from cluster.scan.windows import AggregateTable, Needs, WindowAggregates, Windows
from cluster.schema.encodings import DEFAULT_COMPRESSOR, default_encoding
from cluster.schema.meta_state import MetaState
from cluster.schema.paths import PathPattern, join_path, split_path
from cluster.schema.series import DeviceInfo, NewSeries, SeriesInfo, SeriesSpec
from cluster.schema.tree import SchemaTree, SeriesOutcome
from cluster.sql.context import ParseContext
from cluster.sql.parser import parse
from cluster.sql.statements.data import DeleteData, Insert
from cluster.sql.statements.families import Statement, is_query
from cluster.sql.statements.literals import LiteralKind
from cluster.sql.statements.schema import (
    CreateAlignedTimeseries,
    CreateTimeseries,
    DeleteStorageGroup,
    DeleteTimeseries,
    SetStorageGroup,
)
from cluster.sql.statements.utility import Flush
from cluster.sql.values import InferenceSettings, infer_type, parse_value
from harness.sql_cases import Answer
from iotdb_engine.types import BATCH_DTYPES, T_MAX, T_MIN, Aggregate, Column, ColumnBatch, DataType


class Unlimited:
    """A deadline that never comes."""

    def remaining_s(self) -> float:
        return 3600.0


class MemoryDatabase:
    """Executes statements; also the QueryBackend of its queries.

    Args:
        batch_rows: size of the batches that `read` yields; small ones exercise the borders.
        context: how statements are parsed.
    """

    def __init__(self, batch_rows: int = 3, context: ParseContext | None = None) -> None:
        self.context = context or ParseContext(zone="+08:00", now=1_700_000_000_000)
        self.meta = MetaState()
        self.schema = SchemaTree()
        self.points: dict[int, dict[int, Any]] = defaultdict(dict)
        self.calls: list[tuple[str, Any]] = []
        self._batch_rows = batch_rows
        self._index = 0

    # ---- statements ----

    def execute(self, sql: str) -> Answer:
        """Run one statement; ClusterError when it fails."""
        statement = parse(sql, self.context)
        if is_query(statement):
            return self.query(statement)
        self._update(statement)
        return None

    def query(self, statement: Statement) -> Answer:
        """Run a query and collect all its rows."""
        context = QueryContext(
            Unlimited(),
            "0.13.5",
            prefix_dialect=self.context.prefix_dialect,
            zone=self.context.time_zone,
            precision=self.context.precision,
        )
        result = execute_query(statement, self, context)
        rows: list[list[Any]] = []
        for batch in result.batches:
            assert 0 < len(batch.times) <= 8192
            cells = [_cells(batch.columns[number]) for number in result.column_index]
            if not result.ignore_time:
                cells.insert(0, batch.times.tolist())
            rows.extend(list(row) for row in zip(*cells, strict=True))
        return (result.columns if result.ignore_time else ["Time", *result.columns]), rows

    def _update(self, statement: Statement) -> None:
        match statement:
            case SetStorageGroup():
                self._storage_group(statement.path)
            case DeleteStorageGroup():
                self._delete_storage_groups(statement.patterns)
            case CreateTimeseries():
                self._create(statement)
            case CreateAlignedTimeseries():
                outcomes = self._create_series(
                    statement.device, statement.columns, aligned=True, if_absent=False
                )
                for outcome in outcomes:
                    _raise_if_failed(outcome)
            case DeleteTimeseries():
                self._delete_timeseries(statement.patterns)
            case DeleteData():
                for pattern in statement.patterns:
                    for info in self.match_series(self._pattern(pattern)):
                        points = self.points[info.series_id]
                        for time in list(points):
                            if statement.t_min <= time <= statement.t_max:
                                del points[time]
            case Insert():
                self._insert(statement)
            case Flush():
                for path in statement.paths:
                    if not self.storage_groups(PathPattern.parse(path)):
                        raise ClusterError(StatusCode.STORAGE_GROUP_NOT_EXIST, f"no {path}")
            case _:
                raise AssertionError(statement)

    def _pattern(self, text: str) -> PathPattern:
        return PathPattern.parse(text, prefix=self.context.prefix_dialect)

    def _storage_group(self, path: str) -> int:
        self._index += 1
        self.meta.set_storage_group(path, 0, self._index)
        return self._index

    def _delete_storage_groups(self, patterns: Sequence[str]) -> None:
        ids = []
        for text in patterns:
            found = self.meta.match_storage_groups(self._pattern(text))
            if not found:
                raise ClusterError(StatusCode.TIMESERIES_NOT_EXIST, f"Path [{text}] does not exist")
            ids += [sg_id for _, sg_id in found]
        self.meta.delete_storage_groups(sorted(set(ids)))
        for info in self.schema.match(PathPattern.parse("root.**"), set(ids)):
            self.points.pop(info.series_id, None)
        self.schema.drop_storage_groups(ids)

    def _create(self, statement: CreateTimeseries) -> None:
        nodes = split_path(statement.path)
        data_type, encoding, compressor = (
            statement.data_type,
            statement.encoding,
            statement.compressor,
        )
        spec = SeriesSpec(
            nodes[-1],
            data_type,
            default_encoding(data_type) if encoding is None else encoding,
            int(DEFAULT_COMPRESSOR) if compressor is None else compressor,
            statement.alias,
            statement.props,
            statement.tags,
            statement.attributes,
        )
        (outcome,) = self._create_series(
            join_path(nodes[:-1]), [spec], aligned=False, if_absent=False
        )
        _raise_if_failed(outcome)

    def _create_series(
        self, device: str, specs: Sequence[SeriesSpec], *, aligned: bool, if_absent: bool
    ) -> list[SeriesOutcome]:
        nodes = split_path(device)
        found = self.meta.storage_group_of(nodes)
        if found is None:
            path = join_path(nodes[:2])
            found = path, self._storage_group(path)
        new = NewSeries(found[1], found[0], device, aligned, tuple(specs), if_absent)
        outcomes, _ = self.schema.create(new)
        return outcomes

    def _delete_timeseries(self, patterns: Sequence[str]) -> None:
        for text in patterns:
            found = self.match_series(self._pattern(text))
            if not found:
                raise ClusterError(StatusCode.MULTIPLE_ERROR, f"304: Path [{text}] does not exist")
            ids = [info.series_id for info in found]
            self.schema.delete(ids)
            for series_id in ids:
                self.points.pop(series_id, None)

    def _insert(self, insert: Insert) -> None:
        if len(set(insert.measurements)) != len(insert.measurements):
            raise ClusterError(
                StatusCode.QUERY_PROCESS_ERROR, "Insertion contains duplicated measurement"
            )
        failed: list[str] = []
        for column, name in enumerate(insert.measurements):
            cells = [row[column] for row in insert.rows]
            inferred = (infer_type(cell, InferenceSettings()) for cell in cells)
            data_type = next((t for t in inferred if t is not None), None)
            if data_type is None:
                continue
            info = self._writable(insert.device, name, data_type, aligned=insert.aligned)
            for time, cell in zip(insert.times, cells, strict=True):
                if cell.kind is LiteralKind.NULL:
                    continue
                try:
                    value = parse_value(cell, info.data_type)
                except ValueError as error:
                    failed.append(f"failed to insert measurements [{name}] caused by {error}")
                    continue
                self.points[info.series_id][self.context.now if time is None else time] = value
        if failed:
            code = StatusCode.STORAGE_ENGINE_ERROR
            raise ClusterError(
                code if len(insert.rows) == 1 else StatusCode.MULTIPLE_ERROR, failed[0]
            )

    def _writable(
        self, device: str, name: str, data_type: DataType, *, aligned: bool
    ) -> SeriesInfo:
        found = self.meta.storage_group_of(split_path(device))
        if found is not None:
            _, (known,) = self.schema.resolve(found[1], device, [name])
            if known is not None and known.aligned == aligned:
                return known
        spec = SeriesSpec(name, data_type, default_encoding(data_type), int(DEFAULT_COMPRESSOR))
        (outcome,) = self._create_series(device, [spec], aligned=aligned, if_absent=True)
        if outcome.info is None:
            _raise_if_failed(outcome)
        assert outcome.info is not None
        return outcome.info

    # ---- QueryBackend ----

    def storage_groups(self, pattern: PathPattern) -> list[str]:
        return [path for path, _ in self.meta.match_storage_groups(pattern)]

    def match_series(self, pattern: PathPattern) -> list[SeriesInfo]:
        self.calls.append(("match_series", str(pattern)))
        return self.schema.match(pattern)

    def match_all(
        self, patterns: Sequence[PathPattern], span: Callable[[], tuple[int, int]] | None = None
    ) -> list[list[SeriesInfo]]:
        return [self.match_series(pattern) for pattern in patterns]

    def match_devices(self, pattern: PathPattern) -> list[DeviceInfo]:
        return self.schema.devices(pattern)

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
        assert len({info.storage_group for info in series}) == 1
        assert len({info.series_id for info in series}) == len(series)
        assert t_min <= t_max
        self.calls.append(("read", (t_min, t_max, max_rows)))
        plain = row_filter is None and selected in (None, len(series))
        rows = self._read(series, t_min, t_max, descending, max_rows if plain else None)
        if plain:
            return rows
        return limited(
            passing(rows, row_filter, len(series) if selected is None else selected),
            limit=max_rows,
        )

    def _read(
        self,
        series: Sequence[SeriesInfo],
        t_min: int,
        t_max: int,
        descending: bool,
        max_rows: int | None,
    ) -> Iterator[ColumnBatch]:
        points = [self.points[info.series_id] for info in series]
        times = sorted(
            {time for column in points for time in column if t_min <= time <= t_max},
            reverse=descending,
        )[:max_rows]
        for start in range(0, len(times), self._batch_rows):
            part = times[start : start + self._batch_rows]
            yield ColumnBatch(
                np.array(part, dtype=np.int64),
                tuple(
                    column_of(info.data_type, [column.get(time) for time in part])
                    for info, column in zip(series, points, strict=True)
                ),
            )

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
        self.calls.append(("aggregate", (len(windows.lows), tuple(intervals), row_filter)))
        count = len(series) if selected is None else selected
        assert (row_filter is None and count == len(series)) or (
            len({info.storage_group for info in series}) == 1
        )
        allowed = None
        if row_filter is not None:
            rows = passing(self._read(series, T_MIN, T_MAX, False, None), row_filter, len(series))
            allowed = {time for batch in rows for time in batch.times.tolist()}
        parts = [
            self._aggregated(info, windows, intervals, needs, allowed) for info in series[:count]
        ]
        return AggregateTable.of(parts, len(windows.lows), needs)

    def _aggregated(
        self,
        info: SeriesInfo,
        windows: Windows,
        intervals: Sequence[tuple[int, int]],
        needs: Needs,
        allowed: set[int] | None,
    ) -> WindowAggregates:
        result = WindowAggregates.empty(info.data_type, len(windows.lows), needs)
        points = sorted(
            (time, value)
            for time, value in self.points[info.series_id].items()
            if any(low <= time <= high for low, high in intervals)
            and (allowed is None or time in allowed)
        )
        bounds = zip(windows.lows.tolist(), windows.highs.tolist(), strict=True)
        for number, (low, high) in enumerate(bounds):
            inside = [point for point in points if low <= point[0] <= high]
            result.put(number, slow_aggregate(info.data_type, inside))
        return result

    def last(self, series: Sequence[SeriesInfo]) -> list[tuple[int, Any] | None]:
        self.calls.append(("last", len(series)))
        return [max(self.points[info.series_id].items(), default=None) for info in series]


def _raise_if_failed(outcome: SeriesOutcome) -> None:
    if outcome.status != StatusCode.SUCCESS:
        raise ClusterError(outcome.status, outcome.message)


def column_of(data_type: DataType, cells: Sequence[Any]) -> Column:
    """Return a column of Python values, None for null; valid is None when there is none."""
    values = np.zeros(len(cells), dtype=BATCH_DTYPES[data_type])
    for number, cell in enumerate(cells):
        if cell is not None:
            values[number] = cell
    valid = np.array([cell is not None for cell in cells], dtype=np.bool_)
    return Column(data_type, values, None if valid.all() else valid)


def _cells(column: Column) -> list[Any]:
    cells = column.values.tolist()
    if column.valid is None:
        return cells
    return [
        cell if valid else None for cell, valid in zip(cells, column.valid.tolist(), strict=True)
    ]


def slow_aggregate(data_type: DataType, points: Sequence[tuple[int, Any]]) -> Aggregate:
    """Aggregate points in time order, one by one: the specification of Aggregate."""
    result = Aggregate()
    for time, raw in points:
        value = float(np.float32(raw)) if data_type is DataType.FLOAT else raw
        if not result.count:
            result.first, result.min_time = value, time
        result.count += 1
        result.last, result.max_time = value, time
        if data_type in (DataType.BOOLEAN, DataType.TEXT):
            continue
        result.total = (result.total or 0.0) + float(value)
        if result.minimum is None or result.minimum != result.minimum or value < result.minimum:
            result.minimum = value
        if result.maximum is None or result.maximum != result.maximum or value > result.maximum:
            result.maximum = value
    return result
