"""Sets of timestamps as sorted, disjoint, inclusive intervals: what WHERE says about time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from iotdb_engine.types import T_MAX, T_MIN


@dataclass(frozen=True)
class TimeSet:
    """A set of timestamps.

    Attributes:
        intervals: inclusive (low, high), ascending, with gaps between them, all within 64 bits.
    """

    intervals: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, intervals: Iterable[tuple[int, int]]) -> TimeSet:
        """Return the union of any inclusive intervals; those with low > high are empty."""
        merged: list[tuple[int, int]] = []
        for low, high in sorted((max(low, T_MIN), min(high, T_MAX)) for low, high in intervals):
            if low > high:
                continue
            if merged and low <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(merged[-1][1], high))
            else:
                merged.append((low, high))
        return cls(tuple(merged))

    @classmethod
    def between(cls, low: int, high: int) -> TimeSet:
        """Return an inclusive interval; low > high: nothing."""
        low, high = max(low, T_MIN), min(high, T_MAX)
        return cls(((low, high),) if low <= high else ())

    def union(self, other: TimeSet) -> TimeSet:
        """Return the timestamps of either."""
        return TimeSet.of(self.intervals + other.intervals)

    def intersection(self, other: TimeSet) -> TimeSet:
        """Return the timestamps of both."""
        mine, theirs = self.intervals, other.intervals
        if len(mine) == len(theirs) == 1:  # mostly
            return TimeSet.between(max(mine[0][0], theirs[0][0]), min(mine[0][1], theirs[0][1]))
        common: list[tuple[int, int]] = []
        i = j = 0
        while i < len(mine) and j < len(theirs):
            low, high = max(mine[i][0], theirs[j][0]), min(mine[i][1], theirs[j][1])
            if low <= high:
                common.append((low, high))
            if mine[i][1] < theirs[j][1]:
                i += 1
            else:
                j += 1
        return TimeSet(tuple(common))

    def complement(self) -> TimeSet:
        """Return all other timestamps."""
        gaps: list[tuple[int, int]] = []
        start = T_MIN
        for low, high in self.intervals:
            gaps.append((start, low - 1))
            start = high + 1
        gaps.append((start, T_MAX))
        # not by `of`: an end that lies outside 64 bits marks an empty gap, it must not be clipped
        return TimeSet(tuple((low, high) for low, high in gaps if low <= high))

    def hull(self) -> TimeSet:
        """Return the smallest single interval that holds the set."""
        if len(self.intervals) <= 1:
            return self
        return TimeSet(((self.intervals[0][0], self.intervals[-1][1]),))

    def within(self, low: int, high: int) -> TimeSet:
        """Return the timestamps that lie in an inclusive range."""
        return self.intersection(TimeSet.between(low, high))

    def mask(self, times: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return bool[n]: which of some times are in the set."""
        lows = np.array([low for low, _ in self.intervals], dtype=np.int64)
        highs = np.array([high for _, high in self.intervals], dtype=np.int64)
        if not len(lows):
            return np.zeros(len(times), dtype=np.bool_)
        # the only interval that can hold t is the last one that starts at or before t
        at = np.searchsorted(lows, times, side="right") - 1
        inside: npt.NDArray[np.bool_] = (at >= 0) & (times <= highs[np.maximum(at, 0)])
        return inside


ALL_TIMES = TimeSet(((T_MIN, T_MAX),))
