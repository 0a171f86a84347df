"""What operators, and the node itself at its end, ask of a group: other leaders, other members."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from cluster.errors import ClusterError, NotLeader, StatusCode, Unavailable
from cluster.member.raft_member import RaftMember
from cluster.raft.effects import RejectReason
from cluster.raft.events import ChangeMembership, TransferLeadership
from cluster.raft.types import NO_NODE, Membership, NodeId
from cluster.rpc.deadline import Deadline

logger = logging.getLogger(__name__)


_ASK_AGAIN_S = 0.25
"""A core gives a transfer up after an election time-out, and an election may go another way."""


def transfer_leadership(member: RaftMember, target: NodeId, deadline: Deadline) -> None:
    """Hand the group's leadership to `target`; returns when this member follows it.

    As long as this member leads, the target is asked again and again.

    Raises:
        NotLeader: it does not lead; or not any more, and another node does.
        ClusterError: the target has no vote.
        Unavailable: the target did not take over before the deadline.
    """
    began = False
    while True:
        effects = member.step(TransferLeadership(target))
        if effects is None:
            raise NotLeader(member.group_id, NO_NODE)
        rejected = effects.rejected
        if rejected is None:
            if target == member.node_id:
                return
            began = True
        elif rejected.reason is not RejectReason.NOT_LEADER:
            raise ClusterError(
                StatusCode.ILLEGAL_PARAMETER,
                f"group {member.group_id}: node {target}: {rejected.reason.value}",
            )
        elif rejected.leader == target and began:
            return
        elif rejected.leader != NO_NODE or not began:
            raise NotLeader(member.group_id, rejected.leader)
        if deadline.remaining_s() <= 0:
            raise Unavailable(
                f"group {member.group_id}: node {target} did not take over in time, and "
                + ("this node still leads" if rejected is None else "nobody leads now")
            )
        member.wait_for(
            lambda: not member.is_leader and member.leader != NO_NODE,
            min(_ASK_AGAIN_S, deadline.remaining_s()),
        )


def change_membership(
    member: RaftMember,
    voters: Iterable[NodeId],
    learners: Iterable[NodeId],
    deadline: Deadline,
    *,
    expected: Membership | None = None,
) -> Membership:
    """Make the group's members these, through a joint membership where that is needed.

    A node that is to vote is made a learner first, and gets its vote when it has caught up.

    Args:
        member: the leader's.
        voters: of the group to be.
        learners: of the group to be.
        deadline: for the change to be done.
        expected: refuse unless the present membership is this one.

    Returns:
        The membership in force. A majority of it knows so for good: it stands by itself now, and
        those who left are not needed any more.

    Raises:
        NotLeader: it does not lead.
        ClusterError: refused; nothing was changed.
        Unavailable: not done before the deadline; it may still come.
    """
    target = Membership(tuple(sorted(voters)), (), tuple(sorted(learners)))
    if member.node_id not in target.voters:
        # it would have to step down before the others know that the change is committed
        raise ClusterError(
            StatusCode.EXECUTE_STATEMENT_ERROR,
            f"group {member.group_id}: members not changed: node {member.node_id} leads it, and "
            "must hand its leadership over before it loses its vote",
        )
    effects = member.step(ChangeMembership(target.voters, target.learners, expected))
    if effects is None:
        raise NotLeader(member.group_id, NO_NODE)
    if effects.rejected is not None:
        if effects.rejected.reason is RejectReason.NOT_LEADER:
            raise NotLeader(member.group_id, effects.rejected.leader)
        raise ClusterError(
            StatusCode.EXECUTE_STATEMENT_ERROR,
            f"group {member.group_id}: members not changed: {effects.rejected.reason.value}",
        )
    if not member.wait_for(
        lambda: member.change_is_done and member.membership == target, deadline.remaining_s()
    ):
        raise Unavailable(
            f"group {member.group_id}: the new members were not in force in time; they may yet be"
        )
    return target


def hand_over(members: Sequence[RaftMember], timeout_s: float) -> None:
    """Give away what these members lead, each group to the follower that has most of its log.

    So a node that stops in order leaves no group without a leader for an election time-out. What
    nobody takes in time is left as it is: the others will elect.
    """
    deadline = Deadline.after(timeout_s)
    led = [(member, _heir(member.status())) for member in members if member.is_leader]
    handed = [(member, heir) for member, heir in led if heir != NO_NODE]
    for member, heir in handed:
        member.step(TransferLeadership(heir))
    for member, heir in handed:
        if member.wait_for(lambda m=member: not m.is_leader, deadline.remaining_s()):  # type: ignore[misc]
            logger.info("group %d: leadership handed to node %d", member.group_id, heir)
        else:
            logger.info("group %d: node %d did not take over in time", member.group_id, heir)


def give_way(member: RaftMember) -> bool:
    """Begin to hand over a group that nothing but this node's disk holds up; returns at once.

    That is so where a quorum has on its disks what this leader's own has not, and can't apply: the
    disks of others work, and one of them has all that there is. Elsewhere a transfer would only
    take the group's leader from it. A transfer that is under way already is left alone.

    Returns:
        Whether a transfer was begun.
    """
    if not member.is_leader:
        return False
    status = member.status()
    if status["transfer_to"] or status["commit"] <= status["persisted"]:
        return False
    heir = _heir(status)
    if heir == NO_NODE or status["followers"][heir]["match"] < status["last"]:
        return False
    effects = member.step(TransferLeadership(heir))
    if effects is None or effects.rejected is not None:
        return False
    logger.warning(
        "group %d: node %d is to lead: this node's disk holds the group up", member.group_id, heir
    )
    return True


def _heir(status: dict[str, Any]) -> NodeId:
    """Return the live voter with the longest log, or NO_NODE."""
    followers = [
        (follower["match"], node)
        for node, follower in status["followers"].items()
        if follower["active"] and node in status["voters"]
    ]
    return NodeId(max(followers)[1]) if followers else NO_NODE
