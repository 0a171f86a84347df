"""The queries that a node is computing or that wait to be fetched: to list them and to end them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from cluster.errors import ClusterError, StatusCode
from cluster.query.node_view import RunningQuery


class QueryOwner(NamedTuple):
    """The login that a query runs for."""

    session_id: int
    user: str


class QueryTicket:
    """One query's entry; its `cancelled` ends the computation at the next batch."""

    def __init__(self, query_id: int, sql: str, started: int, owner: QueryOwner) -> None:
        self.query_id = query_id
        self.sql = sql
        self.owner = owner
        self.started = started
        self.began = time.monotonic()
        self.cancelled = threading.Event()
        self.release: Callable[[], None] = _nothing
        """Frees what the query holds while nobody computes it; set once it can be fetched."""

    def check(self) -> None:
        """Raise ClusterError when the query was killed."""
        if self.cancelled.is_set():
            raise ClusterError(StatusCode.QUERY_PROCESS_ERROR, f"query {self.query_id} was killed")


class RunningQueries:
    """Thread-safe; one per node."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tickets: dict[int, QueryTicket] = {}

    def begin(self, query_id: int, sql: str, started: int, owner: QueryOwner) -> QueryTicket:
        """List a query from now on.

        Args:
            query_id: unique on this node.
            sql: its text.
            started: now, in units of the precision.
            owner: who may cancel it from another connection.
        """
        ticket = QueryTicket(query_id, sql, started, owner)
        with self._lock:
            self._tickets[query_id] = ticket
        return ticket

    def end(self, query_id: int) -> None:
        """List a query no more; idempotent."""
        with self._lock:
            self._tickets.pop(query_id, None)

    def running(self) -> list[RunningQuery]:
        """Return the queries, by id."""
        with self._lock:
            tickets = sorted(self._tickets.values(), key=lambda ticket: ticket.query_id)
        now = time.monotonic()
        return [
            RunningQuery(ticket.query_id, ticket.started, now - ticket.began, ticket.sql)
            for ticket in tickets
        ]

    def kill(self, query_id: int | None) -> None:
        """End a query, or every one.

        Raises:
            ClusterError: there is no query of that id here.
        """
        with self._lock:
            if query_id is None:
                tickets = list(self._tickets.values())
            else:
                ticket = self._tickets.get(query_id)
                if ticket is None:
                    raise ClusterError(
                        StatusCode.QUERY_PROCESS_ERROR,
                        f"Query Id {query_id} is not exist, please check it.",
                    )
                tickets = [ticket]
        _end(tickets)

    def cancel_all(self, owner: QueryOwner) -> None:
        """End every query of a login; there may be none."""
        with self._lock:
            tickets = [ticket for ticket in self._tickets.values() if ticket.owner == owner]
        _end(tickets)


def _end(tickets: Iterable[QueryTicket]) -> None:
    for ticket in tickets:
        ticket.cancelled.set()
        ticket.release()


def _nothing() -> None:
    """There is nothing to free yet."""
