"""DataHeartbeatThread: the heartbeat of a data group's member."""

from __future__ import annotations

from cluster.heartbeat.heartbeat_thread import HeartbeatThread


class DataHeartbeatThread(HeartbeatThread):
    """Ticks a data group's member.

    Which group a heartbeat is of is said by the group id in the message. That the group's header
    campaigns first is in the member's RaftConfig (0.13 lets the other members skip rounds instead).
    """
