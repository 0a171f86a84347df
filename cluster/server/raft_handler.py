"""What MetaClusterServer and DataClusterServer have in common: the RaftService methods.

Thin: wire structs in, a member's answer out. A request for a group that this node has no member of
is answered as "nothing to say".
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

from cluster.errors import ClusterError, NotLeader, StatusCode, Unavailable
from cluster.member.address_book import AddressBook
from cluster.member.peer_requests import Begun, PeerRequests
from cluster.member.raft_member import RaftMember
from cluster.member.read_service import serve_read
from cluster.partition.node_info import NodeInfo
from cluster.plan.codec import decode_plan, encode_result
from cluster.plan.reads import AppliedIndexesRead, Consistency, decode_read
from cluster.raft import messages
from cluster.raft.types import GroupId, NodeId
from cluster.rpc import convert_raft, convert_snapshot
from cluster.rpc.convert_snapshot import SnapshotReply, SnapshotVerdict
from cluster.rpc.deadline import Deadline
from cluster.rpc.gen.cluster.ttypes import (
    AppendEntriesRequest,
    AppendEntriesResponse,
    DigestAnswer,
    DigestLeaf,
    ExecuteRequest,
    ExecuteResponse,
    HeartbeatBatch,
    HeartbeatBatchResponse,
    SnapshotRequest,
    SnapshotResponse,
    TimeoutNowRequest,
    VoteRequest,
    VoteResponse,
)
from cluster.rpc.server import callers_deadline
from iotdb_engine.errors import Closed, EngineError

logger = logging.getLogger(__name__)

Relay = Callable[[GroupId, str, bytes, Deadline], bytes | None]
"""See `Forwarder.relay`."""

_MAX_DIGEST_MS = 600_000
_MAX_LEAVES = 4096


class RaftHandler:
    """RaftService over the members that `find_member` knows."""

    def __init__(
        self,
        *,
        find_member: Callable[[GroupId], RaftMember | None],
        address_book: AddressBook,
        answer_timeout_s: float,
        process: int = 0,
        on_heard: Callable[[NodeId, int], None] = lambda _node, _process: None,
    ) -> None:
        self._process = process
        self.relay: Relay | None = None
        """Passes on the request of a node that does not reach the leader."""
        self.beside: RaftMember | None = None
        """A member of another service whose read index may be asked for here, in the same trip."""
        self._on_heard = on_heard
        self._find_member = find_member
        self._address_book = address_book
        self._answer_timeout_s = answer_timeout_s

    # Thrift method names are those of the IDL.

    def sendHeartbeat(self, batch: HeartbeatBatch) -> HeartbeatBatchResponse:  # noqa: N802
        """Take the heartbeats of all groups that the sender leads."""
        sender = convert_raft.node_info_from_wire(batch.sender, NodeInfo)
        self._address_book.learn(sender)
        self._on_heard(sender.node_id, batch.process or 0)
        wires = batch.heartbeats
        answers = self._handle_all(
            [(wire.groupId, partial(convert_raft.heartbeat_from_wire, wire)) for wire in wires]
        )
        responses = [
            self._heartbeat_response(wire, cast("messages.HeartbeatResponse | None", answer))
            for wire, answer in zip(wires, answers, strict=True)
        ]
        return HeartbeatBatchResponse(
            receiver=convert_raft.node_info_to_wire(self._address_book.own),
            responses=responses,
            process=self._process,
        )

    def startElection(self, request: VoteRequest) -> VoteResponse:  # noqa: N802
        """Answer a vote or pre-vote request once the vote is durable."""
        answer = self._handle(
            request.groupId, partial(convert_raft.vote_request_from_wire, request)
        )
        return convert_raft.vote_response_to_wire(cast("messages.VoteResponse | None", answer))

    def startElections(self, requests: list[VoteRequest]) -> list[VoteResponse]:  # noqa: N802
        """Answer requests of several groups once all votes are durable."""
        answers = self._handle_all(
            [
                (wire.groupId, partial(convert_raft.vote_request_from_wire, wire))
                for wire in requests
            ]
        )
        return [
            convert_raft.vote_response_to_wire(cast("messages.VoteResponse | None", answer))
            for answer in answers
        ]

    def appendEntriesOfGroups(  # noqa: N802
        self, requests: list[AppendEntriesRequest]
    ) -> list[AppendEntriesResponse]:
        """Answer small appends of several groups once all are durable."""
        answers = self._handle_all(
            [
                (wire.groupId, partial(convert_raft.append_request_from_wire, wire))
                for wire in requests
            ]
        )
        return [
            convert_raft.append_response_to_wire(cast("messages.AppendResponse | None", answer))
            for answer in answers
        ]

    def appendEntries(self, request: AppendEntriesRequest) -> AppendEntriesResponse:  # noqa: N802
        """Answer once the entries are durable here."""
        answer = self._handle(
            request.groupId, partial(convert_raft.append_request_from_wire, request)
        )
        return convert_raft.append_response_to_wire(cast("messages.AppendResponse | None", answer))

    def timeoutNow(self, request: TimeoutNowRequest) -> None:  # noqa: N802
        """Campaign at once: the leader hands over."""
        member = self._find_member(GroupId(request.groupId))
        # who can't make its own vote durable can't win: the leader asks again, or somebody else
        if member is not None and not member.disk_hangs:
            member.receive(convert_raft.timeout_now_from_wire(request))

    def installSnapshot(self, request: SnapshotRequest) -> SnapshotResponse:  # noqa: N802
        """Take a part of a leader's state."""
        part = convert_snapshot.part_from_wire(request)
        member = self._find_member(part.group_id)
        if member is None:
            reply = SnapshotReply(SnapshotVerdict.BUSY, message="this node is not in the group")
        else:
            reply = member.snapshots.take(part)
        return convert_snapshot.reply_to_wire(reply)

    def queryDigest(  # noqa: N802
        self, group_id: int, index: int, after_label: bytes, limit: int, timeout_ms: int
    ) -> DigestAnswer:
        """Tell the digest of a replica's state at the entry `index`, or parts of it."""
        member = self._find_member(GroupId(group_id))
        if member is None or None in (index, after_label, limit, timeout_ms):
            return DigestAnswer(known=False, applied=0)
        machine = member.group_machine
        deadline = Deadline.after(min(timeout_ms, _MAX_DIGEST_MS) / 1000)
        found = machine.digests.get(index, deadline)
        if found is None:
            return DigestAnswer(known=False, applied=member.applied_index)
        return DigestAnswer(
            known=True,
            applied=member.applied_index,
            root=found.root,
            leafCount=len(found.leaves),
            leaves=[
                DigestLeaf(leaf.label, leaf.count, leaf.digest, machine.leaf_text(leaf.label))
                for leaf in found.after(after_label, max(0, min(limit, _MAX_LEAVES)))
            ],
        )

    def executeNonQueryPlan(self, request: ExecuteRequest) -> ExecuteResponse:  # noqa: N802
        """Run a plan on this node's member, if it leads.

        The bytes are checked first: what can't be applied must not reach the log, where it would
        stop every replica.
        """

        def run(member: RaftMember, deadline: Deadline) -> bytes:
            member.check_plan(decode_plan(request.plan))
            return encode_result(member.propose(request.plan, deadline))

        return self._execute(request, "executeNonQueryPlan", run)

    def executeRead(self, request: ExecuteRequest) -> ExecuteResponse:  # noqa: N802
        """Run a read on this node's member, if it can answer at the level asked for."""

        def run(member: RaftMember, deadline: Deadline) -> bytes:
            level = Consistency(request.consistency or Consistency.STRONG)
            read = decode_read(request.plan)
            if isinstance(read, AppliedIndexesRead):
                return encode_result(self._applied_indexes(read.groups, deadline))
            return serve_read(member, read, callers_deadline(deadline), level)

        return self._execute(request, "executeRead", run)

    # ---- inside ----

    def _applied_indexes(self, groups: Sequence[int], deadline: Deadline) -> list[int | None]:
        """Return what makes reads of each group linearizable once it is applied elsewhere."""
        found: list[int | None] = []
        for group_id in groups:
            member = self._find_member(GroupId(group_id))
            if member is None and self.beside is not None and self.beside.group_id == group_id:
                member = self.beside
            try:
                if member is None:
                    raise NotLeader(GroupId(group_id), 0)
                member.read_barrier(deadline)
            except (NotLeader, Unavailable):
                found.append(None)  # whoever asks finds out by itself who leads
            else:
                found.append(int(member.applied_index))
        return found

    def heartbeat_extra(self, member: RaftMember, wire: Any) -> int | None:  # noqa: ANN401
        """What a kind of group takes from a heartbeat; the meta server overrides this."""
        return None

    def _handle(
        self, group_id: int, from_wire: Callable[..., messages.Message]
    ) -> messages.Message | None:
        """Step a request's member and return the answer when it may leave, None where it has none.

        Raises:
            ValueError: the request is malformed.
        """
        member = self._find_member(GroupId(group_id))
        if member is None:
            return None
        return member.peer_requests.handle(lambda id_: from_wire(id=id_), self._answer_timeout_s)

    def _handle_all(
        self, requests: list[tuple[int, Callable[..., messages.Message]]]
    ) -> list[messages.Message | None]:
        """Step every request's member, then wait for all: one write makes all of it durable."""
        begun: list[tuple[PeerRequests | None, Begun | None]] = []
        for group_id, from_wire in requests:
            member = self._find_member(GroupId(group_id))
            if member is None:
                begun.append((None, None))
                continue
            peers = member.peer_requests
            try:
                begun.append((peers, peers.begin(lambda id_, make=from_wire: make(id=id_))))  # type: ignore[misc]
            except ValueError as error:
                # malformed, which is no reason to leave the others without an answer
                logger.warning("group %d: %s", group_id, error)
                begun.append((None, None))
        deadline = Deadline.after(self._answer_timeout_s)
        return [
            None if peers is None else peers.finish(pending, deadline.remaining_s())
            for peers, pending in begun
        ]

    def _heartbeat_response(self, wire: Any, answer: messages.HeartbeatResponse | None) -> Any:  # noqa: ANN401
        extra = None
        if answer is not None and answer.term == wire.term:
            member = self._find_member(GroupId(wire.groupId))
            if member is not None:
                extra = self.heartbeat_extra(member, wire)
        response = convert_raft.heartbeat_response_to_wire(GroupId(wire.groupId), answer)
        response.tableVersion = extra
        return response

    def _execute(
        self, request: ExecuteRequest, method: str, run: Callable[[RaftMember, Deadline], bytes]
    ) -> ExecuteResponse:
        group_id = GroupId(request.groupId)
        member = self._find_member(group_id)
        if member is None and not request.relay:
            return ExecuteResponse(
                status=StatusCode.PARTITION_NOT_READY,
                message=f"this node has no member of group {group_id}",
                definite=True,
                leader=0,
            )
        if not request.timeoutMs or request.plan is None:
            return ExecuteResponse(
                status=StatusCode.ILLEGAL_PARAMETER,
                message="the request lacks its plan or its time-out",
                definite=True,
            )
        deadline = Deadline.after(request.timeoutMs / 1000)
        try:
            try:
                if member is None:
                    raise NotLeader(group_id, 0)
                result = run(member, deadline)
            except NotLeader:
                passed_on = None
                if request.relay and self.relay is not None:
                    passed_on = self.relay(group_id, method, request.plan, deadline)
                if passed_on is None:
                    raise
                result = passed_on
            return ExecuteResponse(status=StatusCode.SUCCESS, definite=True, result=result)
        except ClusterError as error:
            return refusal_of(error, member)
        except EngineError as error:
            # closed: a snapshot takes the place of this replica, or the node stops
            passing = isinstance(error, Closed)
            return ExecuteResponse(
                status=StatusCode.NO_LEADER if passing else StatusCode.STORAGE_ENGINE_ERROR,
                message=str(error),
                definite=method == "executeRead",
                leader=0,
            )
        except ValueError as error:
            return ExecuteResponse(
                status=StatusCode.ILLEGAL_PARAMETER, message=str(error), definite=True
            )


def refusal_of(error: ClusterError, member: RaftMember | None) -> ExecuteResponse:
    """Return what tells another node why its request came to nothing, or may have."""
    if isinstance(error, NotLeader):
        return ExecuteResponse(
            status=error.status,
            message=error.message,
            definite=True,
            leader=error.leader or (member.leader if member is not None else 0),
        )
    return ExecuteResponse(status=error.status, message=error.message, definite=error.definite)
