"""Series by name, and a log of their own: an engine as a library, without a cluster above it.

Everything lies in region `LOCAL_REGION`. Each call that changes something is one step: it is
written to the log, applied, and waited for until it is as durable as was asked for. Steps are in
one order, which is that of the log. Names, ids and types are key-value state of the region, so they
are exactly as new as the points.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from iotdb_engine import steps
from iotdb_engine.columns import ColumnLike, Values, look_at, make_fragment, times_array
from iotdb_engine.errors import Closed, EngineError, UnknownSeries, WrongType
from iotdb_engine.region import Region
from iotdb_engine.steps import Operation
from iotdb_engine.types import (
    BATCH_DTYPES,
    T_MAX,
    T_MIN,
    Aggregate,
    Column,
    ColumnBatch,
    DataType,
    Layout,
)
from iotdb_engine.wal import WAL_FOLDER, Sync, WriteAheadLog
from iotdb_engine.windows import Needs, WindowAggregates, Windows

if TYPE_CHECKING:
    from iotdb_engine.engine import Engine

LOCAL_REGION = 0

_MARK = b"local"
_NEXT = b"next id"
_NAME = b"series/"
_SERIES = struct.Struct("<QB")
_MOST_NAME_BYTES = 4096
_MOST_LAYOUTS = 10_000


class SeriesInfo(NamedTuple):
    """A series by name."""

    series_id: int
    type: DataType


class Local:
    """What an engine has in place of a cluster: names, and a log. Thread-safe.

    Made by `Engine` with the first call that needs it.
    """

    def __init__(self, engine: Engine, folder: Path | None, sync: Sync) -> None:
        """Open: apply again what the log has and the store has not.

        Args:
            engine: whose region.
            folder: of the store; None: nothing is kept anyway, so there is no log.
            sync: of the log.

        Raises:
            LogCorruption: the log lacks steps that were acknowledged.
            EngineError: the folder is a cluster node's.
        """
        self._region: Region = engine.region(LOCAL_REGION)
        is_used = self._region.applied_index > 0
        if is_used and self._region.get(_MARK) is None:
            raise EngineError(
                "this folder belongs to a cluster's node: its series are written through the node"
            )
        self._log: WriteAheadLog | None = None
        if folder is not None:
            options = engine.options
            self._log = WriteAheadLog(
                folder / WAL_FOLDER,
                sync,
                interval_s=options.wal_interval_s,
                segment_bytes=options.wal_segment_bytes,
            )
        # Held from a step's place in the log to its being applied. Outermost of the engine's locks.
        self._lock = threading.Lock()
        self._series: dict[str, SeriesInfo] = {}
        self._layouts: dict[tuple[str, ...], Layout] = {}
        self._next_id = 1
        self._index = self._region.applied_index
        if self._log is not None:
            self._replay(self._log)
            self._region.on_durable(self._log.forget)
        self._learn_names()
        if self._region.get(_MARK) is None:
            self._step([steps.Put({_MARK: b"1"})])

    def _replay(self, log: WriteAheadLog) -> None:
        for record in log.replay(self._region.applied_index):
            steps.apply(self._region, steps.decode(record.payload), record.step)
            self._index = record.step

    def _learn_names(self) -> None:
        for key, value in self._region.scan(_NAME):
            series_id, kind = _SERIES.unpack(value)
            self._series[key[len(_NAME) :].decode()] = SeriesInfo(series_id, DataType(kind))
        found = self._region.get(_NEXT)
        self._next_id = int.from_bytes(found, "little") if found else 1

    def _step(self, operations: Sequence[Operation]) -> int:
        """Log a step and apply it; return what `_wait` takes. Needs the lock, once made."""
        if self._region.is_closed:
            raise Closed("the engine is closed")
        if self._region.failure is not None:
            raise EngineError(f"nothing can be stored: {self._region.failure}")
        index = self._index + 1
        position = 0
        if self._log is not None:
            position = self._log.append(index, steps.encode(operations))
        self._index = index
        steps.apply(self._region, operations, index)
        return position

    def _wait(self, position: int) -> None:
        if self._log is not None:
            self._log.wait(position)

    # Series

    def series(self) -> dict[str, DataType]:
        """Return name and type of every series."""
        with self._lock:
            return {name: info.type for name, info in self._series.items()}

    def create(self, types: Mapping[str, DataType]) -> None:
        """Create series; those that exist with the same type are left alone."""
        with self._lock:
            position = self._step_with_series(types, [])
        self._wait(position)

    def _step_with_series(
        self, types: Mapping[str, DataType], operations: Sequence[Operation]
    ) -> int:
        """Take a step that also creates the series that do not exist; needs the lock."""
        new: dict[str, SeriesInfo] = {}
        puts: dict[bytes, bytes | None] = {}
        for name, kind in types.items():
            found = self._series.get(name)
            if found is None:
                new[name] = SeriesInfo(self._next_id + len(new), DataType(kind))
                puts[_name_key(name)] = _SERIES.pack(*new[name])
            elif found.type is not kind:
                raise WrongType(f"series {name!r} is of type {found.type.name}, not {kind.name}")
        if new:
            next_id = self._next_id + len(new)
            puts[_NEXT] = next_id.to_bytes(8, "little")
            operations = [steps.Put(puts), *operations]
        if not operations:
            return 0
        position = self._step(operations)
        if new:
            self._series.update(new)
            self._next_id = next_id
        return position

    def drop(self, names: Sequence[str]) -> None:
        """Remove series with all their points."""
        names = list(dict.fromkeys(names))
        with self._lock:
            ids = [self._info_locked(name).series_id for name in names]
            if not ids:
                return
            gone = steps.Put({_name_key(name): None for name in names})
            position = self._step([steps.Drop(ids), gone])
            for name in names:
                del self._series[name]
            self._layouts.clear()
        self._wait(position)

    def set_ttl(self, names: Sequence[str], ttl: int | None) -> None:
        """Have the points of series expire."""
        if ttl is not None and ttl < 1:
            raise ValueError(f"a time to live must be at least 1, not {ttl}")
        with self._lock:
            ids = [self._info_locked(name).series_id for name in names]
            if not ids:
                return
            position = self._step([steps.SetTtl(i, i + 1, -1 if ttl is None else ttl) for i in ids])
        self._wait(position)

    def find(self, names: Sequence[str]) -> list[tuple[int, DataType]]:
        """Return id and type of each name."""
        with self._lock:
            found = [self._info_locked(name) for name in names]
        return [(info.series_id, info.type) for info in found]

    def _info_locked(self, name: str) -> SeriesInfo:
        found = self._series.get(name)
        if found is None:
            raise UnknownSeries(name)
        return found

    # Points

    def write(self, times: npt.ArrayLike, columns: Mapping[str, ColumnLike]) -> None:
        """Write columns with common times."""
        at = times_array(times)
        values = look_at(columns, len(at))
        with self._lock:
            kinds = {one.name: self._kind_locked(one) for one in values}
        # A column of nulls only, of a series that is not there yet, says nothing.
        values = [one for one in values if kinds[one.name] is not None]
        types = {name: kind for name, kind in kinds.items() if kind is not None}
        if not values:
            return
        bodies = [one.encode(types[one.name]) for one in values]
        with self._lock:
            layout = self._layout_locked(types)
            fragment = make_fragment(at, layout, values, bodies)
            position = self._step_with_series(types, [steps.Write(fragment)])
        self._wait(position)

    def _kind_locked(self, values: Values) -> DataType | None:
        found = self._series.get(values.name)
        if found is not None:
            return found.type
        return values.types[0] if values.types else None

    def _layout_locked(self, types: Mapping[str, DataType]) -> Layout:
        """Return the columns as the engine knows them; the same object for the same names."""
        names = tuple(types)
        layout = self._layouts.get(names)
        if layout is not None:
            return layout
        ids, new = [], 0
        for name in names:
            found = self._series.get(name)
            ids.append(self._next_id + new if found is None else found.series_id)
            new += found is None
        layout = Layout(tuple(ids), tuple(types.values()))
        if not new:
            if len(self._layouts) >= _MOST_LAYOUTS:
                self._layouts.clear()
            self._layouts[names] = layout
        return layout

    def delete(self, names: Sequence[str], t_min: int, t_max: int) -> None:
        """Remove points in an inclusive range."""
        with self._lock:
            ids = [self._info_locked(name).series_id for name in names]
            if not ids:
                return
            position = self._step([steps.Delete(ids, t_min, t_max)])
        self._wait(position)

    @property
    def region(self) -> Region:
        """Where the points are."""
        return self._region

    def flush(self) -> None:
        """Store what is in memory; the log before goes."""
        with self._lock:
            self._region.flushing.expect_no_more()
            self._region.flush(wait=False)
        self._region.flush()

    def sync(self) -> None:
        """Make the log durable."""
        if self._log is not None:
            self._log.sync_to(self._log.position)

    def close(self) -> None:
        """Close the log, after the region; nothing is flushed here."""
        if self._log is not None:
            self._log.close()

    def stats(self) -> dict[str, int]:
        """Return counters."""
        if self._log is None:
            return {}
        return {"wal_bytes": self._log.total_bytes(), "wal_syncs": self._log.sync_count}


def _name_key(name: str) -> bytes:
    data = name.encode()
    if not 0 < len(data) <= _MOST_NAME_BYTES:
        raise ValueError(f"a series' name takes 1 to {_MOST_NAME_BYTES} bytes, not {len(data)}")
    return _NAME + data


class SeriesApi:
    """The part of `Engine` for people: series by name. Every method is thread-safe."""

    def _local(self) -> Local:
        raise NotImplementedError

    def create_series(self, types: Mapping[str, DataType]) -> None:
        """Create series by name; `write` does it by itself, with types taken from the values.

        Raises:
            WrongType: one exists with another type; nothing happened.
        """
        self._local().create(types)

    def series(self) -> dict[str, DataType]:
        """Return name and type of every series."""
        return self._local().series()

    def drop_series(self, names: Sequence[str]) -> None:
        """Remove series with all their points.

        Raises:
            UnknownSeries: one does not exist; nothing happened.
        """
        self._local().drop(names)

    def set_ttl(self, names: Sequence[str], ttl: int | None) -> None:
        """Have points go that are older than `ttl`, in units of the times; None: keep them.

        Raises:
            UnknownSeries: one does not exist; nothing happened.
        """
        self._local().set_ttl(names, ttl)

    def write(self, times: npt.ArrayLike, columns: Mapping[str, ColumnLike]) -> None:
        """Write points of one or more series at common times; durable as `sync` says on return.

        All of it becomes visible together. A time that is there already gets the new value. Series
        that do not exist are created: BOOLEAN, INT64, DOUBLE or TEXT from lists, and from arrays as
        their dtype says (int32 INT32, float32 FLOAT).

        Args:
            times: whole numbers in any unit and order, or datetime64 (stored as ms since 1970).
            columns: name → values, as many as times. None in a list, or what a masked array
                masks, is no value. Texts are str or bytes.

        Raises:
            ValueError: shapes, ranges or values that can't be; nothing happened.
            WrongType: values do not fit the type of a series; nothing happened.
            OutOfSpace: there is no room for the log; nothing happened.
            EngineError: the log or the store failed; the points may or may not be there.
        """
        self._local().write(times, columns)

    def write_row(self, time: int, values: Mapping[str, bool | float | str | bytes | None]) -> None:
        """Write one value of each of some series; for many rows `write` is faster by far."""
        self._local().write([time], {name: [value] for name, value in values.items()})

    def delete(self, names: Sequence[str], t_min: int = T_MIN, t_max: int = T_MAX) -> None:
        """Remove points of series in [t_min, t_max].

        Raises:
            UnknownSeries: one does not exist; nothing happened.
        """
        self._local().delete(names, t_min, t_max)

    def read(
        self,
        names: Sequence[str],
        t_min: int = T_MIN,
        t_max: int = T_MAX,
        *,
        descending: bool = False,
        max_rows: int | None = None,
    ) -> Iterator[ColumnBatch]:
        """Yield rows in time order, a column for each name, in batches; memory for one batch.

        It is the state of this call, whatever is written while it runs. TEXT comes as bytes.

        Raises:
            UnknownSeries: one does not exist.
            Corruption: here, or while iterating: what is stored is damaged.
        """
        local = self._local()
        series = local.find(names)
        return local.region.read(series, t_min, t_max, descending=descending, max_rows=max_rows)

    def fetch(
        self, names: Sequence[str], t_min: int = T_MIN, t_max: int = T_MAX
    ) -> tuple[npt.NDArray[np.int64], dict[str, Column]]:
        """Return all rows at once: times, int64[n], and a column for each name."""
        local = self._local()
        series = local.find(names)
        batches = list(local.region.read(series, t_min, t_max))
        times = [batch.times for batch in batches]
        columns = {
            name: _joined(kind, [batch.columns[at] for batch in batches])
            for at, (name, (_, kind)) in enumerate(zip(names, series, strict=True))
        }
        return np.concatenate([np.empty(0, np.int64), *times]), columns

    def aggregate(
        self, names: Sequence[str], t_min: int = T_MIN, t_max: int = T_MAX
    ) -> dict[str, Aggregate]:
        """Return count, first, last, minimum, maximum and sum of each series."""
        local = self._local()
        found = local.region.aggregate(local.find(names), t_min, t_max)
        return dict(zip(names, found, strict=True))

    def aggregate_windows(
        self, names: Sequence[str], windows: Windows, needs: Needs = Needs.EVERYTHING
    ) -> dict[str, WindowAggregates]:
        """Return the aggregates of each series over many windows of time."""
        local = self._local()
        found = local.region.aggregate_windows(local.find(names), windows, needs)
        return dict(zip(names, found, strict=True))

    def last(self, names: Sequence[str]) -> dict[str, tuple[int, Any] | None]:
        """Return the latest time and value of each series; None where there is none."""
        local = self._local()
        return dict(zip(names, local.region.last(local.find(names)), strict=True))

    def flush(self) -> None:
        """Store what is in memory, so that the next start has nothing to apply again."""
        self._local().flush()

    def sync(self) -> None:
        """Make everything written so far durable, whatever the mode of the log."""
        self._local().sync()


def _joined(kind: DataType, columns: Sequence[Column]) -> Column:
    if not columns:
        return Column(kind, np.empty(0, BATCH_DTYPES[kind]))
    valid = None
    if any(column.valid is not None for column in columns):
        valid = np.concatenate(
            [
                np.ones(len(column.values), np.bool_) if column.valid is None else column.valid
                for column in columns
            ]
        )
    return Column(kind, np.concatenate([column.values for column in columns]), valid)
