"""Aggregates of many series over many windows in one pass.

Problem: a thousand series over a dozen windows are a thousand small problems, each with its own
searches; Python's overhead is ten times the arithmetic. Idea: series that were stored on the same
times (the columns of a device) and have nothing in memory, no deletes and no nulls are solved
together: their pages lie at the same rows, so what is searched for one holds for all, and a
reduction takes a block of columns at once. All others go one by one through the reader.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from iotdb_engine.reader import Reader
from iotdb_engine.series_index import SeriesIndex
from iotdb_engine.types import BATCH_DTYPES, DataType
from iotdb_engine.windows import NUMERIC_TYPES, Needs, WindowAggregates, Windows

_BLOCK = 64
"""Series that are solved together at most."""


def aggregate_alike(
    reader: Reader,
    kind: DataType,
    indices: Sequence[SeriesIndex],
    windows: Windows,
    needs: Needs,
) -> list[WindowAggregates]:
    """Aggregate series that share their times.

    Args:
        reader: of the snapshot.
        kind: of all the series; a number.
        indices: of the series, with equal `layout_key`.
        windows: at least one.
        needs: what is wanted besides the count.
    """
    found: list[WindowAggregates] = []
    for lo in range(0, len(indices), _BLOCK):
        block = _Block(reader, kind, indices[lo : lo + _BLOCK], windows, needs)
        found.extend(block.aggregate())
    return found


def can_be_alike(index: SeriesIndex, kind: DataType) -> bool:
    """Tell whether a series may be solved together with others of its layout."""
    return index.layout_key is not None and index.kind is kind and kind in NUMERIC_TYPES


class _Block:
    def __init__(
        self,
        reader: Reader,
        kind: DataType,
        indices: Sequence[SeriesIndex],
        windows: Windows,
        needs: Needs,
    ) -> None:
        self._reader = reader
        self._kind = kind
        self._indices = indices
        self._windows = windows
        self._needs = needs
        # Used for one page after another: fresh memory would cost more than the rest.
        self._buffer: npt.NDArray[Any] = np.empty((len(indices), 0), BATCH_DTYPES[kind])

    def aggregate(self) -> list[WindowAggregates]:
        first = self._indices[0]
        windows = self._windows
        result = WindowAggregates.empty(
            self._kind, len(windows.lows), self._needs, series=len(self._indices)
        )
        lo = int(np.searchsorted(first.top, windows.lows[0]))
        hi = int(np.searchsorted(first.pages["low"], windows.highs[-1], side="right"))
        if lo >= hi:
            return result.split()
        at, inside = windows.containing(first.pages["low"][lo:hi], first.pages["high"][lo:hi])
        numbers = np.arange(lo, hi)
        edges = numbers[~inside]
        if inside.any():
            chosen = numbers[inside]
            result.add_pages(at[inside], np.stack([one.pages[chosen] for one in self._indices]))
        part = result.blank() if inside.any() and len(edges) else result
        for page in edges.tolist():
            self._add_page(part, page)
        if part is not result:
            result.merge(part)
        return result.split()

    def _add_page(self, result: WindowAggregates, page: int) -> None:
        """Decode a page of each series, the rows that any window holds."""
        windows, reader = self._windows, self._reader
        low, high = int(windows.lows[0]), int(windows.highs[-1])
        times = reader.page_times(self._indices[0], page)
        start = int(np.searchsorted(times, low))
        end = int(np.searchsorted(times, high, side="right"))
        if start >= end:
            return
        if self._buffer.shape[1] < end - start:
            self._buffer = np.empty((len(self._indices), len(times)), self._buffer.dtype)
        values = self._buffer[:, : end - start]
        for row, index in enumerate(self._indices):
            values[row] = reader.page_values(index, page)[start:end]
        result.add_values(windows, times[start:end], values)
