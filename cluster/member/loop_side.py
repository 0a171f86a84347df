"""What the row loop asks of a member: proposals that nobody waits for in a thread."""

from __future__ import annotations

from cluster.member.applier import Applier
from cluster.member.inbox import Appender


class LoopSide:
    """Of one member; nothing here waits for more than its lock.

    Attributes:
        propose: has a plan appended; see `Appender.put_for`.
        append_soon: has proposals appended that have waited for others; see `Appender.append_soon`.
        give_up: returns what became of a proposal whose time is up, as far as can be said.
        catch_up: applies here what is committed and quick to apply.
    """

    def __init__(self, appender: Appender, applier: Applier) -> None:
        # as they are, without a method around each: every row calls them
        self.propose = appender.put_for
        self.append_soon = appender.append_soon
        self.give_up = appender.give_up
        self.catch_up = applier.catch_up
