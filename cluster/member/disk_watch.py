"""Watches the disk of this node's log, and has groups led elsewhere while it hangs.

A leader's heartbeats do not need its disk, so nobody else would campaign; but it applies only what
is durable here, so all writes of the groups that it leads wait, though a quorum may do without it.
After an election time-out of that, such groups are handed over (`operations.give_way`). What no
quorum can do better is left as it is: where all disks stall, or there is nobody else.

Proposals wait for the write under way to end. Half a time-out before, they begin to be appended
meanwhile: only what is sent shows whether the others' disks work, and groups without anything under
way have something to show it with.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from cluster.member.operations import give_way
from cluster.member.raft_member import RaftMember

_MOST_INTERVALS = 2
"""Between two looks no more than so many intervals count: the process may have stood still."""


class DiskWatch:
    """Of one node; only one thread may `look`, which must not be one that writes the log.

    Args:
        waits_since: since when the log waits for the disk, in monotonic seconds; 0.0: it does not.
        members: of this node, now.
        most_s: so long may one write take: an election time-out.
        interval_s: between two looks.
    """

    def __init__(
        self,
        *,
        waits_since: Callable[[], float],
        members: Callable[[], Sequence[RaftMember]],
        most_s: float,
        interval_s: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._waits_since = waits_since
        self._members = members
        self._most_s = most_s
        self._longest_step_s = _MOST_INTERVALS * interval_s
        self._now = now
        self._since = 0.0
        self._waited_s = 0.0
        self._looked = now()

    def look(self) -> None:
        """See how long the present write has taken, and do about it what is due; never blocks."""
        waited_s = self._count()
        if waited_s * 2 < self._most_s:
            return
        for member in self._members():
            if waited_s >= self._most_s:
                give_way(member)
            member.append_meanwhile()

    def _count(self) -> float:
        """Return for how many seconds the disk was waited for while this process ran."""
        now, since = self._now(), self._waits_since()
        before, self._looked = self._looked, now
        if since != self._since:
            self._since, self._waited_s = since, 0.0
            before = max(before, since)
        if since:
            self._waited_s += min(max(0.0, now - before), self._longest_step_s)
        return self._waited_s
