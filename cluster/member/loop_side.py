"""What the row loop asks of a member: proposals that nobody waits for in a thread."""

from __future__ import annotations

from cluster.errors import ClusterError
from cluster.member.applier import Applier
from cluster.member.inbox import Appender
from cluster.member.proposals import Waiter


class LoopSide:
    """Of one member; nothing here waits for more than its lock."""

    def __init__(self, appender: Appender, applier: Applier) -> None:
        self._appender = appender
        self._applier = applier

    def propose(
        self, notice: Waiter, payload: bytes, plan: object | None, now: float
    ) -> float | None:
        """Have a plan appended; see `Appender.put_for`.

        Raises:
            NotLeader, Overloaded: as by `RaftMember.propose`; the notice is not told.
        """
        return self._appender.put_for(notice, payload, plan, now)

    def append_soon(self, now: float) -> bool:
        """Have proposals appended that have waited for others; see `Appender.append_soon`."""
        return self._appender.append_soon(now)

    def give_up(self, notice: Waiter) -> ClusterError:
        """Return what became of a proposal whose time is up, as far as can be said."""
        return self._appender.give_up(notice)

    def catch_up(self) -> None:
        """Apply here what is committed and quick to apply."""
        self._applier.catch_up()
