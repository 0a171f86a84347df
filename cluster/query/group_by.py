"""GROUP BY time: the windows, in pieces, and the time that each row shows (sql.md 3.7)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cluster.query.context import QueryContext
from cluster.query.errors import query_error
from cluster.scan.windows import Windows
from cluster.sql.statements.select import TimeWindows
from cluster.sql.timestamps import UNITS_PER_SECOND, Duration, shift_time

_Times = npt.NDArray[np.int64]


class WindowRows(NamedTuple):
    """Some successive windows, and the times of their rows."""

    windows: Windows
    times: _Times


class WindowSeries:
    """All windows of a GROUP BY.

    Args:
        spec: as parsed.
        context: calendar of months.
    """

    def __init__(self, spec: TimeWindows, context: QueryContext) -> None:
        self._spec = spec
        self._context = context

    @property
    def calendar(self) -> bool:
        """Whether months take part, so that windows are not all alike."""
        return bool(self._spec.interval.months or self._spec.sliding.months)

    def check_order(self, *, descending: bool) -> None:
        """Raise ClusterError QUERY_PROCESS_ERROR if calendar windows are wanted latest first."""
        if descending and self.calendar:
            raise query_error("Group by month doesn't support order by time desc now.")

    def pieces(self, size: int, *, descending: bool = False) -> Iterator[WindowRows]:
        """Yield the windows in time order (or its reverse), at most `size` at a time."""
        if self.calendar:
            self.check_order(descending=descending)
            yield from self._calendar_pieces(size)
            return
        spec = self._spec
        count = -(-(spec.end - spec.start) // spec.sliding.units)
        starts = range(0, count, size)
        for first in reversed(starts) if descending else starts:
            yield self._even_piece(first, min(size, count - first))

    def before(self, reach: int) -> WindowSeries | None:
        """Return the windows that precede these, as many as a distance needs; None: none."""
        count = self._count_within(reach)
        spec = self._spec
        if not count:
            return None
        start = self._moved(spec.sliding, -count)
        return WindowSeries(replace(spec, start=start, end=spec.start), self._context)

    def after(self, reach: int) -> WindowSeries | None:
        """Return the windows that follow these, as many as a distance needs; None: none."""
        count = self._count_within(reach)
        if not count:
            return None
        spec = self._spec
        number = self._count_all()
        start = self._moved(spec.sliding, number)
        end = self._moved(spec.sliding, number + count)
        return WindowSeries(replace(spec, start=start, end=end), self._context)

    def _count_within(self, reach: int) -> int:
        sliding = self._spec.sliding
        day = 86_400 * UNITS_PER_SECOND[self._context.precision]
        return -(-reach // max(1, sliding.units + sliding.months * 28 * day))

    def _count_all(self) -> int:
        if not self.calendar:
            return -(-(self._spec.end - self._spec.start) // self._spec.sliding.units)
        return sum(len(piece.times) for piece in self._calendar_pieces(8192))

    def _even_piece(self, first: int, count: int) -> WindowRows:
        """Return windows [first, first + count); their bounds are computed within 64 bits."""
        spec = self._spec
        interval = min(spec.interval.units, spec.end - spec.start)
        base = spec.start + first * spec.sliding.units
        starts = base + spec.sliding.units * np.arange(count, dtype=np.int64)
        ends = np.minimum(starts, spec.end - interval) + interval
        return _rows(starts, ends, left_open=spec.left_open)

    def _calendar_pieces(self, size: int) -> Iterator[WindowRows]:
        spec = self._spec
        bounds: list[tuple[int, int]] = []
        number = 0
        while True:
            start = self._moved(spec.sliding, number)
            if start >= spec.end:
                break
            bounds.append((start, min(self._window_end(start, number), spec.end)))
            number += 1
            if len(bounds) == size:
                yield _of_bounds(bounds, left_open=spec.left_open)
                bounds = []
        if bounds:
            yield _of_bounds(bounds, left_open=spec.left_open)

    def _window_end(self, start: int, number: int) -> int:
        spec = self._spec
        if spec.interval.months and spec.sliding.months:
            # counted from the first start, whose day of month is kept where a month has it
            months = spec.sliding.months * number + spec.interval.months
            units = spec.sliding.units * number + spec.interval.units
            return self._shift(spec.start, Duration(months, units))
        return self._shift(start, spec.interval)

    def _moved(self, step: Duration, number: int) -> int:
        return self._shift(self._spec.start, Duration(step.months * number, step.units * number))

    def _shift(self, time: int, duration: Duration) -> int:
        try:
            return shift_time(time, duration, 1, self._context.zone, self._context.precision)
        except ValueError:
            return self._spec.end  # beyond every date: the last window ends with the range


def _of_bounds(bounds: list[tuple[int, int]], *, left_open: bool) -> WindowRows:
    pairs = np.array(bounds, dtype=np.int64)
    return _rows(pairs[:, 0], pairs[:, 1], left_open=left_open)


def _rows(starts: _Times, ends: _Times, *, left_open: bool) -> WindowRows:
    """Return the windows [start, end) or (start, end]; their rows show the closed end."""
    if left_open:
        return WindowRows(Windows(starts + 1, ends), ends)
    return WindowRows(Windows(starts, ends - 1), starts)
