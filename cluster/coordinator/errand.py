"""A request on its way to a group's leader, and what a node's answer to it means."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from cluster.coordinator.call_watch import LONG_S
from cluster.errors import ClusterError, NotLeader, OutcomeUnknown, StatusCode
from cluster.raft.types import NO_NODE, GroupId, NodeId
from cluster.rpc.deadline import Deadline
from cluster.rpc.gen.cluster.ttypes import ExecuteResponse

T = TypeVar("T")

WRITE_METHOD = "executeNonQueryPlan"
READ_METHOD = "executeRead"

Payload = Callable[[], bytes]
"""Makes the byte form of a request, when another node is to be asked."""


class Found(Generic[T]):
    """An answer, which may be None."""

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        self.value = value


@dataclass
class Errand(Generic[T]):
    """A request on its way to the leader.

    Attributes:
        hint: who leads, by the last refusal; 0: nobody was named.
        tried: whom there is no point in asking again in this round.
        is_mute: who leads is known, and mute.
        is_lost: its first round has failed.
        detour_at: not before then another detour.
        began: when it set out, on the monotonic clock.
    """

    group_id: GroupId
    method: str
    payload: Payload
    deadline: Deadline
    decode: Callable[[bytes], T]
    hint: NodeId = NO_NODE
    tried: set[NodeId] = field(default_factory=set)
    is_mute: bool = False
    is_lost: bool = False
    detour_at: float = 0.0
    began: float = field(default_factory=time.monotonic)

    def seeks_detour(self) -> bool:
        """Whether it is time to ask others to pass the request on."""
        now = time.monotonic()
        return (self.is_mute or now - self.began >= LONG_S) and now >= self.detour_at


def outcome_of(
    group_id: GroupId,
    target: NodeId,
    method: str,
    response: ExecuteResponse,
    decode: Callable[[bytes], T],
) -> T:
    """Return what a node answered.

    Raises:
        NotLeader: it does not lead, and did nothing.
        OutcomeUnknown: it does not know what becomes of the write.
        ClusterError: another refusal.
    """
    if response.status == StatusCode.SUCCESS:
        return decode(response.result or b"")
    if response.status in (StatusCode.NO_LEADER, StatusCode.PARTITION_NOT_READY) and (
        response.definite
    ):
        raise NotLeader(group_id, response.leader or 0)
    if method == WRITE_METHOD and not response.definite:
        raise OutcomeUnknown(f"group {group_id}: node {target}: {response.message}")
    raise ClusterError(
        StatusCode(response.status), response.message or "", definite=response.definite
    )
