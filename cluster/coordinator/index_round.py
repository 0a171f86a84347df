"""Read indexes of several groups, asked of all their leaders at once.

A query that reads replicas of this node needs of each group's leader but a number. Asked one after
the other they cost a trip each; here every node gets one request for all that it leads, and all
requests are under way before the first answer is waited for. No thread is needed for that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import lru_cache

from cluster.coordinator.forwarder import Forwarder
from cluster.errors import ClusterError, StatusCode
from cluster.member.meta_member import META_GROUP_ID
from cluster.plan.codec import decode_result
from cluster.plan.reads import AppliedIndexesRead, encode_read
from cluster.raft.types import GroupId, NodeId
from cluster.rpc.calls import CallCodec
from cluster.rpc.client_pool import BegunCall, RpcError
from cluster.rpc.deadline import Deadline
from cluster.rpc.gen.cluster import RaftService
from cluster.rpc.gen.cluster.ttypes import ExecuteRequest

logger = logging.getLogger(__name__)

_METHOD = "executeRead"
_LONGEST_S = 2.0
"""A leader that takes longer is asked by the forwarder, which looks for others, too."""


class IndexRound:
    """Asks nodes for indexes that, once applied somewhere, make reads there linearizable.

    Thread-safe.

    Args:
        forwarder: has the connections, and knows who does not answer.
    """

    def __init__(self, forwarder: Forwarder) -> None:
        self._forwarder = forwarder

    def begin(
        self, leaders: Mapping[GroupId, NodeId], deadline: Deadline
    ) -> Callable[[], dict[GroupId, int]]:
        """Send the questions; what this returns is to be called once, and waits for the answers.

        Args:
            leaders: who is believed to lead each group.
            deadline: of the read.

        Returns:
            What returns the indexes of the groups whose leader answered; of the others nothing.
        """
        soon = deadline.earlier(_LONGEST_S)
        stack = ExitStack()
        try:
            begun = [
                (groups, call)
                for node_id, groups in _by_node(leaders)
                if not self._forwarder.is_mute(node_id)
                and (call := self._begin(node_id, groups, soon, stack)) is not None
            ]
        except BaseException:
            stack.close()
            raise

        def finish() -> dict[GroupId, int]:
            found: dict[GroupId, int] = {}
            with stack:
                for groups, call in begun:  # every one, whatever became of the others
                    found.update(_finished(groups, call))
            return found

        return finish

    def _begin(
        self, node_id: NodeId, groups: Sequence[GroupId], deadline: Deadline, stack: ExitStack
    ) -> BegunCall | None:
        def started(cut: Callable[[], None]) -> None:
            for call in watched:
                call.started(cut)

        watched = [
            stack.enter_context(self._forwarder.watch.over(group_id, node_id, deadline))
            for group_id in groups
        ]
        try:
            return self._forwarder.pool_of(groups[-1]).begin_message(
                node_id, _METHOD, _question(tuple(groups)), deadline=deadline, on_start=started
            )
        except (RpcError, ClusterError) as error:
            logger.debug("node %d: read indexes: %s", node_id, error)
            return None


@lru_cache(maxsize=256)
def _question(groups: tuple[GroupId, ...]) -> bytes:
    """Return the whole call; always the same bytes for the same groups, so that it is known."""
    request = ExecuteRequest(
        groupId=groups[-1],
        plan=encode_read(AppliedIndexesRead(tuple(int(group_id) for group_id in groups))),
        timeoutMs=int(_LONGEST_S * 1000),
    )
    return b"".join(_codec().request(_METHOD, 0, request))


@lru_cache(maxsize=256)
def _indexes(message: bytes) -> tuple[int | None, ...] | None:
    """Return what an answer says; None: that the node can't tell.

    Raises:
        ValueError: it is no answer.
    """
    try:
        _, response = _codec().read_answer(message)
        if isinstance(response, Exception):
            raise response
        if response.status != StatusCode.SUCCESS:
            logger.debug("read indexes: %s", response.message)
            return None
        return tuple(decode_result(response.result or b""))
    except Exception as error:
        raise ValueError(f"no answer: {error}") from error


def _codec() -> CallCodec:
    return CallCodec(RaftService, (_METHOD,))  # rarely needed, and not for several threads


def _by_node(leaders: Mapping[GroupId, NodeId]) -> Iterable[tuple[NodeId, list[GroupId]]]:
    """Return which groups to ask which node for.

    The service for data groups knows the meta group's index as well; so a data group comes last,
    if there is one, and names the service.
    """
    by_node: dict[NodeId, list[GroupId]] = {}
    for group_id, node_id in sorted(leaders.items(), key=lambda item: item[0] != META_GROUP_ID):
        by_node.setdefault(node_id, []).append(group_id)
    return by_node.items()


def _finished(groups: Sequence[GroupId], call: BegunCall) -> dict[GroupId, int]:
    try:
        indexes = _indexes(call.finish())
        if indexes is None or len(indexes) != len(groups):
            return {}
    except (RpcError, ClusterError, ValueError) as error:
        logger.debug("read indexes: %s", error)
        return {}
    return {
        group_id: index
        for group_id, index in zip(groups, indexes, strict=True)
        if index is not None
    }
