"""Runs of successive zero (false) or non-zero points: how long, how many."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cluster.query.functions.function import (
    NUMERIC,
    Attributes,
    Bind,
    BoundFunction,
    DelayedFunction,
    FunctionError,
    Points,
    Times,
    Values,
    integer,
    single_argument,
)
from iotdb_engine.types import T_MAX, DataType


class _Runs:
    """Measures runs; one is told when it is over, at the time of its first point."""

    def __init__(self, *, of_zeros: bool, counted: bool, least: int, most: int) -> None:
        self._of_zeros = of_zeros
        self._counted = counted
        self._least = least
        self._most = most
        self._open: tuple[int, int, int] | None = None
        """First time, last time and number of points of the run that is not over yet."""

    def push(self, times: Times, values: Values) -> Points:
        if not len(times):
            return Points(times, times)
        inside = (values == 0) == self._of_zeros
        edges = np.flatnonzero(np.diff(inside, prepend=False, append=False))
        starts, ends = edges[::2], edges[1::2]  # runs are rows [start, end)
        firsts, lasts, counts = times[starts], times[ends - 1], ends - starts
        if self._open is not None:
            first, last, count = self._open
            if len(starts) and starts[0] == 0:
                firsts[0], counts[0] = first, counts[0] + count
            else:
                firsts = np.append(np.int64(first), firsts)
                lasts = np.append(np.int64(last), lasts)
                counts = np.append(count, counts)
        self._open = None
        if len(starts) and ends[-1] == len(times):
            self._open = int(firsts[-1]), int(lasts[-1]), int(counts[-1])
            firsts, lasts, counts = firsts[:-1], lasts[:-1], counts[:-1]
        return self._told(firsts, lasts, counts)

    def finish(self) -> Points:
        first, last, count = ([part] for part in self._open) if self._open else ([], [], [])
        self._open = None
        return self._told(
            np.array(first, np.int64), np.array(last, np.int64), np.array(count, np.int64)
        )

    def _told(self, firsts: Times, lasts: Times, counts: Values) -> Points:
        measure = counts.astype(np.int64) if self._counted else lasts - firsts
        rows = np.flatnonzero((measure >= self._least) & (measure <= self._most))
        return Points(firsts[rows], measure[rows])


def _runs(*, of_zeros: bool, counted: bool) -> Bind:
    def bind(types: Sequence[DataType], attributes: Attributes) -> BoundFunction:
        single_argument(types, (*NUMERIC, DataType.BOOLEAN))
        lowest = 1 if counted else 0
        least = integer(attributes, "min", lowest)
        most = integer(attributes, "max", T_MAX)
        if most < least:
            raise FunctionError("max can not be smaller than min.")
        if least < lowest:
            raise FunctionError(f"min can not be smaller than {lowest}.")
        return DelayedFunction(
            DataType.INT64,
            lambda: _Runs(of_zeros=of_zeros, counted=counted, least=least, most=most),
        )

    return bind


RUNS: dict[str, Bind] = {
    "zero_duration": _runs(of_zeros=True, counted=False),
    "non_zero_duration": _runs(of_zeros=False, counted=False),
    "zero_count": _runs(of_zeros=True, counted=True),
    "non_zero_count": _runs(of_zeros=False, counted=True),
}
"""By lower-case name."""
