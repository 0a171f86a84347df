"""Functions of 1.x that thin out a series: buckets of points, M4, changes (sql.md 7.4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from cluster.query.functions.function import (
    NUMERIC,
    Attributes,
    Bind,
    BoundFunction,
    DelayedFunction,
    FunctionError,
    Points,
    PointStep,
    Times,
    Values,
    integer,
    number,
    over_points,
    single_argument,
)
from cluster.query.functions.outliers import FAR, outliers
from iotdb_engine.types import BATCH_DTYPES, DataType

Groups = npt.NDArray[np.int64]

_Number = Callable[[int, Times], Groups]
"""How many points came before, times → the group of each point, ascending; -1: in none."""

_Pick = Callable[[Groups, Times, Values], Points]
"""Points of whole groups → what stands for them."""


class _Grouped:
    """Hands on whole groups; the points of the last one wait for those that may follow."""

    def __init__(self, data_type: DataType, number_of: _Number, pick: _Pick) -> None:
        self._number_of = number_of
        self._pick = pick
        self._seen = 0
        self._groups = np.zeros(0, np.int64)
        self._times = np.zeros(0, np.int64)
        self._values = np.zeros(0, BATCH_DTYPES[data_type])

    def push(self, times: Times, values: Values) -> Points:
        groups = self._number_of(self._seen, times)
        self._seen += len(times)
        inside = groups >= 0
        groups = np.concatenate((self._groups, groups[inside]))
        times = np.concatenate((self._times, times[inside]))
        values = np.concatenate((self._values, values[inside]))
        whole = int(np.searchsorted(groups, groups[-1])) if len(groups) else 0
        self._groups, self._times, self._values = groups[whole:], times[whole:], values[whole:]
        return self._picked(groups[:whole], times[:whole], values[:whole])

    def finish(self) -> Points:
        return self._picked(self._groups, self._times, self._values)

    def _picked(self, groups: Groups, times: Times, values: Values) -> Points:
        return self._pick(groups, times, values) if len(times) else Points(times, values)


def _starts(groups: Groups) -> npt.NDArray[np.intp]:
    return np.concatenate(([0], np.flatnonzero(np.diff(groups)) + 1)).astype(np.intp)


def _m4(groups: Groups, times: Times, values: Values) -> Points:
    """Return first, last, least and greatest point of each group, each once."""
    starts = _starts(groups)
    chosen = np.zeros(len(times), np.bool_)
    chosen[starts] = True
    chosen[np.append(starts[1:], len(times)) - 1] = True
    _, ranks = np.unique(values, return_inverse=True)
    for order in (ranks, -ranks):
        chosen[np.lexsort((order, groups))[starts]] = True
    return Points(times[chosen], values[chosen])


def _random(groups: Groups, times: Times, values: Values) -> Points:
    """Return one point of each group, by a hash of its time: the same whenever it is asked."""
    starts = _starts(groups)
    lengths = np.diff(np.append(starts, len(times)))
    mixed = (times[starts].astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(33)
    rows = starts + mixed.astype(np.int64) % lengths
    return Points(times[rows], values[rows])


def _aggregated(compute: Callable[[Values, npt.NDArray[np.intp]], Values]) -> _Pick:
    def pick(groups: Groups, times: Times, values: Values) -> Points:
        starts = _starts(groups)
        with np.errstate(all="ignore"):
            return Points(times[starts], compute(values, starts))

    return pick


def _mean(values: Values, starts: npt.NDArray[np.intp]) -> Values:
    lengths = np.diff(np.append(starts, len(values)))
    mean: Values = np.add.reduceat(values.astype(np.float64), starts) / lengths
    return mean


def _variance(values: Values, starts: npt.NDArray[np.intp]) -> Values:
    lengths = np.diff(np.append(starts, len(values)))
    far = (values.astype(np.float64) - np.repeat(_mean(values, starts), lengths)) ** 2
    variance: Values = np.add.reduceat(far, starts) / lengths
    return variance


def _extreme(values: Values, starts: npt.NDArray[np.intp]) -> Values:
    low, high = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
    return np.where(np.abs(low.astype(np.float64)) > np.abs(high.astype(np.float64)), low, high)


_AGGREGATES: dict[str, tuple[bool, Callable[[Values, npt.NDArray[np.intp]], Values]]] = {
    "avg": (True, _mean),
    "sum": (True, lambda values, starts: np.add.reduceat(values.astype(np.float64), starts)),
    "variance": (True, _variance),
    "max": (False, lambda values, starts: np.maximum.reduceat(values, starts)),
    "min": (False, lambda values, starts: np.minimum.reduceat(values, starts)),
    "extreme": (False, _extreme),
}
"""By name: whether the result is DOUBLE, and its computation."""


def _by_size(size: int) -> _Number:
    return lambda seen, times: (seen + np.arange(len(times))) // size


def _bucket_size(attributes: Attributes, points: int) -> int:
    """Return how many points are in a bucket of which so many are shown."""
    proportion = number(attributes, "proportion") if "proportion" in attributes else 0.1
    if not 0 < proportion <= 1:
        raise FunctionError("proportion should be above 0 and not above 1")
    return max(1, int(points / proportion))


def _bucket(points: int, pick: _Pick) -> Bind:
    def bind(types: Sequence[DataType], attributes: Attributes) -> BoundFunction:
        data_type = single_argument(types, NUMERIC)
        size = _bucket_size(attributes, points)
        return DelayedFunction(data_type, lambda: _Grouped(data_type, _by_size(size), pick))

    return bind


def _bucket_aggregate(types: Sequence[DataType], attributes: Attributes) -> BoundFunction:
    data_type = single_argument(types, NUMERIC)
    size = _bucket_size(attributes, 1)
    name = attributes.get("type", "avg").lower()
    if name not in _AGGREGATES:
        raise FunctionError(f"type should be one of {', '.join(_AGGREGATES)}, it is {name}")
    double, compute = _AGGREGATES[name]
    result = DataType.DOUBLE if double else data_type
    pick = _aggregated(compute)
    return DelayedFunction(result, lambda: _Grouped(data_type, _by_size(size), pick))


def _bucket_outliers(types: Sequence[DataType], attributes: Attributes) -> BoundFunction:
    data_type = single_argument(types, NUMERIC)
    count = integer(attributes, "number", 3)
    if count < 1:
        raise FunctionError(f"number should be above 0, it is {count}")
    name = attributes.get("type", "avg").lower()
    if name not in FAR:
        raise FunctionError(f"type should be one of {', '.join(FAR)}, it is {name}")
    size, pick = _bucket_size(attributes, count), outliers(FAR[name], count)
    return DelayedFunction(data_type, lambda: _Grouped(data_type, _by_size(size), pick))


def _m4_windows(types: Sequence[DataType], attributes: Attributes) -> BoundFunction:
    data_type = single_argument(types, NUMERIC)
    by_size = "windowSize" in attributes
    length = integer(attributes, "windowSize" if by_size else "timeInterval")
    step = integer(attributes, "slidingStep", length)
    if length <= 0 or step < length:
        raise FunctionError(
            "windowSize or timeInterval should be above 0, and slidingStep not below it"
        )
    if by_size:

        def by_count(seen: int, times: Times) -> Groups:
            places = seen + np.arange(len(times))
            return np.where(places % step < length, places // step, -1)

        return DelayedFunction(data_type, lambda: _Grouped(data_type, by_count, _m4))
    begin = (
        integer(attributes, "displayWindowBegin") if "displayWindowBegin" in attributes else None
    )
    end = integer(attributes, "displayWindowEnd", (1 << 63) - 1)

    def start() -> _Grouped:
        first = begin

        def by_time(_: int, times: Times) -> Groups:
            nonlocal first
            if first is None and len(times):
                first = int(times[0])
            origin = first or 0
            after = times - np.int64(origin)
            inside = (times >= origin) & (times < end) & (after % step < length)
            return np.where(inside, after // step, -1)

        return _Grouped(data_type, by_time, _m4)

    return DelayedFunction(data_type, start)


def _change_points(types: Sequence[DataType], _: Attributes) -> BoundFunction:
    def start() -> PointStep:
        before: list[object] = []

        def step(times: Times, values: Values) -> tuple[Values, npt.NDArray[np.bool_] | None]:
            changed = np.ones(len(values), np.bool_)
            changed[1:] = values[1:] != values[:-1]
            if len(values):
                changed[0] = not before or bool(values[0] != before[0])
                before[:] = [values[-1]]
            return values, changed

        return step

    return over_points(single_argument(types, tuple(DataType)), start)


SAMPLING: dict[str, Bind] = {
    "equal_size_bucket_random_sample": _bucket(1, _random),
    "equal_size_bucket_m4_sample": _bucket(4, _m4),
    "equal_size_bucket_agg_sample": _bucket_aggregate,
    "equal_size_bucket_outlier_sample": _bucket_outliers,
    "m4": _m4_windows,
    "change_points": _change_points,
}
"""By lower-case name."""
