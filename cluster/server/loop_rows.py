"""insertRecord in the loop: rows that look like earlier ones of their connection.

Everything else, and every row about which there is something special, is the connection's thread's.
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

    def __init__(self, quick: QuickInserts, writer: RowWriter) -> None:
        self._quick = quick
        self._writer = writer

    def wants(self, payload: bytes) -> bool:
        """Whether this is a row."""
        return self._quick.is_row(payload)

    def take(self, lent: LentConnection, payload: bytes) -> bool:
        """See LoopService."""
        connection = lent.owner
        assert isinstance(connection, Connection)
        if not self._quick.is_row(payload):
            return False
        with calls_of(connection):
            row = self._quick.row(connection, payload)
            if row is None:
                return False
            item, deadline = row

            def ended(better: NodeId) -> None:
                with calls_of(connection):
                    lent.answer([self._quick.success(payload, better)])

            def left(rest: Callable[[], tuple[Status, NodeId]]) -> None:
                # in the connection's thread, which is the one that calls are of
                lent.hand_over(lambda: self._quick.carry_on(payload, rest))

            begun = self._quick.inserter.begin_one(item, self._writer, deadline, ended, left)
        if begun:
            lent.began()
        return begun
