"""The thread that compacts regions, and its pace."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from iotdb_engine.compaction import Stopped
from iotdb_engine.errors import Closed, EngineError
from iotdb_engine.region import Region
from iotdb_engine.worker import Worker

logger = logging.getLogger(__name__)

_BUSY_S = 0.5
"""Rows that came within this time mean that writers are at work."""


class MergeState(NamedTuple):
    """What the thread is doing.

    Attributes:
        running: whether a region is being compacted.
        full: whether by a full merge.
        groups_done: of the present run of that region.
        groups_left: likewise.
        waiting: regions asked for and not begun.
        failure: what stopped the last run that failed, or None.
    """

    running: bool
    full: bool
    groups_done: int
    groups_left: int
    waiting: int
    failure: str | None


class Merger:
    """Compacts the regions that ask for it, one after another, in a thread of low priority.

    A run that is cut off (by closing, or a kill) is begun again; what it merged stays merged.
    """

    def __init__(self, share: float, written_bytes: Callable[[], int]) -> None:
        """Start the thread.

        Args:
            share: of a core, while rows are being written.
            written_bytes: of rows, ever growing.
        """
        self._share = share
        self._written_bytes = written_bytes
        self._seen = (0, 0.0)
        self._lock = threading.Lock()
        self._full: set[Region] = set()
        self._present: tuple[Region, bool] | None = None
        self._waiting: set[Region] = set()
        self._changed = threading.Condition(self._lock)
        self._failure: str | None = None
        self._stopping = threading.Event()
        self._worker: Worker[Region] = Worker("engine-compaction", self._run)

    def request(self, region: Region, *, full: bool = False) -> None:
        """Have a region compacted soon; ignored once `close` began."""
        with self._lock:
            if full:
                self._full.add(region)
            self._waiting.add(region)
        self._worker.request(region)

    def wait(self, region: Region) -> None:
        """Wait until what was requested for a region is done.

        Raises:
            EngineError: it failed.
            Closed: the engine is closing.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._idle_locked(region) or self._stopping.is_set())
            if not self._idle_locked(region):
                raise Closed("the engine was closed before the merge ended")
            if self._failure is not None:
                raise EngineError(f"merging failed: {self._failure}")

    def _idle_locked(self, region: Region) -> bool:
        present = self._present is not None and self._present[0] is region
        return not present and region not in self._waiting

    def state(self) -> MergeState:
        """Return what is going on."""
        with self._lock:
            if self._present is None:
                return MergeState(False, False, 0, 0, len(self._waiting), self._failure)
            region, full = self._present
            stats = region.compactor.stats
            return MergeState(
                True, full, stats.groups_done, stats.groups_left, len(self._waiting), self._failure
            )

    def stop(self) -> None:
        """End after the merge under way; does not wait."""
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """End, and join the thread."""
        self.stop()
        self._worker.close()

    def _run(self, regions: list[Region]) -> None:
        for region in regions:
            with self._lock:
                full = region in self._full
                self._full.discard(region)
                self._waiting.discard(region)
                self._present = (region, full)
            failure: str | None = None
            try:
                if not self._stopping.is_set():
                    region.compact(full=full, pace=self._pace)
            except Closed:
                logger.debug("region %d was closed while it was compacted", region.id)
            except EngineError as error:
                failure = str(error)
                logger.error("compaction of region %d: %s", region.id, error)
            finally:
                with self._changed:
                    self._present = None
                    self._failure = failure
                    self._changed.notify_all()

    def _pace(self, cpu_s: float) -> None:
        if self._stopping.is_set():
            raise Stopped
        if self._is_busy() and self._stopping.wait(cpu_s * (1 / self._share - 1)):
            raise Stopped

    def _is_busy(self) -> bool:
        written, now = self._written_bytes(), time.monotonic()
        if written != self._seen[0]:
            self._seen = (written, now)
        return now - self._seen[1] < _BUSY_S
