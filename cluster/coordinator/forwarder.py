"""Finds the leader of a group and runs something there, until a deadline.

A refusal that is definite (not the leader, not sent) is followed or tried again elsewhere. So is a
write whose answer never came: it carries the id of its request, by which the group knows it again
if it was applied (`cluster.plan.request_id`). What is still unknown at the deadline is reported as
that.

Where the leader does not answer this node, others that do are asked to pass the request on; where
no majority of the group answers, the request is given up soon, so that its client can ask a node on
the other side.
"""

from __future__ import annotations

import logging
import secrets
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TypeVar, cast

from cluster.coordinator.call_watch import LONG_S, CallWatch
from cluster.coordinator.errand import (
    READ_METHOD,
    WRITE_METHOD,
    Errand,
    Found,
    Payload,
    outcome_of,
)
from cluster.coordinator.reach import Reach
from cluster.errors import ClusterError, NotLeader, OutcomeUnknown, StatusCode, Unavailable
from cluster.member.meta_member import META_GROUP_ID
from cluster.member.raft_member import RaftMember
from cluster.plan.codec import encode_plan
from cluster.plan.plans import InsertPlan, Plan
from cluster.plan.reads import AppliedIndexRead, Consistency, encode_read
from cluster.plan.request_id import Requested, RequestId, RequestNumbers
from cluster.raft.types import NO_NODE, GroupId, NodeId
from cluster.rpc.client_pool import ClientPool, RpcError
from cluster.rpc.deadline import Deadline, QueryDeadline
from cluster.rpc.gen.cluster.ttypes import ExecuteRequest
from iotdb_engine.errors import Closed

logger = logging.getLogger(__name__)

T = TypeVar("T")

_PAUSE_S = 0.05
_PATIENCE_S = 3.0
"""How long a node that is cut off from a group's majority looks for its leader before it says so:
longer than an election usually takes, and soon enough for a client to ask another node."""
_DETOUR_S = 2.0
_DETOUR_PAUSE_S = 0.5
_LEADER_QUESTION_S = 0.5
_NEAR_S = 5.0
_MAX_TIMEOUT_MS = 3_600_000


class Forwarder:
    """Runs plans and reads on group leaders; thread-safe.

    Args:
        find_member: this node's member of a group, or None.
        members_of: node ids of a group.
        wait: sleeps up to the given seconds, less when the node stops; True when it stops.
        reach: which nodes answer; None: mute nodes are waited for until deadlines.
        max_plan_bytes: largest plan; what followers can take in one message, and a bit less.
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
        reach: Reach | None = None,
        max_plan_bytes: int = 64 << 20,
    ) -> None:
        self._max_plan_bytes = max_plan_bytes
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
        self._reach = reach
        # since when no leader of a group took a request
        self._lost: dict[GroupId, float] = {}
        self.watch = CallWatch(
            lambda group_id: find_member(group_id) is not None,
            self.find_leader,
            reach,
            lambda: self.others_of(META_GROUP_ID),
        )

    def remote_leader(self, group_id: GroupId) -> NodeId:
        """Return which other node leads a group, as far as this one knows without asking.

        Returns:
            0 when this node leads it, and when nobody is known to.
        """
        member = self._find_member(group_id)
        if member is None:
            return self._leaders.get(group_id, NodeId(0))
        return NodeId(0) if member.leader == self._node_id else member.leader

    def find_leader(self, group_id: GroupId, but: NodeId) -> NodeId:
        """Ask the members of a group, without one of them, which of them leads it for certain.

        Returns:
            0 when none confirms it within half a second each.
        """
        for node_id in self._members_of(group_id):
            if node_id in (but, self._node_id) or self.is_mute(node_id):
                continue
            deadline = Deadline.after(_LEADER_QUESTION_S)
            try:
                response = self.pool_of(group_id).call(
                    node_id,
                    READ_METHOD,
                    self.request_of(group_id, encode_read(AppliedIndexRead()), deadline),
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
        numbers = self.numbers(group_id)
        request = numbers.begin()
        try:
            payload = self.payload_of(plan, request)
            # what is encoded has been checked: it need not be decoded again where it was made
            known = Requested(request, plan) if type(plan) is InsertPlan else None
            return self._on_leader(
                group_id,
                WRITE_METHOD,
                lambda: payload,
                deadline,
                lambda member: cast("T", member.propose(payload, deadline, known)),
                decode,
            )
        finally:
            numbers.end(request)

    def carry_on(
        self,
        group_id: GroupId,
        payload: bytes,
        deadline: Deadline,
        decode: Callable[[bytes], T],
        first: Callable[[], T],
    ) -> T:
        """Bring a write to its end of which a try has been begun elsewhere; see `write`.

        Args:
            group_id: the group.
            payload: the plan with the id of its request.
            deadline: of the whole.
            decode: of another node's answer.
            first: waits for that try's outcome, or raises what a proposal may.
        """

        def propose(member: RaftMember) -> T:
            return cast("T", member.propose(payload, deadline))

        return self._on_leader(
            group_id, WRITE_METHOD, lambda: payload, deadline, propose, decode, first
        )

    def read(
        self,
        group_id: GroupId,
        payload: Payload,
        deadline: Deadline,
        local: Callable[[RaftMember], T],
        decode: Callable[[bytes], T],
    ) -> T:
        """Run a read on the group's leader: `local` when that is here, else by RPC."""
        return self._on_leader(group_id, READ_METHOD, payload, deadline, local, decode)

    @property
    def node_id(self) -> NodeId:
        """This node."""
        return self._node_id

    def member_here(self, group_id: GroupId) -> RaftMember | None:
        """Return this node's member of a group, None where there is none."""
        return self._find_member(group_id)

    def pool_of(self, group_id: GroupId) -> ClientPool:
        """Return the connections to the service of a group."""
        return self._meta_pool if group_id == META_GROUP_ID else self._data_pool

    def is_mute(self, node_id: NodeId) -> bool:
        """Whether a node is known not to answer."""
        return self._reach is not None and self._reach.is_mute(node_id)

    def leads_here(self, group_id: GroupId) -> None:
        """This node's member was found to lead a group: it is not lost."""
        if self._lost:
            self._lost.pop(group_id, None)

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
            request = self.request_of(group_id, payload(), soon)
            request.consistency = int(level)
            try:
                with self.watch.over(group_id, node_id, soon) as watched:
                    response = self.pool_of(group_id).call(
                        node_id, READ_METHOD, request, deadline=soon, on_start=watched.started
                    )
            except (RpcError, ClusterError) as error:
                logger.debug("group %d: node %d: %s", group_id, node_id, error)
                continue
            if response.status == StatusCode.SUCCESS:
                return Found(decode(response.result or b""))
        return None

    def others_of(self, group_id: GroupId) -> list[NodeId]:
        """Return the other nodes of a group."""
        return [node_id for node_id in self._members_of(group_id) if node_id != self._node_id]

    def tell(self, node_id: NodeId, group_id: GroupId, payload: bytes, deadline: Deadline) -> bool:
        """Run a read on a node's member of a group, whoever leads; False: it did not succeed."""
        request = self.request_of(group_id, payload, deadline)
        try:
            response = self.pool_of(group_id).call(node_id, READ_METHOD, request, deadline=deadline)
        except (RpcError, ClusterError) as error:
            logger.debug("group %d: node %d: %s", group_id, node_id, error)
            return False
        return bool(response.status == StatusCode.SUCCESS)

    def relay(
        self, group_id: GroupId, method: str, payload: bytes, deadline: Deadline
    ) -> bytes | None:
        """Pass on the request of a node that does not reach the leader; one hop, no waiting.

        Returns:
            The leader's answer as it came; None when this node knows of no leader that takes it:
            nothing was done.

        Raises:
            OutcomeUnknown: it was passed on, and the answer did not come.
            ClusterError: the leader's refusal.
        """
        member = self._find_member(group_id)
        hint = NodeId(0)
        tried: set[NodeId] = set()
        while target := self._pick(group_id, member, hint, tried):
            tried.add(target)
            if self.is_mute(target):
                continue
            found, value, hint = self._ask(
                group_id, target, method, payload, deadline, bytes, lambda: False
            )
            if found:
                return value
        return None

    def _on_leader(
        self,
        group_id: GroupId,
        method: str,
        payload: Payload,
        deadline: Deadline,
        local: Callable[[RaftMember], T],
        decode: Callable[[bytes], T],
        first: Callable[[], T] | None = None,
    ) -> T:
        member = self._find_member(group_id)
        hint = NO_NODE
        unknown: OutcomeUnknown | None = None
        if first is None and member is not None and member.is_leader:
            first = partial(local, member)
        if first is not None:  # mostly, and then nothing else is needed
            try:
                result = first()
            except NotLeader as refusal:
                hint = NodeId(refusal.leader)
            except OutcomeUnknown as error:
                unknown = error
            else:
                if self._lost:
                    self._lost.pop(group_id, None)
                return result
        errand = Errand(group_id, method, payload, deadline, decode, hint)
        with ExitStack() as stack:
            while True:
                member = self._find_member(group_id)
                try:
                    if member is not None and member.is_leader:
                        try:
                            found = Found(local(member))
                        except NotLeader as refusal:
                            errand.hint = NodeId(refusal.leader)
                            found = None
                    else:
                        found = self._ask_around(errand, member)
                    if found is None and errand.seeks_detour():
                        found = self._by_detour(errand)
                except OutcomeUnknown as error:
                    unknown = error
                    found = None
                except ClusterError as error:
                    if unknown is not None:  # an earlier try may still be applied
                        raise unknown from error
                    raise
                if found is not None:
                    self._lost.pop(group_id, None)
                    return found.value
                if not errand.is_lost:
                    errand.is_lost = True
                    self._lost.setdefault(group_id, errand.began)
                    stack.enter_context(self.watch.seeking())
                self._check_hope(errand, member, unknown)
                if member is not None:
                    member.wait_for(
                        lambda m=member: m.is_leader or (m.leader and m.leader not in errand.tried),  # type: ignore[misc]
                        min(_PAUSE_S, deadline.remaining_s()),
                    )
                elif self._wait(min(_PAUSE_S, deadline.remaining_s())):
                    raise unknown or Unavailable("the node is stopping; nothing was done")
                errand.tried.clear()

    def _check_hope(
        self, errand: Errand[T], member: RaftMember | None, unknown: OutcomeUnknown | None
    ) -> None:
        """Raise when it is pointless to look any longer for a leader."""
        group_id = errand.group_id
        if errand.deadline.given_up:
            errand.deadline.check()
        if member is not None and member.is_stopped:
            raise unknown or Unavailable("the node is stopping; nothing was done")
        if errand.deadline.expired:
            raise unknown or Unavailable(
                f"no leader of group {group_id} could be reached in time; nothing was done"
            )
        # one that came late is not refused at once: nodes may answer again by now
        if time.monotonic() - errand.began >= LONG_S and self._is_cut_off(group_id):
            raise unknown or Unavailable(
                f"this node reaches no leader and no majority of group {group_id}; nothing was "
                "done: ask another node"
            )

    def _is_cut_off(self, group_id: GroupId) -> bool:
        """Whether only other nodes can have a leader of the group: a majority does not answer here.

        Where one does, it is about to elect a leader, and it pays to wait.
        """
        lost_since = self._lost.get(group_id)
        if self._reach is None or lost_since is None:
            return False
        if time.monotonic() - lost_since < _PATIENCE_S:
            return False
        members = self._members_of(group_id)
        mute = sum([node_id != self._node_id and self.is_mute(node_id) for node_id in members])
        return mute * 2 >= len(members) > 0

    def _ask_around(self, errand: Errand[T], member: RaftMember | None) -> Found[T] | None:
        """Ask who may lead, by what this node knows or is told, each once."""
        errand.is_mute = False
        while True:
            known = member.leader if member is not None else NodeId(0)
            target = self._pick(errand.group_id, member, errand.hint, errand.tried)
            errand.hint = NodeId(0)
            if not target:
                return None
            errand.tried.add(target)
            if self.is_mute(target):
                errand.is_mute = True
                self.watch.attend()
                continue
            found, value, hint = self._ask(
                errand.group_id,
                target,
                errand.method,
                errand.payload(),
                errand.deadline,
                errand.decode,
                # between the choice and the call's place on the watch's list
                lambda k=known, t=target: bool(member and member.leader not in (k, 0, t)),  # type: ignore[misc]
            )
            if found:
                return Found(value)  # type: ignore[arg-type]
            if hint and hint != target:
                errand.hint = hint
                errand.tried.discard(hint)
            if member is not None and member.is_leader:
                return None

    def _by_detour(self, errand: Errand[T]) -> Found[T] | None:
        """Ask nodes that answer to pass the request on to the leader.

        It is the same request, by its id, so it does no harm if it was applied already.
        """
        group_id = errand.group_id
        errand.detour_at = time.monotonic() + _DETOUR_PAUSE_S
        members = list(self._members_of(group_id))
        others = [n for n in self._members_of(META_GROUP_ID) if n not in members]
        for node_id in [*members, *others]:
            if node_id == self._node_id or not self._answers(node_id) or errand.deadline.expired:
                continue
            found, value, _ = self._ask(
                group_id,
                node_id,
                errand.method,
                errand.payload(),
                errand.deadline.earlier(_DETOUR_S),
                errand.decode,
                lambda: False,
                relay=True,
            )
            if found:
                logger.debug("group %d: reached by way of node %d", group_id, node_id)
                return Found(value)  # type: ignore[arg-type]
        return None

    def _answers(self, node_id: NodeId) -> bool:
        return self._reach is not None and self._reach.answers(node_id)

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
        *,
        relay: bool = False,
    ) -> tuple[bool, T | None, NodeId]:
        """Call a node; (True, value, 0), or (False, None, leader it names or 0)."""
        request = self.request_of(group_id, payload, deadline)
        if relay:
            request.relay = True
        try:
            with self.watch.over(group_id, target, deadline) as watched:
                if is_outdated():
                    watched.supersede()
                response = self.pool_of(group_id).call(
                    target, method, request, deadline=deadline, on_start=watched.started
                )
        except RpcError as error:
            self._leaders.pop(group_id, None)
            if method == WRITE_METHOD and not error.definitely_not_sent:
                raise OutcomeUnknown(
                    f"group {group_id}: node {target} did not answer ({error})"
                ) from error
            if isinstance(deadline, QueryDeadline):
                deadline.check()  # it was answering: to blame the leader would mislead
            logger.debug("group %d: node %d: %s", group_id, target, error)
            return False, None, NodeId(0)
        except ClusterError as error:
            if error.status is not StatusCode.NO_CONNECTION:
                raise
            return False, None, NodeId(0)  # its address is not known yet
        if response.status == StatusCode.SUCCESS and not relay:
            self._leaders[group_id] = target
        try:
            return True, outcome_of(group_id, target, method, response, decode), NodeId(0)
        except NotLeader as refusal:
            self._leaders.pop(group_id, None)
            return False, None, NodeId(refusal.leader)

    def numbers(self, group_id: GroupId) -> RequestNumbers:
        """Return what gives out the numbers of this node's requests to a group."""
        numbers = self._requests.get(group_id)
        if numbers is None:
            numbers = self._requests.setdefault(group_id, RequestNumbers(self._coordinator))
        return numbers

    def payload_of(self, plan: Plan, request: RequestId) -> bytes:
        """Return a plan's byte form; raises ClusterError when replicas could not take it."""
        try:
            payload = encode_plan(plan, request)
        except (ValueError, struct.error) as error:
            raise ClusterError(
                StatusCode.ILLEGAL_PARAMETER, f"a value of the request is out of its range: {error}"
            ) from error
        if len(payload) > self._max_plan_bytes:
            raise ClusterError(
                StatusCode.ILLEGAL_PARAMETER,
                f"the request comes to {len(payload)} bytes in the log, larger than the "
                f"{self._max_plan_bytes} that nodes can exchange (thrift_max_frame_size)",
            )
        return payload

    def request_of(self, group_id: GroupId, payload: bytes, deadline: Deadline) -> ExecuteRequest:
        """Return what asks another node to run a request."""
        return ExecuteRequest(
            groupId=group_id,
            plan=payload,
            timeoutMs=min(max(1, deadline.remaining_ms()), _MAX_TIMEOUT_MS),
        )
