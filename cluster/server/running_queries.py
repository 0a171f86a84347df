"""The queries that a node is computing or that wait to be fetched: to list them and to end them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from cluster.errors import QUERY_CANCELLED, QUERY_TIMED_OUT, ClusterError, StatusCode
from cluster.query.node_view import RunningQuery
from cluster.rpc.deadline import Cancelled, Deadline, QueryDeadline

logger = logging.getLogger(__name__)

_SWEEP_S = 0.25


class QueryOwner(NamedTuple):
    """The login that a query runs for."""

    session_id: int
    user: str


class QueryTicket:
    """One query's entry; its `cancelled` ends the computation at the next piece of it.

    Args:
        query_id: unique on this node.
        sql: its text.
        started: now, in units of the precision.
        deadline: of the query.
        is_gone: whether its client has left.
        owner: who may cancel it from another connection.
    """

    def __init__(
        self,
        query_id: int,
        sql: str,
        started: int,
        deadline: Deadline,
        is_gone: Callable[[], bool],
        owner: QueryOwner,
    ) -> None:
        self.query_id = query_id
        self.sql = sql
        self.owner = owner
        self.started = started
        self.began = time.monotonic()
        self.cancelled = Cancelled()
        self.deadline = QueryDeadline.of(deadline, self.cancelled)
        self.is_gone = is_gone
        self.release: Callable[[], None] = _nothing
        """Frees what the query holds while nobody computes it; set once it can be fetched."""
        self._why: ClusterError | None = None

    def cancel(self, why: ClusterError) -> None:
        """End the query; from any thread."""
        if self._why is None:
            self._why = why
        self.cancelled.set()
        self.release()

    def explained(self) -> _Explained:
        """Make whatever fails because the query was ended say why it was ended; a context."""
        return _Explained(self)

    def check(self) -> None:
        """Raise ClusterError when the query was ended, saying why."""
        if self.cancelled.is_set():
            assert self._why is not None
            raise ClusterError(self._why.status, self._why.message)


class _Explained:
    __slots__ = ("_ticket",)

    def __init__(self, ticket: QueryTicket) -> None:
        self._ticket = ticket

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ClusterError):
            self._ticket.check()


class RunningQueries:
    """Thread-safe; one per node."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tickets: dict[int, QueryTicket] = {}
        self._stopping = threading.Event()

    def begin(
        self,
        query_id: int,
        sql: str,
        started: int,
        deadline: Deadline,
        is_gone: Callable[[], bool],
        owner: QueryOwner,
    ) -> QueryTicket:
        """List a query from now on; see `QueryTicket`."""
        ticket = QueryTicket(query_id, sql, started, deadline, is_gone, owner)
        with self._lock:
            self._tickets[query_id] = ticket
        return ticket

    def watch(self) -> None:
        """Thread body: end the queries that nobody waits for, until `stop`."""
        while not self._stopping.wait(_SWEEP_S):
            self.sweep()

    def stop(self) -> None:
        """Make `watch` return."""
        self._stopping.set()

    def sweep(self) -> None:
        """End the queries whose client is gone or whose time is over.

        One that is being computed looks at its deadline itself; but one whose client just does not
        come back for the rest would hold a state of the store for ever.
        """
        with self._lock:
            tickets = list(self._tickets.values())
        for ticket in tickets:
            try:
                _end_if_unwanted(ticket)
            except Exception:  # a fault of one must not keep the others for ever
                logger.exception("query %d was not freed", ticket.query_id)

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


def _end_if_unwanted(ticket: QueryTicket) -> None:
    if ticket.cancelled.is_set():
        ticket.release()  # it may have been computed when it was ended
    elif ticket.deadline.expired:
        ticket.cancel(ClusterError(StatusCode.TIME_OUT, QUERY_TIMED_OUT))
    elif ticket.is_gone():
        ticket.cancel(ClusterError(StatusCode.QUERY_PROCESS_ERROR, QUERY_CANCELLED))


def _end(tickets: Iterable[QueryTicket]) -> None:
    for ticket in tickets:
        ticket.cancel(
            ClusterError(StatusCode.QUERY_PROCESS_ERROR, f"query {ticket.query_id} was killed")
        )


def _nothing() -> None:
    """There is nothing to free yet."""
