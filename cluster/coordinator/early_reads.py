"""Reads of this node's replicas while their leaders are still being asked what must be seen.

A replica here mostly has all there is. So a query need not wait for its leaders' word before it
reads, only before it answers: where what a replica had applied when the query began turns out to be
enough, all that was read of it was, since replicas never go back. Otherwise nothing of it may be
told, and the query begins again, the slow way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cluster.raft.types import GroupId


class StaleReadError(Exception):
    """A query has read of replicas that lacked something, or that nobody vouches for."""


class EarlyRound:
    """Questions to leaders that are under way.

    Args:
        applied: by group, what the replica here had before anything was read of it.
        finish: waits for the answers: what must be seen, of the groups whose leader answered.
        behind: called with each group whose replica was not there yet.
    """

    def __init__(
        self,
        applied: Mapping[GroupId, int],
        finish: Callable[[], Mapping[GroupId, int]],
        behind: Callable[[GroupId], None],
    ) -> None:
        self._applied = applied
        self._finish = finish
        self._behind = behind

    def settle(self) -> bool:
        """Wait for the leaders; whether all that was read of the replicas may be told. Once."""
        found = self._finish()
        settled = True
        for group_id, applied in self._applied.items():
            index = found.get(group_id)
            if index is None or index > applied:
                settled = False
                self._behind(group_id)
        return settled
