"""The data service's part in the loop: appends and forwarded plans of other nodes' streams."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, cast

from cluster.errors import ClusterError, StatusCode
from cluster.member.peer_requests import Begun
from cluster.member.proposals import Notice
from cluster.member.raft_member import RaftMember
from cluster.plan.codec import decode_requested, encode_result
from cluster.plan.plans import InsertPlan
from cluster.raft.messages import AppendResponse
from cluster.raft.types import GroupId
from cluster.rpc.calls import CallCodec
from cluster.rpc.convert_raft import append_request_from_wire, append_response_to_wire
from cluster.rpc.gen.cluster import RaftService
from cluster.rpc.gen.cluster.ttypes import AppendEntriesRequest, ExecuteRequest, ExecuteResponse
from cluster.rpc.lent import LentConnection
from cluster.rpc.loop import FrameLoop
from cluster.server.loop_turn import LogTurn
from cluster.server.raft_handler import refusal_of

_MOST_BYTES = 4 << 20
"""Of a frame: orders that a stream sends (`MAX_STREAM_BYTES` each) may go together."""
_APPEND = "appendEntries"
_EXECUTE = "executeNonQueryPlan"
_CALL = b"\x80\x01\x00\x01"
_BEGINS = tuple(
    _CALL + len(name).to_bytes(4, "big") + name.encode() for name in (_APPEND, _EXECUTE)
)


class _Append(NamedTuple):
    """An append whose answer waits for the log."""

    lent: LentConnection
    number: int
    member: RaftMember
    begun: Begun
    until: float


class _Plan(NamedTuple):
    """A plan whose outcome waits for a quorum."""

    lent: LentConnection
    number: int
    member: RaftMember
    until: float


class LoopRaft:
    """A `LoopService`; only used by the loop's thread, but for `wants`.

    Args:
        answer_timeout_s: for an append to become durable.
    """

    in_order = False
    most_bytes = _MOST_BYTES

    def __init__(
        self,
        loop: FrameLoop,
        turn: LogTurn,
        find_member: Callable[[GroupId], RaftMember | None],
        answer_timeout_s: float,
    ) -> None:
        self._loop = loop
        self._turn = turn
        self._find_member = find_member
        self._answer_timeout_s = answer_timeout_s
        self._codec = CallCodec(RaftService, (_APPEND, _EXECUTE))
        self._under_way: dict[Notice, _Append | _Plan] = {}
        loop.watch(self._look)

    def wants(self, payload: bytes) -> bool:
        """Whether this is an append or a plan, and not a large one."""
        return len(payload) <= _MOST_BYTES and payload.startswith(_BEGINS)

    def take(self, lent: LentConnection, payload: bytes) -> bool:
        """See LoopService: what is unusual is the thread's."""
        if not payload.startswith(_BEGINS):
            return False
        method, number, request = self._codec.read_request(payload)
        take = self._take_append if method == _APPEND else self._take_plan
        return take(lent, number, request)

    # ---- inside ----

    def _take_append(
        self, lent: LentConnection, number: int, request: AppendEntriesRequest
    ) -> bool:
        member = self._find_member(GroupId(request.groupId))
        if member is None:
            return False
        notice = Notice(self._told)
        begun = member.peer_requests.begin(
            lambda id_: append_request_from_wire(request, id=id_), notice
        )
        self._turn.stepped(member)
        lent.began()
        if begun is None:
            lent.answer(self._codec.answer(_APPEND, number, append_response_to_wire(None)))
        else:
            until = self._loop.now + self._answer_timeout_s
            self._under_way[notice] = _Append(lent, number, member, begun, until)
        return True

    def _take_plan(self, lent: LentConnection, number: int, request: ExecuteRequest) -> bool:
        member = self._find_member(GroupId(request.groupId))
        if member is None or request.relay or not request.timeoutMs or request.plan is None:
            return False
        found = decode_requested(request.plan)
        member.check_plan(found.plan)
        notice = Notice(self._told)
        lent.began()
        try:
            known = found if type(found.plan) is InsertPlan else None
            self._turn.propose(member, notice, request.plan, known)
        except ClusterError as error:
            self._refuse(lent, number, member, error)
            return True
        until = self._loop.now + request.timeoutMs / 1000
        self._under_way[notice] = _Plan(lent, number, member, until)
        return True

    def _refuse(
        self, lent: LentConnection, number: int, member: RaftMember, error: ClusterError
    ) -> None:
        lent.answer(self._codec.answer(_EXECUTE, number, refusal_of(error, member)))

    def _told(self, notice: Notice) -> None:
        self._loop.call(partial(self._settle, notice))

    def _settle(self, notice: Notice) -> None:
        item = self._under_way.pop(notice, None)
        if item is None:
            return  # it was given up
        if isinstance(item, _Append):
            answer = append_response_to_wire(cast("AppendResponse | None", notice.result()))
            item.lent.answer(self._codec.answer(_APPEND, item.number, answer))
            return
        try:
            outcome = notice.result()
            if isinstance(outcome, ClusterError):  # of a request that came too late
                raise outcome
        except ClusterError as error:
            self._refuse(item.lent, item.number, item.member, error)
            return
        response = ExecuteResponse(
            status=StatusCode.SUCCESS, definite=True, result=encode_result(outcome)
        )
        item.lent.answer(self._codec.answer(_EXECUTE, item.number, response))

    def _look(self, now: float) -> bool:
        late = [(notice, item) for notice, item in self._under_way.items() if item.until < now]
        for notice, item in late:
            del self._under_way[notice]
            if isinstance(item, _Append):
                item.member.peer_requests.forget(item.begun)
                nothing = append_response_to_wire(None)
                item.lent.answer(self._codec.answer(_APPEND, item.number, nothing))
            else:
                self._refuse(
                    item.lent, item.number, item.member, item.member.loop_side.give_up(notice)
                )
        return bool(self._under_way)
