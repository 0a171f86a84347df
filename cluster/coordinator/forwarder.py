"""Finds the leader of a group and runs something there, until a deadline.

A refusal that is definite (not the leader, not sent) is followed or tried again elsewhere. So is a
write whose answer never came: it carries the id of its request, by which the group knows it again
if it was applied (`cluster.plan.request_id`). What is still unknown at the deadline is reported as
that.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar, cast

from cluster.coordinator.call_watch import CallWatch
from cluster.errors import ClusterError, NotLeader, OutcomeUnknown, StatusCode, Unavailable
from cluster.member.meta_member import META_GROUP_ID
from cluster.member.raft_member import RaftMember
from cluster.plan.codec import encode_plan
from cluster.plan.plans import Plan
from cluster.plan.reads import AppliedIndexRead, Consistency, encode_read
from cluster.plan.request_id import RequestNumbers
from cluster.raft.types import GroupId, NodeId
from cluster.rpc.client_pool import ClientPool, RpcError
from cluster.rpc.deadline import Deadline
from cluster.rpc.gen.cluster.ttypes import ExecuteRequest
from iotdb_engine.errors import Closed

logger = logging.getLogger(__name__)

T = TypeVar("T")

Payload = Callable[[], bytes]
"""Makes the byte form of a request, when another node is to be asked."""

_PAUSE_S = 0.05
_LEADER_QUESTION_S = 0.5
_NEAR_S = 5.0
_MAX_TIMEOUT_MS = 3_600_000
_WRITE_METHOD = "executeNonQueryPlan"
_READ_METHOD = "executeRead"


class Found(NamedTuple, Generic[T]):
    """An answer, which may be None."""

    value: T


class Forwarder:
    """Runs plans and reads on group leaders; thread-safe.

    Args:
        find_member: this node's member of a group, or None.
        members_of: node ids of a group.
        wait: sleeps up to the given seconds, less when the node stops; True when it stops.
    """

    def __init__(
        self,
        *,
        node_id: NodeId,
        find_member: Callable[[GroupId], RaftMember | None],
        members_of: Callable[[GroupId], Sequence[NodeId]],
        meta_pool: ClientPool,
        data_pool: ClientPool,
        wait: Callable[[float], bool],
    ) -> None:
        self._node_id = node_id
        self._find_member = find_member
        self._members_of = members_of
        self._meta_pool = meta_pool
        self._data_pool = data_pool
        self._wait = wait
        self._leaders: dict[GroupId, NodeId] = {}
        # names this run of the node among all that ever sent requests
        self._coordinator = secrets.randbits(63)
        self._requests: dict[GroupId, RequestNumbers] = {}
        self.watch = CallWatch(lambda group_id: find_member(group_id) is not None, self.find_leader)

    def find_leader(self, group_id: GroupId, but: NodeId) -> NodeId:
        """Ask the members of a group, without one of them, which of them leads it for certain.

        Returns:
            0 when none confirms it within half a second each.
        """
        for node_id in self._members_of(group_id):
            if node_id in (but, self._node_id):
                continue
            deadline = Deadline.after(_LEADER_QUESTION_S)
            try:
                response = self._pool(group_id).call(
                    node_id,
                    _READ_METHOD,
                    self._request(group_id, encode_read(AppliedIndexRead()), deadline),
                    deadline=deadline,
                )
            except (RpcError, ClusterError) as error:
                logger.debug("group %d: node %d: %s", group_id, node_id, error)
                continue
            if response.status == StatusCode.SUCCESS:
                return node_id
        return NodeId(0)

    def write(
        self,
        group_id: GroupId,
        plan: Plan,
        deadline: Deadline,
        decode: Callable[[bytes], T],
    ) -> T:
        """Propose a plan on the group's leader and return its outcome.

        Where the outcome of a try is unknown, because its leader was lost or did not answer, the
        same request is sent again to whoever leads then: it is applied once.

        Raises:
            OutcomeUnknown: the deadline passed, and it may have taken effect.
            ClusterError: it has not.
        """
        numbers = self._numbers(group_id)
        request = numbers.begin()
        try:
            payload = encode_plan(plan, request)
            return self._on_leader(
                group_id,
                _WRITE_METHOD,
                lambda: payload,
                deadline,
                lambda member: cast("T", member.propose(payload, deadline)),
                decode,
            )
        finally:
            numbers.end(request)

    def read(
        self,
        group_id: GroupId,
        payload: Payload,
        deadline: Deadline,
        local: Callable[[RaftMember], T],
        decode: Callable[[bytes], T],
    ) -> T:
        """Run a read on the group's leader: `local` when that is here, else by RPC."""
        return self._on_leader(group_id, _READ_METHOD, payload, deadline, local, decode)

    def read_near(
        self,
        group_id: GroupId,
        payload: Payload,
        deadline: Deadline,
        level: Consistency,
        local: Callable[[RaftMember], T],
        decode: Callable[[bytes], T],
    ) -> Found[T] | None:
        """Run a read below STRONG on some replica: this node's, else another's that can answer.

        Returns:
            None when no replica could: the leader is to be asked, as for a strong read.
        """
        member = self._find_member(group_id)
        if member is not None:
            try:
                return Found(local(member))
            except (NotLeader, Unavailable, Closed) as error:
                # it does not hear its leader, or is just taking over a snapshot
                logger.debug("group %d: no %s read here: %s", group_id, level.name, error)
        for node_id in self._members_of(group_id):
            if node_id == self._node_id or deadline.expired:
                continue
            soon = deadline.earlier(_NEAR_S)
            request = self._request(group_id, payload(), soon)
            request.consistency = int(level)
            try:
                response = self._pool(group_id).call(node_id, _READ_METHOD, request, deadline=soon)
            except (RpcError, ClusterError) as error:
                logger.debug("group %d: node %d: %s", group_id, node_id, error)
                continue
            if response.status == StatusCode.SUCCESS:
                return Found(decode(response.result or b""))
        return None

    def tell_others(self, group_id: GroupId, payload: bytes, deadline: Deadline) -> set[int]:
        """Run a read on every other member of a group, whoever leads; failures are passed over.

        Returns:
            The ids of those that answered, and this node's.
        """
        answered = {int(self._node_id)}
        for node_id in self._members_of(group_id):
            if node_id == self._node_id or deadline.expired:
                continue
            try:
                request = self._request(group_id, payload, deadline)
                response = self._pool(group_id).call(
                    node_id, _READ_METHOD, request, deadline=deadline
                )
            except (RpcError, ClusterError) as error:
                logger.debug("group %d: node %d: %s", group_id, node_id, error)
                continue
            if response.status == StatusCode.SUCCESS:
                answered.add(int(node_id))
        return answered

    def _on_leader(
        self,
        group_id: GroupId,
        method: str,
        payload: Payload,
        deadline: Deadline,
        local: Callable[[RaftMember], T],
        decode: Callable[[bytes], T],
    ) -> T:
        hint = NodeId(0)
        tried: set[NodeId] = set()
        unknown: OutcomeUnknown | None = None
        while True:
            member = self._find_member(group_id)
            if member is not None and member.is_leader:
                try:
                    return local(member)
                except NotLeader as refusal:
                    hint = NodeId(refusal.leader)
                except OutcomeUnknown as error:
                    unknown = error
            else:
                known = member.leader if member is not None else NodeId(0)
                target = self._pick(group_id, member, hint, tried)
                hint = NodeId(0)
                if target:
                    tried.add(target)
                    found = False
                    try:
                        found, value, hint = self._ask(
                            group_id,
                            target,
                            method,
                            payload(),
                            deadline,
                            decode,
                            # between the choice and the call's place on the watch's list
                            lambda m=member, k=known, t=target: m and m.leader not in (k, 0, t),  # type: ignore[misc]
                        )
                    except OutcomeUnknown as error:
                        unknown = error
                    if found:
                        return value  # type: ignore[return-value]
                    if hint and hint != target:
                        tried.discard(hint)
                        continue
                else:
                    tried.clear()
            if member is not None and member.is_stopped:
                raise unknown or Unavailable("the node is stopping; nothing was done")
            if deadline.expired:
                if unknown is not None:
                    raise unknown
                raise Unavailable(
                    f"no leader of group {group_id} could be reached in time; nothing was done"
                )
            if member is not None:
                member.wait_for(
                    lambda m=member: m.is_leader or (m.leader and m.leader not in tried),  # type: ignore[misc]
                    min(_PAUSE_S, deadline.remaining_s()),
                )
            elif self._wait(min(_PAUSE_S, deadline.remaining_s())):
                raise unknown or Unavailable("the node is stopping; nothing was done")
            tried.clear()

    def _pick(
        self,
        group_id: GroupId,
        member: RaftMember | None,
        hint: NodeId,
        tried: set[NodeId],
    ) -> NodeId:
        known = member.leader if member is not None else self._leaders.get(group_id, NodeId(0))
        candidates = [hint, known]
        if member is None:
            candidates.extend(self._members_of(group_id))
        for candidate in candidates:
            if candidate and candidate != self._node_id and candidate not in tried:
                return candidate
        return NodeId(0)

    def _ask(
        self,
        group_id: GroupId,
        target: NodeId,
        method: str,
        payload: bytes,
        deadline: Deadline,
        decode: Callable[[bytes], T],
        is_outdated: Callable[[], bool],
    ) -> tuple[bool, T | None, NodeId]:
        """Call a node; (True, value, 0), or (False, None, leader it names or 0)."""
        request = self._request(group_id, payload, deadline)
        try:
            with self.watch.over(group_id, target) as watched:
                if is_outdated():
                    watched.supersede()
                response = self._pool(group_id).call(
                    target, method, request, deadline=deadline, on_start=watched.started
                )
        except RpcError as error:
            self._leaders.pop(group_id, None)
            if method == _WRITE_METHOD and not error.definitely_not_sent:
                raise OutcomeUnknown(
                    f"group {group_id}: node {target} did not answer ({error})"
                ) from error
            logger.debug("group %d: node %d: %s", group_id, target, error)
            return False, None, NodeId(0)
        except ClusterError as error:
            if error.status is not StatusCode.NO_CONNECTION:
                raise
            return False, None, NodeId(0)  # its address is not known yet
        if response.status == StatusCode.SUCCESS:
            self._leaders[group_id] = target
            return True, decode(response.result or b""), NodeId(0)
        if response.status in (StatusCode.NO_LEADER, StatusCode.PARTITION_NOT_READY) and (
            response.definite
        ):
            self._leaders.pop(group_id, None)
            return False, None, NodeId(response.leader or 0)
        if method == _WRITE_METHOD and not response.definite:
            raise OutcomeUnknown(f"group {group_id}: node {target}: {response.message}")
        raise ClusterError(
            StatusCode(response.status), response.message or "", definite=response.definite
        )

    def _numbers(self, group_id: GroupId) -> RequestNumbers:
        numbers = self._requests.get(group_id)
        if numbers is None:
            numbers = self._requests.setdefault(group_id, RequestNumbers(self._coordinator))
        return numbers

    def _pool(self, group_id: GroupId) -> ClientPool:
        return self._meta_pool if group_id == META_GROUP_ID else self._data_pool

    def _request(self, group_id: GroupId, payload: bytes, deadline: Deadline) -> ExecuteRequest:
        return ExecuteRequest(
            groupId=group_id,
            plan=payload,
            timeoutMs=min(max(1, deadline.remaining_ms()), _MAX_TIMEOUT_MS),
        )
