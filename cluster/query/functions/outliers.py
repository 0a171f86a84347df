"""EQUAL_SIZE_BUCKET_OUTLIER_SAMPLE of 1.x: the points of a bucket that are farthest off.

How far off a point is says the attribute `type`: from the mean of its bucket (avg), from the line
between the bucket's first and last point (stendis), by the turn there between the lines to the
points beside it (cos), or by how far those points are (prenextdis). The ends of a bucket have no
two points beside them: for the latter two they come last. Of equals the earlier comes first.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from cluster.query.functions.function import Points, Times, Values

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]

_Far = Callable[[Floats, Floats, Places, Places], Floats]
"""Times and values of the points, first and last point of each one's bucket → how far off."""


def outliers(far: _Far, count: int) -> Callable[[npt.NDArray[np.int64], Times, Values], Points]:
    """Return what picks up to `count` points of each group, in the order of time.

    Args:
        far: one of FAR.
        count: at least 1.
    """

    def pick(groups: npt.NDArray[np.int64], times: Times, values: Values) -> Points:
        starts = np.flatnonzero(np.append(True, np.diff(groups) != 0))
        lengths = np.diff(np.append(starts, len(groups)))
        first = np.repeat(starts, lengths)
        last = np.repeat(starts + lengths - 1, lengths)
        with np.errstate(all="ignore"):
            off = far(times.astype(np.float64), values.astype(np.float64), first, last)
        # NaN is as far off as can be
        order = np.lexsort((-np.where(np.isnan(off), np.inf, off), groups))
        rank = np.arange(len(order)) - first[order]
        chosen = np.sort(order[rank < count])
        return Points(times[chosen], values[chosen])

    return pick


def _from_mean(times: Floats, values: Floats, first: Places, last: Places) -> Floats:
    starts = np.unique(first)
    means = np.add.reduceat(values, starts) / np.diff(np.append(starts, len(values)))
    return np.abs(values - np.repeat(means, np.diff(np.append(starts, len(values)))))


def _from_line(times: Floats, values: Floats, first: Places, last: Places) -> Floats:
    across, up = times[last] - times[first], values[last] - values[first]
    area = np.abs(up * (times - times[first]) - across * (values - values[first]))
    length = np.hypot(across, up)
    return np.where(length > 0, area / np.where(length > 0, length, 1.0), 0.0)


def _turn(times: Floats, values: Floats, first: Places, last: Places) -> Floats:
    (x0, y0), (x1, y1) = _beside(times, values)
    cosine = (x0 * x1 + y0 * y1) / (np.hypot(x0, y0) * np.hypot(x1, y1))
    return _inner(-cosine, first, last)


def _reach(times: Floats, values: Floats, first: Places, last: Places) -> Floats:
    (x0, y0), (x1, y1) = _beside(times, values)
    return _inner(np.hypot(x0, y0) + np.hypot(x1, y1), first, last)


def _beside(times: Floats, values: Floats) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
    """Return the steps from the point before and to the point behind; zeros at the ends."""
    steps = [np.diff(axis) for axis in (times, values)]
    before = [np.concatenate(([0.0], step)) for step in steps]
    behind = [np.concatenate((step, [0.0])) for step in steps]
    return (before[0], before[1]), (behind[0], behind[1])


def _inner(off: Floats, first: Places, last: Places) -> Floats:
    places = np.arange(len(off))
    return np.where((places > first) & (places < last), off, -np.inf)


FAR: dict[str, _Far] = {
    "avg": _from_mean,
    "stendis": _from_line,
    "cos": _turn,
    "prenextdis": _reach,
}
"""By the attribute's text."""
