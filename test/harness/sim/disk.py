"""A disk that keeps what it has synced, and loses at a crash what it has not.

Writes become durable in the order given, after a random delay; several may share one sync. A crash
keeps any prefix of the writes under way, the last of them possibly torn: its hard state and
truncation without its entries, or with some of them.

What was reported durable stays, but a bit of it may flip (`flip`), which recovery finds by the
checksum. The node then refuses to start: it can't know what it acknowledged. The atlas of such
faults is the cluster's (`Faults.do_flip`): never more nodes than the group can do without.
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
    Membership,
    SnapshotMeta,
    Term,
)
from harness.sim.plan import Settings
from harness.sim.scheduler import Scheduler
from harness.sim.states import Kind, StubKind


class CorruptLog(Exception):
    """A record's checksum is wrong: the node must not start."""


class SimDisk:
    """What survives a crash of one node.

    Attributes:
        base, entries: the log.
        states: what is durable of the state machine.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        settings: Settings,
        node_id: int,
        membership: Membership,
        kind: Kind | None = None,
    ) -> None:
        self._scheduler = scheduler
        self._chance = random.Random(f"disk/{settings.seed}/{node_id}").random
        self._stall = settings.stall / 100
        self.hard_state = INITIAL_HARD_STATE
        self.base = SnapshotMeta(LogIndex(0), Term(0), membership)
        self.entries: list[Entry] = []
        self.states = (kind or StubKind()).states(self.base, self._chance)
        self.stall_us = 0
        self.is_corrupt = False
        self.trap: str | None = None
        self.on_trap: Callable[[], None] = lambda: None
        self._queue: deque[tuple[Persist, Callable[[], None]]] = deque()
        self._syncing = 0
        self._boots = 0

    @property
    def last_index(self) -> int:
        """Last durable index."""
        return self.base.index + len(self.entries)

    def term_of(self, index: int) -> int | None:
        """Durable term at `index`; None when it isn't there, or compacted."""
        position = index - self.base.index - 1
        if 0 <= position < len(self.entries):
            return self.entries[position].term
        return self.base.term if position == -1 else None

    def has(self, index: int, term: int) -> bool:
        """Whether the entry is durable here, as itself or inside a state."""
        if index <= self.base.index or index <= self.states.meta.index:
            return True
        return self.term_of(index) == term

    def submit(self, persist: Persist, done: Callable[[], None]) -> None:
        """Queue a write; `done` is called when it is durable. May crash the node (a trap)."""
        self._queue.append((persist, done))
        if self.trap is not None:
            self.on_trap()
        elif not self._syncing:
            self._start_sync()

    def compact(self, meta: SnapshotMeta) -> None:
        """Drop entries that the durable state machine has."""
        assert meta.index <= self.states.meta.index
        assert self.term_of(meta.index) == meta.term
        del self.entries[: meta.index - self.base.index]
        self.base = meta

    def flip(self) -> bool:
        """Flip a bit somewhere in what is durable of the log; False when there is nothing."""
        if not self.entries:
            return False
        position = int(self._chance() * len(self.entries))
        entry = self.entries[position]
        data = bytearray(entry.data or b" ")
        data[int(self._chance() * len(data))] ^= 1
        self.entries[position] = entry._replace(data=bytes(data))
        self.is_corrupt = True
        return True

    def crash(self) -> None:
        """Lose what is not durable, except for a prefix that happened to make it."""
        self._boots += 1
        chance = self._chance
        queue = self._queue
        how, self.trap = self.trap, None
        if how == "kept":
            kept = len(queue)
        elif how is not None:
            kept = len(queue) - 1
        else:
            kept = int(chance() * (len(queue) + 1)) if chance() < 0.5 else 0
        for _ in range(kept):
            self._write(queue.popleft()[0])
        if queue and how != "lost" and (how == "torn" or chance() < 0.5):
            torn = queue[0][0]
            self._write(torn._replace(entries=torn.entries[: int(chance() * len(torn.entries))]))
        queue.clear()
        self._syncing = 0
        self.stall_us = 0
        self.states.crash()

    def recover(self) -> HardState:
        """Check the log against the state machine, and return the hard state.

        A state machine that the log doesn't reach, or contradicts, is a snapshot that was installed
        just before a crash: the log starts anew behind it.

        Raises:
            CorruptLog: a checksum is wrong.
        """
        if self.is_corrupt:
            raise CorruptLog
        meta = self.states.meta
        is_new = self.states.may_be_taken_over and meta.index > self.base.index
        if is_new and self.term_of(meta.index) != meta.term:
            self.base = meta
            self.entries.clear()
        if self.hard_state.term < self.base.term:
            self.hard_state = HardState(self.base.term, INITIAL_HARD_STATE.vote)
        return self.hard_state

    def calm(self) -> None:
        """No more stalls."""
        self.stall_us = 0
        self._stall = 0.0

    def _start_sync(self) -> None:
        self._syncing = len(self._queue)
        chance = self._chance
        delay = 200 + int(chance() * 3_000) + self.stall_us
        self.stall_us = 0
        if self._stall and chance() < self._stall:
            delay += int(chance() * 300_000)
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
        if persist.snapshot is not None:
            self.base = persist.snapshot
            self.entries.clear()
        if persist.truncate_from:
            del self.entries[persist.truncate_from - self.base.index - 1 :]
        self.entries.extend(persist.entries)
