"""The thread that compacts regions, and its pace."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from iotdb_engine.compaction_merge import Stopped
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


class _Run:
    """A run that was asked for; whoever waits for it learns how it went."""

    def __init__(self) -> None:
        self.full = False
        self._done = threading.Event()
        self._error: EngineError | None = None

    def end(self, error: EngineError | None) -> None:
        self._error = error
        self._done.set()

    def wait(self) -> None:
        self._done.wait()
        if self._error is not None:
            raise self._error


def _cut_off() -> Closed:
    return Closed("the engine was closed before the merge ended")


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
        self._present: tuple[Region, _Run] | None = None
        self._waiting: dict[Region, _Run] = {}
        self._failure: str | None = None
        self._closed = False
        self._stopping = threading.Event()
        self._worker: Worker[Region] = Worker("engine-compaction", self._run)

    def request(self, region: Region, *, full: bool = False) -> Callable[[], None]:
        """Have a region compacted soon; ignored once `close` began.

        Returns:
            A function that waits until it is done. It raises EngineError if that failed and Closed
            if the engine closes before.
        """
        with self._lock:
            run = self._waiting.setdefault(region, _Run())
            run.full |= full
            if self._closed:
                self._end_waiting_locked()
        self._worker.request(region)
        return run.wait

    def state(self) -> MergeState:
        """Return what is going on."""
        with self._lock:
            if self._present is None:
                return MergeState(False, False, 0, 0, len(self._waiting), self._failure)
            region, run = self._present
            stats = region.compactor.stats
            return MergeState(
                True,
                run.full,
                stats.groups_done,
                stats.groups_left,
                len(self._waiting),
                self._failure,
            )

    def stop(self) -> None:
        """End after the merge under way; does not wait."""
        self._stopping.set()

    def close(self) -> None:
        """End, and join the thread."""
        self.stop()
        self._worker.close()
        with self._lock:
            self._closed = True
            self._end_waiting_locked()

    def _end_waiting_locked(self) -> None:
        for run in self._waiting.values():
            run.end(_cut_off())
        self._waiting.clear()

    def _run(self, regions: list[Region]) -> None:
        for region in regions:
            with self._lock:
                run = self._waiting.pop(region, None)
                if run is None:
                    continue  # asked for again before the thread came to it: done already
                self._present = (region, run)
            error = self._compact(region, run.full)
            with self._lock:
                self._present = None
                if not isinstance(error, Closed):
                    self._failure = None if error is None else str(error)
            run.end(error)

    def _compact(self, region: Region, full: bool) -> EngineError | None:
        try:
            if not self._stopping.is_set():
                region.compact(full=full, pace=self._pace)
        except Closed:
            logger.debug("region %d was closed while it was compacted", region.id)
        except Exception as error:
            logger.exception("compaction of region %d failed", region.id)
            failure = EngineError(f"merging failed: {error}")
            failure.__cause__ = error
            return failure
        return _cut_off() if self._stopping.is_set() else None

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
