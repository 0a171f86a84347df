"""Where in time the rows of a memory table lie, page by page, without holding them decoded.

A page is as many consecutive fragments of one layout as make a page of rows; the last one is open
and grows. Of each only the time range and the row count are kept, 32 bytes, worked out by readers
when they first need it and extended by what came since. A read then decodes the pages that it
touches, as it does with pages on disk.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from iotdb_engine.fragment import decode_times
from iotdb_engine.memtable import Rows
from iotdb_engine.types import T_MAX, T_MIN, DataType

_Numbers = npt.NDArray[np.int64]


class Pages(NamedTuple):
    """The pages of the first fragments of some rows.

    Attributes:
        starts: int64[k + 1], number of the first fragment of each page, and where the last ends.
        lows: int64[k], lowest time of each.
        highs: int64[k], highest time of each.
        counts: int64[k], rows of each.
        closed: how many of the pages do not grow any more: k, or k - 1.
    """

    starts: _Numbers
    lows: _Numbers
    highs: _Numbers
    counts: _Numbers
    closed: int

    @property
    def length(self) -> int:
        """How many fragments these are."""
        return int(self.starts[-1])


class PageSize(NamedTuple):
    """When a page is full: at so many rows, or, with texts, so many bytes."""

    rows: int
    text_bytes: int


def pages_of(rows: Rows, length: int, size: PageSize) -> Pages:
    """Return the pages of the first `length` fragments, at least one.

    The pages are the same whichever states were asked for before.
    """
    known = rows.pages
    if known is not None and known.length == length:
        return known
    if known is not None and known.length > length:
        # A reader of an older state; what is known serves the newer ones.
        closed = int(np.searchsorted(known.starts[: known.closed + 1], length, side="right")) - 1
        return _extended(rows, _first(known, closed), length, size)
    rows.pages = found = _extended(rows, known, length, size)
    return found


def _first(pages: Pages, count: int) -> Pages | None:
    """Return only the first pages, which are closed."""
    if not count:
        return None
    return Pages(
        pages.starts[: count + 1],
        pages.lows[:count],
        pages.highs[:count],
        pages.counts[:count],
        count,
    )


def _extended(rows: Rows, known: Pages | None, length: int, size: PageSize) -> Pages:
    fragments = rows.fragments
    limited = DataType.TEXT in rows.layout.types
    at, begun, count, held = 0, 0, 0, 0
    low, high = T_MAX, T_MIN
    closed = 0 if known is None else known.closed
    if known is not None:
        at = begun = known.length
        if closed < len(known.lows):
            begun, count = int(known.starts[-2]), int(known.counts[-1])
            low, high = int(known.lows[-1]), int(known.highs[-1])
            if limited:
                held = sum(len(fragment.values) for fragment in fragments[begun:at])
    seen = at
    made: list[tuple[int, int, int, int]] = []
    full = 0
    while at < length:
        fragment = fragments[at]
        at += 1
        count += fragment.row_count
        if limited:
            held += len(fragment.values)
        is_full = count >= size.rows or held >= size.text_bytes
        if is_full or at == length:
            times = decode_times(fragments[seen:at])
            low, high = min(low, int(times.min())), max(high, int(times.max()))
            made.append((begun, low, high, count))
            seen = at
        if is_full:
            full += 1
            begun, count, held, low, high = at, 0, 0, T_MAX, T_MIN
    if known is None and not made:
        raise ValueError("there is no fragment")
    new = np.array(made, np.int64).reshape(-1, 4).T
    old = [np.empty(0, np.int64)] * 4
    if known is not None:
        old = [known.starts[:closed], *(part[:closed] for part in known[1:4])]
    starts, lows, highs, counts = (np.concatenate(pair) for pair in zip(old, new, strict=True))
    return Pages(np.append(starts, length), lows, highs, counts, closed + full)
