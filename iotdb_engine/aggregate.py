"""Aggregates: from arrays, from page statistics, and merged. Pure functions."""

from __future__ import annotations

import math
from functools import reduce
from operator import itemgetter
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from iotdb_engine.merge import Run, compact
from iotdb_engine.page import extremes
from iotdb_engine.types import Aggregate, DataType

Value: TypeAlias = "bool | int | float | bytes | None"

_NUMERIC = (DataType.INT32, DataType.INT64, DataType.FLOAT, DataType.DOUBLE)


_FEW = 6
"""Pages, at most; NumPy adds up more of them in another order."""
_COUNT, _LOW, _HIGH, _FIRST, _LAST, _MINIMUM, _MAXIMUM, _TOTAL = range(1, 9)
"""Places in an entry of a page table."""
_low, _high = itemgetter(_LOW), itemgetter(_HIGH)


def aggregate_run(kind: DataType, run: Run) -> Aggregate:
    """Aggregate the rows of a run."""
    times, values, _ = compact(run)
    if not len(times):
        return Aggregate()
    result = Aggregate(
        count=len(times),
        min_time=int(times[0]),
        max_time=int(times[-1]),
        first=_plain(values[0]),
        last=_plain(values[-1]),
    )
    if kind in _NUMERIC:
        lowest, highest, totals = extremes(values[np.newaxis])
        result.minimum, result.maximum = _plain(lowest[0]), _plain(highest[0])
        result.total = float(totals[0])
    return result


def aggregate_pages(kind: DataType, pages: npt.NDArray[Any]) -> Aggregate:
    """Aggregate rows of page tables, n >= 1, by their statistics alone.

    For TEXT, `first` and `last` stay None: statistics do not hold texts.
    """
    if len(pages) <= _FEW:
        return _aggregate_few(kind, pages)
    low_at, high_at = int(pages["low"].argmin()), int(pages["high"].argmax())
    result = Aggregate(
        count=int(pages["count"].sum(dtype=np.int64)),
        min_time=int(pages["low"][low_at]),
        max_time=int(pages["high"][high_at]),
    )
    if kind is DataType.TEXT:
        return result
    result.first = _typed(kind, pages["first"][low_at])
    result.last = _typed(kind, pages["last"][high_at])
    if kind in _NUMERIC:
        with np.errstate(all="ignore"):
            result.total = float(pages["total"].sum())
            result.minimum = _typed(kind, np.fmin.reduce(pages["minimum"]))
            result.maximum = _typed(kind, np.fmax.reduce(pages["maximum"]))
    return result


def last_of_pages(kind: DataType, pages: npt.NDArray[Any]) -> tuple[int, Any]:
    """Return the latest time and value of pages that follow each other, by statistics; no TEXT."""
    entry = pages[-1].item()
    value = entry[_LAST]
    return entry[_HIGH], bool(value) if kind is DataType.BOOLEAN else value


def _aggregate_few(kind: DataType, pages: npt.NDArray[Any]) -> Aggregate:
    """Aggregate a page table of few rows: NumPy would take several times as long."""
    rows: list[tuple[Any, ...]] = pages.tolist()
    early = min(rows, key=_low)
    late = max(rows, key=_high)
    result = Aggregate(sum([row[_COUNT] for row in rows]), early[_LOW], late[_HIGH])
    if kind is DataType.TEXT:
        return result
    result.first, result.last = early[_FIRST], late[_LAST]
    if kind is DataType.BOOLEAN:
        result.first, result.last = bool(result.first), bool(result.last)
    if kind in _NUMERIC:
        result.minimum = reduce(_lower, [row[_MINIMUM] for row in rows])
        result.maximum = reduce(_higher, [row[_MAXIMUM] for row in rows])
        result.total = sum([row[_TOTAL] for row in rows], 0.0)
    return result


def _lower(x: Value, y: Value) -> Value:
    return _extreme(x, y, lowest=True)


def _higher(x: Value, y: Value) -> Value:
    return _extreme(x, y, lowest=False)


def merge_aggregates(a: Aggregate, b: Aggregate) -> Aggregate:
    """Combine aggregates of disjoint sets of rows of one series."""
    if not a.count:
        return b
    if not b.count:
        return a
    early, late = (a, b) if a.min_time <= b.min_time else (b, a)
    end = a if a.max_time > b.max_time else b
    return Aggregate(
        count=a.count + b.count,
        min_time=early.min_time,
        max_time=end.max_time,
        first=early.first,
        last=end.last,
        minimum=_extreme(early.minimum, late.minimum, lowest=True),
        maximum=_extreme(early.maximum, late.maximum, lowest=False),
        total=None if a.total is None or b.total is None else a.total + b.total,
    )


def _extreme(x: Value, y: Value, *, lowest: bool) -> Value:
    if not isinstance(x, (int, float)) or not isinstance(y, (int, float)):
        return None
    if isinstance(x, float) and math.isnan(x):
        return y
    if isinstance(y, float) and math.isnan(y):
        return x
    return min(x, y) if lowest else max(x, y)


def _typed(kind: DataType, value: np.generic) -> Value:
    plain: Value = value.item()
    return bool(plain) if kind is DataType.BOOLEAN else plain


def _plain(value: Any) -> Value:  # noqa: ANN401 an element of any array
    plain: Value = value.item() if isinstance(value, np.generic) else value
    return plain
