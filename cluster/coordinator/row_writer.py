"""Writes of rows and tablets by the loop: begun without waiting, ended when the outcome is known.

The plan goes to the group's leader, here or by the stream to its node. Where there is anything
unusual about it (no leader is known, it refused, its answer does not come), what was begun is
carried on by a thread that may wait (`Forwarder.carry_on`): it is the same request, by its id, so
it is applied once.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from cluster.coordinator.errand import WRITE_METHOD, outcome_of
from cluster.coordinator.forwarder import Forwarder
from cluster.errors import ClusterError, NotLeader, OutcomeUnknown
from cluster.member.proposals import Notice
from cluster.member.raft_member import RaftMember
from cluster.member.stream import PeerStreams
from cluster.plan.codec import decode_result
from cluster.plan.plans import InsertPlan
from cluster.plan.request_id import Requested, RequestId, RequestNumbers
from cluster.raft.types import GroupId, NodeId
from cluster.rpc.client_pool import RpcError
from cluster.rpc.deadline import Deadline
from cluster.rpc.gen.cluster.ttypes import ExecuteResponse
from cluster.rpc.loop import FrameLoop

logger = logging.getLogger(__name__)

_LONG_S = 0.5
"""A row that is not written by then is a thread's: the loop does not look after calls."""

CarryOn = Callable[[], Any]
Propose = Callable[[RaftMember, Notice, bytes, Requested], None]


class RowWriter:
    """Only used by the loop's thread.

    Args:
        streams: to the other nodes.
        propose: has a member of this node append a plan, without waiting; raises as
            `LoopSide.propose`.
    """

    def __init__(
        self, loop: FrameLoop, forwarder: Forwarder, streams: PeerStreams, propose: Propose
    ) -> None:
        self._propose = propose
        self._loop = loop
        self._forwarder = forwarder
        self._streams = streams
        self._under_way: dict[Notice, _Write] = {}
        self._news: deque[Notice] = deque()
        self._is_called = False
        loop.watch(self._look)
        loop.before_end(self._end)

    def begin(
        self,
        group_id: GroupId,
        plan: InsertPlan,
        deadline: Deadline,
        ended: Callable[[Any, NodeId], None],
        left: Callable[[CarryOn], None],
    ) -> bool:
        """Begin to write; False: nothing was begun, `Forwarder.write` is to be called.

        Args:
            group_id: the group.
            plan: what is to be written.
            deadline: of the whole.
            ended: called with the plan's outcome, and which other node led the group (0: this one);
            left: or with what returns it, or raises as `Forwarder.write` does, and may wait.
        """
        forwarder = self._forwarder
        member = forwarder.member_here(group_id)
        leads = member is not None and member.is_leader
        target = NodeId(0) if leads else forwarder.remote_leader(group_id)
        if not leads and (not target or forwarder.is_mute(target)):
            return False
        numbers = forwarder.numbers(group_id)
        request = numbers.begin()
        notice = Notice(self._told)
        begun = False
        try:
            payload = forwarder.payload_of(plan, request)
            write = _Write(group_id, payload, deadline, numbers, request, ended, left)
            write.began = self._loop.now
            if member is not None and leads:
                write.member = member
                self._propose(member, notice, payload, Requested(request, plan))
            else:
                write.target = target
                write.number = self._streams.to(target).execute(
                    forwarder.request_of(group_id, payload, deadline), notice
                )
            begun = write.member is not None or write.number > 0
        except ClusterError as error:
            logger.debug("group %d: a row is left to its thread: %s", group_id, error)
        finally:
            if begun:
                self._under_way[notice] = write
            else:
                numbers.end(request)
        return begun

    # ---- inside ----

    def _told(self, notice: Notice) -> None:
        self._news.append(notice)
        # who tells looks at this behind what it has added: what is being settled may be over
        if not self._is_called:
            self._is_called = True
            self._loop.call(self._settle_all)

    def _settle_all(self) -> None:
        self._is_called = False
        news = self._news
        try:
            while news:
                self._settle(news.popleft())
        finally:
            if news:  # one client's trouble is not that of the others
                self._loop.call(self._settle_all)

    def _settle(self, notice: Notice) -> None:
        write = self._under_way.pop(notice, None)
        if write is None:
            return  # a thread waits for it
        try:
            outcome = self._outcome(write, notice)
        except Exception:  # noqa: BLE001 - raised again where it may be dealt with
            self._leave(notice, write)
            return
        write.numbers.end(write.request)
        write.ended(outcome, write.target)

    @staticmethod
    def _outcome(write: _Write, notice: Notice) -> Any:  # noqa: ANN401
        """Return the outcome that has come, or raise what a proposal may."""
        if write.member is not None:
            outcome = notice.result()
            if isinstance(outcome, ClusterError):  # of a request that came too late
                raise outcome
            return outcome
        try:
            response: ExecuteResponse = notice.result()
        except RpcError as error:
            if error.definitely_not_sent:
                raise NotLeader(write.group_id, 0) from error
            raise OutcomeUnknown(
                f"group {write.group_id}: node {write.target} did not answer ({error})"
            ) from error
        return outcome_of(write.group_id, write.target, WRITE_METHOD, response, decode_result)

    def _leave(self, notice: Notice, write: _Write) -> None:
        def carry_on() -> Any:  # noqa: ANN401
            try:
                return self._forwarder.carry_on(
                    write.group_id,
                    write.payload,
                    write.deadline,
                    decode_result,
                    partial(self._await, notice, write),
                )
            finally:
                write.numbers.end(write.request)

        write.left(carry_on)

    def _await(self, notice: Notice, write: _Write) -> Any:  # noqa: ANN401
        """Wait for the outcome, in a thread, as long as there is hope for it."""
        if write.member is not None:
            return write.member.await_outcome(notice, write.deadline)
        stream = self._streams.to(write.target)

        def cut() -> None:
            if stream.drop(write.number):
                notice.fail(RpcError("it leads no more", definitely_not_sent=False))

        with self._forwarder.watch.over(write.group_id, write.target, write.deadline) as watched:
            watched.started(cut)
            if self._forwarder.remote_leader(write.group_id) not in (0, write.target):
                watched.supersede()
            if not notice.wait(write.deadline.remaining_s()):
                raise OutcomeUnknown(f"group {write.group_id}: node {write.target} did not answer")
        return self._outcome(write, notice)

    def _look(self, now: float) -> bool:
        late = [item for item in self._under_way.items() if now - item[1].began > _LONG_S]
        for notice, write in late:
            del self._under_way[notice]
            self._leave(notice, write)
        return bool(self._under_way)

    def _end(self) -> None:
        self._look(float("inf"))


class _Write:
    """A row under way."""

    __slots__ = (
        "began",
        "deadline",
        "ended",
        "group_id",
        "left",
        "member",
        "number",
        "numbers",
        "payload",
        "request",
        "target",
    )

    def __init__(
        self,
        group_id: GroupId,
        payload: bytes,
        deadline: Deadline,
        numbers: RequestNumbers,
        request: RequestId,
        ended: Callable[[Any, NodeId], None],
        left: Callable[[CarryOn], None],
    ) -> None:
        self.group_id = group_id
        self.payload = payload
        self.deadline = deadline
        self.numbers = numbers
        self.request = request
        self.ended = ended
        self.left = left
        self.member: RaftMember | None = None
        self.target = NodeId(0)
        self.number = 0
        self.began = 0.0
