"""Snapshots of one member, in both directions: what they need of it, in one place."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cluster.member.applier import Applier
from cluster.member.group_machine import GroupMachine
from cluster.member.member_deps import MemberDeps
from cluster.member.snapshot_receiver import SnapshotReceiver
from cluster.member.snapshot_sender import SnapshotSenders
from cluster.member.snapshot_turns import SnapshotTurns
from cluster.raft.core import RaftCore
from cluster.raft.effects import Effects
from cluster.raft.events import Event, SnapshotInstalled
from cluster.raft.types import GroupId, LogIndex, NodeId, SnapshotMeta, Term
from cluster.rpc.convert_snapshot import SnapshotPart, SnapshotReply
from iotdb_engine import Region


class MemberSnapshots:
    """Sends this member's state to followers, and takes over that of a leader.

    Args:
        name: of the member.
        lock: the member's.
        step: steps the core; takes the lock.
    """

    def __init__(
        self,
        *,
        name: str,
        group_id: GroupId,
        node_id: NodeId,
        lock: threading.Lock,
        core: RaftCore,
        applier: Applier,
        machine: GroupMachine,
        step: Callable[[Event], Effects | None],
        deps: MemberDeps,
    ) -> None:
        self.name = name
        self.group_id = group_id
        self._lock = lock
        self._core = core
        self._applier = applier
        self._machine = machine
        self._step = step
        self._senders = SnapshotSenders(
            member=self,
            node_id=node_id,
            engine=deps.engine,
            threads=deps.threads,
            make_channel=deps.make_channel,
            options=deps.snapshots,
            turns=deps.snapshot_turns or SnapshotTurns(),
        )
        self._receiver = SnapshotReceiver(self, deps.engine)

    # ---- for the member ----

    def route(self, effects: Effects) -> None:
        """Carry out what a step orders; returns at once. The caller holds the member's lock."""
        for peer in effects.cancelled_snapshots:
            self._senders.cancel(peer)
        for order in effects.snapshots:
            self._senders.order(order)

    def take(self, part: SnapshotPart) -> SnapshotReply:
        """Take a part that a leader sent."""
        return self._receiver.take(part)

    def expire(self) -> None:
        """Let go of what nobody came back for."""
        self._senders.expire()

    def stop(self) -> None:
        """Give up every transfer; returns at once."""
        self._senders.stop()

    # ---- for senders and receiver ----

    @property
    def term(self) -> Term:
        """Present term."""
        return self._core.term

    def step(self, event: Event) -> None:
        """Step the core."""
        self._step(event)

    def meta_of(self, index: LogIndex) -> SnapshotMeta | None:
        """Return what a snapshot at `index` is; None when the log does not continue it."""
        with self._lock:
            if not self._core.first_index - 1 <= index <= self._core.applied:
                return None
            return self._core.snapshot_meta(index)

    def wants_snapshot(self, meta: SnapshotMeta) -> bool:
        """Whether the core would take it now."""
        with self._lock:
            return self._core.wants_snapshot(meta)

    @contextmanager
    def replacing(self) -> Iterator[None]:
        """Apply nothing inside the context."""
        with self._applier.paused():
            yield

    def take_over(self, region: Region, meta: SnapshotMeta) -> None:
        """Go on with another region; the core starts the log anew where that is needed."""
        self._machine.adopt(region)
        self._step(SnapshotInstalled(meta))
