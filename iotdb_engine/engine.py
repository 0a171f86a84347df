"""The storage engine: regions over one store, one background thread, one memory budget."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path
from types import TracebackType

from iotdb_engine.budget import MemoryBudget
from iotdb_engine.cache import ByteCache
from iotdb_engine.errors import Closed, EngineError
from iotdb_engine.key_format import region_of, region_range
from iotdb_engine.options import DEFAULT_OPTIONS, EngineOptions
from iotdb_engine.region import Region
from iotdb_engine.store import Batch, MemoryStore, RocksStore, Store
from iotdb_engine.worker import Worker

MEMORY_PATH = ":memory:"
REGION_MAX = 0xFFFF


class Engine:
    """A folder of data, open for one process at a time. Thread-safe; a context manager.

    RocksDB runs without a write-ahead log: what is not durable yet (`Region.durable_index`) has to
    come again from the caller's own log after a crash.
    """

    def __init__(
        self,
        path: str | Path,
        options: EngineOptions = DEFAULT_OPTIONS,
        *,
        store: Store | None = None,
    ) -> None:
        """Open, creating the folder if there is none.

        Args:
            path: a folder, or ":memory:" for an engine that keeps nothing after `close`.
            options: sizes.
            store: an open store to use in place of `path`; the engine closes it. For tests.

        Raises:
            Locked: another engine has the folder open.
            Corruption: a record that is needed for opening is damaged.
        """
        self.options = options
        if store is not None:
            self._store = store
        elif str(path) == MEMORY_PATH:
            self._store = MemoryStore()
        else:
            self._store = RocksStore(path, block_cache_bytes=options.block_cache_bytes)
        self._cache = ByteCache(options.read_cache_bytes)
        self._budget = MemoryBudget(options.memtable_bytes)
        self._cache_ids = itertools.count(1)
        # Guards the three fields below. Taken before a region's lock, never while holding one.
        self._lock = threading.Lock()
        self._regions: dict[int, Region] = {}
        self._dropping: dict[Region, threading.Event] = {}
        self._closed = False
        self._relieving: Region | None = None
        try:
            for region_id in self._stored_regions():
                self._regions[region_id] = self._make_region(region_id)
        except BaseException:
            self._store.close()
            raise
        self._worker: Worker[Region] = Worker("engine-flush", self._flush_regions)

    def region(self, region_id: int) -> Region:
        """Return a region, creating it on first use.

        Args:
            region_id: in [0, 65535].
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
            done = self._dropping.setdefault(region, threading.Event())
        region.close()
        self._worker.request(region)
        done.wait()
        if region.failure is not None:
            raise EngineError(f"region {region_id}: {region.failure}") from region.failure

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
        try:
            if flush:
                for region in regions:
                    region.expect_no_more()
                    region.flush(wait=False)
                for region in regions:
                    region.flush()
        finally:
            for region in regions:
                region.close()
            self._worker.close()
            self._store.close()

    def stats(self) -> dict[str, int]:
        """Return counters and sizes, for people and tests."""
        with self._lock:
            regions = list(self._regions.values())
        return {
            "regions": len(regions),
            "memtable_active_bytes": self._budget.active,
            "memtable_frozen_bytes": self._budget.frozen,
            "write_stalls": self._budget.stalls,
            "write_stall_ms": self._budget.stall_ns // 1_000_000,
            "flushes": sum(region.flush_count for region in regions),
            "flushed_bytes": sum(region.flushed_bytes for region in regions),
            "cache_bytes": self._cache.used_bytes,
            "cache_hits": self._cache.hits,
            "cache_misses": self._cache.misses,
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

    def _stored_regions(self) -> list[int]:
        found = []
        view = self._store.view()
        try:
            lo = b""
            while (key := view.first_key(lo, b"\xff" * 64)) is not None:
                region_id = region_of(key)
                found.append(region_id)
                lo = region_range(region_id)[1]
        finally:
            view.release()
        return found

    def _make_region(self, region_id: int) -> Region:
        return Region(
            region_id,
            self._store,
            self.options,
            self._cache,
            self._budget,
            next(self._cache_ids),
            self._request,
            self._relieve,
        )

    def _request(self, region: Region) -> None:
        self._worker.request(region)

    def _relieve(self) -> None:
        """Flush the largest memory table, unless that is under way."""
        if self._relieving is not None:
            return
        regions = list(self._regions.values())
        if regions:
            largest = max(regions, key=Region.memtable_bytes)
            self._relieving = largest
            self._worker.request(largest)

    def _remove_region(self, region: Region) -> None:
        """Remove a closed region; in the worker, so that no flush of it is under way."""
        try:
            batch = Batch()
            batch.delete_range(*region_range(region.id))
            self._store.write(batch)
            self._store.flush()
        finally:
            with self._lock:
                del self._regions[region.id]
                done = self._dropping.pop(region)
            done.set()

    def _flush_regions(self, regions: list[Region]) -> None:
        """Store several regions and make them durable with one flush; runs in the worker."""
        stored = []
        for region in regions:
            try:
                if region in self._dropping:
                    self._remove_region(region)
                elif region.store_frozen():
                    stored.append(region)
            except Exception as error:  # noqa: BLE001 the region reports it to whoever writes or waits
                region.fail(error)
            if region is self._relieving:
                self._relieving = None
        if not stored:
            return
        try:
            self._store.flush()
        except Exception as error:  # noqa: BLE001
            for region in stored:
                region.fail(error)
            return
        for region in stored:
            region.finish_flush()
