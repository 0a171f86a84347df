"""This node's replicas as places to read from: how they stand to their leaders.

The thesis' read index (6.4): a replica that does not lead asks the group's leader for a number
only, and serves the read once it has applied that much.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from cluster.coordinator.forwarder import Forwarder
from cluster.coordinator.index_round import IndexRound
from cluster.errors import Unavailable
from cluster.member.raft_member import RaftMember
from cluster.raft.types import GroupId, NodeId
from cluster.rpc.deadline import Deadline

logger = logging.getLogger(__name__)

_CATCH_UP_S = 0.02
"""Longest wait for a follower on this node before the leader is asked."""
_LAG_S = 1.0
"""How long a follower that was not there by then is left alone."""
_BEHIND_S = 1.0
"""How long a group in which something was under way is not read early: it would be for nothing."""


class Follower(NamedTuple):
    """A replica of this node that does not lead, and who does."""

    member: RaftMember
    leader: NodeId


class OwnReplicas:
    """What all queries know of this node's replicas; thread-safe.

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

    def followers_of(self, groups: Iterable[GroupId]) -> dict[GroupId, Follower]:
        """Return those of some groups of which this node has a follower that may be read."""
        found: dict[GroupId, Follower] = {}
        for group_id in groups:
            member = self._forwarder.member_here(group_id)
            if member is None or member.is_leader:
                continue
            leader = member.leader
            if leader and not self._lags(group_id):
                found[group_id] = Follower(member, leader)
        return found

    def ask_leaders(
        self, followers: Mapping[GroupId, Follower], deadline: Deadline
    ) -> Callable[[], dict[GroupId, int]]:
        """Ask the leaders what must be seen; see `IndexRound.begin`."""
        leaders = {group_id: follower.leader for group_id, follower in followers.items()}
        return self._round.begin(leaders, deadline)

    def are_behind(self, groups: Iterable[GroupId]) -> bool:
        """Whether one of some replicas lacked something a moment ago, and is likely to again."""
        now = time.monotonic()
        return any(now < self._behind.get(group_id, 0) for group_id in groups)

    def note_behind(self, group_id: GroupId) -> None:
        """Take note that a replica lacked something that was to be seen."""
        self._behind[group_id] = time.monotonic() + _BEHIND_S

    def catches_up(self, follower: RaftMember, deadline: Deadline) -> bool:
        """Whether a follower soon has what its leader had when it was asked."""
        if self._lags(follower.group_id):
            return False
        return self.has(follower, self._applied_index(follower.group_id, deadline), deadline)

    def has(self, follower: RaftMember, index: int, deadline: Deadline) -> bool:
        """Whether a follower soon has applied an entry; if not, it is left alone for a while."""
        try:
            follower.await_applied(index, deadline.earlier(_CATCH_UP_S))
        except Unavailable as error:
            logger.debug("group %d: the leader is asked: %s", follower.group_id, error)
            self._lagging[follower.group_id] = time.monotonic() + _LAG_S
            return False
        return True

    def _lags(self, group_id: GroupId) -> bool:
        return time.monotonic() < self._lagging.get(group_id, 0)
