"""Methods of the client protocol about the node, and those that are refused with a status.

What a client of some release may call and this server does not do is answered with a status that
says so. Only what is between servers (`handshake`, `pipeTransfer`, `pipeSubscribe`) is not in the
IDL, and unknown.
"""

from __future__ import annotations

import json
from typing import Any

from cluster.auth.privileges import ADMINISTRATOR
from cluster.config.render import properties_text
from cluster.config.settings import declared_keys
from cluster.errors import OK, ClusterError, StatusCode
from cluster.rpc.gen.client.ttypes import (
    TSBackupConfigurationResp,
    TSConnectionInfo,
    TSConnectionInfoResp,
    TSConnectionType,
    TSDeallocatePreparedReq,
    TSExecutePreparedReq,
    TSExecuteStatementResp,
    TSFetchMetadataReq,
    TSFetchMetadataResp,
    TSGetSystemStatusResp,
    TShowConfigurationResp,
    TShowConfigurationTemplateResp,
    TSOperationSyncWriteReq,
    TSPrepareReq,
    TSPrepareResp,
    TSStatus,
    TSyncTransportMetaInfo,
)
from cluster.schema.paths import join_path, split_path
from cluster.server.handler_base import HandlerBase, answers_status
from cluster.server.sessions import Session
from cluster.sql.statements.show import ShowTimeseries

_MAX_METADATA_SERIES = 100_000
_PATH, _STORAGE_GROUP, _TYPE, _ENCODING = 0, 2, 3, 4


class NodeMethods(HandlerBase):
    """Status, connections, configuration, metadata as JDBC asks for it; refusals."""

    def getSystemStatus(self, sessionId: int) -> TSGetSystemStatusResp:  # noqa: N802, N803
        """Say whether the system is read-only."""
        try:
            self.session()
            read_only = self.coordinator.meta_state.read_only
            return TSGetSystemStatusResp(
                status=self.wire(OK), systemStatus="READ_ONLY" if read_only else "NORMAL"
            )
        except ClusterError as error:
            return TSGetSystemStatusResp(status=self.wire_error(error), systemStatus="ERROR")

    def getBackupConfiguration(self) -> TSBackupConfigurationResp:  # noqa: N802
        """Say that there is no second system to be written to; needs no login, as in 0.13."""
        return TSBackupConfigurationResp(status=self.wire(OK), enableOperationSync=False)

    @answers_status
    def testConnectionEmptyRPC(self) -> TSStatus:  # noqa: N802
        """Answer; needs no login."""
        return self.wire(OK)

    def fetchAllConnectionsInfo(self) -> TSConnectionInfoResp:  # noqa: N802
        """Return the sessions of this node: all for the administrator, else those of the user.

        The answer has no place for a status: nobody logged in sees nothing.
        """
        session = self.session_or_none()
        seen = [
            TSConnectionInfo(
                userName=other.user,
                logInTime=other.login_ms,
                connectionId=f"{other.peer[0]}:{other.peer[1]}",
                type=TSConnectionType.THRIFT_BASED,
            )
            for other in self.sessions.all()
            if session is not None and session.user in (ADMINISTRATOR, other.user)
        ]
        return TSConnectionInfoResp(connectionInfoList=seen)

    def showConfiguration(self, nodeId: int) -> TShowConfigurationResp:  # noqa: N802, N803
        """Return this node's settings as lines of a properties file; for the administrator.

        Other nodes are asked themselves: the id is not looked at.
        """
        try:
            self._check_administrator()
            both = (self.settings.cluster, self.settings.node)
            lines = [
                f"{key}={_as_text(next(getattr(part, key) for part in both if hasattr(part, key)))}"
                for key in declared_keys()
            ]
            return TShowConfigurationResp(status=self.wire(OK), content="\n".join(lines) + "\n")
        except ClusterError as error:
            return TShowConfigurationResp(status=self.wire_error(error), content="")

    def showConfigurationTemplate(self) -> TShowConfigurationTemplateResp:  # noqa: N802
        """Return the properties file with every key and its default; needs a login."""
        try:
            self.session()
            return TShowConfigurationTemplateResp(status=self.wire(OK), content=properties_text())
        except ClusterError as error:
            return TShowConfigurationTemplateResp(status=self.wire_error(error), content="")

    def fetchMetadata(self, req: TSFetchMetadataReq) -> TSFetchMetadataResp:  # noqa: N802
        """Return the schema as JSON, the paths below a node, or a series' data type."""
        try:
            response = self._metadata(req, self.session())
            response.status = self.wire(OK)
            return response
        except Exception as error:  # noqa: BLE001 - the request border: every error gets a status
            return TSFetchMetadataResp(status=self.wire_error(error))

    # ---- what is not done here ----

    def prepareStatement(self, req: TSPrepareReq) -> TSPrepareResp:  # noqa: N802
        """Refuse."""
        return TSPrepareResp(status=self._refused("prepared statements"))

    def executePreparedStatement(self, req: TSExecutePreparedReq) -> TSExecuteStatementResp:  # noqa: N802
        """Refuse."""
        return TSExecuteStatementResp(
            status=self._refused("prepared statements"), queryId=self.ids.next("query")
        )

    def deallocatePreparedStatement(self, req: TSDeallocatePreparedReq) -> TSStatus:  # noqa: N802
        """Refuse."""
        return self._refused("prepared statements")

    def executeOperationSync(self, req: TSOperationSyncWriteReq) -> TSStatus:  # noqa: N802
        """Refuse."""
        return self._refused("writes that another system mirrors (operation sync)")

    def sendPipeData(self, buff: bytes) -> TSStatus:  # noqa: N802
        """Refuse."""
        return self._refused("data of pipes")

    def sendFile(self, metaInfo: TSyncTransportMetaInfo, buff: bytes) -> TSStatus:  # noqa: N802, N803
        """Refuse."""
        return self._refused("files of pipes")

    # ---- inside ----

    def _refused(self, what: str) -> TSStatus:
        try:
            self.session()
        except ClusterError as error:
            return self.wire_error(error)
        return self.wire_error(
            ClusterError(StatusCode.UNSUPPORTED_OPERATION, f"{what} are not supported here")
        )

    def _check_administrator(self) -> None:
        if self.session().user != ADMINISTRATOR:
            raise ClusterError(
                StatusCode.NO_PERMISSION, f"only {ADMINISTRATOR} may see the settings of a node"
            )

    def _metadata(self, req: TSFetchMetadataReq, session: Session) -> TSFetchMetadataResp:
        match req.type:
            case "METADATA_IN_JSON":
                text = json.dumps(_tree(self._series("root.**", session)), ensure_ascii=False)
                return TSFetchMetadataResp(metadataInJson=text)
            case "COLUMN":
                rows = self._series(req.columnPath or "", session)
                if not rows:
                    raise ClusterError(
                        StatusCode.TIMESERIES_NOT_EXIST, f"Path [{req.columnPath}] does not exist"
                    )
                return TSFetchMetadataResp(dataType=rows[0][_TYPE])
            case "ALL_COLUMNS":
                rows = self._series(req.columnPath or "root.**", session)
                return TSFetchMetadataResp(columnsList=[row[_PATH] for row in rows])
            case _:
                raise ClusterError(
                    StatusCode.METADATA_ERROR,
                    f"unknown kind of metadata {req.type!r}: "
                    "METADATA_IN_JSON, COLUMN or ALL_COLUMNS",
                )

    def _series(self, pattern: str, session: Session) -> list[list[str]]:
        """Return the rows of SHOW TIMESERIES for a pattern, as far as the user may see them."""
        path = join_path(split_path(pattern))
        statement = ShowTimeseries(path, limit=_MAX_METADATA_SERIES + 1)
        result = self.executor.query(statement, session, self.query_deadline(None))
        rows: list[list[str]] = []
        try:
            for batch in result.batches:
                columns = [_texts(column) for column in batch.columns]
                rows.extend(list(row) for row in zip(*columns, strict=True))
        finally:
            result.close()
        if len(rows) > _MAX_METADATA_SERIES:
            raise ClusterError(
                StatusCode.METADATA_ERROR,
                f"more than {_MAX_METADATA_SERIES} series match {pattern}: ask for fewer at a time",
            )
        return rows


def _texts(column: Any) -> list[str]:  # noqa: ANN401 - a column of TEXT
    valid = column.valid
    return [
        value.decode() if valid is None or valid[number] else ""
        for number, value in enumerate(column.values)
    ]


def _tree(rows: list[list[str]]) -> dict[str, Any]:
    """Return nested nodes, with what describes a series at its leaf."""
    root: dict[str, Any] = {}
    for row in rows:
        at = root
        *inner, name = split_path(row[_PATH])
        for node in inner:
            at = at.setdefault(node, {})
        at[name] = {
            "DataType": row[_TYPE],
            "Encoding": row[_ENCODING],
            "StorageGroup": row[_STORAGE_GROUP],
        }
    return root


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value)
