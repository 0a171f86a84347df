"""Reading a memory table: some series at one moment, decoded on demand."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from iotdb_engine.arrivals import Arrivals
from iotdb_engine.cache import ByteCache
from iotdb_engine.fragment import row_counts
from iotdb_engine.memtable import MemDelete, Memtable, Rows
from iotdb_engine.merge import Order, Run, compact, last_wins, order_rows


def capture(
    table: Memtable, series_ids: Iterable[int], slots: Collection[int] | None
) -> MemSnapshot | None:
    """Capture the present state of some series, or None if the table has nothing of them.

    Needs the region's lock; O(series x layouts that hold them).
    """
    wanted: dict[int, list[tuple[Rows, int]]] = {}
    for series_id in series_ids:
        found = table.by_series.get(series_id)
        if found is None:
            continue
        states = [
            (rows, len(rows.ordinals)) for rows in found if slots is None or rows.slot in slots
        ]
        if states:
            wanted[series_id] = states
    return MemSnapshot(table, wanted, tuple(table.deletes)) if wanted else None


class MemSnapshot:
    """Some series of a memory table at one moment, decoded on demand."""

    def __init__(
        self,
        table: Memtable,
        wanted: Mapping[int, Sequence[tuple[Rows, int]]],
        deletes: Sequence[MemDelete],
    ) -> None:
        self._table_uid = table.uid
        self._wanted = wanted
        self._deletes = deletes
        self._orders: dict[int, Order] = {}
        self._runs: dict[int, Run] = {}

    def holds(self, series_id: int) -> bool:
        """Tell whether there may be rows of a series."""
        return series_id in self._wanted

    def run(self, series_id: int, cache: ByteCache | None) -> Run | None:
        """Return the series' rows, or None if there are none. Columns of a layout share `times`."""
        states = self._wanted.get(series_id)
        if states is None:
            return None
        if len(states) == 1:
            if series_id not in self._runs:
                self._load(states[0], cache)
            return self._runs[series_id]
        return self._merged(series_id, states, cache)

    def _applicable(self, series_id: int) -> tuple[MemDelete, ...]:
        return tuple(delete for delete in self._deletes if series_id in delete.series_ids)

    def _load(self, state: tuple[Rows, int], cache: ByteCache | None) -> None:
        """Decode all wanted columns of a layout together."""
        rows, length = state
        order = self._order(state, cache)
        missing = []
        for series_id, column in rows.columns.items():
            if len(self._wanted.get(series_id, ())) != 1:
                continue
            deletes = rows.deletes_after(self._applicable(series_id))
            key = None
            if cache is not None and (deletes or not order.is_identity):
                key = ("m", rows.uid, column, length, len(deletes))
            found = cache.get(key) if cache is not None and key is not None else None
            if found is None:
                missing.append((series_id, column, deletes, key))
            else:
                # such a column keeps its own array of equal times
                self._runs[series_id] = found
        if not missing:
            return
        raw, _ = _arrivals(rows, cache).times(length)
        decoded = _arrivals(rows, cache).columns([column for _, column, *_ in missing], length)
        masks = DeleteMasks(rows, length, raw)
        for (series_id, _, deletes, key), (values, valid) in zip(missing, decoded, strict=True):
            run = last_wins(order, values, masks.apply(deletes, valid))
            self._runs[series_id] = run
            if cache is not None and key is not None:
                cache.put(key, run, run_bytes(run))

    def _order(self, state: tuple[Rows, int], cache: ByteCache | None) -> Order:
        rows, length = state
        found = self._orders.get(rows.uid)
        if found is None:
            raw, ascending = _arrivals(rows, cache).times(length)
            found = Order(raw, None, None) if ascending else order_rows(raw)
            self._orders[rows.uid] = found
        return found

    def _merged(
        self, series_id: int, states: Sequence[tuple[Rows, int]], cache: ByteCache | None
    ) -> Run:
        deletes = self._applicable(series_id)
        pieces: list[tuple[Run, npt.NDArray[np.int64]]] = []
        for rows, length in states:
            column = rows.columns[series_id]
            raw, _ = _arrivals(rows, cache).times(length)
            values, valid = _arrivals(rows, cache).columns([column], length)[0]
            valid = DeleteMasks(rows, length, raw).apply(deletes, valid)
            ordinals = row_ordinals(rows, length)
            if valid is not None:
                ordinals = ordinals[valid]
            pieces.append((compact(Run(raw, values, valid)), ordinals))
        return merge_by_ordinal(pieces)


def merge_by_ordinal(pieces: Sequence[tuple[Run, npt.NDArray[np.int64]]]) -> Run:
    """Merge rows of one series from several layouts; of equal times the highest ordinal wins.

    Args:
        pieces: compact rows in arrival order (times in any order), and the ordinal of each row.
    """
    times = np.concatenate([run.times for run, _ in pieces])
    values = np.concatenate([run.values for run, _ in pieces])
    # Ordinals are unique to a fragment, and a fragment's rows are in row order already.
    arrival = np.argsort(np.concatenate([ordinals for _, ordinals in pieces]), kind="stable")
    order = order_rows(times[arrival])
    return last_wins(order, values[arrival], None)


def row_ordinals(rows: Rows, length: int) -> npt.NDArray[np.int64]:
    """Return the ordinal of every row of the first `length` fragments."""
    ordinals = np.fromiter(rows.ordinals[:length], np.int64, length)
    return np.repeat(ordinals, row_counts(rows.fragments[:length]))


class DeleteMasks:
    """Applies deletes to columns of one layout; equal sets of deletes are worked out once."""

    def __init__(self, rows: Rows, length: int, times: npt.NDArray[np.int64]) -> None:
        self._rows = rows
        self._length = length
        self._times = times
        self._known: dict[tuple[int, ...], npt.NDArray[np.bool_]] = {}
        self._ordinals: npt.NDArray[np.int64] | None = None

    def apply(
        self, deletes: Sequence[MemDelete], valid: npt.NDArray[np.bool_] | None
    ) -> npt.NDArray[np.bool_] | None:
        """Return the validity after the deletes, rows in arrival order."""
        relevant = self._rows.deletes_after(deletes)
        if not relevant:
            return valid
        key = tuple(delete.ordinal for delete in relevant)
        kept = self._known.get(key)
        if kept is None:
            if self._ordinals is None:
                self._ordinals = row_ordinals(self._rows, self._length)
            gone = np.zeros(len(self._times), np.bool_)
            for delete in relevant:
                gone |= (
                    (self._ordinals < delete.ordinal)
                    & (self._times >= delete.t_min)
                    & (self._times <= delete.t_max)
                )
            kept = self._known[key] = ~gone
        both = kept if valid is None else kept & valid
        return None if both.all() else both


def run_bytes(run: Run) -> int:
    """Estimate the memory of a run."""
    size = run.times.nbytes + run.values.nbytes
    if run.valid is not None:
        size += run.valid.nbytes
    if run.values.dtype == object:
        size += sum(map(len, run.values.tolist())) + 40 * len(run.values)
    return size


def _arrivals(rows: Rows, cache: ByteCache | None) -> Arrivals:
    return Arrivals(rows.uid, rows.layout, rows.fragments, cache)
