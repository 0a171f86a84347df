"""Inserts in the loop: rows, and tablets of up to 1 MiB, which look like earlier ones.

Everything else, and every insert about which there is something special, is for the connection's
thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from cluster.coordinator.row_writer import RowWriter
from cluster.errors import Status
from cluster.raft.types import NodeId
from cluster.rpc.lent import LentConnection
from cluster.rpc.server import Connection, calls_of
from cluster.server.quick_inserts import QuickInserts

logger = logging.getLogger(__name__)


class LoopRows:
    """A `LoopService`; only used by the loop's thread, but for `wants`."""

    in_order = True
    most_bytes = 1 << 20

    def __init__(self, quick: QuickInserts, writer: RowWriter) -> None:
        self._quick = quick
        self._writer = writer

    def wants(self, payload: bytes) -> bool:
        """Whether this is such an insert."""
        return len(payload) <= self.most_bytes and self._quick.is_quick(payload)

    def take(self, lent: LentConnection, payload: bytes) -> bool:
        """See LoopService."""
        connection = lent.owner
        assert isinstance(connection, Connection)
        found = self._quick.item(connection, payload)
        if found is None:
            return False
        item, deadline = found

        def ended(better: NodeId) -> None:
            if not better:  # as a rule, and then it is the same for everybody
                lent.answer((self._quick.success(payload, better),))
                return
            with calls_of(connection):
                lent.answer((self._quick.success(payload, better),))

        def left(rest: Callable[[], tuple[Status, NodeId]]) -> None:
            # in the connection's thread, which is the one that calls are of
            lent.hand_over(lambda: self._quick.carry_on(payload, rest))

        begun = self._quick.inserter.begin_one(item, self._writer, deadline, ended, left)
        if begun:
            lent.began()
        return begun
