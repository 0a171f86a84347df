"""Time windows, and the partial aggregates of one series over them, as arrays.

Rows of a batch are in time order, so a window is a run of rows: two binary searches for all
windows at once give the runs, and `ufunc.reduceat` reduces them; no loop over rows or windows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntFlag
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from iotdb_engine.types import BATCH_DTYPES, T_MAX, T_MIN, Aggregate, Column, ColumnBatch, DataType

Times = npt.NDArray[np.int64]

Values = npt.NDArray[Any] | Sequence[npt.NDArray[Any]]
"""Values of one series, or of several at the same times."""

NUMERIC_TYPES = frozenset({DataType.INT32, DataType.INT64, DataType.FLOAT, DataType.DOUBLE})


class Windows(NamedTuple):
    """Inclusive ranges of time, both ends ascending; a range with low > high is empty.

    Attributes:
        lows: int64[n].
        highs: int64[n].
    """

    lows: Times
    highs: Times

    def containing(
        self, lows: Times, highs: Times
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
        """Return for inclusive ranges in ascending order a window each, and whether it holds it.

        None is told to be held where windows overlap: it might lie in several.
        """
        at = np.minimum(self.highs.searchsorted(lows), len(self.highs) - 1)
        if self.overlap:
            return at, np.zeros(len(lows), np.bool_)
        return at, (self.lows[at] <= lows) & (highs <= self.highs[at])

    @property
    def overlap(self) -> bool:
        """Tell whether any two have a time in common."""
        return bool((self.lows[1:] <= self.highs[:-1]).any())

    @classmethod
    def single(cls, low: int = T_MIN, high: int = T_MAX) -> Windows:
        """Return one window."""
        return cls(np.array([low], np.int64), np.array([high], np.int64))

    @property
    def are_empty(self) -> bool:
        """Tell whether no window holds any time."""
        if len(self.lows) == 1:
            return bool(self.lows[0] > self.highs[0])
        return not (self.lows <= self.highs).any()

    def clipped(self, low: int, high: int) -> Windows:
        """Return the windows' parts that lie in [low, high]."""
        if low <= T_MIN and high >= T_MAX:
            return self
        if len(self.lows) == 1:
            return Windows.single(max(low, int(self.lows[0])), min(high, int(self.highs[0])))
        return Windows(np.maximum(self.lows, low), np.minimum(self.highs, high))


class Needs(IntFlag):
    """Which parts of an aggregate are wanted besides the count."""

    NOTHING = 0
    FIRST = 1
    """First value and its time."""
    LAST = 2
    """Last value and its time."""
    EXTREMES = 4
    TOTAL = 8
    EVERYTHING = 15


_FIRST, _LAST, _EXTREMES, _TOTAL = map(int, (Needs.FIRST, Needs.LAST, Needs.EXTREMES, Needs.TOTAL))


@dataclass
class WindowAggregates:
    """Partial aggregates of one series, an element for each window; changed in place.

    Of several series if the arrays are [series, windows] (`table`); whatever reads or merges
    aggregates takes both forms. Arrays that are not needed, or that the type does not have
    (EXTREMES and TOTAL of BOOLEAN and TEXT), are None. Where `count` is 0 the other arrays mean
    nothing.
    """

    data_type: DataType
    count: npt.NDArray[np.int64]
    min_time: Times | None = None
    max_time: Times | None = None
    first: npt.NDArray[Any] | None = None
    last: npt.NDArray[Any] | None = None
    minimum: npt.NDArray[Any] | None = None
    maximum: npt.NDArray[Any] | None = None
    total: npt.NDArray[np.float64] | None = None

    @classmethod
    def empty(
        cls, data_type: DataType, count: int, needs: Needs, series: int | None = None
    ) -> WindowAggregates:
        """Return the aggregates of nothing over `count` windows.

        Args:
            data_type: of the values.
            count: of windows.
            needs: which arrays there are.
            series: so many series with points at the same times: arrays of values have a row for
                each, until they are `split`.
        """
        dtype = BATCH_DTYPES[data_type]
        shape = (count,) if series is None else (series, count)
        result = cls(data_type, np.zeros(count, np.int64))
        wanted = int(needs)  # of plain numbers `&` is many times faster
        if not wanted:
            return result
        numeric = data_type in NUMERIC_TYPES
        if wanted & _FIRST:
            result.min_time = np.zeros(count, np.int64)
            result.first = np.zeros(shape, dtype)
        if wanted & _LAST:
            result.max_time = np.zeros(count, np.int64)
            result.last = np.zeros(shape, dtype)
        if numeric and wanted & _EXTREMES:
            result.minimum = np.zeros(shape, dtype)
            result.maximum = np.zeros(shape, dtype)
        if numeric and wanted & _TOTAL:
            result.total = np.zeros(shape, np.float64)
        return result

    @classmethod
    def table(
        cls, data_type: DataType, series: int, windows: int, needs: Needs
    ) -> WindowAggregates:
        """Return the aggregates of nothing, of several series with times of their own."""
        flat = cls.empty(data_type, series * windows, needs)
        return flat._each(lambda array: array.reshape(series, windows))

    def as_table(self) -> WindowAggregates:
        """Return the aggregates of one series as those of several, as views."""
        return self._each(_with_row)

    def blank(self) -> WindowAggregates:
        """Return aggregates of nothing, with the same arrays."""
        return self._each(np.zeros_like)

    def row(self, number: int | np.intp) -> WindowAggregates:
        """Return the aggregates of one of several series, as views."""
        return self._each(lambda array: array[number])

    def take_rows(self, rows: npt.NDArray[np.intp]) -> WindowAggregates:
        """Return a copy of the aggregates of some of several series."""
        return self._each(lambda array: array[rows])

    def put_rows(self, rows: npt.NDArray[np.intp] | np.intp, part: WindowAggregates) -> None:
        """Set the aggregates of some of several series; what has no rows goes to each."""
        for mine, theirs in zip(self._all_arrays(), part._all_arrays(), strict=True):
            if mine is not None:
                mine[rows] = theirs

    def put_column(
        self, rows: npt.NDArray[np.intp], window: int, aggregates: Sequence[Aggregate]
    ) -> None:
        """Set one window's aggregates of some of several series; none is of nothing."""
        self.count[rows, window] = [one.count for one in aggregates]
        for name in ("min_time", "max_time", "first", "last", "minimum", "maximum", "total"):
            mine = getattr(self, name)
            if mine is not None:
                mine[rows, window] = [getattr(one, name) for one in aggregates]

    def _all_arrays(self) -> Iterator[npt.NDArray[Any] | None]:
        yield self.count
        for _, array in self._arrays():
            yield array

    def _each(self, make: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> WindowAggregates:
        """Return aggregates of what is made of each array."""
        return WindowAggregates(
            self.data_type,
            make(self.count),
            None if self.min_time is None else make(self.min_time),
            None if self.max_time is None else make(self.max_time),
            None if self.first is None else make(self.first),
            None if self.last is None else make(self.last),
            None if self.minimum is None else make(self.minimum),
            None if self.maximum is None else make(self.maximum),
            None if self.total is None else make(self.total),
        )

    def put(self, window: int, aggregate: Aggregate) -> None:
        """Set one window's aggregate."""
        self.count[window] = aggregate.count
        if not aggregate.count:
            return
        if self.min_time is not None and self.first is not None:
            self.min_time[window] = aggregate.min_time
            self.first[window] = aggregate.first
        if self.max_time is not None and self.last is not None:
            self.max_time[window] = aggregate.max_time
            self.last[window] = aggregate.last
        if self.minimum is not None and self.maximum is not None:
            self.minimum[window] = aggregate.minimum
            self.maximum[window] = aggregate.maximum
        if self.total is not None:
            self.total[window] = aggregate.total

    def add_rows(self, windows: Windows, times: Times, column: Column) -> None:
        """Add a batch's points, all later than those added before.

        Args:
            windows: parallel to the aggregates.
            times: int64[n], ascending.
            column: the values at these times.
        """
        values = column.values
        if column.valid is not None:
            rows = np.flatnonzero(column.valid)
            if len(rows) < len(times):
                times, values = times[rows], values[rows]
        if len(times):
            self.add_values(windows, times, values)

    def add_values(self, windows: Windows, times: Times, values: Values) -> None:
        """Add points, all later than those added before.

        Args:
            windows: parallel to the aggregates.
            times: int64[n], ascending, n >= 1.
            values: [n], or an [n] for each of several series.
        """
        first = int(windows.highs.searchsorted(times[0]))
        stop = int(windows.lows.searchsorted(times[-1], side="right"))
        if first >= stop:
            return
        starts = times.searchsorted(windows.lows[first:stop])
        ends = times.searchsorted(windows.highs[first:stop], side="right")
        hit = np.flatnonzero(ends > starts)
        if len(hit):
            self._add_runs(hit + first, starts[hit], ends[hit], times, values)

    def _add_runs(
        self,
        at: npt.NDArray[np.intp],
        starts: npt.NDArray[np.intp],
        ends: npt.NDArray[np.intp],
        times: Times,
        values: Values,
    ) -> None:
        """Add rows [starts[i], ends[i]) to window at[i]; no run is empty."""
        fresh = self.count[at] == 0
        if self.min_time is not None and self.first is not None:
            new = at[fresh]
            self.min_time[new] = times[starts[fresh]]
            self.first[..., new] = _cells(values, starts[fresh])
        if self.max_time is not None and self.last is not None:
            self.max_time[at] = times[ends - 1]
            self.last[..., at] = _cells(values, ends - 1)
        if self.minimum is not None and self.maximum is not None:
            # fmin and fmax pass over NaN unless there is nothing else
            low = _reduce(np.fmin, values, starts, ends)
            high = _reduce(np.fmax, values, starts, ends)
            self.minimum[..., at] = np.where(fresh, low, np.fmin(low, self.minimum[..., at]))
            self.maximum[..., at] = np.where(fresh, high, np.fmax(high, self.maximum[..., at]))
        if self.total is not None:
            with np.errstate(over="ignore", invalid="ignore"):  # infinities and NaN are results
                self.total[..., at] += _reduce(np.add, values, starts, ends, np.float64)
        self.count[at] += ends - starts

    def add_pages(self, at: npt.NDArray[np.intp], pages: npt.NDArray[Any]) -> None:
        """Add points by what their pages' statistics say of them, before anything else is added.

        Args:
            at: number of the window that each page lies in, ascending.
            pages: rows of a page table in time order, without overlaps, [n] or [series, n]; not of
                TEXT if FIRST or LAST is needed, since statistics hold no texts.
        """
        starts = np.concatenate(([0], np.flatnonzero(np.diff(at)) + 1)).astype(np.intp)
        ends = np.append(starts[1:], len(at)) - 1
        to = at[starts]
        one = pages if pages.ndim == 1 else pages[0]
        self.count[to] = np.add.reduceat(one["count"].astype(np.int64), starts)
        if self.min_time is not None and self.first is not None:
            self.min_time[to] = one["low"][starts]
            self.first[..., to] = pages["first"][..., starts]
        if self.max_time is not None and self.last is not None:
            self.max_time[to] = one["high"][ends]
            self.last[..., to] = pages["last"][..., ends]
        if self.minimum is not None and self.maximum is not None:
            self.minimum[..., to] = np.fmin.reduceat(pages["minimum"], starts, axis=-1)
            self.maximum[..., to] = np.fmax.reduceat(pages["maximum"], starts, axis=-1)
        if self.total is not None:
            with np.errstate(over="ignore", invalid="ignore"):
                self.total[..., to] = np.add.reduceat(pages["total"], starts, axis=-1)

    def split(self) -> list[WindowAggregates]:
        """Return the aggregates of each series by itself."""
        values = (self.first, self.last, self.minimum, self.maximum, self.total)
        series = next((len(one) for one in values if one is not None), 1)
        return [
            WindowAggregates(
                self.data_type,
                self.count.copy(),
                None if self.min_time is None else self.min_time.copy(),
                None if self.max_time is None else self.max_time.copy(),
                *(None if one is None else one[row] for one in values),
            )
            for row in range(series)
        ]

    def merge(self, other: WindowAggregates) -> None:
        """Add the aggregates of other points over the same windows (of any other time)."""
        mine, theirs = self.count > 0, other.count > 0
        if self.min_time is not None and self.first is not None:
            assert other.min_time is not None
            assert other.first is not None
            take = theirs & (~mine | (other.min_time < self.min_time))
            self.min_time[take] = other.min_time[take]
            self.first[..., take] = other.first[..., take]
        if self.max_time is not None and self.last is not None:
            assert other.max_time is not None
            assert other.last is not None
            take = theirs & (~mine | (other.max_time >= self.max_time))
            self.max_time[take] = other.max_time[take]
            self.last[..., take] = other.last[..., take]
        if self.minimum is not None and self.maximum is not None:
            assert other.minimum is not None
            assert other.maximum is not None
            low = np.where(mine, np.fmin(self.minimum, other.minimum), other.minimum)
            high = np.where(mine, np.fmax(self.maximum, other.maximum), other.maximum)
            self.minimum = np.where(theirs, low, self.minimum)
            self.maximum = np.where(theirs, high, self.maximum)
        if self.total is not None:
            assert other.total is not None
            with np.errstate(over="ignore", invalid="ignore"):
                self.total = self.total + np.where(theirs, other.total, 0.0)
        self.count = self.count + other.count

    def only(self, needs: Needs) -> WindowAggregates:
        """Return a copy that holds no more than what is needed."""
        first, last = needs & Needs.FIRST, needs & Needs.LAST
        extremes = needs & Needs.EXTREMES
        return WindowAggregates(
            self.data_type,
            self.count.copy(),
            _copied(self.min_time, first),
            _copied(self.max_time, last),
            _copied(self.first, first),
            _copied(self.last, last),
            _copied(self.minimum, extremes),
            _copied(self.maximum, extremes),
            _copied(self.total, needs & Needs.TOTAL),
        )

    def to_batch(self) -> ColumnBatch:
        """Return the windows that hold points as a batch: times are the windows' numbers.

        Of several series the windows are numbered through, one series after another.
        """
        rows = np.flatnonzero(self.count)
        columns = [Column(DataType.INT64, self.count.reshape(-1)[rows])]
        columns += [
            Column(kind, values.reshape(-1)[rows])
            for kind, values in self._arrays()
            if values is not None
        ]
        return ColumnBatch(rows.astype(np.int64), tuple(columns))

    def fill(self, batch: ColumnBatch) -> None:
        """Take over what `to_batch` of aggregates of the same form was made of.

        Raises:
            ValueError: the batch does not fit.
        """
        rows = batch.times
        if len(rows) and not (rows.min() >= 0 and rows.max() < self.count.size):
            raise ValueError("an aggregate's window is out of range")
        targets = [array for array in self._all_arrays() if array is not None]
        for target, column in zip(targets, batch.columns, strict=True):
            target.reshape(-1)[rows] = column.values

    def _arrays(self) -> list[tuple[DataType, npt.NDArray[Any] | None]]:
        kind = self.data_type
        return [
            (DataType.INT64, self.min_time),
            (kind, self.first),
            (DataType.INT64, self.max_time),
            (kind, self.last),
            (kind, self.minimum),
            (kind, self.maximum),
            (DataType.DOUBLE, self.total),
        ]


def _with_row(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array if array.ndim > 1 else array[np.newaxis]


def _copied(array: npt.NDArray[Any] | None, wanted: int) -> Any:  # noqa: ANN401
    return array.copy() if array is not None and wanted else None


def _cells(values: Values, rows: npt.NDArray[np.intp]) -> npt.NDArray[Any]:
    if isinstance(values, np.ndarray):
        return values[rows]
    return np.array([one[rows] for one in values])


def _reduce(
    ufunc: np.ufunc,
    values: Values,
    starts: npt.NDArray[np.intp],
    ends: npt.NDArray[np.intp],
    dtype: type[np.float64] | None = None,
) -> npt.NDArray[Any]:
    """Reduce rows [starts[i], ends[i]) for each i; runs may leave gaps and overlap.

    `reduceat` takes every second of its segments [start, end), [end, next start), …; an index must
    be a row, so the last end is left out and the values are cut there. Where each run begins at the
    end of the one before, the ends are not needed at all.

    Args:
        ufunc: to reduce with.
        values: [n], or an [n] for each of several series, which gives a row for each.
        starts: ascending.
        ends: ascending, each above its start.
        dtype: what the values are made before; None: they stay.
    """
    first, last = int(starts[0]), int(ends[-1])
    twice = len(ends) > 1 and int(ends[-2]) == last  # windows that overlap end at the same row
    side_by_side = bool((ends[:-1] == starts[1:]).all())
    if side_by_side:
        bounds = starts - first
    else:
        bounds = np.empty(2 * len(starts), np.intp)
        bounds[::2] = starts
        bounds[1::2] = ends
        bounds -= first
        if not twice:
            bounds = bounds[:-1]

    def reduce(one: npt.NDArray[Any]) -> npt.NDArray[Any]:
        part = one[first:last]
        if dtype is not None:
            part = part.astype(dtype, copy=False)
        if twice and not side_by_side:
            part = np.concatenate((part, part[-1:]))
        return ufunc.reduceat(part, bounds)

    reduced = reduce(values) if isinstance(values, np.ndarray) else np.array([*map(reduce, values)])
    return reduced if side_by_side else reduced[..., ::2]
