"""Typed access to the groups: plans and reads in, outcomes out, wherever the leader is.

What a query reads of data groups is in `query_reads.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, TypeVar

from cluster.coordinator.forwarder import Forwarder
from cluster.coordinator.own_replicas import OwnReplicas
from cluster.coordinator.query_reads import QueryReads
from cluster.coordinator.row_writer import Propose, RowWriter
from cluster.errors import NotLeader, Unavailable
from cluster.member.data_member import DataMember
from cluster.member.meta_member import META_GROUP_ID, MetaMember
from cluster.member.raft_member import RaftMember
from cluster.member.stream import PeerStreams
from cluster.plan.codec import decode_result
from cluster.plan.plans import DataPlan, MetaPlan
from cluster.plan.reads import (
    AppliedIndexRead,
    AwaitAppliedRead,
    Consistency,
    Read,
    ResolveRead,
    encode_read,
)
from cluster.raft.types import GroupId, NodeId
from cluster.rpc.deadline import Deadline
from cluster.rpc.loop import FrameLoop
from cluster.schema.series import SeriesInfo

logger = logging.getLogger(__name__)

T = TypeVar("T")

_FAN_OUT_THREADS = 16
_ANNOUNCE_S = 1.0


class GroupsAccess:
    """Runs plans and reads on group leaders; thread-safe."""

    def __init__(
        self,
        forwarder: Forwarder,
        meta_member: MetaMember,
        pool: ThreadPoolExecutor | None = None,
    ) -> None:
        self._forwarder = forwarder
        self._meta = meta_member
        self._own = OwnReplicas(forwarder, self._applied_index)
        self._pool = pool or ThreadPoolExecutor(_FAN_OUT_THREADS, thread_name_prefix="fan-out")

    def reads(self, deadline: Deadline, level: Consistency = Consistency.STRONG) -> QueryReads:
        """Return the reads of one query, which promise no more than `level`."""
        return QueryReads(
            forwarder=self._forwarder,
            own=self._own,
            sync_meta=lambda deadline: self.sync_meta(deadline, level),
            pool=self._pool,
            level=level,
            deadline=deadline,
        )

    def close(self) -> None:
        """Stop the watch and the fan-out threads; calls under way end at their deadlines."""
        self._forwarder.watch.stop()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def row_writer(self, loop: FrameLoop, streams: PeerStreams, propose: Propose) -> RowWriter:
        """Return what writes single rows in a loop."""
        return RowWriter(loop, self._forwarder, streams, propose)

    def relay(
        self, group_id: GroupId, method: str, payload: bytes, deadline: Deadline
    ) -> bytes | None:
        """Pass on the request of a node that does not reach a leader; see `Forwarder.relay`."""
        return self._forwarder.relay(group_id, method, payload, deadline)

    def follow_leaders(self, member: RaftMember) -> None:
        """End calls that wait for a former leader as soon as a member of ours learns of another."""
        watch = self._forwarder.watch
        member.on_role_changed(lambda changed: watch.leader_is(member.group_id, changed.leader))

    def execute_meta(self, plan: MetaPlan, deadline: Deadline) -> Any:  # noqa: ANN401
        """Apply a meta plan and return its Outcome, visible on this node when this returns."""
        outcome = self._forwarder.write(META_GROUP_ID, plan, deadline, decode_result)
        if not self._meta.is_leader:
            self.sync_meta(deadline)
        return outcome

    def execute_data(self, group_id: GroupId, plan: DataPlan, deadline: Deadline) -> Any:  # noqa: ANN401
        """Apply a data plan in a group and return its outcome."""
        return self._forwarder.write(group_id, plan, deadline, decode_result)

    def remote_leader(self, group_id: GroupId) -> NodeId:
        """Return which other node leads a group, as far as known; 0: this one, or nobody."""
        return self._forwarder.remote_leader(group_id)

    def sync_meta(self, deadline: Deadline, level: Consistency = Consistency.STRONG) -> None:
        """Make the local meta state as new as any acknowledged change (a linearizable read).

        Below STRONG: as new as the level wants it.
        """
        if level is not Consistency.STRONG:
            try:
                self._meta.read_barrier(deadline, level)
            except (NotLeader, Unavailable) as error:
                logger.debug("meta state: %s: the leader is asked", error)
            else:
                return
        elif self._meta.is_leader:
            try:
                self._meta.read_barrier(deadline)
            except NotLeader as error:
                logger.debug("meta state: %s: its new leader is asked", error)
            else:
                self._forwarder.leads_here(META_GROUP_ID)
                return
        self._meta.await_applied(self._applied_index(META_GROUP_ID, deadline), deadline)

    def _applied_index(self, group_id: GroupId, deadline: Deadline) -> int:
        """Return an index that, once applied somewhere, makes reads there linearizable."""
        index: int = self._forwarder.read(
            group_id,
            lambda: encode_read(AppliedIndexRead()),
            deadline,
            lambda member: _applied_index(member, deadline),
            decode_result,
        )
        return index

    def announce_meta(self, deadline: Deadline) -> None:
        """Return when the reachable nodes have applied what this one has of the meta group.

        Statements that follow through any of them then see a change that was just made. A node that
        does not answer soon is passed over: it catches up before it serves anything strong.
        """
        news = AwaitAppliedRead(int(self._meta.applied_index))
        self._tell_others(news, deadline.earlier(_ANNOUNCE_S))

    @property
    def leads_meta(self) -> bool:
        """Whether this node leads the meta group, as far as it knows."""
        return self._meta.is_leader

    def answering_nodes(self, deadline: Deadline) -> set[int]:
        """Return the ids of the meta group's nodes that answer, this one included."""
        return {int(self._forwarder.node_id), *self._tell_others(AwaitAppliedRead(0), deadline)}

    def _tell_others(self, read: Read, deadline: Deadline) -> list[NodeId]:
        """Run a read on the other nodes of the meta group; return those that did it in time.

        Side by side: one that hangs would use up the time of those behind it.
        """
        payload = encode_read(read)
        asked = {
            node_id: self._pool.submit(
                self._forwarder.tell, node_id, META_GROUP_ID, payload, deadline
            )
            for node_id in self._forwarder.others_of(META_GROUP_ID)
        }
        done, late = wait(asked.values(), deadline.remaining_s())
        for call in late:
            call.cancel()
        return [node_id for node_id, call in asked.items() if call in done and call.result()]

    def resolve(
        self,
        group_id: GroupId,
        sg_id: int,
        device: str,
        measurements: Sequence[str],
        deadline: Deadline,
    ) -> tuple[bool | None, list[SeriesInfo | None]]:
        """Look up a device's series in the group that owns its schema."""
        read = ResolveRead(sg_id, device, tuple(measurements))

        def local(member: RaftMember) -> list[Any]:
            member.read_barrier(deadline)
            return list(schema_of(member).resolve(sg_id, device, read.measurements))

        aligned, found = self._forwarder.read(
            group_id, lambda: encode_read(read), deadline, local, decode_result
        )
        return aligned, found

    def in_parallel(self, calls: Iterable[Callable[[], T]]) -> list[T | Exception]:
        """Run calls side by side; each result, or the exception it raised, in order."""

        def guarded(call: Callable[[], T]) -> T | Exception:
            try:
                return call()
            except Exception as error:  # noqa: BLE001 - handed to the caller, who decides
                return error

        todo = list(calls)
        if len(todo) == 1:
            return [guarded(todo[0])]
        return list(self._pool.map(guarded, todo))


def schema_of(member: RaftMember) -> Any:  # noqa: ANN401
    """Return the schema tree of a data group's member."""
    assert isinstance(member, DataMember)
    return member.machine.schema


def _applied_index(member: RaftMember, deadline: Deadline) -> int:
    member.read_barrier(deadline)
    return int(member.applied_index)
