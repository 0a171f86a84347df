"""Memberships: their byte form, the arithmetic of changes, and their history along the log.

A change is an entry that carries the *whole* new membership. It takes effect when it is applied,
not when it is appended (etcd's rule; thesis 4.1 has it take effect on append), and the next one is
proposed only after that. What keeps this safe:

1. Neighbours in the sequence of memberships differ by one vote, or one of them is joint; so every
   quorum of one meets every quorum of the next (thesis 4.1, 4.3).
2. An entry with membership i + 1 is proposed only by a leader that has applied membership i. So a
   log that has entry i + 1 proves that entry i is committed (`MembershipHistory.proven_index`).
3. A member that knows of a committed membership campaigns under no other. With 1 and 2: whoever is
   up to date with a quorum of its own membership i has, by 1, every entry that a quorum of
   membership i or i + 1 committed, so also entry i + 2 if that is committed; then, by 2, it knows
   that entry i + 1 is committed, and by 3 it does not campaign under i.

A change that is in force is then *confirmed*: the leader that applied it appends the same
membership once more. By 2 whoever has that entry knows for good that the change is committed, and
when the entry is committed a majority of the new membership has it. From there on the new
membership can lose a minority of itself, also if all nodes are started anew at once; before, those
who never heard of the commit would go by the older membership, and might need a vote of one who is
gone. So only a confirmed change is told to be done.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from cluster.raft.types import NO_NODE, LogIndex, Membership, NodeId

_FORMAT = 1
_ID_BYTES = 8
_COUNT_BYTES = 2


def encode_membership(membership: Membership) -> bytes:
    """Return the byte form: a version byte, then voters, outgoing, learners.

    Each list is a u16 count and so many u64 ids, all big-endian. Frozen: it is in logs.
    """
    parts = [bytes([_FORMAT])]
    for nodes in (membership.voters, membership.outgoing, membership.learners):
        parts.append(len(nodes).to_bytes(_COUNT_BYTES, "big"))
        parts.extend([node.to_bytes(_ID_BYTES, "big") for node in nodes])
    return b"".join(parts)


def decode_membership(data: bytes) -> Membership:
    """Return the membership that `encode_membership` wrote.

    Raises:
        ValueError: it is none.
    """
    if not data or data[0] != _FORMAT:
        raise ValueError(f"not a membership of format {_FORMAT}: {data[:16]!r}")
    lists: list[tuple[NodeId, ...]] = []
    at = 1
    for _ in range(3):
        count = int.from_bytes(data[at : at + _COUNT_BYTES], "big")
        at += _COUNT_BYTES
        end = at + count * _ID_BYTES
        if end > len(data):
            raise ValueError(f"membership cut short: {len(data)} bytes, at least {end} expected")
        starts = range(at, end, _ID_BYTES)
        lists.append(
            tuple([NodeId(int.from_bytes(data[i : i + _ID_BYTES], "big")) for i in starts])
        )
        at = end
    if at != len(data):
        raise ValueError(f"{len(data) - at} bytes behind the membership")
    membership = Membership(*lists)
    check_membership(membership)
    return membership


def check_membership(membership: Membership) -> None:
    """Raise ValueError unless the lists are what `Membership` says."""
    for name, nodes in vars(membership).items():
        if list(nodes) != sorted({*nodes}):
            raise ValueError(f"{name} {nodes} must be sorted and unique")
        if NO_NODE in nodes:
            raise ValueError(f"node 0 means 'no node', it can't be among {name} {nodes}")
    both = [node for node in membership.learners if node in membership.voters]
    if both:
        raise ValueError(f"nodes {both} can't be voters and learners")
    if membership.outgoing and not membership.voters:
        raise ValueError("a joint membership needs voters")


def next_membership(
    present: Membership, voters: Iterable[NodeId], learners: Iterable[NodeId]
) -> Membership:
    """Return what `present` must become first on its way to the target.

    One vote more or less is safe in one step, since old and new majorities overlap (thesis 4.1);
    anything else goes through a joint membership (thesis 4.3).

    Raises:
        ValueError: the target is malformed.
    """
    target = Membership(tuple(sorted(voters)), (), tuple(sorted(learners)))
    check_membership(target)
    if not target.voters:
        raise ValueError("a group needs at least one voter")
    assert not present.is_joint
    differing = {*present.voters} ^ {*target.voters}
    if len(differing) <= 1:
        return target
    return Membership(target.voters, present.voters, target.learners)


def after_joint(membership: Membership) -> Membership:
    """Return the membership that ends the joint one."""
    return Membership(membership.voters, (), membership.learners)


class MembershipHistory:
    """The memberships of the log that is kept: one at its base, and one per MEMBERSHIP entry.

    `_indices` ascends; `_indices[0]` is at or before the base of the log.

    Attributes:
        is_confirmed: whether the last one was seen here twice in a row: the first of the two is
            committed. A log that begins with it does not tell.
    """

    __slots__ = ("_indices", "_memberships", "is_confirmed")

    def __init__(self, base_index: LogIndex, membership: Membership) -> None:
        self._indices = [base_index]
        self._memberships = [membership]
        self.is_confirmed = False

    @property
    def latest_index(self) -> LogIndex:
        """Where the last one stands, applied or not."""
        return self._indices[-1]

    @property
    def proven_index(self) -> LogIndex:
        """Up to where the log itself proves that it is committed: the last one but one."""
        return self._indices[-2] if len(self._indices) > 1 else self._indices[0]

    def at(self, index: LogIndex) -> Membership:
        """Return the membership that holds once everything up to `index` is applied."""
        position = bisect_right(self._indices, index) - 1
        assert position >= 0, (index, self._indices)
        return self._memberships[position]

    def has_between(self, after: LogIndex, up_to: LogIndex) -> bool:
        """Whether an entry in (after, up_to] carries a membership."""
        indices = self._indices
        if indices[-1] <= after:
            return False
        return indices[bisect_right(indices, after)] <= up_to

    def append(self, index: LogIndex, membership: Membership) -> None:
        """Add the membership of a new entry."""
        assert index > self._indices[-1], (index, self._indices)
        is_repeated = membership == self._memberships[-1]
        self._indices.append(index)
        self._memberships.append(membership)
        self.is_confirmed = is_repeated

    def truncate_from(self, index: LogIndex) -> None:
        """Forget those of entries >= `index`; never the first."""
        if self._indices[-1] >= index:
            position = max(1, bisect_left(self._indices, index))
            del self._indices[position:]
            del self._memberships[position:]
            self.is_confirmed = self._memberships[-2:] == 2 * self._memberships[-1:]

    def compact(self, up_to: LogIndex) -> None:
        """Forget those that are no longer needed to answer for indices >= `up_to`."""
        drop = bisect_right(self._indices, up_to) - 1
        if drop > 0:
            del self._indices[:drop]
            del self._memberships[:drop]

    def restart(self, index: LogIndex, membership: Membership) -> None:
        """Forget everything; the log starts anew behind `index`."""
        self._indices = [index]
        self._memberships = [membership]
        self.is_confirmed = False
