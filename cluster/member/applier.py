"""The applier: one thread per group that feeds committed entries to the state machine in order."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Protocol

from cluster.log.node_log import GroupLog
from cluster.raft.types import Entry, EntryKind, LogIndex

logger = logging.getLogger(__name__)

_MAX_BATCH_BYTES = 8 << 20


class StateMachine(Protocol):
    """What a group replicates. One thread calls `apply` and `skip`, in index order."""

    @property
    def applied_index(self) -> LogIndex:
        """Everything up to here has been applied."""
        ...

    def apply(self, entry: Entry) -> Any:  # noqa: ANN401
        """Apply a plan entry and return its outcome.

        Deterministic. A failure that every replica has alike is a returned value; raising means
        that this replica can't go on.
        """
        ...

    def check(self, plan: object) -> None:
        """Raise ValueError unless `plan` is one that this machine can apply."""
        ...

    def skip(self, index: LogIndex) -> None:
        """Note an entry that has no effect on the state (no-op, membership)."""
        ...


class Applier:
    """Applies up to a moving commit index.

    Args:
        on_applied: called after each batch with [(index, term, outcome)] in order and the last
            index; outside any lock of the applier.
        on_failure: the state machine raised: the replica must not go on.
    """

    def __init__(
        self,
        log: GroupLog,
        machine: StateMachine,
        on_applied: Callable[[list[tuple[LogIndex, int, Any]], LogIndex], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._log = log
        self._machine = machine
        self._on_applied = on_applied
        self._on_failure = on_failure
        self._wake = threading.Condition(threading.Lock())
        self._target = machine.applied_index
        self._stopped = False

    def advance(self, commit: LogIndex) -> None:
        """Ask for everything up to `commit` to be applied; returns at once."""
        with self._wake:
            if commit > self._target:
                self._target = commit
                self._wake.notify()

    def stop(self) -> None:
        """Make `run` return after the batch at hand."""
        with self._wake:
            self._stopped = True
            self._wake.notify()

    def run(self) -> None:
        """Thread body."""
        while True:
            with self._wake:
                while not self._stopped and self._target <= self._machine.applied_index:
                    self._wake.wait()
                if self._stopped:
                    return
                target = self._target
            try:
                self._apply_until(target)
            except Exception as error:
                logger.exception("applying failed at index %d", self._machine.applied_index + 1)
                self._on_failure(error)
                return

    def _apply_until(self, target: LogIndex) -> None:
        machine = self._machine
        while machine.applied_index < target and not self._stopped:
            lo = LogIndex(machine.applied_index + 1)
            entries = self._log.entries(lo, LogIndex(target + 1), _MAX_BATCH_BYTES)
            outcomes: list[tuple[LogIndex, int, Any]] = []
            for entry in entries:
                if entry.kind == EntryKind.PLAN:
                    outcomes.append((entry.index, entry.term, machine.apply(entry)))
                else:
                    machine.skip(entry.index)
                    outcomes.append((entry.index, entry.term, None))
            self._on_applied(outcomes, entries[-1].index)
