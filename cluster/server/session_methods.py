"""Session methods of the client protocol (client-protocol 4)."""

from __future__ import annotations

import time
from collections.abc import Callable

from cluster.auth.login_throttle import LoginThrottle
from cluster.auth.users import PasswordVerifier
from cluster.config.settings import Settings
from cluster.coordinator.coordinator import Coordinator
from cluster.errors import OK, ClusterError, Status, StatusCode
from cluster.query.node_view import NodeView
from cluster.rpc.columnar import LAYOUT, LAYOUT_KEY, PAGES, PAGES_KEY
from cluster.rpc.deadline import Deadline
from cluster.rpc.gen.client.ttypes import (
    ServerProperties,
    TSCloseSessionReq,
    TSGetTimeZoneResp,
    TSOpenSessionReq,
    TSOpenSessionResp,
    TSSetTimeZoneReq,
    TSStatus,
)
from cluster.rpc.server import current_connection
from cluster.rpc.status import Generation, to_wire
from cluster.server.handler_base import HandlerBase, answers_status
from cluster.server.running_queries import RunningQueries
from cluster.server.sessions import Session
from cluster.server.statement_executor import VERSION
from cluster.sql.timestamps import parse_zone

_PROTOCOL_V3 = 2
_LOGIN_SYNC_S = 5.0

_GENERATIONS = {"V_0_12": Generation.V0_12, "V_0_13": Generation.V0_13}


class SessionMethods(HandlerBase):
    """openSession to closeSession, time zone, properties.

    Args:
        trusts_callers: passwords are not looked at. For callers in the same process, who could read
            the files as well.
    """

    def __init__(
        self,
        settings: Settings,
        coordinator: Coordinator,
        node: Callable[[RunningQueries], NodeView] | None = None,
        *,
        trusts_callers: bool = False,
    ) -> None:
        super().__init__(settings, coordinator, node)
        self._trusts_callers = trusts_callers
        self._verifier = PasswordVerifier()
        self._throttle = LoginThrottle(time.monotonic)

    def openSession(self, req: TSOpenSessionReq) -> TSOpenSessionResp:  # noqa: N802
        """Log in; a refused login leaves the connection open and unauthenticated."""
        configuration = req.configuration or {}
        granted = {"timestamp_precision": self.settings.cluster.timestamp_precision}
        generation = _generation(configuration)
        session_id = -1
        connection = current_connection()
        self.sessions.end(connection)
        connection.state["generation"] = generation  # also for who is refused, or logs out
        try:
            status = self._log_in(req, configuration)
            if status.ok:
                zone = req.zoneId or "Z"
                parse_zone(zone)
                session_id = self.ids.next("session")
                session = Session(
                    session_id,
                    req.username or "",
                    zone,
                    generation,
                    follows_batch_hints=configuration.get("version") == "V_1_0",
                    columnar=configuration.get(LAYOUT_KEY) == LAYOUT,
                    joins_pages=configuration.get(PAGES_KEY) == PAGES,
                    login_ms=time.time_ns() // 1_000_000,
                    peer=connection.peer,
                )
                self.sessions.begin(connection, session)
                if session.columnar:
                    granted[LAYOUT_KEY] = LAYOUT
            wire = to_wire(status.code, status.message or "Login successfully", generation)
        except ClusterError as error:
            wire = to_wire(error.status, error.message, generation)
        except ValueError as error:
            wire = to_wire(StatusCode.SET_TIME_ZONE_ERROR, str(error), generation)
        return TSOpenSessionResp(
            status=wire,
            serverProtocolVersion=_PROTOCOL_V3,
            sessionId=session_id,
            configuration=granted,
        )

    def _log_in(self, req: TSOpenSessionReq, configuration: dict[str, str]) -> Status:
        if configuration.get("sql_dialect", "tree").lower() == "table":
            return Status(
                StatusCode.UNSUPPORTED_DIALECT,
                "the table model is not served here; open the session with sql_dialect=tree",
            )
        user = req.username or ""
        host = current_connection().peer[0]
        wait_s = self._throttle.wait_s(host, user)
        if wait_s is None:
            return Status(
                StatusCode.WRONG_LOGIN_PASSWORD,
                "Authentication failed. There were too many wrong passwords; wait some seconds.",
            )
        if wait_s:
            time.sleep(wait_s)  # the connection's own thread; nobody else waits for it
        stored = self.coordinator.meta_state.password_hash(user)
        if stored is None:
            # created through another node a moment ago?
            self.coordinator.sync_meta(Deadline.after(_LOGIN_SYNC_S))
            stored = self.coordinator.meta_state.password_hash(user)
        if stored is None or not self._fits(user, stored, req.password or ""):
            self._throttle.wrong(host, user)
            return Status(StatusCode.WRONG_LOGIN_PASSWORD, "Authentication failed.")
        self._throttle.right(host, user)
        if req.client_protocol is not None and req.client_protocol != _PROTOCOL_V3:
            return Status(
                StatusCode.INCOMPATIBLE_VERSION,
                f"client protocol version {req.client_protocol} is not supported, only V3",
            )
        return OK

    def _fits(self, user: str, stored: str, password: str) -> bool:
        return self._trusts_callers or self._verifier.verify(user, stored, password)

    @answers_status
    def closeSession(self, req: TSCloseSessionReq) -> TSStatus:  # noqa: N802
        """Log out and release everything; the connection may log in again."""
        self.session()
        status = self.wire(OK)
        self.sessions.end(current_connection())
        return status

    def requestStatementId(self, sessionId: int) -> int:  # noqa: N802, N803
        """Return a new statement id; carries no status, so it answers even without a login."""
        return self.ids.next("statement")

    def getTimeZone(self, sessionId: int) -> TSGetTimeZoneResp:  # noqa: N802, N803
        """Return the session's zone as it was set."""
        try:
            return TSGetTimeZoneResp(status=self.wire(OK), timeZone=self.session().zone)
        except ClusterError as error:
            return TSGetTimeZoneResp(status=self.wire_error(error), timeZone="Unknown time zone")

    @answers_status
    def setTimeZone(self, req: TSSetTimeZoneReq) -> TSStatus:  # noqa: N802
        """Set the session's zone: affects date literals and calendar windows."""
        session = self.session()
        try:
            parse_zone(req.timeZone)
        except (ValueError, ClusterError) as error:
            raise ClusterError(StatusCode.SET_TIME_ZONE_ERROR, str(error)) from error
        session.zone = req.timeZone
        return self.wire(OK)

    def getProperties(self) -> ServerProperties:  # noqa: N802
        """Return what clients ask of the server; needs no login."""
        node = self.settings.node
        read_only = self.coordinator.meta_state.read_only
        return ServerProperties(
            version=VERSION,
            supportedTimeAggregationOperations=["max_time", "min_time"],
            timestampPrecision=self.settings.cluster.timestamp_precision,
            maxConcurrentClientNum=node.rpc_max_concurrent_client_num,
            thriftMaxFrameSize=node.thrift_max_frame_size,
            isReadOnly=read_only,
            thriftMaxFrameSizeV013=node.thrift_max_frame_size,
            isReadOnlyV013=read_only,
        )


def _generation(configuration: dict[str, str]) -> Generation:
    version = configuration.get("version")
    if version is None:
        return Generation.V1 if "sql_dialect" in configuration else Generation.UNKNOWN
    return _GENERATIONS.get(version, Generation.V1)
