"""GROUP BY VARIATION, CONDITION, SESSION and COUNT of 1.x: runs of rows (sql.md 7.4).

A segment is a run of rows, so it is a range of time, too: a first pass over the rows finds the
ranges, a second one aggregates over them as over any windows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.query.errors import query_error
from cluster.query.group_by import WindowRows
from cluster.query.row_aggregates import Keep
from cluster.scan.windows import NUMERIC_TYPES, Windows
from cluster.sql.statements.select import SegmentKind, Segments
from iotdb_engine.types import Column, DataType

Times = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

MAX_SEGMENTS = 4_000_000

_Step = Callable[[Times, Column | None], tuple[Flags, Flags]]
"""Times of a batch, and what is tested → which rows are in a segment, and which begin one."""


def check_control(segments: Segments, data_type: DataType | None) -> None:
    """Refuse a type that the rows can't be divided by.

    Raises:
        ClusterError: QUERY_PROCESS_ERROR.
    """
    if segments.kind is SegmentKind.CONDITION and data_type is not DataType.BOOLEAN:
        raise query_error("GROUP BY CONDITION needs a condition as its first argument")
    if segments.kind is SegmentKind.VARIATION and segments.delta and data_type not in NUMERIC_TYPES:
        raise query_error("GROUP BY VARIATION with a difference needs a numeric first argument")


def find_segments(
    segments: Segments, distance: int, batches: Iterator[tuple[Times, Column | None]]
) -> FoundSegments:
    """Read rows and return the segments that they are divided into.

    Args:
        segments: as parsed.
        distance: of SESSION, in units of the precision.
        batches: times, ascending, and the values that VARIATION, CONDITION and COUNT look at.

    Raises:
        ClusterError: QUERY_PROCESS_ERROR: there are too many.
    """
    step: _Step
    match segments.kind:
        case SegmentKind.VARIATION:
            step = _Variation(segments.delta, ignore_null=segments.ignore_null)
        case SegmentKind.CONDITION:
            step = _Condition(ignore_null=segments.ignore_null)
        case SegmentKind.SESSION:
            step = _Session(distance)
        case SegmentKind.COUNT:
            step = _Count(segments.size, ignore_null=segments.ignore_null)
    collected = _Collected()
    for times, column in batches:
        inside, new = step(times, column)
        rows = np.flatnonzero(inside)
        if len(rows):
            collected.add(times[rows], new[rows])
    lows, highs, counts = collected.arrays()
    keep = np.ones(len(lows), np.bool_)
    if segments.kind is SegmentKind.CONDITION:
        keep = Keep(segments.keep_operator, segments.keep).passing(counts)
    elif segments.kind is SegmentKind.COUNT and len(counts):
        keep[-1] = counts[-1] == segments.size  # what is left at the end is no segment
    return FoundSegments(Windows(lows[keep], highs[keep]))


class FoundSegments:
    """The segments as windows; their rows show when they begin."""

    def __init__(self, windows: Windows) -> None:
        self._windows = windows

    def pieces(self, size: int) -> Iterator[WindowRows]:
        """Yield at most `size` windows at a time."""
        lows, highs = self._windows
        for start in range(0, len(lows), size):
            part = Windows(lows[start : start + size], highs[start : start + size])
            yield WindowRows(part, part.lows)


class _Collected:
    """Segments as they are found; the last one may go on."""

    def __init__(self) -> None:
        self._lows: list[Times] = []
        self._highs: list[Times] = []
        self._counts: list[Times] = []
        self._total = 0

    def add(self, times: Times, new: Flags) -> None:
        starts = np.flatnonzero(new)
        ahead = int(starts[0]) if len(starts) else len(times)
        if ahead and self._lows:
            self._highs[-1][-1] = times[ahead - 1]
            self._counts[-1][-1] += ahead
        if not len(starts):
            return
        ends = np.append(starts[1:], len(times))
        self._total += len(starts)
        if self._total > MAX_SEGMENTS:
            raise query_error(f"the rows are divided into more than {MAX_SEGMENTS} groups")
        self._lows.append(times[starts])
        self._highs.append(times[ends - 1])
        self._counts.append((ends - starts).astype(np.int64))

    def arrays(self) -> tuple[Times, Times, Times]:
        if not self._lows:
            nothing = np.zeros(0, np.int64)
            return nothing, nothing, nothing
        lows, highs, counts = map(np.concatenate, (self._lows, self._highs, self._counts))
        return lows, highs, counts


def _split(column: Column | None) -> tuple[npt.NDArray[Any], Flags]:
    assert column is not None
    valid = column.valid
    return column.values, np.ones(len(column.values), np.bool_) if valid is None else valid


class _Variation:
    """A segment goes on while values differ from its first one by no more than a difference."""

    def __init__(self, delta: float, *, ignore_null: bool) -> None:
        self._delta = delta
        self._ignore_null = ignore_null
        self._base: Any = None
        """Value of the segment at hand; None: there is none yet, or it is one of nulls."""
        self._began = False

    def __call__(self, times: Times, column: Column | None) -> tuple[Flags, Flags]:
        values, valid = _split(column)
        new = np.zeros(len(times), np.bool_)
        inside = valid if self._ignore_null else np.ones(len(times), np.bool_)
        rows = np.flatnonzero(inside)
        at = 0
        while at < len(rows):
            at = self._next(values, valid, rows, at)
            if at < len(rows):
                new[rows[at]] = True
                self._began = True
                self._base = values[rows[at]] if valid[rows[at]] else None
                at += 1
        return inside, new

    def _next(
        self, values: npt.NDArray[Any], valid: Flags, rows: npt.NDArray[np.intp], at: int
    ) -> int:
        """Return where, from `at` on, the next segment begins; looks ever further ahead."""
        if not self._began:
            return at
        ahead = 16
        while at < len(rows):
            part = rows[at : at + ahead]
            other = valid[part] != (self._base is not None)
            if self._base is not None:
                other |= self._differs(values[part])
            hits = np.flatnonzero(other)
            if len(hits):
                return at + int(hits[0])
            at += len(part)
            ahead *= 4
        return at

    def _differs(self, values: npt.NDArray[Any]) -> Flags:
        if not self._delta:
            different: Flags = np.asarray(values != self._base, np.bool_)
            return different
        with np.errstate(all="ignore"):
            far: Flags = np.abs(values.astype(np.float64) - float(self._base)) > self._delta
        return far


class _Condition:
    """A segment goes on while the condition is met."""

    def __init__(self, *, ignore_null: bool) -> None:
        self._ignore_null = ignore_null
        self._met = False

    def __call__(self, times: Times, column: Column | None) -> tuple[Flags, Flags]:
        values, valid = _split(column)
        met = values.astype(np.bool_) & valid
        seen = np.flatnonzero(valid) if self._ignore_null else np.arange(len(times))
        new = np.zeros(len(times), np.bool_)
        if len(seen):
            before = np.concatenate(([self._met], met[seen][:-1]))
            new[seen] = met[seen] & ~before
            self._met = bool(met[seen[-1]])
        return met, new


class _Session:
    """A segment goes on while rows are no further apart than a distance."""

    def __init__(self, distance: int) -> None:
        self._distance = distance
        self._last: int | None = None

    def __call__(self, times: Times, column: Column | None) -> tuple[Flags, Flags]:
        new = np.zeros(len(times), np.bool_)
        # unsigned: times may be further apart than 63 bits tell
        new[1:] = np.diff(times.view(np.uint64)) > self._distance
        new[0] = self._last is None or int(times[0]) - self._last > self._distance
        self._last = int(times[-1])
        return np.ones(len(times), np.bool_), new


class _Count:
    """A segment is so many rows."""

    def __init__(self, size: int, *, ignore_null: bool) -> None:
        self._size = size
        self._ignore_null = ignore_null
        self._seen = 0

    def __call__(self, times: Times, column: Column | None) -> tuple[Flags, Flags]:
        _, valid = _split(column)
        inside = valid if self._ignore_null else np.ones(len(times), np.bool_)
        rows = np.flatnonzero(inside)
        new = np.zeros(len(times), np.bool_)
        new[rows] = (self._seen + np.arange(len(rows), dtype=np.int64)) % self._size == 0
        self._seen += len(rows)
        return inside, new
