"""A server of the client protocol with canned results, for tests of the driver and the shell."""

from __future__ import annotations

# ruff: noqa: N802, N803 - the methods are named by the protocol
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from cluster.rpc.gen.client import IClientRPCService
from cluster.rpc.gen.client.ttypes import (
    TSExecuteStatementResp,
    TSFetchResultsResp,
    TSOpenSessionResp,
    TSQueryDataSet,
    TSStatus,
)
from cluster.rpc.server import ServerLimits, ThriftServer, current_connection
from cluster.threads import ThreadRegistry

_FORMATS = {"BOOLEAN": ">?", "INT32": ">i", "INT64": ">q", "FLOAT": ">f", "DOUBLE": ">d"}


def dataset(types: list[str], times: list[int], rows: list[tuple[Any, ...]]) -> TSQueryDataSet:
    """The legacy page layout (client-protocol 5.4), value by value."""
    values, bitmaps = [], []
    for number, kind in enumerate(types):
        data = b""
        bits = bytearray((len(rows) + 7) // 8)
        for index, row in enumerate(rows):
            cell = row[number]
            if cell is None:
                continue
            bits[index // 8] |= 0x80 >> (index % 8)
            if kind == "TEXT":
                text = cell.encode()
                data += struct.pack(">i", len(text)) + text
            else:
                data += struct.pack(_FORMATS[kind], cell)
        values.append(data)
        bitmaps.append(bytes(bits))
    return TSQueryDataSet(
        time=struct.pack(f">{len(times)}q", *times), valueList=values, bitmapList=bitmaps
    )


@dataclass
class Table:
    """A canned result: rows without Time; `times` None means that rows have no Time column."""

    columns: list[str]
    types: list[str]
    rows: list[tuple[Any, ...]]
    times: list[int] | None = None


@dataclass
class FakeDatabase:
    """Answers statements from `results`, everything else with success; notes all calls."""

    results: dict[str, Table | TSStatus] = field(default_factory=dict)
    precision: str = "ms"
    statements: list[str] = field(default_factory=list)
    fetches: int = 0
    closed_queries: list[int] = field(default_factory=list)
    closed_sessions: int = 0
    tablets: list[Any] = field(default_factory=list)
    tablet_status: TSStatus = field(default_factory=lambda: TSStatus(code=200))
    logins: list[Any] = field(default_factory=list)
    hang: threading.Event | None = None
    swallow: set[str] = field(default_factory=set)
    """Statements (or "tablet") that are noted and then cost the connection, answer and all."""
    cancelled: list[Any] = field(default_factory=list)
    zones: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._open: dict[int, tuple[Table, int]] = {}
        self._ids = 0
        self._lock = threading.Lock()

    def _next_id(self) -> int:
        with self._lock:
            self._ids += 1
            return self._ids

    def openSession(self, req):
        self.logins.append(req)
        good = (req.username, req.password) == ("root", "root")
        status = (
            TSStatus(code=200, message="Login successfully")
            if good
            else TSStatus(code=600, message="Authentication failed.")
        )
        return TSOpenSessionResp(
            status=status,
            serverProtocolVersion=2,
            sessionId=self._next_id() if good else -1,
            configuration={"timestamp_precision": self.precision},
        )

    def closeSession(self, req):
        self.closed_sessions += 1
        return TSStatus(code=200)

    def requestStatementId(self, sessionId):
        return self._next_id()

    def setTimeZone(self, req):
        self.zones.append(req.timeZone)
        return TSStatus(code=200)

    def executeStatement(self, req):
        self.statements.append(req.statement)
        self._maybe_swallow(req.statement)
        if self.hang is not None and req.statement == "hang":
            self.hang.wait(30)
        result = self.results.get(req.statement)
        query_id = self._next_id()
        if result is None:
            return TSExecuteStatementResp(status=TSStatus(code=200), queryId=query_id)
        if isinstance(result, TSStatus):
            return TSExecuteStatementResp(status=result, queryId=query_id)
        page = self._page(result, 0, req.fetchSize)
        self._open[query_id] = (result, req.fetchSize)
        names = list(dict.fromkeys(result.columns))
        return TSExecuteStatementResp(
            status=TSStatus(code=200),
            queryId=query_id,
            columns=result.columns,
            dataTypeList=result.types,
            columnNameIndexMap={name: number for number, name in enumerate(names)},
            ignoreTimeStamp=result.times is None,
            queryDataSet=page,
        )

    def fetchResults(self, req):
        self.fetches += 1
        result, at = self._open.get(req.queryId, (None, 0))
        if result is None or at >= len(result.rows):
            self._open.pop(req.queryId, None)
            return TSFetchResultsResp(
                status=TSStatus(code=200), hasResultSet=False, isAlign=req.isAlign
            )
        self._open[req.queryId] = (result, at + req.fetchSize)
        return TSFetchResultsResp(
            status=TSStatus(code=200),
            hasResultSet=True,
            isAlign=req.isAlign,
            queryDataSet=self._page(result, at, req.fetchSize),
        )

    def _maybe_swallow(self, what):
        if what in self.swallow:
            current_connection()._shutdown(socket.SHUT_RDWR)

    def cancelOperation(self, req):
        self.cancelled.append(req)
        if self.hang is not None:
            self.hang.set()
        return TSStatus(code=200)

    def closeOperation(self, req):
        self.closed_queries.append(req.queryId)
        self._open.pop(req.queryId, None)
        return TSStatus(code=200)

    def executeBatchStatement(self, req):
        self.statements += req.statements
        subs = [
            status if isinstance(status := self.results.get(sql), TSStatus) else TSStatus(code=200)
            for sql in req.statements
        ]
        if all(sub.code == 200 for sub in subs):
            return TSStatus(code=200)
        return TSStatus(code=506, message="several", subStatus=subs)

    def insertTablet(self, req):
        self._maybe_swallow("tablet")
        if self.tablet_status.code == 200:
            self.tablets.append(req)
        return self.tablet_status

    @staticmethod
    def _page(result: Table, at: int, count: int) -> TSQueryDataSet:
        rows = result.rows[at : at + count]
        times = result.times if result.times is not None else list(range(len(result.rows)))
        distinct = list(dict.fromkeys(result.columns))
        picked = [result.columns.index(name) for name in distinct]
        return dataset(
            [result.types[number] for number in picked],
            times[at : at + count],
            [tuple(row[number] for number in picked) for row in rows],
        )


@contextmanager
def serving(database: FakeDatabase, port: int = 0) -> Iterator[int]:
    """Serve on a port (0: a free one) of the loopback address; everything is gone at the end."""
    threads = ThreadRegistry()
    server = ThriftServer(
        "fake", IClientRPCService.Processor(database), "127.0.0.1", port, threads, ServerLimits()
    )
    server.start()
    try:
        yield server.port
    finally:
        server.stop()
        assert not threads.join_all(5)


def wait_until(condition: Any, timeout_s: float = 5.0) -> None:
    """Poll a condition that another thread or process brings about."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "condition did not come true"
        time.sleep(0.01)
