"""A thin wrapper of the Thrift calls: one connection, one login, wire types in and out.

The session announces itself as 0.13 (`version=V_0_13`), so status codes are those of 0.13 and
results come in the legacy layout. Calls of several threads are done one after another. After a
time-out or broken connection the session is closed: a late answer must never be taken for the
answer to a later call.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from thrift.protocol.TBinaryProtocol import TBinaryProtocolAccelerated
from thrift.protocol.TCompactProtocol import TCompactProtocolAccelerated
from thrift.Thrift import TException
from thrift.transport.TSocket import TSocket
from thrift.transport.TTransport import TFramedTransport, TTransportException

from cluster.rpc.gen.client import IClientRPCService
from cluster.rpc.gen.client.ttypes import (
    TSCloseOperationReq,
    TSCloseSessionReq,
    TSExecuteBatchStatementReq,
    TSExecuteStatementReq,
    TSFetchResultsReq,
    TSInsertTabletReq,
    TSOpenSessionReq,
    TSQueryDataSet,
    TSStatus,
)
from iotdb_client.conninfo import ConnInfo
from iotdb_client.errors import (
    MULTIPLE_ERROR,
    DataError,
    InterfaceError,
    OperationalError,
    error_of,
)
from iotdb_client.rows import Page, ResultShape, result_shape
from iotdb_client.tablet import encode_columns, encode_times
from iotdb_client.types import UNITS_PER_SECOND, DataType

_PROTOCOL_V3 = 2
_SUCCESS = frozenset({200, 707})
"""707: 0.13 executed the write and hints at a better node."""
_CONNECT_TIMEOUT_S = 10.0
_ANSWER_GRACE_S = 10.0
"""The socket waits that much longer than the server may take: its own time-out says more."""


class Answer(NamedTuple):
    """What an execute call brought.

    Attributes:
        query_id: for fetch and close.
        shape: of the result; None when the statement has no result set.
        page: the first page; None: no rows.
        more: False when the server said that no page follows.
    """

    query_id: int
    shape: ResultShape | None
    page: Page | None
    more: bool


class Session:
    """One login; thread-safe. `open` it first, `close` it at the end.

    Args:
        info: hosts are tried in order until one accepts the connection.
    """

    def __init__(self, info: ConnInfo) -> None:
        self.info = info
        self.timestamp_precision = "ms"
        self.host = ""
        self.port = 0
        self._lock = threading.Lock()
        self._transport: TFramedTransport | None = None
        self._client: Any = None
        self._session_id = -1

    @property
    def is_open(self) -> bool:
        """Whether the session is logged in, as far as known without asking."""
        return self._client is not None

    def open(self) -> None:
        """Connect and log in.

        Raises:
            OperationalError: no host answers, or the login is refused.
        """
        with self._lock:
            if self._client is not None:
                raise InterfaceError("the session is open already")
            self._connect()
        try:
            answer = self._call(
                "openSession",
                TSOpenSessionReq(
                    client_protocol=_PROTOCOL_V3,
                    zoneId=self.info.zone,
                    username=self.info.user,
                    password=self.info.password,
                    configuration={"version": "V_0_13"},
                ),
            )
            _check(answer.status)
        except BaseException:
            self._drop()
            raise
        self._session_id = answer.sessionId
        precision = (answer.configuration or {}).get("timestamp_precision", "ms")
        if precision not in UNITS_PER_SECOND:
            self._drop()
            raise InterfaceError(f"the server counts time in {precision!r}, unknown to this driver")
        self.timestamp_precision = precision

    def close(self) -> None:
        """Log out; closing a closed session does nothing."""
        if self._client is None:
            return
        try:
            # the server ends the session with the connection anyway
            with contextlib.suppress(OperationalError, InterfaceError):
                self._call("closeSession", TSCloseSessionReq(sessionId=self._session_id))
        finally:
            self._drop()

    # ---- statements ----

    def new_statement_id(self) -> int:
        """Return an id under which a cursor's queries are kept."""
        return int(self._call("requestStatementId", self._session_id))

    def execute(self, sql: str, *, statement_id: int, fetch_size: int) -> Answer:
        """Run any one statement; the first page of a result comes with the answer."""
        timeout_s = self.info.timeout_s
        _check_encodable(sql)
        answer = self._call(
            "executeStatement",
            TSExecuteStatementReq(
                sessionId=self._session_id,
                statement=sql,
                statementId=statement_id,
                fetchSize=fetch_size,
                timeout=0 if timeout_s is None else max(1, round(timeout_s * 1000)),
            ),
        )
        _check(answer.status)
        if answer.columns is None:
            return Answer(answer.queryId or 0, None, None, more=False)
        shape = result_shape(
            answer.columns,
            answer.dataTypeList or [],
            answer.columnNameIndexMap,
            ignore_time=bool(answer.ignoreTimeStamp),
        )
        page = _page(answer.queryDataSet)
        more = page is not None and answer.moreData is not False
        return Answer(answer.queryId or 0, shape, page, more)

    def fetch(self, sql: str, *, query_id: int, fetch_size: int) -> Page | None:
        """Return a query's next page, None at its end."""
        answer = self._call(
            "fetchResults",
            TSFetchResultsReq(
                sessionId=self._session_id,
                statement=sql,
                fetchSize=fetch_size,
                queryId=query_id,
                isAlign=True,
            ),
        )
        _check(answer.status)
        return _page(answer.queryDataSet) if answer.hasResultSet else None

    def close_query(self, *, query_id: int, statement_id: int) -> None:
        """Release a query that has not been read to its end."""
        status = self._call(
            "closeOperation",
            TSCloseOperationReq(
                sessionId=self._session_id, queryId=query_id, statementId=statement_id
            ),
        )
        _check(status)

    def execute_batch(self, statements: Sequence[str]) -> None:
        """Run non-queries in order, each on its own: one that fails does not undo the others.

        Raises:
            DatabaseError: of the first one that failed, naming its position.
        """
        _check_encodable(*statements)
        status = self._call(
            "executeBatchStatement",
            TSExecuteBatchStatementReq(sessionId=self._session_id, statements=list(statements)),
        )
        if status.code == MULTIPLE_ERROR and status.subStatus:
            failed = [
                (number, sub)
                for number, sub in enumerate(status.subStatus, start=1)
                if sub.code not in _SUCCESS
            ]
            number, sub = failed[0]
            error = error_of(sub.code, sub.message or "")
            raise type(error)(
                f"{len(failed)} of {len(statements)} statements failed; "
                f"the first is statement {number}: {error}",
                status=sub.code,
                definite=len(failed) == len(statements) and error.definite,
            )
        _check(status)

    # ---- writes without SQL ----

    def insert_tablet(
        self,
        device: str,
        measurements: Sequence[str],
        types: Sequence[DataType],
        times: Sequence[int],
        columns: Sequence[Sequence[Any]],
        *,
        aligned: bool = False,
    ) -> None:
        """Write rows of one device, column by column.

        Args:
            device: full path.
            measurements: names below the device.
            types: of the measurements.
            times: int[rows] in the server's precision unit.
            columns: one for each measurement, each of `rows` values, None for null; sequences or
                NumPy arrays.
            aligned: whether the device is aligned.

        Raises:
            DataError: a value does not fit its type, lengths differ; nothing was sent.
            DatabaseError: the server refused.
        """
        if not len(measurements) == len(types) == len(columns):
            raise DataError("measurements, types and columns differ in length")
        status = self._call(
            "insertTablet",
            TSInsertTabletReq(
                sessionId=self._session_id,
                prefixPath=device,
                measurements=list(measurements),
                values=encode_columns(measurements, types, columns, len(times)),
                timestamps=encode_times(times),
                types=[int(kind) for kind in types],
                size=len(times),
                isAligned=aligned,
            ),
        )
        _check(status)

    # ---- transport ----

    def _connect(self) -> None:
        problems = []
        for host, port in self.info.hosts:
            try:
                handle = socket.create_connection((host, port), timeout=self._connect_timeout())
            except OSError as error:
                problems.append(f"{host}:{port}: {error.strerror or error}")
                continue
            handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wait = self.info.timeout_s
            handle.settimeout(None if wait is None else wait + _ANSWER_GRACE_S)
            carrier = TSocket(host, port)
            carrier.setHandle(handle)
            self._transport = TFramedTransport(carrier)
            protocol = (
                TCompactProtocolAccelerated
                if self.info.rpc_compress
                else TBinaryProtocolAccelerated
            )
            self._client = IClientRPCService.Client(protocol(self._transport))
            self.host, self.port = host, port
            return
        raise OperationalError(f"no connection to {', '.join(problems)}")

    def _connect_timeout(self) -> float:
        wait = self.info.timeout_s
        return _CONNECT_TIMEOUT_S if wait is None else min(_CONNECT_TIMEOUT_S, wait)

    def _call(self, method: str, *arguments: Any) -> Any:  # noqa: ANN401 - generated structs
        with self._lock:
            if self._client is None:
                raise InterfaceError("the connection is closed")
            call: Callable[..., Any] = getattr(self._client, method)
            try:
                return call(*arguments)
            except (TException, OSError, EOFError) as error:
                self._drop_locked()
                raise OperationalError(
                    f"connection to {self.host}:{self.port} lost: {_reason(error)}", definite=False
                ) from error
            except BaseException:
                # e.g. Ctrl-C while waiting: the answer is still to come, on this connection
                self._drop_locked()
                raise

    def _drop(self) -> None:
        with self._lock:
            self._drop_locked()

    def _drop_locked(self) -> None:
        if self._transport is not None:
            self._transport.close()
        self._transport = None
        self._client = None


def _reason(error: Exception) -> str:
    if isinstance(error, TTransportException):
        if error.type == TTransportException.TIMED_OUT:
            return "no answer in time"
        if error.type == TTransportException.END_OF_FILE:
            return "the server closed it"
        if error.inner is not None:
            return str(error.inner)
    return str(error) or type(error).__name__


def _check_encodable(*texts: str) -> None:
    # found before the call, since a half-written frame would cost the connection
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"the statement is not valid Unicode: {error}") from error


def _check(status: TSStatus) -> None:
    if status.code not in _SUCCESS:
        raise error_of(status.code, status.message or "")


def _page(dataset: TSQueryDataSet | None) -> Page | None:
    if dataset is None or not dataset.time:
        return None
    return Page(dataset.time, dataset.valueList, dataset.bitmapList)
