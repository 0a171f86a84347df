"""Aggregates of many series over many windows in one pass.

Problem: a thousand series over a dozen windows are a thousand small problems, each with its own
searches; Python's overhead is ten times the arithmetic. Idea: series that were stored on the same
times (the columns of a device) and have nothing in memory, no deletes and no nulls are solved
together: their pages lie at the same rows, so what is searched for one holds for all. All others
go one by one through the reader.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from iotdb_engine.reader import Reader
from iotdb_engine.series_index import SeriesIndex
from iotdb_engine.types import DataType
from iotdb_engine.windows import NUMERIC_TYPES, Needs, WindowAggregates, Windows


def aggregate_alike(
    reader: Reader,
    kind: DataType,
    indices: Sequence[SeriesIndex],
    windows: Windows,
    needs: Needs,
) -> WindowAggregates:
    """Aggregate series that share their times.

    Args:
        reader: of the snapshot.
        kind: of all the series; see `can_be_alike`.
        indices: of the series, with equal `layout_key`.
        windows: at least one.
        needs: what is wanted besides the count.

    Returns:
        Arrays of values with a row for each series; counts and times are the same for all.
    """
    result = WindowAggregates.empty(kind, len(windows.lows), needs, series=len(indices))
    first = indices[0]
    lows = first.pages["low"]
    if not needs and len(windows.lows) == 1:
        low, high = int(windows.lows[0]), int(windows.highs[0])
        result.count[0] = _count_rows(reader, first, low, high)
        return result
    lo = int(first.top.searchsorted(windows.lows[0]))
    hi = int(lows.searchsorted(windows.highs[-1], side="right"))
    if lo >= hi:
        return result
    at, inside = windows.containing(lows[lo:hi], first.pages["high"][lo:hi])
    numbers = np.arange(lo, hi)
    edges = numbers[~inside]
    if inside.any():
        chosen = numbers[inside]
        result.add_pages(at[inside], np.stack([one.pages[chosen] for one in indices]))
    part = result.blank() if inside.any() and len(edges) else result
    for page in edges.tolist():
        _add_page(part, reader, indices if needs else (), first, windows, page)
    if part is not result:
        result.merge(part)
    return result


def _count_rows(reader: Reader, index: SeriesIndex, low: int, high: int) -> int:
    """Count the rows in an inclusive range; decodes the times of its edges at most."""
    pages = index.pages
    first = int(index.top.searchsorted(low))
    last = int(pages["low"].searchsorted(high, side="right")) - 1
    count = 0
    for page in {first, last} if first <= last else ():
        entry = pages[page]
        if low <= entry["low"] and entry["high"] <= high:
            count += int(entry["rows"])
            continue
        times = reader.pages.times_of(index, page)
        count += int(times.searchsorted(high, side="right")) - int(times.searchsorted(low))
    if last - first > 1:
        count += int(pages["rows"][first + 1 : last].sum(dtype=np.int64))
    return count


def _add_page(
    result: WindowAggregates,
    reader: Reader,
    indices: Sequence[SeriesIndex],
    first: SeriesIndex,
    windows: Windows,
    page: int,
) -> None:
    """Decode a page of each series, and add the rows that any window holds.

    Args:
        result: gets them.
        reader: of the snapshot.
        indices: of the series whose values are wanted: none where rows are only counted.
        first: has the times of all.
        windows: see `aggregate_alike`.
        page: its number.
    """
    times = reader.pages.times_of(first, page)
    start = int(times.searchsorted(windows.lows[0]))
    end = int(times.searchsorted(windows.highs[-1], side="right"))
    if start < end:
        columns = reader.pages.columns_of(indices, page) if indices else ()
        values = [one[start:end] for one in columns]
        result.add_values(windows, times[start:end], values)


def can_be_alike(index: SeriesIndex, kind: DataType, needs: Needs) -> bool:
    """Tell whether a series may be solved together with others of its layout.

    Numbers may, and whatever is only counted.
    """
    if index.layout_key is None or index.kind is not kind:
        return False
    return kind in NUMERIC_TYPES or needs is Needs.NOTHING
