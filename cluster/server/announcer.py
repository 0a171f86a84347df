"""A node's addresses in the replicated registry, so that restarts of others find it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from cluster.coordinator.coordinator import Coordinator
from cluster.errors import ClusterError
from cluster.partition.node_info import NodeInfo
from cluster.plan.plans import RegisterNodePlan
from cluster.rpc.deadline import Deadline

logger = logging.getLogger(__name__)

_TRY_S = 5.0
_PAUSE_S = 1.0


def registration(own: NodeInfo) -> RegisterNodePlan:
    """Return the plan that registers a node."""
    return RegisterNodePlan(
        node_id=own.node_id,
        incarnation=own.incarnation,
        internal_ip=own.internal_ip,
        meta_port=own.meta_port,
        data_port=own.data_port,
        rpc_address=own.rpc_address,
        rpc_port=own.rpc_port,
    )


def announce(
    coordinator: Coordinator,
    own: NodeInfo,
    stopping: threading.Event,
    refused: Callable[[str], object],
) -> None:
    """Register a node, trying until it worked or the node stops.

    Args:
        coordinator: the node's.
        own: what to register.
        stopping: ends it.
        refused: told why, when the cluster does not take the node.
    """
    while not stopping.is_set():
        try:
            outcome = coordinator.execute_meta(registration(own), Deadline.after(_TRY_S))
        except ClusterError as error:
            logger.debug("not registered yet: %s", error)
            if stopping.wait(_PAUSE_S):
                return
            continue
        if not outcome.ok:
            refused(outcome.message)
        return
