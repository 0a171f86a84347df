"""The storage engine: regions over one store, one background thread, one memory budget."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

from iotdb_engine.budget import MemoryBudget
from iotdb_engine.cache import ByteCache
from iotdb_engine.errors import Closed, EngineError
from iotdb_engine.flush_pace import FlushPace
from iotdb_engine.local import Local, SeriesApi
from iotdb_engine.merger import Merger, MergeState
from iotdb_engine.options import DEFAULT_OPTIONS, EngineOptions
from iotdb_engine.region import Region
from iotdb_engine.snapshot import (
    REGION_MAX,
    Directory,
    RegionExport,
    RegionImport,
    seal,
)
from iotdb_engine.store import MemoryStore, RocksStore, Store
from iotdb_engine.verify import note_tables, verify_store
from iotdb_engine.verify_report import Report
from iotdb_engine.wal import SYNCS, WAL_FOLDER, Sync, segment_paths
from iotdb_engine.worker import Worker

MEMORY_PATH = ":memory:"


class _Ending:
    """What is done with a closed region while no flush of it is under way; who asked for it waits.

    `then` is done by the worker, when nobody waits any more.
    """

    def __init__(self, act: Callable[[], None], then: Callable[[], object] | None = None) -> None:
        self.act = act
        self.then = then
        self.begun = False
        self.done = threading.Event()
        self.error: Exception | None = None


class Engine(SeriesApi):
    """A folder of data, open for one process at a time. Thread-safe; a context manager.

    Two ways to use it. By names, as a library (`write`, `read` …, docs/engine.md): with a log of
    its own, so that what was written survives a crash. By regions, for a program that has a log:
    what is not durable yet (`Region.durable_index`) has to come again from there after a crash.
    """

    def __init__(
        self,
        path: str | Path,
        options: EngineOptions = DEFAULT_OPTIONS,
        *,
        sync: Sync = "always",
        store: Store | None = None,
    ) -> None:
        """Open, creating the folder if there is none.

        Args:
            path: a folder, or ":memory:" for an engine that keeps nothing after `close`.
            options: sizes.
            sync: when writes by name become durable: "always" before the call returns;
                "periodic" within `wal_interval_s`; "never" when the system sees fit. The end of
                the process costs nothing in any mode.
            store: an open store to use in place of `path`; the engine closes it. For tests.

        Raises:
            Locked: another engine has the folder open.
            Corruption: a record that is needed for opening is damaged.
        """
        if sync not in SYNCS:
            raise ValueError(f"sync is {sync!r}; it must be one of {', '.join(SYNCS)}")
        self.options = options
        self._sync: Sync = sync
        self._folder: Path | None = None
        self._named: Local | None = None
        self._named_lock = threading.Lock()
        if store is not None:
            self._store = store
        elif str(path) == MEMORY_PATH:
            self._store = MemoryStore()
        else:
            self._store = RocksStore(path, block_cache_bytes=options.block_cache_bytes)
            self._folder = Path(path)
        self._cache = ByteCache(options.read_cache_bytes)
        self._budget = MemoryBudget(options.memtable_bytes)
        self._pace = FlushPace(self._budget)
        self._cache_ids = itertools.count(1)
        # Guards the four fields below. Taken before a region's lock, never while holding one.
        self._lock = threading.Lock()
        self._regions: dict[int, Region] = {}
        self._endings: dict[Region, _Ending] = {}
        self._storing: frozenset[Region] = frozenset()
        self._closed = False
        self._relieving: Region | None = None
        try:
            self._directory = Directory(self._store)
            for region_id in self._directory.regions:
                self._regions[region_id] = self._make_region(region_id)
            self._directory.clean()
        except BaseException:
            self._store.close()
            raise
        self._worker: Worker[Region] = Worker("engine-flush", self._flush_regions)
        for region in self._regions.values():
            if region.state.ttl:  # slots may have expired in the meantime
                self._worker.request(region)
        self._merger: Merger | None = None
        if self._folder is not None and segment_paths(self._folder / WAL_FOLDER):
            try:
                self._local()
            except BaseException:
                self.close(flush=False)
                raise
        if options.compaction:
            self._merger = Merger(options.compaction_share, lambda: self._budget.added)
            for region in self._regions.values():
                self._merger.request(region)

    def _local(self) -> Local:
        """Return the series by name; opened with the first call, or at once where a log waits."""
        with self._named_lock:
            if self._named is None:
                self._check_open()
                self._named = Local(self, self._folder, self._sync)
            return self._named

    def region(self, region_id: int) -> Region:
        """Return a region, creating it on first use.

        Args:
            region_id: in [0, 32767].
        """
        if not 0 <= region_id <= REGION_MAX:
            raise ValueError(f"region id {region_id} is outside [0, {REGION_MAX}]")
        with self._lock:
            self._check_open()
            found = self._regions.get(region_id)
            if found is None:
                found = self._regions[region_id] = self._make_region(region_id)
            return found

    def regions(self) -> list[int]:
        """Return the ids of the regions that exist, ascending."""
        with self._lock:
            return sorted(self._regions)

    def drop_region(self, region_id: int) -> None:
        """Remove a region with everything in it; durable on return. Its object is closed.

        A region made later under the same id starts empty, at index 0.
        """
        with self._lock:
            self._check_open()
            region = self._regions.get(region_id)
            if region is None:
                return
            ending = self._endings.setdefault(region, _Ending(lambda: self._remove(region_id)))
        self._end(region_id, region, ending)

    def compact(self, region_id: int, *, full: bool = False, wait: bool = False) -> None:
        """Have a region's chunks merged in the background (`merge_state` tells how far it is).

        Args:
            region_id: of a region; one that does not exist is created.
            full: merge everything that can be better, and remove what deletes, expiry, drops and
                crashes left on disk. Otherwise what is worth it now, which also happens by itself.
            wait: return when it is done.

        Raises:
            EngineError: compaction is switched off; or, with `wait`, it failed.
        """
        region = self.region(region_id)
        if self._merger is None:
            raise EngineError("compaction is switched off by the option `compaction`")
        self._worker.request(region)  # expired slots are removed there
        merged = self._merger.request(region, full=full)
        if wait:
            merged()

    def merge_state(self) -> MergeState | None:
        """Return what the compaction is doing; None if it is switched off."""
        return None if self._merger is None else self._merger.state()

    def export(
        self, region_id: int, meanwhile: Callable[[], object] = bool, *, flush: bool = True
    ) -> RegionExport:
        """Flush a region and return its state as of then or later; the caller closes it.

        Args:
            region_id: of the region.
            meanwhile: called while it is flushed.
            flush: otherwise the state is that of the last flush.
        """
        region = self.region(region_id)
        if flush:
            region.flush(meanwhile=meanwhile)
        else:
            meanwhile()
        return RegionExport(region.id, self._store)

    def begin_import(self, region_id: int, source: str) -> RegionImport:
        """Begin to take over a region's state from elsewhere, or go on with it after a restart.

        Args:
            region_id: what is to be replaced.
            source: names the state that is transferred; a transfer of another one is started anew.
        """
        with self._lock:
            self._check_open()
            space, staging, progress = self._directory.begin(region_id, source)
        return RegionImport(
            region_id,
            space,
            staging,
            progress,
            self.options.transfer_file_bytes,
            self._store,
            self._directory.held,
        )

    def finish_import(
        self, transfer: RegionImport, *, index: int, sequence: int, origin: bytes
    ) -> Region:
        """Put what was transferred in the place of the region; durable on return.

        A crash before leaves the old state, one after leaves the new one. The old region's object
        is closed: reads under way end with `Closed`.

        Args:
            transfer: complete.
            index: applied index of the state.
            sequence: of the export.
            origin: what the new region's `origin` is to say.
        """
        is_durable = transfer.ingest(origin)
        sealed = seal(transfer.space, index, sequence)
        region_id = transfer.region_id
        old = self.region(region_id)

        def switch() -> None:
            with self._lock:
                self._directory.switch(
                    region_id, transfer.space, sealed, was=old.id, is_durable=is_durable
                )
                self._regions[region_id] = self._make_region(region_id)

        with self._lock:
            ending = self._endings.setdefault(old, _Ending(switch, self._store.flush))
        self._end(region_id, old, ending)
        return self.region(region_id)

    def cancel_import(self, transfer: RegionImport) -> None:
        """Remove what was transferred so far."""
        with self._lock:
            self._directory.discard(transfer.region_id)

    def close(self, *, flush: bool = True) -> None:
        """Close; may be repeated.

        Args:
            flush: store what is in memory first, so that nothing has to come again.

        Raises:
            EngineError: flushing failed; the engine is closed all the same.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            regions = list(self._regions.values())
        if self._merger is not None:
            self._merger.stop()
        self._worker.hasten()
        with self._pace.hurry():
            self._close(regions, flush=flush)

    def _close(self, regions: Sequence[Region], *, flush: bool) -> None:
        try:
            if flush:
                for region in regions:
                    region.flushing.expect_no_more()
                    region.flush(wait=False)
                for region in regions:
                    region.flush()
        finally:
            for region in regions:
                region.flushing.close()
            if self._named is not None:
                self._named.close()
            if self._merger is not None:
                self._merger.close()
            self._worker.close()
            self._directory.close()
            self._store.close()

    def verify(self) -> Report:
        """Check everything that is stored, as it is now, while it is used; see `verify.verify`.

        What is in memory is not looked at. A MANIFEST is checked offline only.
        """
        self._check_open()
        report = Report()
        if isinstance(self._store, RocksStore):
            note_tables(Path(self._store.path), report)
        verify_store(self._store, report)
        return report

    def stats(self) -> dict[str, int]:
        """Return counters since the engine was opened, and sizes of now; see docs/engine.md."""
        with self._lock:
            regions = list(self._regions.values())
        return {
            "regions": len(regions),
            "written_points": sum(region.written_points for region in regions),
            "written_bytes": self._budget.added,
            "memtable_active_bytes": self._budget.active,
            "memtable_frozen_bytes": self._budget.frozen,
            "write_stalls": self._budget.stalls,
            "write_stall_ms": self._budget.stall_ns // 1_000_000,
            "flushes": sum(region.flushing.count for region in regions),
            "flushed_bytes": sum(region.flushing.written_bytes for region in regions),
            "flushed_chunks": sum(region.flushing.chunks for region in regions),
            "expired_slots": sum(region.flushing.expiry.removed for region in regions),
            **_compaction_stats(regions),
            "cache_bytes": self._cache.used_bytes,
            "cache_hits": self._cache.hits,
            "cache_misses": self._cache.misses,
            **({} if self._named is None else self._named.stats()),
            **self._store.stats(),
        }

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("the engine is closed")

    def _make_region(self, region_id: int) -> Region:
        return Region(
            self._directory.space_of(region_id),
            self._store,
            self.options,
            self._cache,
            self._budget,
            self._pace,
            next(self._cache_ids),
            self._request,
            self._relieve,
            self._request_merge,
        )

    def _request(self, region: Region) -> None:
        self._worker.request(region)

    def _request_merge(self, region: Region, full: bool) -> None:
        if self._merger is not None:
            self._merger.request(region, full=full)

    def _relieve(self) -> None:
        """Flush the largest memory table, unless that is under way."""
        if self._relieving is not None:
            return
        regions = list(self._regions.values())
        if regions:
            largest = max(regions, key=Region.memtable_bytes)
            self._relieving = largest
            self._worker.request(largest)

    def _end(self, region_id: int, region: Region, ending: _Ending) -> None:
        """Close a region and carry out its ending, where no flush of it is under way.

        Here, if that is so now: the worker, whose priority is low, may be busy with other regions.
        """
        region.flushing.close()
        with self._lock:
            is_mine = not ending.begun and region not in self._storing
            ending.begun |= is_mine
        if is_mine:
            self._carry_out(region, ending)
        self._worker.request(region)
        with self._pace.hurry():
            ending.done.wait()
        if ending.error is not None:
            raise EngineError(f"region {region_id}: {ending.error}") from ending.error

    def _remove(self, region_id: int) -> None:
        try:
            self._store.write(self._directory.forget(region_id))
            self._store.flush()
        finally:
            with self._lock:
                del self._regions[region_id]

    def _carry_out(self, region: Region, ending: _Ending) -> None:
        """Do the first part of an ending; by whoever began it."""
        try:
            ending.act()
        except Exception as error:  # noqa: BLE001 whoever waits gets it
            ending.error = error
            region.flushing.fail(error)
        finally:
            with self._lock:
                if ending.error is not None or ending.then is None:
                    self._endings.pop(region, None)
            ending.done.set()

    def _wind_up(self, region: Region, ending: _Ending) -> None:
        """Do what is left of an ending; runs in the worker."""
        with self._lock:
            is_mine = not ending.begun
            ending.begun = True
        if is_mine:
            self._carry_out(region, ending)
        ending.done.wait()
        if ending.error is None and ending.then is not None:
            with self._lock:
                self._endings.pop(region, None)
            ending.then()

    def _flush_regions(self, regions: list[Region]) -> Iterator[None]:
        """Store several regions and make them durable with one flush; the worker's steps."""
        with self._lock:
            self._storing = frozenset(regions)
        try:
            self._pace.begin()
            for _ in self._store_regions(regions):
                self._pace.rest()
                yield
        finally:
            with self._lock:
                self._storing = frozenset()

    def _store_regions(self, regions: list[Region]) -> Iterator[None]:
        stored = []
        for region in regions:
            try:
                ending = self._endings.get(region)
                if ending is not None:
                    self._wind_up(region, ending)
                elif (yield from region.flushing.store()):
                    stored.append(region)
            except Exception as error:  # noqa: BLE001 the region reports it to whoever writes or waits
                region.flushing.fail(error)
            if region is self._relieving:
                self._relieving = None
        if not stored:
            return
        try:
            self._store.flush()
        except Exception as error:  # noqa: BLE001
            for region in stored:
                region.flushing.fail(error)
            return
        for region in stored:
            region.flushing.finish()


def _compaction_stats(regions: Sequence[Region]) -> dict[str, int]:
    all_stats = [region.compactor.stats for region in regions]
    return {
        "compactions": sum(stats.merges for stats in all_stats),
        "compaction_rows": sum(stats.read_rows for stats in all_stats),
        "compaction_bytes": sum(stats.written_bytes for stats in all_stats),
        "compaction_removed_chunks": sum(stats.removed_chunks for stats in all_stats),
        "compaction_debt": sum(region.compactor.debt for region in regions),
    }
