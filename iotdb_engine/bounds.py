"""Value ranges that a read is asked for: which pages can't have a value in them?

Statistics tell without decoding. A page that may have one is decoded and judged by whoever asked;
nothing here decides about a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from iotdb_engine.types import DataType

if TYPE_CHECKING:
    from iotdb_engine.sources import Series

Bound: TypeAlias = "tuple[int | float | None, int | float | None]"
"""Lowest and highest value, inclusive; None: open. Values that are NaN are within any."""

_FLOATS = (DataType.FLOAT, DataType.DOUBLE)
_NUMBERS = (DataType.INT32, DataType.INT64, *_FLOATS)


class BoundedSeries:
    """The series of a read that have bounds, and their pages outside them."""

    def __init__(self, series: Sequence[Series], bounds: Sequence[Bound | None]) -> None:
        """Look at the statistics of all pages.

        Args:
            series: of the read.
            bounds: parallel to `series`.
        """
        self._parts = [
            (one, _outside(one, bound))
            for one, bound in zip(series, bounds, strict=True)
            if bound is not None and one.kind in _NUMBERS
        ]

    def can_skip(self, low: int, high: int) -> bool:
        """Tell whether some series has no value within its bounds between two times."""
        return any(_has_none(one, outside, low, high) for one, outside in self._parts)


def _outside(series: Series, bound: Bound) -> npt.NDArray[np.bool_]:
    pages = series.pages
    outside = np.zeros(len(series.top), np.bool_)
    if not len(outside):
        return outside
    lowest, highest = bound
    if lowest is not None:
        outside |= pages["maximum"] < lowest
    if highest is not None:
        outside |= pages["minimum"] > highest
    if series.kind in _FLOATS:
        # A page with a NaN in it has that for its total.
        outside &= ~np.isnan(pages["total"])
    return outside


def _has_none(series: Series, outside: npt.NDArray[np.bool_], low: int, high: int) -> bool:
    window = np.array([low]), np.array([high])
    if any(rows.touched(*window)[0] for _, rows in series.memory):
        return False
    return bool(outside[series.touching(low, high)].all())
