"""One login: calls with wire types in and out, on whichever host serves, or in this process.

The session announces itself as 0.13 (`version=V_0_13`), so status codes are those of 0.13. Results
come as blocks (`iotdb_client.blocks`) from servers that know those, in 0.13's layout from others.
Calls of several threads are done one after another.

When a connection is lost the session logs in again, at the next of its hosts. What was under way
is sent again only where that is safe: it has not reached a server, a server refused it for certain
(`Error.definite`) because it has no leader or is stopping, or to do it twice is the same as to do
it once (queries, and points whose times are given). Everything else is reported, `definite=False`.
A late answer is never taken for the answer to a later call: the connection it would come on is
gone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.rpc.gen.client.ttypes import (
    TSCancelOperationReq,
    TSCloseOperationReq,
    TSCloseSessionReq,
    TSExecuteBatchStatementReq,
    TSExecuteStatementReq,
    TSFetchResultsReq,
    TSInsertTabletReq,
    TSOpenSessionReq,
    TSSetTimeZoneReq,
    TSStatus,
)
from iotdb_client.answers import Answer, Fetched, QueryHandle, fetched, unaligned
from iotdb_client.blocks import LAYOUT, LAYOUT_KEY, PAGES, PAGES_KEY
from iotdb_client.columns import UnalignedPage
from iotdb_client.conninfo import ConnInfo
from iotdb_client.embedded import EmbeddedTransport
from iotdb_client.errors import (
    MULTIPLE_ERROR,
    DatabaseError,
    DataError,
    Error,
    InterfaceError,
    OperationalError,
    error_of,
)
from iotdb_client.rows import result_shape
from iotdb_client.tablet import check_types, encode_columns, encode_times, series_of
from iotdb_client.transport import Lost, Transport, WireTransport
from iotdb_client.types import UNITS_PER_SECOND, DataType

_PROTOCOL_V3 = 2
_SUCCESS = frozenset({200, 707})
"""707: 0.13 executed the write and hints at a better node."""
_ELSEWHERE = frozenset({700, 702, 706})
"""Refused for certain, and another node (or this one, a little later) may do it."""
_MAY_COME_TRUE = frozenset({500, 701})
"""Outcome unknown: to be sent again only if that does no harm."""
_PAUSES_S = (0.05, 0.1, 0.2, 0.4, 0.8)
_CANCEL_ALL = -1
_REFUSED = os.strerror(errno.ECONNREFUSED)


class Session:
    """One login; thread-safe. `open` it first, `close` it at the end.

    Args:
        info: hosts are tried in order until one accepts the connection.
        beside: for a database in memory: be another session of that one's.
    """

    def __init__(self, info: ConnInfo, beside: Session | None = None) -> None:
        self.info = info
        self.timestamp_precision = "ms"
        self.host = ""
        self.port = 0
        self.logins = 0
        self._beside = beside
        self._lock = threading.Lock()
        self._open = False
        self._pid = os.getpid()
        self._next_host = 0
        self._transport: Transport | None = None
        self._session_id = -1
        self._statement_id = 0

    @property
    def is_open(self) -> bool:
        """Whether it was opened and not closed. A connection that was lost is made again."""
        return self._open and not self._is_of_parent

    @property
    def _is_of_parent(self) -> bool:
        """Whether this process was forked since: two can't talk on one connection."""
        return self._pid != os.getpid()

    def check_open(self) -> None:
        """Raise InterfaceError where `is_open` is False, saying why."""
        if self._is_of_parent:
            raise InterfaceError(
                "the connection was made before this process was forked, and is its parent's: "
                "make one of its own here"
            )
        if not self._open:
            raise InterfaceError("the connection is closed")

    def open(self) -> None:
        """Connect and log in.

        Raises:
            OperationalError: no host answers, or the login is refused.
        """
        with self._lock:
            if self._open:
                raise InterfaceError("the session is open already")
            self._pid = os.getpid()
            self._log_in_somewhere_locked()
            self._open = True

    def close(self) -> None:
        """Log out; closing a closed session, or one of the parent process, does nothing."""
        if self._is_of_parent:
            return  # its lock may be held by a thread that is not here
        with self._lock:
            transport, self._transport = self._transport, None
            was_open, self._open = self._open, False
        if transport is None or not was_open:
            return
        try:
            # the server ends the session with the connection anyway
            with contextlib.suppress(Lost, Error):
                transport.call("closeSession", TSCloseSessionReq(sessionId=self._session_id))
        finally:
            transport.close()

    # ---- statements ----

    def execute(
        self, sql: str, *, fetch_size: int, repeatable: bool, failover: bool = True
    ) -> Answer:
        """Run any one statement; the first page of a result comes with the answer.

        Args:
            sql: the statement.
            fetch_size: rows of a page.
            repeatable: to run it twice is the same as to run it once.
            failover: False: fail when the connection is lost, whatever the statement is.
        """
        timeout_s = self.info.timeout_s
        _check_encodable(sql)
        answer, login = self._call(
            "executeStatement",
            lambda: TSExecuteStatementReq(
                sessionId=self._session_id,
                statement=sql,
                statementId=self._statement_id,
                fetchSize=fetch_size,
                timeout=0 if timeout_s is None else max(1, round(timeout_s * 1000)),
            ),
            status=lambda answer: answer.status,
            repeatable=repeatable,
            failover=failover,
        )
        query = QueryHandle(answer.queryId or 0, login)
        if answer.columns is None:
            return Answer(query, None, None, more=False)
        shape = result_shape(
            answer.columns,
            answer.dataTypeList or [],
            answer.columnNameIndexMap,
            ignore_time=bool(answer.ignoreTimeStamp),
        )
        if answer.nonAlignQueryDataSet is not None:
            page = unaligned(answer.nonAlignQueryDataSet)
            return Answer(query, shape, None, more=True, unaligned=page)
        return Answer(query, shape, *fetched(answer))

    def fetch(self, sql: str, query: QueryHandle, *, fetch_size: int) -> Fetched:
        """Return a query's next page.

        Raises:
            OperationalError: the connection was lost, and the rest of the result with it.
        """
        answer = self._fetch(sql, query, fetch_size, align=True)
        return fetched(answer) if answer.hasResultSet else Fetched(None, more=False)

    def fetch_unaligned(
        self, sql: str, query: QueryHandle, *, fetch_size: int
    ) -> UnalignedPage | None:
        """Return the next page of a result that is not aligned, None at its end."""
        answer = self._fetch(sql, query, fetch_size, align=False)
        if not answer.hasResultSet or answer.nonAlignQueryDataSet is None:
            return None
        return unaligned(answer.nonAlignQueryDataSet)

    def _fetch(self, sql: str, query: QueryHandle, fetch_size: int, *, align: bool) -> Any:  # noqa: ANN401
        answer, _ = self._call(
            "fetchResults",
            lambda: TSFetchResultsReq(
                sessionId=self._session_id,
                statement=sql,
                fetchSize=fetch_size,
                queryId=query.query_id,
                isAlign=align,
            ),
            status=lambda answer: answer.status,
            login=query.login,
        )
        return answer

    def close_query(self, query: QueryHandle) -> None:
        """Release a query that has not been read to its end."""
        if query.login != self.logins:
            return  # the server has released it with the connection
        self._call(
            "closeOperation",
            lambda: TSCloseOperationReq(
                sessionId=self._session_id,
                queryId=query.query_id,
                statementId=self._statement_id,
            ),
            login=query.login,
        )

    def cancel(self) -> None:
        """End what this session is running at its server, from another thread; may be too late.

        Asks through a connection of its own, since this one waits for the answer.
        """
        transport, session_id = self._transport, self._session_id
        if transport is None or self._is_of_parent:
            return
        helper = Session(self.info, beside=self)
        try:
            with helper._lock:
                helper._attach_locked(self._another_transport(transport))
            assert helper._transport is not None
            status = helper._transport.call(
                "cancelOperation", TSCancelOperationReq(sessionId=session_id, queryId=_CANCEL_ALL)
            )
            _check(status)
        except Lost as error:
            raise OperationalError(f"not cancelled: {error}") from error
        finally:
            helper._open = True
            helper.close()

    def set_time_zone(self, zone: str) -> None:
        """Change the zone of date literals, for this login and those that may follow it."""
        self._call(
            "setTimeZone",
            lambda: TSSetTimeZoneReq(sessionId=self._session_id, timeZone=zone),
            repeatable=True,
        )
        self.info = dataclasses.replace(self.info, zone=zone)

    def abandon(self) -> None:
        """Give the connection up from another thread, though an answer is awaited on it."""
        transport = self._transport
        if transport is not None:
            transport.close()

    def execute_batch(
        self, statements: Sequence[str], *, repeatable: bool = False, first: int = 1
    ) -> None:
        """Run non-queries in order, each on its own: one that fails does not undo the others.

        `first` is the number of the first one, for messages.

        Raises:
            DatabaseError: of the first one that failed, naming its position.
        """
        _check_encodable(*statements)
        self._call(
            "executeBatchStatement",
            lambda: TSExecuteBatchStatementReq(
                sessionId=self._session_id, statements=list(statements)
            ),
            repeatable=repeatable,
            failed=lambda status: _batch_error(status, len(statements), first),
        )

    # ---- writes without SQL ----

    def insert_tablet(
        self,
        device: str,
        measurements: Sequence[str],
        types: Sequence[DataType],
        times: Sequence[int] | npt.NDArray[np.int64],
        columns: Sequence[Any],
        *,
        aligned: bool = False,
        masks: Sequence[npt.NDArray[np.bool_] | None] | None = None,
    ) -> None:
        """Write rows of one device, column by column.

        Points are told by their times, so a tablet whose answer was lost is sent again.

        Args:
            device: full path.
            measurements: names below the device.
            types: of the measurements.
            times: int[rows] in the server's precision unit.
            columns: one for each measurement, each of `rows` values, None for null; sequences,
                or arrays of NumPy, pandas, Arrow and polars. A finite number that is too large for
                FLOAT or DOUBLE does not fit; infinities do.
            aligned: whether the device is aligned.
            masks: where nulls are, if columns don't say; see `iotdb_client.tablet`.

        Raises:
            DataError: a value does not fit its type, lengths differ; nothing was sent.
            DatabaseError: the server refused.
        """
        if not len(measurements) == len(types) == len(columns):
            raise DataError("measurements, types and columns differ in length")
        check_types(measurements, types)
        with series_of(device):
            values = encode_columns(measurements, types, columns, len(times), masks)
        stamps = encode_times(times)
        self._call(
            "insertTablet",
            lambda: TSInsertTabletReq(
                sessionId=self._session_id,
                prefixPath=device,
                measurements=list(measurements),
                values=values,
                timestamps=stamps,
                types=[int(kind) for kind in types],
                size=len(times),
                isAligned=aligned,
            ),
            repeatable=True,
        )

    # ---- calls ----

    def _call(
        self,
        method: str,
        request: Callable[[], Any],
        *,
        status: Callable[[Any], TSStatus] = lambda answer: answer,
        failed: Callable[[TSStatus], DatabaseError] | None = None,
        repeatable: bool = False,
        failover: bool = True,
        login: int | None = None,
    ) -> tuple[Any, int]:
        """Call a method, on the next host when this one is lost; return answer and login number.

        Args:
            method: of the client service.
            request: makes the argument, for the login at hand.
            status: of an answer.
            failed: makes the error of a status that is no success.
            repeatable: may be sent again though it may have been carried out.
            failover: False: no second try.
            login: only as a part of this login, which holds what the request is about.
        """
        failed = failed or (lambda found: error_of(found.code, found.message or ""))
        end = time.monotonic() + self.info.retry_s
        is_unknown = False
        self.check_open()  # before its lock, which in a forked process may be held for ever
        with self._lock:
            for number, pause_s in enumerate(_pauses()):
                self.check_open()
                try:
                    return self._try_locked(method, request, status, failed, login)
                except _TryAgain as again:
                    is_unknown |= again.unknown
                    if (
                        (again.unknown and not repeatable)
                        or not failover
                        or login is not None
                        or not self._may_go_on(again, number, end)
                    ):
                        again.error.definite &= not is_unknown
                        raise again.error from again.error.__cause__
                    if again.pause:
                        time.sleep(min(pause_s, max(0.0, end - time.monotonic())))
                except Error as error:
                    # a refusal says nothing of an earlier try
                    error.definite &= not is_unknown
                    raise
        raise AssertionError("unreachable")

    def _may_go_on(self, again: _TryAgain, tries: int, end: float) -> bool:
        """Several hosts are tried until the time is up; a single one once more, if it was lost."""
        if len(self.info.hosts) > 1:
            return time.monotonic() < end
        return again.lost_login and tries == 0

    def _try_locked(
        self,
        method: str,
        request: Callable[[], Any],
        status: Callable[[Any], TSStatus],
        failed: Callable[[TSStatus], DatabaseError],
        login: int | None,
    ) -> tuple[Any, int]:
        if self._transport is None:
            if login is not None:
                raise _lost_result()
            try:
                self._log_in_somewhere_locked()
            except OperationalError as error:
                raise _TryAgain(error, pause=True) from error
        if login is not None and login != self.logins:
            raise _lost_result()
        transport = self._transport
        assert transport is not None
        try:
            answer = transport.call(method, request())
        except Lost as error:
            self._drop_locked()
            raise _TryAgain(
                OperationalError(
                    f"connection to {transport.where} lost: {error}", definite=not error.sent
                ),
                unknown=error.sent,
                lost_login=True,
            ) from error
        except BaseException:
            self._drop_locked()
            raise
        found = status(answer)
        if found.code not in _SUCCESS:
            problem = failed(found)
            if found.code in _ELSEWHERE or (
                found.code in _MAY_COME_TRUE and len(self.info.hosts) > 1
            ):
                self._drop_locked()
                raise _TryAgain(problem, unknown=found.code in _MAY_COME_TRUE, pause=True)
            raise problem
        return answer, self.logins

    # ---- logging in ----

    def _log_in_somewhere_locked(self) -> None:
        """Log in at the first host, from the next one on, that can be reached."""
        if self.info.folder is not None:
            beside = self._beside._transport if self._beside is not None else None
            share = beside if isinstance(beside, EmbeddedTransport) else None
            self._attach_locked(EmbeddedTransport(self.info.folder, {}, share))
            return
        problems: list[str] = []
        for _ in self.info.hosts:
            host, port = self.info.hosts[self._next_host % len(self.info.hosts)]
            try:
                self._attach_locked(WireTransport(host, port, self.info))
            except Lost as error:
                problems.append(str(error))
                self._next_host += 1
                continue
            self.host, self.port = host, port
            return
        hint = ""
        if all(problem.endswith(_REFUSED) for problem in problems):
            hint = ". Is a node running there? sbin/start-node.sh starts one"
        raise OperationalError(f"no connection to {', '.join(problems)}{hint}")

    def _another_transport(self, transport: Transport) -> Transport:
        """Return a second way to where `transport` leads."""
        if isinstance(transport, EmbeddedTransport):
            return EmbeddedTransport(transport.where, {}, share=transport)
        try:
            return WireTransport(self.host, self.port, self.info)
        except Lost as error:
            raise OperationalError(f"no connection to {error}") from error

    def _attach_locked(self, transport: Transport) -> None:
        """Log in on a transport and go on with it.

        Raises:
            Lost: it broke, `sent` False: nothing was asked but to be let in.
            OperationalError: the login was refused.
        """
        try:
            answer = transport.call(
                "openSession",
                TSOpenSessionReq(
                    client_protocol=_PROTOCOL_V3,
                    zoneId=self.info.zone,
                    username=self.info.user,
                    password=self.info.password,
                    configuration={"version": "V_0_13", LAYOUT_KEY: LAYOUT, PAGES_KEY: PAGES},
                ),
            )
            _check(answer.status)
            statement_id = transport.call("requestStatementId", answer.sessionId)
        except Lost as error:
            transport.close()
            raise Lost(f"{transport.where}: {error}", sent=False) from error
        except BaseException:
            transport.close()
            raise
        precision = (answer.configuration or {}).get("timestamp_precision", "ms")
        if precision not in UNITS_PER_SECOND:
            transport.close()
            raise InterfaceError(f"the server counts time in {precision!r}, unknown to this driver")
        self.timestamp_precision = precision
        self._session_id = answer.sessionId
        self._statement_id = int(statement_id)
        self._transport = transport
        self.logins += 1

    def _drop_locked(self) -> None:
        """Give the connection up; the next call logs in at the next host."""
        if self._transport is not None:
            self._transport.close()
            self._next_host += 1
        self._transport = None


class _TryAgain(Exception):
    """A try failed in a way that another host, or a later moment, may mend.

    Attributes:
        error: to raise if there is no other try.
        unknown: it may have been carried out.
        lost_login: the connection broke.
        pause: wait before the next try: nothing has changed yet.
    """

    def __init__(
        self, error: Error, *, unknown: bool = False, lost_login: bool = False, pause: bool = False
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.unknown = unknown
        self.lost_login = lost_login
        self.pause = pause


def _pauses() -> Any:  # noqa: ANN401 - a generator of floats
    yield from _PAUSES_S
    while True:
        yield _PAUSES_S[-1]


def _lost_result() -> OperationalError:
    return OperationalError(
        "the connection was lost, and with it the rest of the result: run the query again"
    )


def _batch_error(status: TSStatus, count: int, first: int) -> DatabaseError:
    if status.code != MULTIPLE_ERROR or not status.subStatus:
        return error_of(status.code, status.message or "")
    failed = [
        (number, sub)
        for number, sub in enumerate(status.subStatus, start=first)
        if sub.code not in _SUCCESS
    ]
    number, sub = failed[0]
    error = error_of(sub.code, sub.message or "")
    others = f" ({len(failed)} of the {count} sent with it failed)" if count > 1 else ""
    return type(error)(
        f"row {number}: {error}{others}",
        status=sub.code,
        definite=len(failed) == count and error.definite,
    )


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
