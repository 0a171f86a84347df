"""One simulated node: a core, and a shell that does with its effects what the real one does."""

from __future__ import annotations

import random
from collections import deque
from typing import TYPE_CHECKING

from cluster.raft.core import RaftCore
from cluster.raft.effects import Effects, SendAppend
from cluster.raft.events import Applied, Event, Persisted, Received, Tick
from cluster.raft.messages import AppendRequest, Message, VoteResponse
from cluster.raft.types import (
    Entry,
    EntryMeta,
    LogIndex,
    Membership,
    NodeId,
    RaftConfig,
    Role,
    SnapshotMeta,
    Term,
)
from harness.sim.checkers import next_hash
from harness.sim.disk import SimDisk

if TYPE_CHECKING:
    from harness.sim.cluster import SimCluster


class SimNode:
    """A process that can crash and come back with its disk."""

    def __init__(
        self,
        cluster: SimCluster,
        config: RaftConfig,
        membership: Membership,
        disk: SimDisk,
        core_class: type[RaftCore],
    ) -> None:
        self.cluster = cluster
        self.node_id = config.node_id
        self.disk = disk
        self.boots = 0
        self.core: RaftCore | None = None
        self._config = config
        self._membership = membership
        self._core_class = core_class
        self._rng = cluster.rng
        self.tick_us = cluster.tick_us + int(cluster.tick_us * cluster.rng.uniform(-0.1, 0.1))

    # ---- life ----

    def start(self) -> None:
        """Recover from the disk."""
        assert self.core is None
        self.boots += 1
        disk = self.disk
        self.cluster.checkers.on_start(self)
        self.base_index = disk.base[0]
        self.base_term = disk.base[1]
        self.entries = list(disk.entries)
        self.machine_index, self.machine_hash = disk.machine
        self.told = self.machine_index
        self.compact_to = LogIndex(0)
        self._submitted = 0
        self._durable = 0
        self._held: deque[tuple[int, list[Message]]] = deque()
        self._orders: dict[NodeId, deque[SendAppend]] = {}
        self._applying = False
        self.proposals: dict[LogIndex, tuple[Term, bytes]] = {}
        self.core = self._core_class(
            self._config,
            SnapshotMeta(*disk.base, self._membership),
            disk.recover_hard_state(),
            [EntryMeta(e.index, e.term, len(e.data)) for e in self.entries],
            self.machine_index,
            random.Random(self._rng.getrandbits(32)),
        )
        self._after(self._rng.randrange(self.tick_us), self._tick)

    def crash(self) -> None:
        """Lose everything but the disk."""
        self.core = None
        self.disk.crash()

    def _after(self, delay_us: int, call: object, *args: object) -> None:
        """Schedule something that dies with this incarnation."""
        self.cluster.scheduler.after(delay_us, self._if_alive, self.boots, call, args)

    def _if_alive(self, boots: int, call: object, args: tuple[object, ...]) -> None:
        if self.core is not None and boots == self.boots:
            call(*args)  # type: ignore[operator]

    # ---- the log in memory ----

    def entry_at(self, index: int) -> Entry:
        """Return an entry of the log in memory."""
        return self.entries[index - self.base_index - 1]

    def term_at(self, index: int) -> int | None:
        """Return a term of the log in memory."""
        position = index - self.base_index - 1
        if position < 0:
            return self.base_term if position == -1 else None
        return self.entries[position].term if position < len(self.entries) else None

    def maybe_compact(self) -> None:
        """Drop what every member has and the durable state machine covers."""
        up_to = LogIndex(min(self.compact_to, self.disk.machine[0]))
        assert self.core is not None
        if up_to >= self.core.first_index:
            self.core.compact(up_to)
            self.disk.compact(up_to)
            self.base_term = Term(self.term_at(up_to) or 0)
            del self.entries[: up_to - self.base_index]
            self.base_index = up_to

    def flush_machine(self) -> None:
        """Make the state machine durable."""
        self.disk.machine = (self.machine_index, self.machine_hash)

    # ---- stepping ----

    def step(self, event: Event) -> Effects:
        """Step the core and do what it wants."""
        assert self.core is not None
        effects = self.core.step(event)
        self.cluster.steps += 1
        if self.cluster.trace is not None:
            self.cluster.note(f"n{self.node_id} {event} -> {effects}")
        self._route(effects)
        return effects

    def receive(self, message: Message) -> None:
        """Take a message from the network."""
        self.step(Received(message))

    def _tick(self) -> None:
        self._after(self.tick_us, self._tick)
        self.step(Tick())

    def _route(self, effects: Effects) -> None:
        checkers = self.cluster.checkers
        persist = effects.persist
        if persist is not None:
            if persist.truncate_from:
                for index in range(persist.truncate_from, self.base_index + len(self.entries) + 1):
                    checkers.on_truncate(self, index)
                del self.entries[persist.truncate_from - self.base_index - 1 :]
            for entry in persist.entries:
                checkers.on_append(self, entry)
                self.entries.append(entry)
            self._submitted += 1
            last = persist.entries[-1] if persist.entries else None
            boots = self.boots
            self.disk.submit(persist, lambda: self._persisted(boots, last))
        for message in effects.send:
            self._send(message)
        if effects.send_after_persist:
            if self._durable >= self._submitted:
                for message in effects.send_after_persist:
                    self._send(message)
            else:
                self._held.append((self._submitted, effects.send_after_persist))
        for order in effects.appends:
            self._queue_order(order)
        if effects.role_changed is not None:
            checkers.on_role(self, effects.role_changed.role, effects.role_changed.term)
            if effects.role_changed.role is Role.LEADER:
                self.cluster.after_election(self)
            else:
                self._orders.clear()
        if effects.commit is not None:
            checkers.on_commit(self, self.told, effects.commit)
            self.told = effects.commit
            if not self._applying:
                self._applying = True
                self._after(int(self._rng.random() * 3_000), self._apply)
        if effects.compact_to is not None:
            checkers.on_compact_to(self, effects.compact_to)
            self.compact_to = effects.compact_to
        for ready in effects.reads:
            checkers.on_read_ready(self, ready.id, ready.index)

    def _send(self, message: Message) -> None:
        self.cluster.checkers.on_sent(self, message)
        self.cluster.network.send(message)
        if isinstance(message, VoteResponse) and message.granted:
            self.cluster.after_vote(self)

    def _persisted(self, boots: int, last: Entry | None) -> None:
        if self.core is None or boots != self.boots:
            return
        self._durable += 1
        while self._held and self._held[0][0] <= self._durable:
            for message in self._held.popleft()[1]:
                self._send(message)
        if last is not None:
            self.step(Persisted(last.index, last.term))

    def _apply(self) -> None:
        self._applying = False
        while self.machine_index < self.told:
            entry = self.entry_at(self.machine_index + 1)
            self.machine_hash = next_hash(self.machine_hash, entry)
            self.machine_index = entry.index
            proposal = self.proposals.pop(entry.index, None)
            if proposal is not None and proposal[0] == entry.term:
                self.cluster.checkers.on_acknowledged(proposal[1], entry.index)
        self.cluster.checkers.on_applied(self, self.machine_index, self.machine_hash)
        self.step(Applied(self.machine_index))

    # ---- dispatching ----

    def _queue_order(self, order: SendAppend) -> None:
        queue = self._orders.get(order.to)
        if queue is None:
            queue = self._orders[order.to] = deque()
        queue.append(order)
        if len(queue) == 1:
            self._after(int(self._rng.random() * 1_500), self._dispatch, order.to)

    def _dispatch(self, to: NodeId) -> None:
        """Merge what continues one another, as the real dispatcher does, and send it."""
        queue = self._orders.get(to)
        if not queue:
            return
        order = queue.popleft()
        while queue and queue[0].term == order.term and queue[0].lo == order.hi:
            following = queue.popleft()
            order = order._replace(
                hi=following.hi, commit=following.commit, compact_to=following.compact_to
            )
        if queue:
            self._after(int(self._rng.random() * 500), self._dispatch, to)
        core = self.core
        # In its own term a leader only adds to its log: while the term stands, the log still
        # has at `prev` and behind it what the order meant.
        if core is None or core.term != order.term or order.prev_index < self.base_index:
            return
        lo = order.lo - self.base_index - 1
        entries = tuple(self.entries[lo : lo + order.hi - order.lo])
        self._send(
            AppendRequest(
                self.node_id,
                to,
                order.term,
                order.prev_index,
                order.prev_term,
                entries,
                order.commit,
                order.compact_to,
            )
        )
