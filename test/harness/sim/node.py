"""One simulated node: a core, and a shell that does with its effects what the real one does."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cluster.raft.core import RaftCore
from cluster.raft.effects import Effects, SendAppend
from cluster.raft.events import (
    Applied,
    Event,
    PeerSilent,
    Persisted,
    ReadRequest,
    Received,
    SnapshotInstalled,
    Tick,
)
from cluster.raft.messages import AppendRequest, TimeoutNow, VoteResponse
from cluster.raft.types import (
    Entry,
    HardState,
    LogIndex,
    NodeId,
    RaftConfig,
    Role,
    SnapshotMeta,
    Term,
)
from harness.sim.disk import CorruptLog, SimDisk
from harness.sim.lockstep import meta_of
from harness.sim.transfer import Piece, PieceAnswer, Receiver, Sender

if TYPE_CHECKING:
    from harness.sim.cluster import SimCluster

Waiting = Callable[[str, Any], None]


class SimNode:
    """A process that can crash and come back with its disk, or be stopped for a while.

    Attributes:
        rate: how fast its clock runs; 1.0 is right.
        paused: SIGSTOP: whatever comes waits in `_backlog`, while its clock goes on.
        is_dead: its disk is corrupt; it never starts again.
    """

    def __init__(
        self,
        cluster: SimCluster,
        config: RaftConfig,
        disk: SimDisk,
        rate: float,
    ) -> None:
        self.cluster = cluster
        self.node_id = config.node_id
        self.disk = disk
        self.boots = 0
        self.core: RaftCore | None = None
        self.paused = False
        self.is_dead = False
        self.rate = rate
        self.config = config
        self._clock_offset_us = 0.0
        self._chance = random.Random(f"node/{cluster.settings.seed}/{config.node_id}")
        self._tick_us = cluster.settings.tick_us
        disk.on_trap = lambda: cluster.faults.crash(self, self.trap_down_us)
        self.trap_down_us = 0
        self.known_boots: dict[NodeId, int] = {}

    # ---- life ----

    def start(self) -> None:
        """Recover from the disk."""
        assert self.core is None
        disk = self.disk
        machine = disk.states.boot()
        try:
            hard_state = disk.recover()
        except CorruptLog:
            self.is_dead = True
            disk.states.close()
            self.cluster.note(f"n{self.node_id} refuses to start: its log is corrupt")
            return
        self.boots += 1
        self.paused = False
        self.base_index, self.base_term, _ = disk.base
        self.entries = list(disk.entries)
        self.machine = machine
        self.told = self.machine.index
        self.is_installing = False
        self.waiting: dict[int, tuple[Term, Waiting]] = {}
        self.reads: dict[int, Waiting] = {}
        self.readers: list[tuple[int, Waiting]] = []
        self.heard: dict[NodeId, int] = {}
        self.senders: dict[NodeId, Sender] = {}
        self._receiver = Receiver(self)
        self._submitted = 0
        self._durable = 0
        self._held: deque[tuple[int, list[Any]]] = deque()
        self._orders: dict[NodeId, deque[SendAppend]] = {}
        self._applying = False
        self._backlog: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._next_read = 0
        self._ticks = int(self._clock_us() // self._tick_us)
        self._ahead = 1
        self.core = self._make_core(hard_state)
        self._schedule_tick()

    def _make_core(self, hard_state: HardState) -> RaftCore:
        return self.cluster.core_class(
            self.config,
            self.disk.base,
            hard_state,
            [meta_of(entry) for entry in self.entries],
            LogIndex(self.machine.index),
            random.Random(self._chance.getrandbits(32)),
        )

    def crash(self) -> None:
        """Lose everything but the disk."""
        self.core = None
        self.paused = False
        self.disk.crash()

    def pause(self) -> None:
        """Stop the process where it is."""
        self.paused = True

    def resume(self, frozen_us: int) -> None:
        """Let it go on; `frozen_us` of the time did not pass on its clock."""
        self.paused = False
        self._clock_offset_us -= frozen_us * self.rate
        backlog, self._backlog = self._backlog, []
        # the tick may come first or last: threads run in any order
        if self._chance.random() < 0.5:
            self._tick()
        for call, args in backlog:
            if self.core is not None:
                call(*args)

    def jump(self, ticks: int) -> None:
        """Let the clock leap ahead."""
        self._clock_offset_us += ticks * self._tick_us

    def after(self, delay_us: int, call: Callable[..., None], *args: Any) -> None:
        """Schedule something that dies with this incarnation, and waits while it is stopped."""
        self.cluster.scheduler.after(delay_us, self._if_alive, self.boots, call, args)

    def _if_alive(self, boots: int, call: Callable[..., None], args: tuple[Any, ...]) -> None:
        if self.core is not None and boots == self.boots:
            if self.paused:
                self._backlog.append((call, args))
            else:
                call(*args)

    def enter(self, call: Callable[..., None], *args: Any) -> None:
        """Do something now, or when the process goes on."""
        self._if_alive(self.boots, call, args)

    # ---- time ----

    def _clock_us(self) -> float:
        return self.cluster.scheduler.now_us * self.rate + self._clock_offset_us

    def _ticks_due(self) -> int:
        return int(self._clock_us() // self._tick_us) - self._ticks

    def _schedule_tick(self) -> None:
        due_us = ((self._ticks + self._ahead) * self._tick_us - self._clock_us()) / self.rate
        self.cluster.scheduler.after(max(1, int(due_us) + 1), self._clock_rings, self.boots)

    def _clock_rings(self, boots: int) -> None:
        if self.core is None or boots != self.boots:
            return
        if not self.paused:
            self._tick()
            if self.core is None or boots != self.boots:
                return
            self._ahead = 1 if self.core.is_asleep else self.core.ticks_until_due
        elif self._ticks_due() > 0:
            # one is enough to notice all that were missed
            self.cluster.scheduler.after(self._tick_us, self._clock_rings, boots)
            return
        self._schedule_tick()

    def _tick(self) -> None:
        due = self._ticks_due()
        if due > 0:
            self._ticks += due
            assert self.core is not None
            if self.core.is_asleep:
                self._watch_peers()
            if self.core is not None:
                self.step(Tick(due, counted=min(due, self._ahead)))

    def _watch_peers(self) -> None:
        """Tell a sleeping core whose node has been silent for too long, or was started anew."""
        core = self.core
        assert core is not None
        now_us = self.cluster.scheduler.now_us
        limit = self.config.election_ticks
        peers = [core.leader] if core.leader != self.node_id else core.membership.members()
        for peer in peers:
            if peer == self.node_id or self.core is None:
                continue
            silent = (now_us - self.heard.get(peer, 0)) * self.rate / self._tick_us
            if silent >= limit:
                self.step(PeerSilent(peer, int(silent)))

    def hear(self, peer: NodeId, is_new: bool) -> None:
        """Take a node's sign of life (they are exchanged when groups may sleep)."""
        self.heard[peer] = self.cluster.scheduler.now_us
        if is_new and self.core is not None and self.core.is_asleep:
            self.step(PeerSilent(peer, self.config.election_ticks, is_back=True))

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

    def core_meta(self, index: int) -> SnapshotMeta:
        """Return what describes the state at `index`."""
        assert self.core is not None
        return self.core.snapshot_meta(LogIndex(index))

    def maybe_compact(self) -> None:
        """Make the state machine durable and drop what is not needed any more."""
        core = self.core
        if core is None or self.is_installing:
            return
        meta = self.core_meta(self.machine.index)
        if not self.disk.states.save(self.machine, meta, may_fail=not self.cluster.is_quiet):
            self.cluster.faults.crash(self, 0)
            return
        keep = self.cluster.settings.keep
        up_to = LogIndex(min(core.compaction_point(keep), self.machine.index, self.disk.last_index))
        if up_to >= core.first_index and self.disk.term_of(up_to) == core.term_of(up_to):
            meta = self.core_meta(up_to)
            core.compact(up_to)
            self.disk.compact(meta)
            del self.entries[: up_to - self.base_index]
            self.base_index, self.base_term = meta.index, meta.term

    # ---- stepping ----

    def step(self, event: Event) -> Effects:
        """Step the core and do what it wants."""
        core = self.core
        assert core is not None
        effects = core.step(event)
        cluster = self.cluster
        cluster.steps += 1
        if cluster.trace is not None:
            cluster.note(f"n{self.node_id} {event} -> {_brief(effects)}")
        self._route(effects)
        return effects

    def receive(self, message: Any) -> None:
        """Take a message from the network."""
        if isinstance(message, Piece):
            self._receiver.on_piece(message)
        elif isinstance(message, PieceAnswer):
            sender = self.senders.get(message.frm)
            if sender is not None:
                sender.on_answer(message)
        else:
            core = self.core
            if core is not None and core.role is not Role.LEADER and not core.is_asleep:
                self._tick()  # what passed before it
            if self.core is not None:
                self.step(Received(message))

    def propose_done(self, index: int, term: Term, waiting: Waiting) -> None:
        """Let somebody wait for the fate of a proposal."""
        self.waiting[index] = (term, waiting)

    def read(self, waiting: Waiting) -> None:
        """Ask for a read index; `waiting` gets ("ready", index) or ("refused", leader)."""
        self._next_read += 1
        self.reads[self._next_read] = waiting
        self.step(ReadRequest(self._next_read, max(0, self._ticks_due())))

    def when_applied(self, index: int, waiting: Waiting) -> None:
        """Call `waiting` once the state machine has `index`."""
        if self.machine.index >= index:
            waiting("applied", None)
        else:
            self.readers.append((index, waiting))

    def _route(self, effects: Effects) -> None:
        cluster = self.cluster
        checkers = cluster.checkers
        persist = effects.persist
        if persist is not None:
            if persist.snapshot is not None:
                checkers.on_restart_log(self, persist.snapshot)
                self.base_index, self.base_term, _ = persist.snapshot
                self.entries = []
            if persist.truncate_from:
                for index in range(persist.truncate_from, self.base_index + len(self.entries) + 1):
                    checkers.on_truncate(self, index)
                del self.entries[persist.truncate_from - self.base_index - 1 :]
            self.entries.extend(persist.entries)
            self._submitted += 1
            last = persist.entries[-1] if persist.entries else persist.snapshot
            boots = self.boots
            self.disk.submit(persist, lambda: self._if_alive(boots, self._persisted, (last,)))
            if self.core is None or boots != self.boots:
                return  # a trap
        if effects.send:
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
        if effects.membership is not None:
            checkers.on_membership(self, effects.membership)
            cluster.on_membership(self, effects.membership)
        if effects.role_changed is not None:
            self._role_changed(effects)
        if effects.commit is not None:
            checkers.on_commit(self, self.told, effects.commit)
            self.told = effects.commit
            self._want_apply()
        for snapshot in effects.snapshots:
            self.senders[snapshot.to] = sender = Sender(self, snapshot)
            self.after(2_000, sender.send)
        for peer in effects.cancelled_snapshots:
            self.senders.pop(peer).is_over = True
        for ready in effects.reads:
            self.reads.pop(ready.id)("ready", ready.index)
        for lost in effects.reads_rejected:
            self.reads.pop(lost.id)("refused", lost.leader)

    def _role_changed(self, effects: Effects) -> None:
        changed = effects.role_changed
        assert changed is not None
        self.cluster.checkers.on_role(self, changed.role, changed.term)
        if changed.role is Role.LEADER:
            self.cluster.faults.after_election(self)
        else:
            self._orders.clear()

    def _send(self, message: Any) -> None:
        cluster = self.cluster
        if isinstance(message, VoteResponse):
            cluster.checkers.on_vote(self, message)
            if message.granted and not message.pre:
                cluster.faults.after_vote(self)
        elif isinstance(message, TimeoutNow):
            cluster.faults.after_handover(self)
        cluster.network.send(message)

    def _persisted(self, last: Entry | SnapshotMeta | None) -> None:
        self._durable += 1
        while self._held and self._held[0][0] <= self._durable:
            for message in self._held.popleft()[1]:
                self._send(message)
        if last is not None:
            self.step(Persisted(last.index, last.term))

    # ---- applying ----

    def _want_apply(self) -> None:
        if not self._applying and not self.is_installing:
            self._applying = True
            self.after(int(self._chance.random() * 3_000), self._apply)

    def _apply(self) -> None:
        self._applying = False
        if self.is_installing:
            return
        machine = self.machine
        if machine.index >= self.told:
            return
        done = []
        while machine.index < self.told:
            entry = self.entry_at(machine.index + 1)
            machine.apply(entry)
            waiting = self.waiting.pop(entry.index, None)
            if waiting is not None:
                done.append((waiting, entry))
        self._applied(done)

    def _applied(self, done: list[tuple[tuple[Term, Waiting], Entry]]) -> None:
        self.cluster.checkers.on_applied(self)
        boots = self.boots
        self.step(Applied(LogIndex(self.machine.index)))
        core = self.core
        if core is not None and core.role is Role.LEADER and core.change_is_done:
            self.cluster.faults.on_change_done(core.applied)
        for (term, waiting), entry in done:
            waiting("applied" if term == entry.term else "overwritten", entry.index)
        if self.readers and self.core is not None and boots == self.boots:
            index = self.machine.index
            ready = [waiting for at, waiting in self.readers if at <= index]
            self.readers = [item for item in self.readers if item[0] > index]
            for waiting in ready:
                waiting("applied", None)

    # ---- snapshots ----

    def wants(self, meta: SnapshotMeta) -> bool:
        """Whether to take pieces of a snapshot."""
        assert self.core is not None
        return not self.is_installing and self.core.wants_snapshot(meta)

    def install(self, piece: Piece, staged: Any) -> None:
        """Everything is here: stop applying, replace the state machine, then the log."""
        self.is_installing = True
        self.after(1_000 + int(self._chance.random() * 20_000), self._install, piece, staged)
        self.cluster.faults.at_install(self, "staged")

    def _install(self, piece: Piece, staged: Any) -> None:
        core = self.core
        assert core is not None
        boots = self.boots
        if core.wants_snapshot(piece.meta):
            self.machine = self.disk.states.install(staged, piece.meta)
            if self.cluster.faults.at_install(self, "installed"):
                return
            self.told = max(self.told, self.machine.index)
            self.cluster.checkers.on_installed(self, piece.meta)
            self.step(SnapshotInstalled(piece.meta, piece.frm))
            if self.cluster.faults.at_install(self, "logged"):
                return
        else:
            self.disk.states.drop(staged)
        if self.core is None or boots != self.boots:
            return
        self.is_installing = False
        self._receiver.installed(piece)
        self._applied([])
        self._want_apply()

    # ---- dispatching ----

    def _queue_order(self, order: SendAppend) -> None:
        queue = self._orders.get(order.to)
        if queue is None:
            queue = self._orders[order.to] = deque()
        queue.append(order)
        if len(queue) == 1:
            self.after(int(self._chance.random() * 1_500), self._dispatch, order.to)

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
            self.after(int(self._chance.random() * 500), self._dispatch, to)
        core = self.core
        # In its own term a leader only adds to its log: while the term stands, the log still
        # has at `prev` and behind it what the order meant.
        if core is None or core.term != order.term or order.prev_index < self.base_index:
            return
        lo = order.lo - self.base_index - 1
        entries = tuple(self.entries[lo : lo + order.hi - order.lo])
        self.cluster.checkers.on_entries(order.prev_term, entries)
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


def _brief(effects: Effects) -> str:
    """Return what is not empty."""
    parts = []
    for name in Effects.__slots__:
        value = getattr(effects, name)
        if value is not None and value != []:
            parts.append(f"{name}={value}")
    return " ".join(parts) or "-"
