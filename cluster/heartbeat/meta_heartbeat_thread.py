"""MetaHeartbeatThread: the heartbeat of the meta group's member."""

from __future__ import annotations

from typing import Protocol

from cluster.heartbeat.heartbeat_thread import HeartbeatThread, Ticked


class MetaTicked(Ticked, Protocol):
    """The meta group's member as its heartbeat thread sees it."""

    def refresh_shipped_table(self) -> None:
        """Take the newest committed partition table as the one that heartbeats ship."""
        ...


class MetaHeartbeatThread(HeartbeatThread):
    """Also keeps the partition table that a leader's heartbeats ship (0.13 MetaHeartbeatThread)."""

    def __init__(self, member: MetaTicked, tick_s: float) -> None:
        super().__init__(member, tick_s)
        self._meta = member

    def beat(self) -> int:
        """Refresh the table to ship, then tick."""
        self._meta.refresh_shipped_table()
        return super().beat()
