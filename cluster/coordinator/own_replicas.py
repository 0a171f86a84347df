"""This node's replicas as places to read from: which have all that a strong read must see.

The thesis' read index (6.4): a replica that does not lead asks the group's leader for a number
only, and serves the read once it has applied that much.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from cluster.coordinator.early_reads import EarlyRound
from cluster.coordinator.errand import Found
from cluster.coordinator.forwarder import Forwarder
from cluster.coordinator.index_round import IndexRound
from cluster.errors import NotLeader, Unavailable
from cluster.member.data_member import DataMember
from cluster.member.raft_member import RaftMember
from cluster.raft.types import GroupId, NodeId
from cluster.rpc.deadline import Deadline
from iotdb_engine.errors import Closed

logger = logging.getLogger(__name__)

T = TypeVar("T")

_CATCH_UP_S = 0.02
"""Longest wait for a follower on this node before the leader is asked."""
_LAG_S = 1.0
"""How long a follower that was not there by then is left alone."""
_BEHIND_S = 1.0
"""How long a group in which something was under way is not read early: it would be for nothing."""


class OwnReplicas:
    """Strong reads of this node's replicas; thread-safe.

    A query keeps a set of the groups whose replica here was found to have all that it must see,
    whether it leads or not. Replicas never go back, so once is enough for a whole query, whoever
    leads later.

    Args:
        forwarder: knows the members, and asks single leaders.
        applied_index: asks a group's leader, whoever that is, for a read index.
    """

    def __init__(
        self, forwarder: Forwarder, applied_index: Callable[[GroupId, Deadline], int]
    ) -> None:
        self._forwarder = forwarder
        self._applied_index = applied_index
        self._round = IndexRound(forwarder)
        self._lagging: dict[GroupId, float] = {}
        """Until when this node's replica of a group is not asked."""
        self._behind: dict[GroupId, float] = {}
        """Until when it is not read before its leader has answered."""

    def confirm(
        self,
        groups: Iterable[GroupId],
        deadline: Deadline,
        confirmed: set[GroupId],
        *,
        early: bool = False,
    ) -> EarlyRound | None:
        """Add those of some groups whose replica here may be read from now on, in one trip.

        The others are no worse for it: each is looked after when it is read. Those that this node
        leads are left to that, too.

        Args:
            groups: that are about to be read.
            deadline: of the read.
            confirmed: added to.
            early: where the replicas are likely to have everything, add them at once.

        Returns:
            What is to be settled before anything may be told; None: nothing is.
        """
        leaders: dict[GroupId, NodeId] = {}
        members: dict[GroupId, RaftMember] = {}
        for group_id in groups:
            member = self._forwarder.member_here(group_id)
            if group_id in confirmed or member is None or member.is_leader:
                continue
            leader = member.leader
            if leader and not self._lags(group_id):
                leaders[group_id], members[group_id] = leader, member
        if not leaders:
            return None
        applied = {group_id: int(member.applied_index) for group_id, member in members.items()}
        finish = self._round.begin(leaders, deadline)
        if early and not self._are_behind(leaders):
            confirmed.update(leaders)
            return EarlyRound(applied, finish, self._note_behind)
        for group_id, index in finish().items():
            if index > applied[group_id]:
                self._note_behind(group_id)
            if self._has(members[group_id], index, deadline):
                confirmed.add(group_id)
        return None

    def read(
        self,
        group_id: GroupId,
        deadline: Deadline,
        local: Callable[[DataMember], T],
        confirmed: set[GroupId],
    ) -> Found[T] | None:
        """Read from this node's replica, None where there is none that is near its leader."""
        member = self._forwarder.member_here(group_id)
        if not isinstance(member, DataMember):
            return None
        try:
            if group_id not in confirmed:
                if member.is_leader:
                    member.read_barrier(deadline)
                    self._forwarder.leads_here(group_id)
                elif not self._catches_up(member, deadline):
                    return None
                confirmed.add(group_id)
            return Found(local(member))
        except (NotLeader, Unavailable, Closed) as error:
            logger.debug("group %d: not read here: %s", group_id, error)
            confirmed.discard(group_id)
            return None

    def is_near(self, group_id: GroupId, confirmed: set[GroupId]) -> bool:
        """Whether a read is about to be served by this node, without asking another one."""
        if group_id in confirmed:
            return True
        member = self._forwarder.member_here(group_id)
        return member is not None and member.is_leader

    def _are_behind(self, groups: Iterable[GroupId]) -> bool:
        now = time.monotonic()
        return any(now < self._behind.get(group_id, 0) for group_id in groups)

    def _note_behind(self, group_id: GroupId) -> None:
        self._behind[group_id] = time.monotonic() + _BEHIND_S

    def _lags(self, group_id: GroupId) -> bool:
        return time.monotonic() < self._lagging.get(group_id, 0)

    def _catches_up(self, follower: DataMember, deadline: Deadline) -> bool:
        """Whether a follower soon has what its leader had when it was asked."""
        if self._lags(follower.group_id):
            return False
        return self._has(follower, self._applied_index(follower.group_id, deadline), deadline)

    def _has(self, follower: RaftMember, index: int, deadline: Deadline) -> bool:
        """Whether a follower soon has applied an entry; if not, it is left alone for a while."""
        try:
            follower.await_applied(index, deadline.earlier(_CATCH_UP_S))
        except Unavailable as error:
            logger.debug("group %d: the leader is asked: %s", follower.group_id, error)
            self._lagging[follower.group_id] = time.monotonic() + _LAG_S
            return False
        return True
