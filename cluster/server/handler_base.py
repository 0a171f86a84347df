"""What the parts of the client handler share: session of the connection, statuses, deadlines."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from cluster.auth.privileges import ADMINISTRATOR, Privilege
from cluster.config.settings import Settings
from cluster.coordinator.coordinator import Coordinator
from cluster.errors import OK, ClusterError, Status, StatusCode
from cluster.query.node_view import NodeView
from cluster.rpc.deadline import Deadline
from cluster.rpc.gen.client.ttypes import TSStatus
from cluster.rpc.server import current_connection
from cluster.rpc.status import Generation, to_wire
from cluster.schema.paths import join_path, split_path
from cluster.server.redirects import Redirects
from cluster.server.running_queries import RunningQueries
from cluster.server.sessions import Ids, Session, Sessions
from cluster.server.statement_executor import StatementExecutor

logger = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])

_DEFAULT_FETCH_ROWS = 10_000
_SUCCESS = int(StatusCode.SUCCESS)

_LAST_NEEDED = {
    "TSCreateAlignedTimeseriesReq": 6,
    "TSCreateMultiTimeseriesReq": 5,
    "TSCreateTimeseriesReq": 5,
    "TSDeleteDataReq": 3,
    "TSExecuteBatchStatementReq": 2,
    "TSExecuteStatementReq": 2,
    "TSInsertRecordReq": 5,
    "TSInsertRecordsOfOneDeviceReq": 5,
    "TSInsertRecordsReq": 5,
    "TSInsertStringRecordReq": 5,
    "TSInsertStringRecordsOfOneDeviceReq": 5,
    "TSInsertStringRecordsReq": 5,
    "TSInsertTabletReq": 7,
    "TSInsertTabletsReq": 7,
    "TSLastDataQueryReq": 2,
    "TSRawDataQueryReq": 2,
    "TSSetTimeZoneReq": 2,
}
"""Number of a request's last field that is no option (client-protocol 3.3 to 3.5)."""


class HandlerBase:
    """State and helpers; one object serves all connections."""

    def __init__(
        self,
        settings: Settings,
        coordinator: Coordinator,
        node: Callable[[RunningQueries], NodeView] | None = None,
    ) -> None:
        self.settings = settings
        self.coordinator = coordinator
        self.executor = StatementExecutor(settings, coordinator, node)
        self.ids = Ids()
        self.redirects = Redirects(coordinator)
        idle_ms = settings.node.session_timeout_threshold
        self.sessions = Sessions(idle_ms / 1000 if idle_ms else None)

    # ---- session of the calling connection ----

    def session_or_none(self) -> Session | None:
        """Return the session that is logged in on this connection, or None."""
        return self.sessions.of(current_connection())

    def client_gone(self) -> Callable[[], bool]:
        """Return what tells whether the client of this connection has left."""
        return current_connection().is_gone

    def session(self) -> Session:
        """Return the session; raises ClusterError 601 when nobody is logged in, 415 no more."""
        session = self.session_or_none()
        if session is None:
            self.sessions.check_not_expired(current_connection())
            raise ClusterError(
                StatusCode.NOT_LOGIN,
                "Log in failed. Either you are not authorized "
                "or the session has timed out: open a session first",
            )
        return session

    def writing_session(
        self, privilege: Privilege, paths: Sequence[str] | Callable[[], Sequence[str]]
    ) -> Session:
        """Return the session of a request that changes something.

        Args:
            privilege: what its user needs.
            paths: where, as clients write them; or what returns them, as root needs none.

        Raises:
            ClusterError: nobody is logged in, the user lacks the privilege on one of the paths, or
                changes are switched off.
        """
        session = self.session()
        self.executor.authorizer.check_writable()
        if session.user != ADMINISTRATOR:
            found = paths() if callable(paths) else paths
            plain = plain_paths(found)
            self.executor.authorizer.check(session.user, privilege, plain, self.write_deadline())
        return session

    def generation(self) -> Generation:
        """Return the generation of the session's client, as far as known."""
        session = self.session_or_none()
        if session is not None:
            return session.generation
        said = current_connection().state.get("generation")
        return said if isinstance(said, Generation) else Generation.UNKNOWN

    # ---- deadlines and sizes ----

    def write_deadline(self) -> Deadline:
        """Return the deadline of a write that begins now."""
        return Deadline.after(self.settings.node.write_operation_timeout_ms / 1000)

    def query_deadline(self, timeout_ms: int | None) -> Deadline:
        """Return the deadline of a query: the client's (> 0), none (0), or the default."""
        if timeout_ms is not None and timeout_ms > 0:
            return Deadline.after(timeout_ms / 1000)
        if timeout_ms == 0:
            return Deadline.after(365 * 86400.0)
        return Deadline.after(self.settings.node.query_timeout_threshold / 1000)

    @staticmethod
    def fetch_rows(fetch_size: int | None) -> int:
        """Return the page size for a request's fetchSize; unset or not positive: the default."""
        return fetch_size if fetch_size is not None and fetch_size > 0 else _DEFAULT_FETCH_ROWS

    # ---- statuses ----

    def wire(self, status: Status) -> TSStatus:
        """Render one status for the client's generation."""
        if status is OK:  # mostly, and it is the same for all
            return TSStatus(code=_SUCCESS)
        return to_wire(status.code, status.message, self.generation())

    def wire_error(self, error: Exception) -> TSStatus:
        """Render an exception: a ClusterError as itself, anything else as an internal error."""
        if isinstance(error, ClusterError):
            return to_wire(error.status, error.message, self.generation())
        logger.error("request failed", exc_info=error)
        return to_wire(
            StatusCode.INTERNAL_SERVER_ERROR,
            f"{type(error).__name__}: {error}",
            self.generation(),
        )

    def wire_all(self, statuses: Sequence[Status], *, single: bool = False) -> TSStatus:
        """Render statuses of several parts as one: 200, or a multiple error with all of them.

        Args:
            statuses: one for each part, in order.
            single: a lone status is rendered by itself.
        """
        if all(status.ok for status in statuses):
            return to_wire(StatusCode.SUCCESS, "", self.generation())
        if single and len(statuses) == 1:
            return self.wire(statuses[0])
        generation = self.generation()
        sub = [to_wire(status.code, status.message, generation) for status in statuses]
        texts = [f"{part.code}: {part.message}" for part in sub if part.code != _SUCCESS]
        return to_wire(StatusCode.MULTIPLE_ERROR, "; ".join(texts), generation, sub=sub)


def answers_status(method: F) -> F:
    """Make a handler method answer a TSStatus whatever it raises."""

    @functools.wraps(method)
    def guarded(self: HandlerBase, *arguments: Any) -> TSStatus:  # noqa: ANN401
        try:
            return method(self, *arguments)  # type: ignore[no-any-return]
        except Exception as error:  # noqa: BLE001 - the request border: every error gets a status
            return self.wire_error(explained(error, arguments))

    return cast("F", guarded)


def explained(error: Exception, arguments: Sequence[Any]) -> Exception:
    """Return what tells a client that it left something out, if that is what an error comes from.

    All fields are read as optional, so that a request without one gets a status and not the end of
    its connection. `arguments` are those of the method: a request, or session id and parameters.
    """
    if not isinstance(error, (TypeError, AttributeError)) or not arguments:
        return error
    request = arguments[0]
    name = type(request).__name__
    if name in _LAST_NEEDED:
        fields = (field for field in request.thrift_spec[2:] if field is not None)
        needed = [field[2] for field in fields if field[0] <= _LAST_NEEDED[name]]
        missing = [field for field in needed if getattr(request, field) is None]
    else:
        missing = [f"field {number}" for number, value in enumerate(arguments, 1) if value is None]
    if not missing:
        return error
    return ClusterError(
        StatusCode.ILLEGAL_PARAMETER, f"the request lacks what it can't be without: {missing}"
    )


def plain_paths(paths: Sequence[str]) -> list[str]:
    """Return paths without what is quoted needlessly."""
    return [join_path(split_path(path)) for path in paths]
