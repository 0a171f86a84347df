"""What the loop does once in every round: has the log written for all that has come."""

from __future__ import annotations

import logging
import time
from functools import partial

from cluster.log.node_log import NodeLog
from cluster.member.proposals import Notice
from cluster.member.raft_member import RaftMember
from cluster.member.stream import PeerStreams
from cluster.plan.request_id import Requested
from cluster.rpc.loop import FrameLoop

logger = logging.getLogger(__name__)

_SLOW_S = 0.1
_SPARE_S = 1.0


class LogTurn:
    """Only used by the loop's thread.

    The loop writes by itself, since to wake a thread costs as much; but not while the disk is slow:
    what goes to other nodes does not need this one's. Large writes go on while the loop does; what
    comes meanwhile is written together when they have ended.
    """

    def __init__(self, loop: FrameLoop, log: NodeLog, streams: PeerStreams) -> None:
        self._loop = loop
        self._log = log
        self._streams = streams
        self._stepped: dict[RaftMember, None] = {}
        self._is_due = False
        self._spared_until = 0.0
        loop.each_turn(self._turn)
        loop.before_end(lambda: log.end_write(wait=True))
        if log.event_fd >= 0:
            loop.register(log.event_fd, self._end_write)

    def stepped(self, member: RaftMember) -> None:
        """A member took a message: it may have something to write, or to apply."""
        self._stepped[member] = None

    def propose(
        self, member: RaftMember, notice: Notice, payload: bytes, known: Requested | None
    ) -> None:
        """Have a plan appended, in this round or soon, together with others; see `LoopSide`."""
        until = member.loop_side.propose(notice, payload, known, self._loop.now)
        if until is None:
            return
        if until:
            self._loop.call_at(until, partial(self._release, member))
        else:
            self._is_due = True

    def _release(self, member: RaftMember) -> None:
        if member.loop_side.append_soon(self._loop.now):
            self._is_due = True

    def _turn(self) -> None:
        if not self._is_due and not self._stepped:
            return
        log = self._log
        if log.is_under_way:
            for member in self._stepped:
                member.loop_side.catch_up()
            return
        if self._is_due:
            log.feed(self._send)
        stepped, self._stepped = self._stepped, {}
        self._is_due = False
        if self._loop.now < self._spared_until:
            log.wake()
            for member in stepped:
                member.loop_side.catch_up()
        else:
            try:
                self._loop.away(log.begin_write)
            finally:
                if log.last_write_s > _SLOW_S:
                    self._spared_until = time.monotonic() + _SPARE_S
                for member in stepped:
                    member.loop_side.catch_up()

    def _send(self) -> None:
        """Send to the followers before the disk is waited for; by who writes.

        Where that is another thread, it has left a call here already: streams are the loop's alone.
        """
        if self._loop.is_this_thread:
            self._streams.flush()

    def _end_write(self, _mask: int) -> None:
        try:
            self._loop.away(self._log.end_write)
        finally:
            # where another thread goes on with the loop it has to look again
            self._loop.call(_nothing)
        self._loop.settle()  # the clients go on while the next ones are taken up


def _nothing() -> None:
    pass
