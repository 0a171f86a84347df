"""Stopping a node that can't go on, rather than have it serve a wrong state."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from cluster.threads import ThreadRegistry


class FailStop:
    """Why a node stops by itself, and what it does about it at once; thread-safe.

    Args:
        threads: runs what is done at once.
        stopping: set as soon as there is a reason.
        tell: called then; must not block, callers hold a member's lock.
    """

    def __init__(
        self, threads: ThreadRegistry, stopping: threading.Event, tell: Callable[[], None]
    ) -> None:
        self._threads = threads
        self._stopping = stopping
        self._tell = tell
        self._lock = threading.Lock()
        self._reason: str | None = None
        self._leavers: list[Callable[[], None]] = []

    @property
    def reason(self) -> str | None:
        """The first one; None while there is none."""
        return self._reason

    def at_once(self, leave: Callable[[], None]) -> None:
        """Have this called, after what was added earlier, when a replica fails."""
        self._leavers.append(leave)

    def fail(self, reason: str) -> None:
        """A replica or the log can't go on: leave all groups, and stop; returns at once."""
        if self.refuse(reason):
            # Not here: callers hold a member's lock. And not with the rest: an orderly stop takes
            # seconds in which a leader that can't write would go on to suppress elections.
            with suppress(RuntimeError):  # no room for a thread: then with the rest
                self._threads.spawn("leave-groups", self._leave)

    def refuse(self, reason: str) -> bool:
        """The node is not wanted, or not what it should be: stop it; False: it does already."""
        with self._lock:
            is_first = self._reason is None
            if is_first:
                self._reason = reason
        self._stopping.set()
        self._tell()
        return is_first

    def _leave(self) -> None:
        """Take part in no group any more: no heartbeats, no votes, no acknowledgements."""
        for leave in list(self._leavers):
            leave()
