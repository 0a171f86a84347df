"""The applier: feeds a group's committed entries to the state machine, in order.

Each group has an applier thread. Handing an entry to it costs two switches of threads, on a busy
machine more than applying a tablet does. So whoever moved the commit index offers to apply what is
quick right where it is (`Applier.catch_up`), and the thread gets what is not. Only one of them
applies at a time: who holds the role.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from cluster.log.node_log import GroupLog
from cluster.raft.types import Entry, LogIndex
from iotdb_engine.errors import OutOfSpace

logger = logging.getLogger(__name__)

_MAX_BATCH_BYTES = 8 << 20
_MAX_QUICK_ENTRIES = 64
_IDLE_S = 5.0
"""A group's applier thread ends when it had nothing to do for so long."""


class StateMachine(Protocol):
    """What a group replicates. One thread at a time calls `apply_all`, in index order."""

    @property
    def applied_index(self) -> LogIndex:
        """Everything up to here has been applied."""
        ...

    def apply_all(self, entries: Sequence[Entry]) -> list[Any]:
        """Apply entries, at least one, and return the outcome of each; None for one without effect.

        Deterministic, however they are cut into calls. A failure that every replica has alike is a
        returned value; raising means that this replica can't go on.
        """
        ...

    def are_quick(self, entries: Sequence[Entry]) -> bool:
        """Whether applying `entries` now takes microseconds each and waits for nothing."""
        ...

    def check(self, plan: object) -> None:
        """Raise ValueError unless `plan` is one that this machine can apply."""
        ...


class Applier:
    """Applies up to a moving commit index.

    Lock order: the role, then what `on_applied` takes (the member's lock); `_wake` is innermost.

    Args:
        on_applied: called after each batch with [(index, term, outcome)] in order and the last
            index; by the thread that applied, which holds the role and no lock of the applier.
        on_failure: the state machine raised: the replica must not go on.
        spawn: starts a thread that runs its argument. The thread is started when there is something
            for it, and ends when there was nothing for a while. None: the caller runs `run`.
    """

    def __init__(
        self,
        log: GroupLog,
        machine: StateMachine,
        on_applied: Callable[[list[tuple[LogIndex, int, Any]], LogIndex], None],
        on_failure: Callable[[BaseException], None],
        spawn: Callable[[Callable[[], None]], object] | None = None,
    ) -> None:
        self._spawn = spawn
        self._has_thread = spawn is None
        self._log = log
        self._machine = machine
        self._on_applied = on_applied
        self._on_failure = on_failure
        self._role = threading.Lock()
        self._wake = threading.Condition(threading.Lock())
        self._target = machine.applied_index
        self._stopped = False

    def advance(self, commit: LogIndex) -> None:
        """Note that everything up to `commit` is to be applied; `catch_up` must follow."""
        self._target = max(self._target, commit)

    def catch_up(self) -> None:
        """Apply here what is quick, and leave the rest to the thread.

        Never waits, so it may be called by any thread that holds neither the member's lock nor the
        role. Cheap when there is nothing to do.
        """
        while self._target > self._machine.applied_index and not self._stopped:
            # Who has the role looks at the target again after giving it back: nothing is missed.
            if not self._role.acquire(blocking=False):
                return
            try:
                went_on = self._apply_quick()
            finally:
                self._role.release()
            if not went_on:
                self._leave_to_thread()
                return

    def _leave_to_thread(self) -> None:
        with self._wake:
            if self._has_thread:
                self._wake.notify()
                return
            self._has_thread = True
        assert self._spawn is not None
        try:
            self._spawn(self.run)
        except RuntimeError:  # no room for a thread: who comes next, at a tick at the latest, tries
            with self._wake:
                self._has_thread = False

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Apply nothing inside the context; waits for the batch at hand."""
        try:
            with self._role:
                yield
        finally:
            self.catch_up()  # who asked meanwhile was turned away

    def stop(self) -> None:
        """Make `run` return after the batch at hand."""
        with self._wake:
            self._stopped = True
            self._wake.notify()

    def run(self) -> None:
        """Thread body."""
        while True:
            with self._wake:
                idle = not self._wake.wait_for(
                    lambda: self._stopped or self._target > self._machine.applied_index,
                    None if self._spawn is None else _IDLE_S,
                )
                if idle:
                    self._has_thread = False
                    return
            with self._role:
                if self._stopped:
                    return
                if not self._guarded(self._apply_all):
                    return

    # ---- with the role ----

    def _apply_quick(self) -> bool:
        """Apply a few entries; False when what comes next is not quick."""
        machine = self._machine
        lo = LogIndex(machine.applied_index + 1)
        hi = LogIndex(self._target + 1)
        if lo >= hi:
            return True
        if hi - lo > _MAX_QUICK_ENTRIES:
            return False
        entries = self._log.cached_entries(lo, hi)
        if not entries or not machine.are_quick(entries):
            return False
        return self._guarded(lambda: self._apply(entries))

    def _apply_all(self) -> None:
        machine = self._machine
        while machine.applied_index < self._target and not self._stopped:
            lo = LogIndex(machine.applied_index + 1)
            self._apply(self._log.entries(lo, LogIndex(self._target + 1), _MAX_BATCH_BYTES))

    def _apply(self, entries: list[Entry]) -> None:
        applied = self._machine.apply_all(entries)
        outcomes: list[tuple[LogIndex, int, Any]] = [
            (entry.index, entry.term, outcome)
            for entry, outcome in zip(entries, applied, strict=True)
        ]
        self._on_applied(outcomes, entries[-1].index)

    def _guarded(self, work: Callable[[], None]) -> bool:
        try:
            work()
        except Exception as error:
            # a full disk has been told by who met it, and is no fault of the code
            trace = None if isinstance(error.__cause__, OutOfSpace) else error
            index = self._machine.applied_index
            logger.error("applying failed behind index %d: %s", index, error, exc_info=trace)
            self._stopped = True
            self._on_failure(error)
            return False
        return True
