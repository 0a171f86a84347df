"""Requests of peers that wait for an answer, and reads that wait to be confirmed.

Both are maps of waiters by a number that the member gives out and the core echoes. The caller holds
the member's lock for every call.
"""

from __future__ import annotations

from collections.abc import Iterable

from cluster.errors import ClusterError, NotLeader
from cluster.member.proposals import Waiter
from cluster.raft.effects import ReadReady, ReadRejected
from cluster.raft.messages import Message
from cluster.raft.types import GroupId


class Replies:
    """Peers' requests under way: the answer that the core gives goes back on the same call."""

    def __init__(self) -> None:
        self._waiting: dict[int, Waiter] = {}
        self._last_id = 0

    def __contains__(self, request_id: int) -> bool:
        return request_id in self._waiting

    def open(self, waiter: Waiter | None = None) -> tuple[int, Waiter]:
        """Return the id that a request is to carry, and who will get its answer."""
        self._last_id += 1
        waiter = self._waiting[self._last_id] = waiter or Waiter()
        return self._last_id, waiter

    def deliver(self, answer: Message) -> None:
        """Hand an answer to whoever waits for it; a late one is dropped."""
        waiter = self._waiting.pop(answer.id, None)
        if waiter is not None:
            waiter.deliver(answer)

    def forget(self, request_id: int) -> None:
        """Expect no answer any more."""
        self._waiting.pop(request_id, None)

    def end(self) -> None:
        """Answer everybody that there is nothing to say."""
        for waiter in self._waiting.values():
            waiter.deliver(None)
        self._waiting.clear()


class Reads:
    """Linearizable reads that wait for the core to confirm leadership."""

    def __init__(self, group_id: GroupId) -> None:
        self._group_id = group_id
        self._waiting: dict[int, Waiter] = {}
        self._last_id = 0

    def open(self) -> tuple[int, Waiter]:
        """Return the id for a ReadRequest, and who will get the index to wait for."""
        self._last_id += 1
        waiter = self._waiting[self._last_id] = Waiter()
        return self._last_id, waiter

    def settle(self, ready: Iterable[ReadReady], rejected: Iterable[ReadRejected]) -> None:
        """Take the core's word on reads."""
        for confirmed in ready:
            waiter = self._waiting.pop(confirmed.id, None)
            if waiter is not None:
                waiter.deliver(confirmed.index)
        for lost in rejected:
            waiter = self._waiting.pop(lost.id, None)
            if waiter is not None:
                waiter.fail(NotLeader(self._group_id, lost.leader))

    def forget(self, read_id: int) -> None:
        """Nobody waits for this read any more."""
        self._waiting.pop(read_id, None)

    def fail_all(self, error: ClusterError) -> None:
        """End every read with an error."""
        for waiter in self._waiting.values():
            waiter.fail(error)
        self._waiting.clear()
