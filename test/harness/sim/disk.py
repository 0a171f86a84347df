"""A disk that keeps what it has synced, and loses at a crash what it has not.

Writes become durable in the order given, after a random delay; several may share one sync. A crash
keeps any prefix of the writes under way, the last of them possibly torn: its hard state and
truncation without its entries, or with some of them. Nothing that was reported durable is ever
lost (that would be outside what Raft can survive).
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

from cluster.raft.effects import Persist
from cluster.raft.types import (
    INITIAL_HARD_STATE,
    Entry,
    HardState,
    LogIndex,
    Term,
)
from harness.sim.scheduler import Scheduler


class SimDisk:
    """What survives a crash of one node: log, hard state, state machine."""

    def __init__(self, scheduler: Scheduler, rng: random.Random) -> None:
        self._scheduler = scheduler
        self._rng = rng
        self.hard_state = INITIAL_HARD_STATE
        self.base: tuple[LogIndex, Term] = (LogIndex(0), Term(0))
        self.entries: list[Entry] = []
        self.machine: tuple[LogIndex, int] = (LogIndex(0), 0)
        self.stall_us = 0
        self.stall_chance = 0.0
        self._queue: deque[tuple[Persist, Callable[[], None]]] = deque()
        self._syncing = 0
        self._boots = 0

    @property
    def last_index(self) -> int:
        """Last durable index."""
        return self.base[0] + len(self.entries)

    def term_of(self, index: int) -> int | None:
        """Durable term at `index`; None when it isn't there, or compacted."""
        base = self.base[0]
        if base < index <= base + len(self.entries):
            return self.entries[index - base - 1].term
        return self.base[1] if index == base else None

    def submit(self, persist: Persist, done: Callable[[], None]) -> None:
        """Queue a write; `done` is called when it is durable."""
        self._queue.append((persist, done))
        if not self._syncing:
            self._start_sync()

    def compact(self, up_to: LogIndex) -> None:
        """Drop entries that the durable state machine has."""
        term = self.term_of(up_to)
        assert term is not None
        assert up_to <= self.machine[0]
        del self.entries[: up_to - self.base[0]]
        self.base = (up_to, Term(term))

    def crash(self) -> None:
        """Lose what is not durable, except for a prefix that happened to make it."""
        self._boots += 1
        rng = self._rng
        queue = self._queue
        for _ in range(rng.randint(0, len(queue)) if rng.random() < 0.5 else 0):
            self._write(queue.popleft()[0])
        if queue and rng.random() < 0.5:
            torn = queue[0][0]
            kept = rng.randint(0, len(torn.entries))
            self._write(torn._replace(entries=torn.entries[:kept]))
        queue.clear()
        self._syncing = 0
        self.stall_us = 0

    def recover_hard_state(self) -> HardState:
        """Return what a restarting node reads."""
        return self.hard_state

    def _start_sync(self) -> None:
        self._syncing = len(self._queue)
        delay = 200 + int(self._rng.random() * 3_000) + self.stall_us
        self.stall_us = 0
        if self.stall_chance and self._rng.random() < self.stall_chance:
            delay += self._rng.randrange(300_000)
        self._scheduler.after(delay, self._synced, self._boots)

    def _synced(self, boot: int) -> None:
        if boot != self._boots:
            return
        done = []
        for _ in range(self._syncing):
            persist, callback = self._queue.popleft()
            self._write(persist)
            done.append(callback)
        self._syncing = 0
        if self._queue:
            self._start_sync()
        for callback in done:
            callback()

    def _write(self, persist: Persist) -> None:
        if persist.hard_state is not None:
            self.hard_state = persist.hard_state
        if persist.truncate_from:
            del self.entries[persist.truncate_from - self.base[0] - 1 :]
        self.entries.extend(persist.entries)
