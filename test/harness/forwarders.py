"""Forwarders over the nodes of a GroupCluster, and a plan that tells if it was applied twice."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from cluster.coordinator.forwarder import Forwarder
from cluster.coordinator.reach import Reach
from cluster.plan.codec import decode_result
from cluster.plan.plans import CreateSeriesPlan
from cluster.raft.types import NodeId
from cluster.rpc.calls import CallCodec
from cluster.rpc.client_pool import BegunCall, RpcError
from cluster.rpc.deadline import Deadline
from cluster.rpc.gen.cluster import RaftService
from cluster.schema.series import SeriesSpec
from harness.group_cluster import GROUP, GroupCluster
from iotdb_engine import DataType


class FakePool:
    """ClientPool's call over the harness' network.

    Calls over a link that is cut fail at once, or, with `hangs`, when somebody ends them.
    """

    def __init__(self, group: GroupCluster, frm: NodeId, *, hangs: bool = False) -> None:
        self._group = group
        self._frm = frm
        self._hangs = hangs

    def call(
        self,
        node_id: NodeId,
        method: str,
        *args: Any,
        deadline: Deadline,
        on_start: Callable[[Callable[[], None]], None] | None = None,
    ) -> Any:
        if self._hangs and (self._frm, node_id) in self._group.network.cut:
            ended = threading.Event()
            if on_start is not None:
                on_start(ended.set)
            ended.wait(deadline.remaining_s())
            raise RpcError("no answer", definitely_not_sent=False)
        return self._group.network.call(self._frm, node_id, method, args)

    def begin(self, *args: Any, **options: Any) -> BegunCall:
        return BegunCall(lambda: self.call(*args, **options))

    def begin_message(
        self, node_id: NodeId, method: str, message: bytes, **options: Any
    ) -> BegunCall:
        """With the answer that a server makes of the bytes."""

        def finish() -> bytes:
            codec = CallCodec(RaftService, (method,))
            _, number, request = codec.read_request(message)
            answer = self.call(node_id, method, request, **options)
            return b"".join(codec.answer(method, number, answer))

        return BegunCall(finish)


def forwarder(
    group: GroupCluster,
    at: NodeId,
    *,
    hangs: bool = False,
    reach: Reach | None = None,
    **options: Any,
) -> Forwarder:
    """The forwarder of a node; one of node 99 is in no group."""
    pool: Any = FakePool(group, at, hangs=hangs)
    stop = threading.Event()
    return Forwarder(
        node_id=at,
        find_member=lambda _group: group.nodes[at].member if at in group.nodes else None,
        members_of=lambda _group: group.ids,
        meta_pool=pool,
        data_pool=pool,
        wait=stop.wait,
        reach=reach,
        **options,
    )


def create(name: str) -> CreateSeriesPlan:
    """Not idempotent: the second time it is refused."""
    spec = SeriesSpec(name, DataType.INT64, 0, 1)
    return CreateSeriesPlan(
        sg_id=1,
        sg_path="root.sg",
        device="root.sg.d",
        aligned=False,
        specs=(spec,),
        if_absent=False,
    )


def write(sender: Forwarder, name: str, seconds: float = 20.0) -> Any:
    (outcome,) = sender.write(GROUP, create(name), Deadline.after(seconds), decode_result)
    return outcome.status
