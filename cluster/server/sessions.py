"""Client sessions: who is logged in on which connection, and what it has open.

A session is bound to its connection; the id that a request carries is ignored, as 0.13 does, since
clients go on with a wrong one after a refused login.
"""

from __future__ import annotations

import itertools
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator

from cluster.errors import ClusterError, StatusCode
from cluster.query.result import ResultSet
from cluster.rpc.server import Connection
from cluster.rpc.status import Generation
from cluster.server.result_pager import ColumnPager, ResultPager
from cluster.server.running_queries import QueryTicket

_MAX_OPEN_QUERIES = 1000


class OpenQuery:
    """A result set that is being fetched by one connection, and may be killed by others.

    Args:
        statement_id: of the client's statement.
        result: to be fetched.
        ticket: the query's entry in the list of running queries.
        ended: called once when the query is closed.
        columnar: pages go out as blocks (`cluster.rpc.columnar`).
        joins_pages: blocks may have joined pages.
    """

    def __init__(
        self,
        statement_id: int,
        result: ResultSet,
        ticket: QueryTicket,
        ended: Callable[[int], None],
        *,
        columnar: bool = False,
        joins_pages: bool = False,
    ) -> None:
        self.columnar = columnar
        self.joins_pages = joins_pages
        self.query_id = ticket.query_id
        self.statement_id = statement_id
        self.result = result
        self.pager = ResultPager(result)
        self.column_pager = (
            None if result.column_streams is None else ColumnPager(result.column_streams)
        )
        self._ticket = ticket
        self._ended = ended
        self._in_use = threading.Lock()
        ticket.release = self._release_if_idle

    def has_more(self) -> bool:
        """Whether another page follows."""
        return (self.column_pager or self.pager).has_more()

    def in_use(self) -> _InUse:
        """Keep the result from being freed while it is computed; a context.

        Raises:
            ClusterError: the query was killed; what it held may be freed.
        """
        return _InUse(self._in_use, self._ticket)

    def close(self) -> None:
        """Free what the query holds; for its own connection."""
        self.free()
        self._ended(self.query_id)

    def free(self) -> None:
        """Do so with a query that is going to be run again."""
        with self._in_use:
            self._free()

    def _release_if_idle(self) -> None:
        """Free what a killed query holds, unless it is just being computed: then that ends."""
        if self._in_use.acquire(blocking=False):
            try:
                self._free()
            finally:
                self._in_use.release()

    def _free(self) -> None:
        self.result.close()
        self.pager = ResultPager(self.result)
        self.column_pager = None


class _InUse:
    __slots__ = ("_lock", "_ticket")

    def __init__(self, lock: threading.Lock, ticket: QueryTicket) -> None:
        self._lock = lock
        self._ticket = ticket

    def __enter__(self) -> None:
        self._lock.acquire()
        try:
            self._ticket.check()
        except BaseException:
            self._lock.release()
            raise

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._lock.release()
        if isinstance(error, ClusterError):
            self._ticket.check()


class Session:
    """State of one client connection; only that connection's thread changes it.

    Attributes:
        follows_batch_hints: whether the client said at login what makes hints on batches safe.
        columnar: whether it asked for results as blocks (`cluster.rpc.columnar`).
        joins_pages: whether it knows joined pages in them.
        login_ms: when it logged in, milliseconds since 1970.
        peer: (host, port) of the client.
    """

    def __init__(
        self,
        session_id: int,
        user: str,
        zone: str,
        generation: Generation,
        *,
        follows_batch_hints: bool = False,
        columnar: bool = False,
        joins_pages: bool = False,
        login_ms: int = 0,
        peer: tuple[str, int] = ("", 0),
    ) -> None:
        self.session_id = session_id
        self.user = user
        self.zone = zone
        self.generation = generation
        self.follows_batch_hints = follows_batch_hints
        self.columnar = columnar
        self.joins_pages = joins_pages
        self.login_ms = login_ms
        self.peer = peer
        self._queries: dict[int, OpenQuery] = {}

    @property
    def prefix_dialect(self) -> bool:
        """Whether paths are prefixes, as they were for 0.12 clients."""
        return self.generation in (Generation.UNKNOWN, Generation.V0_12)

    def open_query(self, query: OpenQuery) -> None:
        """Keep a query until it is exhausted or closed; the oldest goes when there are too many."""
        if len(self._queries) >= _MAX_OPEN_QUERIES:
            self.close_query(next(iter(self._queries)))
        self._queries[query.query_id] = query

    def query(self, query_id: int) -> OpenQuery | None:
        """Return an open query, or None."""
        return self._queries.get(query_id)

    def close_query(self, query_id: int) -> None:
        """Release a query; unknown ones are ignored."""
        query = self._queries.pop(query_id, None)
        if query is not None:
            query.close()

    def close_statement(self, statement_id: int) -> None:
        """Release every query of a statement."""
        for query in [q for q in self._queries.values() if q.statement_id == statement_id]:
            self.close_query(query.query_id)

    def close(self) -> None:
        """Release everything."""
        for query_id in list(self._queries):
            self.close_query(query_id)


class Sessions:
    """The sessions of a node, by connection; thread-safe.

    Args:
        timeout_s: a session that is idle for longer is closed; None: never.
    """

    def __init__(self, timeout_s: float | None) -> None:
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._open: dict[int, Session] = {}

    def begin(self, connection: Connection, session: Session) -> None:
        """Log a session in on a connection, in place of one that may be there."""
        self.end(connection)
        connection.state["session"] = session
        with self._lock:
            self._open[connection.number] = session

    def end(self, connection: Connection) -> None:
        """Close the session of a connection, if there is one, and forget that one expired."""
        connection.state.pop("expired", None)
        session = connection.state.pop("session", None)
        if isinstance(session, Session):
            with self._lock:
                self._open.pop(connection.number, None)
            session.close()

    def of(self, connection: Connection) -> Session | None:
        """Return the session that is logged in on a connection, or None."""
        if self._timeout_s is not None:
            self.expire(connection, connection.waited_s)
        session = connection.state.get("session")
        return session if isinstance(session, Session) else None

    def check_not_expired(self, connection: Connection) -> None:
        """Raise ClusterError SESSION_TIMEOUT when a connection's session was idle for too long."""
        if "expired" in connection.state:
            raise ClusterError(
                StatusCode.SESSION_TIMEOUT,
                f"the session was idle for more than {self._timeout_s:g} s and is closed: "
                "open a session again",
            )

    def expire(self, connection: Connection, idle_s: float) -> None:
        """Close the session of a connection that has been idle for too long."""
        if self._timeout_s is None or idle_s <= self._timeout_s:
            return
        if "session" in connection.state:
            self.end(connection)
            connection.state["expired"] = True

    def all(self) -> list[Session]:
        """Return the open sessions, oldest first."""
        with self._lock:
            return sorted(self._open.values(), key=lambda session: session.session_id)


class Ids:
    """Session, statement and query ids of a node: they start at 1; thread-safe."""

    def __init__(self) -> None:
        self._counters: defaultdict[str, Iterator[int]] = defaultdict(lambda: itertools.count(1))
        self._lock = threading.Lock()

    def next(self, kind: str) -> int:
        """Return the next id of a kind."""
        with self._lock:
            return next(self._counters[kind])
