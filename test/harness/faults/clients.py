"""A client that goes from node to node, and says of every call what is known about its outcome."""

from __future__ import annotations

import random
import struct
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from thrift.Thrift import TException

from harness.history import Outcome
from harness.process_cluster import Node
from harness.wire import StatusError, WireClient

DEFINITE = {
    413,  # WRITE_PROCESS_REJECT
    700,  # PARTITION_NOT_READY
    702,  # NO_LEADER
    706,  # NO_CONNECTION
}
"""Statuses that say that nothing was done; histories take a node at its word."""

NO_LEADER = 702
_TRANSPORT = (OSError, TException, EOFError, struct.error)


class Answer(NamedTuple):
    """`node` is the number of the node that was asked."""

    outcome: Outcome
    value: Any
    error: str
    node: int


class RovingClient:
    """Used by one thread. Changes its node when a connection fails, when told to, and now and then.

    Args:
        timeout_s: for a call; a call that took longer is unknown.
        stay: after about that many calls it goes to another node.
    """

    def __init__(
        self,
        nodes: list[Node],
        rng: random.Random,
        stopping: threading.Event,
        timeout_s: float = 5.0,
        stay: int = 40,
    ) -> None:
        self._nodes = nodes
        self._rng = rng
        self._stopping = stopping
        self._timeout_s = timeout_s
        self._stay = stay
        self._at = rng.randrange(len(nodes))
        self._client: WireClient | None = None

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def call(self, ask: Callable[[WireClient], Any]) -> Answer:
        """Ask a node. What could not even be sent failed; a lost answer is an unknown outcome."""
        if self._rng.random() * self._stay < 1:
            self._move()
        node = self._nodes[self._at]
        if self._client is None:
            try:
                self._client = WireClient(node.rpc_port, node.host, self._timeout_s)
            except (*_TRANSPORT, StatusError) as error:
                self._move()
                self._stopping.wait(0.02)
                return Answer(Outcome.FAIL, None, f"connecting: {error}", node.number)
        try:
            return Answer(Outcome.OK, ask(self._client), "", node.number)
        except StatusError as error:
            outcome = Outcome.FAIL if error.code in DEFINITE else Outcome.UNKNOWN
            if error.code == NO_LEADER:
                self._move()  # as the message says: this node may be the only one that finds none
            return Answer(outcome, None, str(error), node.number)
        except _TRANSPORT as error:
            self._move()
            return Answer(Outcome.UNKNOWN, None, f"{type(error).__name__}: {error}", node.number)

    def _move(self) -> None:
        self.close()
        self._at = (self._at + self._rng.randint(1, len(self._nodes) - 1)) % len(self._nodes)
