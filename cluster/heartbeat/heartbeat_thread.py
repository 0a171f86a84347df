"""HeartbeatThread: one OS thread per group member.

It only waits and ticks. What a tick means (a leader's heartbeat, a follower's time-out, an
election) is the core's to decide; 0.13 has those rules in the thread itself.
"""

from __future__ import annotations

import threading
import time
from typing import Protocol

from cluster.threads import ThreadRegistry


class Ticked(Protocol):
    """What a HeartbeatThread drives."""

    name: str
    awake: threading.Event

    def tick(self) -> int:
        """Let time pass; returns after how many ticks to call again. Must not block."""
        ...


class HeartbeatThread:
    """Ticks a member until stopped, when something may be due; while the member sleeps, so does it.

    A leader is ticked for each heartbeat, a follower that hears its leader a few times in an
    election time-out: a thousand threads that wake up ten times a second would be a load by
    themselves.

    After a pause of the process (SIGSTOP, a long stall) missed ticks are not made up for: they
    would look like a silent leader and start an election for nothing.
    """

    def __init__(self, member: Ticked, tick_s: float) -> None:
        self._member = member
        self._tick_s = tick_s
        self._stop = threading.Event()

    @property
    def name(self) -> str:
        """The thread's name."""
        return f"heartbeat-{self._member.name}"

    def start(self, threads: ThreadRegistry) -> None:
        """Start the OS thread."""
        threads.spawn(self.name, self.run)

    def stop(self) -> None:
        """Make `run` return."""
        self._stop.set()
        self._member.awake.set()

    def run(self) -> None:
        """Thread body."""
        due = time.monotonic() + self._tick_s
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            ticks = self.beat()
            due = max(due + ticks * self._tick_s, time.monotonic())
            if not self._member.awake.is_set():
                self._member.awake.wait()
                due = time.monotonic() + self._tick_s

    def beat(self) -> int:
        """Tick, and return after how many ticks again; kinds of groups add their duties."""
        return self._member.tick()
