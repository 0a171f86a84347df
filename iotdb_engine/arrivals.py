"""Columns of a page of a memory table in arrival order, decoded once, extended by what came since.

Problem: who watches the newest points reads a page that grows between reads. Decoding all of it
each time costs as much as it is large. Idea: keep what is decoded in a buffer with room at its end,
and decode into that room only what came after it.

Rows only come at the end, so nothing changes where an earlier reader looks. Two readers that extend
the same buffer at once write the same values to the same places: no lock is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from iotdb_engine.cache import ByteCache
from iotdb_engine.fragment import Decoded, decode_columns, decode_times
from iotdb_engine.types import Fragment, Layout

_GROWTH = 1.5
_OBJECT_BYTES = 40


class _Buffer(NamedTuple):
    """The first `used` cells of an array that may have room for more."""

    cells: npt.NDArray[Any]
    used: int

    def array(self) -> npt.NDArray[Any]:
        return self.cells[: self.used]

    def extended(self, tail: npt.NDArray[Any]) -> _Buffer:
        total = self.used + len(tail)
        cells = self.cells
        if total > len(cells):
            cells = np.empty(max(total, int(self.used * _GROWTH)), cells.dtype)
            cells[: self.used] = self.cells[: self.used]
        cells[self.used : total] = tail
        return _Buffer(cells, total)


class _Times(NamedTuple):
    end: int
    times: _Buffer
    ascending: bool


class _Column(NamedTuple):
    end: int
    values: _Buffer
    valid: _Buffer | None
    text_bytes: int

    @property
    def size(self) -> int:
        masks = 0 if self.valid is None else self.valid.cells.nbytes
        return self.values.cells.nbytes + masks + self.text_bytes


class Arrivals:
    """Consecutive fragments of one layout in one slot, decoded as far as readers asked for them.

    Args:
        uid: of the list of fragments; never used again for another one.
        layout: of the fragments.
        fragments: a list that only grows.
        cache: where decoded columns are kept, or None.
        start: the first fragment. Methods take the number of the one after the last that counts.
    """

    def __init__(
        self,
        uid: int,
        layout: Layout,
        fragments: Sequence[Fragment],
        cache: ByteCache | None,
        start: int = 0,
    ) -> None:
        self._uid = uid
        self._layout = layout
        self._fragments = fragments
        self._cache = cache
        self._start = start

    def times(self, end: int) -> tuple[npt.NDArray[np.int64], bool]:
        """Return int64[n], and whether each is above the one before."""
        key = ("arrived", self._uid, self._start)
        known: _Times | None = None if self._cache is None else self._cache.get(key)
        if known is None or known.end > end:
            whole = decode_times(self._fragments[self._start : end])
            found = _Times(end, _Buffer(whole, len(whole)), _ascends(whole))
        elif known.end == end:
            return known.times.array(), known.ascending
        else:
            tail = decode_times(self._fragments[known.end : end])
            ascending = known.ascending and _ascends(tail)
            if ascending and known.times.used and len(tail):
                ascending = bool(known.times.cells[known.times.used - 1] < tail[0])
            found = _Times(end, known.times.extended(tail), ascending)
        # a reader of an older state leaves what serves the newer ones
        if self._cache is not None and (known is None or known.end < end):
            self._cache.put(key, found, found.times.cells.nbytes)
        return found.times.array(), found.ascending

    def columns(self, columns: Sequence[int], end: int, also: Sequence[int] = ()) -> list[Decoded]:
        """Return columns, by their positions in the layout, each of n rows.

        Args:
            columns: which.
            end: number of the fragment after the last.
            also: columns that are soon asked for too: where something has to be decoded anyway,
                they are decoded and kept with it.
        """
        if self._cache is None:
            return decode_columns(self._layout, self._fragments[self._start : end], columns)
        kept = self._known(columns)
        if also and any(known is None or known.end != end for known in kept):
            wider = [*dict.fromkeys((*columns, *also))]
            found = self._extend(wider, self._known(wider), end)
        else:
            found = self._extend(columns, kept, end)
        return [found[at] for at in columns]

    def _known(self, columns: Sequence[int]) -> list[_Column | None]:
        assert self._cache is not None
        return self._cache.get_many([self._key(at) for at in columns])

    def _extend(
        self, columns: Sequence[int], kept: Sequence[_Column | None], end: int
    ) -> dict[int, Decoded]:
        assert self._cache is not None
        found: dict[int, Decoded] = {}
        # columns that are read together are decoded up to the same fragment, as a rule
        missing: dict[int, dict[int, _Column | None]] = {}
        for at, known in zip(columns, kept, strict=True):
            if known is not None and known.end == end:
                found[at] = _decoded(known)
            elif known is None or known.end > end:
                missing.setdefault(self._start, {})[at] = None
            else:
                missing.setdefault(known.end, {})[at] = known
        for start, group in missing.items():
            tails = decode_columns(self._layout, self._fragments[start:end], list(group))
            for (at, known), tail in zip(group.items(), tails, strict=True):
                column = _extended(known, tail, end)
                found[at] = _decoded(column)
                self._cache.put(self._key(at), column, column.size)
        return found

    def _key(self, column: int) -> tuple[str, int, int, int]:
        return ("arrived", self._uid, self._start, column)


def _ascends(times: npt.NDArray[np.int64]) -> bool:
    return bool((times[1:] > times[:-1]).all())


def _decoded(column: _Column) -> Decoded:
    return Decoded(column.values.array(), None if column.valid is None else column.valid.array())


def _extended(known: _Column | None, tail: Decoded, end: int) -> _Column:
    values, valid = tail
    text_bytes = 0
    if values.dtype == object:
        text_bytes = sum(map(len, values.tolist())) + _OBJECT_BYTES * len(values)
    if known is None:
        mask = None if valid is None else _Buffer(valid, len(valid))
        return _Column(end, _Buffer(values, len(values)), mask, text_bytes)
    mask = known.valid
    if mask is None and valid is not None:
        mask = _Buffer(np.ones(known.values.used, np.bool_), known.values.used)
    if mask is not None:
        mask = mask.extended(np.ones(len(values), np.bool_) if valid is None else valid)
    return _Column(end, known.values.extended(values), mask, known.text_bytes + text_bytes)
