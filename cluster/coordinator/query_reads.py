"""The reads of one query: each goes where it costs least and still sees all that it must."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

from cluster.coordinator.early_reads import EarlyRound
from cluster.coordinator.errand import Found
from cluster.coordinator.forwarder import Forwarder
from cluster.coordinator.own_replicas import OwnReplicas
from cluster.errors import NotLeader, Unavailable
from cluster.member.data_member import DataMember
from cluster.member.meta_member import META_GROUP_ID
from cluster.member.raft_member import RaftMember
from cluster.plan.reads import Consistency, Read, encode_read
from cluster.raft.types import GroupId
from cluster.rpc.deadline import Deadline
from iotdb_engine.errors import Closed

logger = logging.getLogger(__name__)

T = TypeVar("T")


class QueryReads:
    """Of one query, all until one deadline; `read_each` reads for it in other threads, too.

    Args:
        forwarder: to the groups' leaders.
        own: this node's replicas.
        sync_meta: makes the local meta state as new as the level wants it.
        pool: for reads of other nodes.
        level: what is promised.
        deadline: of the query.

    Attributes:
        confirmed: groups of which this node's replica, the leader or not, was found to have all
            that the query must see. Replicas never go back, so once is enough for the whole
            query, whoever leads later.
    """

    def __init__(
        self,
        *,
        forwarder: Forwarder,
        own: OwnReplicas,
        sync_meta: Callable[[Deadline], None],
        pool: ThreadPoolExecutor,
        level: Consistency,
        deadline: Deadline,
    ) -> None:
        self._forwarder = forwarder
        self._own = own
        self._sync_meta = sync_meta
        self._pool = pool
        self._level = level
        self._deadline = deadline
        self.confirmed: set[GroupId] = set()

    def sync_meta(self) -> None:
        """Make the local meta state as new as the query needs it, once."""
        if META_GROUP_ID not in self.confirmed:
            self._sync_meta(self._deadline)
            self.confirmed.add(META_GROUP_ID)

    def confirm(self, groups: Iterable[GroupId], *, early: bool = False) -> EarlyRound | None:
        """Find out in one trip which of this node's replicas may be read from now on.

        The others are no worse for it: each is looked after when it is read. Those that this node
        leads are left to that, too. Below STRONG there is nothing to find out.

        Args:
            groups: that are about to be read.
            early: where the replicas are likely to have everything, take them for confirmed at
                once.

        Returns:
            What is to be settled before anything may be told; None: nothing is.
        """
        if self._level is not Consistency.STRONG:
            return None
        followers = self._own.followers_of(g for g in groups if g not in self.confirmed)
        if not followers:
            return None
        applied = {group_id: int(item.member.applied_index) for group_id, item in followers.items()}
        finish = self._own.ask_leaders(followers, self._deadline)
        if early and not self._own.are_behind(followers):
            self.confirmed.update(followers)
            return EarlyRound(applied, finish, self._own.note_behind)
        for group_id, index in finish().items():
            if index > applied[group_id]:
                self._own.note_behind(group_id)
            if self._own.has(followers[group_id].member, index, self._deadline):
                self.confirmed.add(group_id)
        return None

    def read(
        self,
        group_id: GroupId,
        request: Callable[[], Read],
        local: Callable[[DataMember], T],
        decode: Callable[[bytes], T],
    ) -> T:
        """Run a read of a data group where it costs least.

        STRONG: on this node's replica once it has applied what the leader says must be seen (thesis
        6.4: one short question, instead of an answer of any size from there); on the leader where
        this node has no replica, or one that lags behind. Below STRONG: on a replica that can
        answer at that level, on this node if there is one.

        Args:
            group_id: the group.
            request: makes what a node that is asked gets.
            local: the read on a replica of this node.
            decode: of another node's answer.
        """
        if self._level is Consistency.STRONG:
            here = self._read_here(group_id, local)
            if here is not None:  # mostly
                return here.value
        return self._read_elsewhere(group_id, request, local, decode)

    def read_each(self, reads: Sequence[tuple[GroupId, Callable[[], T]]]) -> list[T]:
        """Run a read of each of some groups, those of other nodes side by side; results in order.

        What this node's replicas answer is computed by the calling thread: Python computes one
        thing at a time.

        Raises:
            Exception: what the first of them raised that did; all have ended then.
        """
        if len(reads) == 1:
            return [reads[0][1]()]
        afar = {
            number: self._pool.submit(read)
            for number, (group_id, read) in enumerate(reads)
            if not self._is_near(group_id)
        }
        try:
            here = {n: read() for n, (_, read) in enumerate(reads) if n not in afar}
        finally:
            wait(afar.values())
        return [here[n] if n in here else afar[n].result() for n in range(len(reads))]

    def forget(self, group_id: GroupId) -> None:
        """This node's replica of a group was taken away: do not count on it any more."""
        self.confirmed.discard(group_id)

    # ---- inside ----

    def _is_near(self, group_id: GroupId) -> bool:
        """Whether a read is about to be served by this node, without asking another one."""
        if group_id in self.confirmed:
            return True
        member = self._forwarder.member_here(group_id)
        return member is not None and member.is_leader

    def _read_here(self, group_id: GroupId, local: Callable[[DataMember], T]) -> Found[T] | None:
        """Read from this node's replica, None where there is none that is near its leader."""
        member = self._forwarder.member_here(group_id)
        if not isinstance(member, DataMember):
            return None
        try:
            if group_id not in self.confirmed:
                if member.is_leader:
                    member.read_barrier(self._deadline)
                    self._forwarder.leads_here(group_id)
                elif not self._own.catches_up(member, self._deadline):
                    return None
                self.confirmed.add(group_id)
            return Found(local(member))
        except (NotLeader, Unavailable, Closed) as error:
            logger.debug("group %d: not read here: %s", group_id, error)
            self.confirmed.discard(group_id)
            return None

    def _read_elsewhere(
        self,
        group_id: GroupId,
        request: Callable[[], Read],
        local: Callable[[DataMember], T],
        decode: Callable[[bytes], T],
    ) -> T:
        level, deadline = self._level, self._deadline

        def payload() -> bytes:
            return encode_read(request())

        def barrier_then_local(member: RaftMember, level: Consistency = Consistency.STRONG) -> T:
            member.read_barrier(deadline, level)
            assert isinstance(member, DataMember)
            try:
                return local(member)
            except Closed as error:  # a snapshot takes its place just now: it leads no more
                raise NotLeader(group_id, 0) from error

        if level is not Consistency.STRONG:
            found = self._forwarder.read_near(
                group_id,
                payload,
                deadline,
                level,
                lambda member: barrier_then_local(member, level),
                decode,
            )
            if found is not None:
                return found.value
        return self._forwarder.read(group_id, payload, deadline, barrier_then_local, decode)
