"""Pure functions on sorted runs: making times unique, merging by priority, aligning, windows.

A run is (times, values, valid): times int64[n], strictly ascending; values of the same length;
valid bool[n] or None when every row has a value. Nothing here loops over rows in Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from iotdb_engine.types import BATCH_DTYPES, Column, ColumnBatch, DataType

Times = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Run(NamedTuple):
    """Rows of one series; see the module's text."""

    times: Times
    values: npt.NDArray[Any]
    valid: Mask | None


class Order(NamedTuple):
    """How rows in arrival order become strictly ascending unique times.

    Attributes:
        times: int64[m], strictly ascending.
        permutation: int64[n], the stable sort by time; None when rows are in order already.
        starts: int64[m], where each group of equal times starts in sorted order; None when no time
            occurs twice.
    """

    times: Times
    permutation: npt.NDArray[np.int64] | None
    starts: npt.NDArray[np.int64] | None


def order_rows(times: Times) -> Order:
    """Find the order of rows; the later of two rows with one time is the later in its group."""
    if len(times) < 2:
        return Order(times, None, None)
    steps = times[1:] > times[:-1]
    if steps.all():
        return Order(times, None, None)
    permutation: npt.NDArray[np.int64] | None = None
    if not (times[1:] >= times[:-1]).all():
        permutation = np.argsort(times, kind="stable")
        times = times[permutation]
        steps = times[1:] > times[:-1]
        if steps.all():
            return Order(times, permutation, None)
    starts = np.concatenate((np.zeros(1, np.int64), np.flatnonzero(steps) + 1))
    return Order(times[starts], permutation, starts)


def last_wins(order: Order, values: npt.NDArray[Any], valid: Mask | None) -> Run:
    """Bring a column into an order: of the cells with one time, the last that is not null."""
    if order.permutation is not None:
        values = values[order.permutation]
        valid = None if valid is None else valid[order.permutation]
    if order.starts is None:
        return Run(order.times, values, valid)
    if valid is None:
        ends = np.concatenate((order.starts[1:], np.array([len(values)]))) - 1
        return Run(order.times, values[ends], None)
    rows = np.where(valid, np.arange(len(values)), -1)
    last = np.maximum.reduceat(rows, order.starts)
    found = last >= order.starts
    # A group without any value takes its first cell as a placeholder.
    chosen = np.where(found, last, order.starts)
    return Run(order.times, values[chosen], None if found.all() else found)


def picked_rows(order: Order, count: int) -> npt.NDArray[np.int64] | None:
    """Return which rows, in arrival order, a column without nulls keeps; None for all as they are.

    The same rows as `last_wins` takes.

    Args:
        order: of the rows.
        count: how many rows there are.
    """
    if order.starts is None:
        return order.permutation
    ends = np.concatenate((order.starts[1:], np.array([count]))) - 1
    return ends if order.permutation is None else order.permutation[ends]


def compact(run: Run) -> Run:
    """Return only the rows that have a value."""
    if run.valid is None:
        return run
    return Run(run.times[run.valid], run.values[run.valid], None)


def slice_run(run: Run, t_min: int, t_max: int) -> Run:
    """Return the rows in an inclusive range."""
    times = run.times
    if not len(times) or (times[0] >= t_min and times[-1] <= t_max):
        return run
    first = int(times.searchsorted(t_min))
    last = int(times.searchsorted(t_max, side="right"))
    valid = None if run.valid is None else run.valid[first:last]
    return Run(times[first:last], run.values[first:last], valid)


def merge_runs(runs: Sequence[Run]) -> Run:
    """Merge runs of one series, in ascending priority, at least one.

    Runs that do not overlap in time are put one after another; otherwise rows are sorted by time,
    and of equal times the one of the highest priority that is not null wins.
    """
    if len(runs) == 1:
        return runs[0]
    runs = [run for run in runs if len(run.times)]
    if len(runs) < 2:
        return runs[0] if runs else Run(np.empty(0, np.int64), np.empty(0, np.float64), None)
    in_time = sorted(runs, key=lambda run: int(run.times[0]))
    if all(a.times[-1] < b.times[0] for a, b in pairwise(in_time)):
        valid = None
        if any(run.valid is not None for run in in_time):
            valid = np.concatenate([_mask(run) for run in in_time])
        return Run(
            np.concatenate([run.times for run in in_time]),
            np.concatenate([run.values for run in in_time]),
            valid,
        )
    present = [compact(run) for run in runs]
    order = order_rows(np.concatenate([run.times for run in present]))
    return last_wins(order, np.concatenate([run.values for run in present]), None)


def _mask(run: Run) -> Mask:
    return np.ones(len(run.times), np.bool_) if run.valid is None else run.valid


def cut_windows(
    lows: Times,
    highs: Times,
    counts: npt.NDArray[np.int64],
    t_min: int,
    t_max: int,
    *,
    target: int,
    descending: bool,
) -> list[tuple[int, int]]:
    """Cut [t_min, t_max] into windows so that a scan never holds much at once.

    Args:
        lows: first time of each page, any order.
        highs: last time of each page.
        counts: values in each page.
        t_min: inclusive.
        t_max: inclusive.
        target: values that a window should end or begin in about.
        descending: cut where pages begin, not where they end; windows come in reverse.

    Returns:
        Inclusive windows that cover the range exactly; none when there is no page.
    """
    if not len(lows):
        return []
    borders = np.maximum(lows, t_min) if descending else np.minimum(highs, t_max)
    # The complement reverses the order of int64 and, unlike the negative, cannot overflow.
    order = np.argsort(~borders if descending else borders, kind="stable")
    borders = borders[order]
    filled = np.cumsum(counts[order]) // target
    cuts = np.unique(borders[np.flatnonzero(filled[1:] != filled[:-1])]).tolist()
    windows = []
    if descending:
        high = t_max
        for cut in reversed(cuts):
            if t_min < cut <= high:
                windows.append((cut, high))
                high = cut - 1
        windows.append((t_min, high))
        return windows
    low = t_min
    for cut in cuts:
        if low <= cut < t_max:
            windows.append((low, cut))
            low = cut + 1
    windows.append((low, t_max))
    return windows


class Aligner:
    """Rows of several series in one window, as batches of the union of their timestamps."""

    def __init__(self, runs: Sequence[Run | None], kinds: Sequence[DataType]) -> None:
        """Find the union.

        Args:
            runs: one per series; None for no rows.
            kinds: parallel to `runs`.
        """
        self._kinds = kinds
        present = [run for run in runs if run is not None and len(run.times)]
        self._same = bool(present) and all(
            run.times is present[0].times or np.array_equal(run.times, present[0].times)
            for run in present[1:]
        )
        self._runs: list[Run | None] = [
            run if run is not None and len(run.times) else None for run in runs
        ]
        if self._same:
            self.times = present[0].times
            self._drop_empty_rows(present)
        elif present:
            self._runs = [None if run is None else compact(run) for run in self._runs]
            filled = [run.times for run in self._runs if run is not None]
            self.times = np.unique(np.concatenate(filled))
        else:
            self.times = np.empty(0, np.int64)

    def _drop_empty_rows(self, present: Sequence[Run]) -> None:
        if any(run.valid is None for run in present):
            return
        some = np.logical_or.reduce([run.valid for run in present if run.valid is not None])
        if some.all():
            return
        self.times = self.times[some]
        self._runs = [
            None
            if run is None
            else Run(self.times, run.values[some], None if run.valid is None else run.valid[some])
            for run in self._runs
        ]

    def batch(self, lo: int, hi: int, *, descending: bool) -> ColumnBatch:
        """Return rows [lo, hi) of the union, in reverse if `descending`."""
        times = self.times[lo:hi]
        columns = [
            self._column(run, kind, lo, hi, times)
            for run, kind in zip(self._runs, self._kinds, strict=True)
        ]
        if not descending:
            return ColumnBatch(times, tuple(columns))
        return ColumnBatch(
            np.ascontiguousarray(times[::-1]),
            tuple(
                Column(
                    column.type,
                    np.ascontiguousarray(column.values[::-1]),
                    None if column.valid is None else np.ascontiguousarray(column.valid[::-1]),
                )
                for column in columns
            ),
        )

    def _column(self, run: Run | None, kind: DataType, lo: int, hi: int, times: Times) -> Column:
        if run is None:
            return _empty_column(kind, hi - lo)
        if self._same:
            valid = None if run.valid is None else run.valid[lo:hi]
            if valid is not None and valid.all():
                valid = None
            return Column(kind, run.values[lo:hi], valid)
        if not len(run.times) or not len(times):
            return _empty_column(kind, hi - lo)
        first = int(np.searchsorted(run.times, times[0]))
        last = int(np.searchsorted(run.times, times[-1], side="right"))
        if last - first == hi - lo:
            return Column(kind, run.values[first:last], None)
        column = _empty_column(kind, hi - lo)
        valid = column.valid
        if last > first and valid is not None:
            rows = np.searchsorted(times, run.times[first:last])
            column.values[rows] = run.values[first:last]
            valid[rows] = True
        return column


def _empty_column(kind: DataType, count: int) -> Column:
    return Column(kind, blank_values(kind, count), np.zeros(count, np.bool_))


def blank_values(kind: DataType, count: int) -> npt.NDArray[Any]:
    """Return an array of placeholders."""
    if kind is DataType.TEXT:
        return np.full(count, b"", object)
    return np.zeros(count, BATCH_DTYPES[kind])
