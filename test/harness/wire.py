"""A bare client on the project's own generated code, for integration tests and benchmarks."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from socket import SHUT_RDWR
from typing import Any

import numpy as np
from thrift.protocol.TBinaryProtocol import TBinaryProtocolAccelerated
from thrift.transport import TSocket, TTransport

from cluster.rpc.gen.client import IClientRPCService
from cluster.rpc.gen.client import ttypes as t


class StatusError(Exception):
    def __init__(self, status: t.TSStatus) -> None:
        super().__init__(f"{status.code}: {status.message}")
        self.code = status.code
        self.message = status.message or ""


def check(status: t.TSStatus) -> None:
    if status.code != 200:
        raise StatusError(status)


class WireClient:
    """One session; transport errors leave as they are."""

    def __init__(
        self,
        port: int,
        host: str = "127.0.0.1",
        timeout_s: float = 10.0,
        zone: str = "Z",
        user: str = "root",
        password: str = "root",
        version: str = "V_0_13",
    ) -> None:
        socket = TSocket.TSocket(host, port)
        socket.setTimeout(timeout_s * 1000)
        self._socket = socket
        self._transport = TTransport.TFramedTransport(socket)
        self.raw = IClientRPCService.Client(TBinaryProtocolAccelerated(self._transport))
        self._transport.open()
        try:
            response = self.raw.openSession(
                t.TSOpenSessionReq(
                    client_protocol=2,
                    zoneId=zone,
                    username=user,
                    password=password,
                    configuration={"version": version},
                )
            )
            check(response.status)
            self.session_id = response.sessionId
            self.statement_id = self.raw.requestStatementId(self.session_id)
        except BaseException:
            self._transport.close()
            raise

    def close(self) -> None:
        self._transport.close()

    def cut(self) -> None:
        """End the connection from another thread, in the middle of a call."""
        self._socket.handle.shutdown(SHUT_RDWR)

    def __enter__(self) -> WireClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def execute(self, sql: str) -> None:
        response = self.raw.executeUpdateStatement(
            t.TSExecuteStatementReq(self.session_id, sql, self.statement_id)
        )
        check(response.status)

    def insert_tablet(
        self,
        device: str,
        measurements: list[str],
        times: list[int] | np.ndarray,
        columns: list[list[float]] | np.ndarray,
    ) -> None:
        """DOUBLE columns without nulls."""
        check(self.raw.insertTablet(tablet(self.session_id, device, measurements, times, columns)))

    def insert_row(self, device: str, measurements: list[str], time: int, row: list[float]) -> None:
        values = b"".join(b"\x04" + struct.pack(">d", value) for value in row)
        check(
            self.raw.insertRecord(
                t.TSInsertRecordReq(self.session_id, device, measurements, values, time, False)
            )
        )

    def query(self, sql: str, fetch: int = 10_000) -> list[list[Any]]:
        """Rows as Python values, time first where the result has it."""
        response = self.raw.executeQueryStatement(
            t.TSExecuteStatementReq(
                self.session_id, sql, self.statement_id, fetchSize=fetch, timeout=0
            )
        )
        check(response.status)
        return self._rows(response, sql, fetch)

    def run(self, sql: str, fetch: int = 10_000) -> tuple[list[str], list[list[Any]]] | None:
        """Any statement: columns and rows, or None for a non-query."""
        response = self.raw.executeStatement(
            t.TSExecuteStatementReq(
                self.session_id, sql, self.statement_id, fetchSize=fetch, timeout=0
            )
        )
        check(response.status)
        if response.columns is None:
            return None
        if response.nonAlignQueryDataSet is not None:
            return self._not_aligned(response, sql, fetch)
        lead = [] if response.ignoreTimeStamp else ["Time"]
        return lead + list(response.columns), self._rows(response, sql, fetch)

    def _not_aligned(
        self, response: t.TSExecuteStatementResp, sql: str, fetch: int
    ) -> tuple[list[str], list[list[Any]]]:
        """Columns beside each other, each with its times, shorter ones padded with nulls."""
        kinds = {
            response.columnNameIndexMap[name]: kind
            for name, kind in zip(response.columns, response.dataTypeList, strict=True)
        }
        times: dict[int, list[Any]] = {number: [] for number in kinds}
        cells: dict[int, list[Any]] = {number: [] for number in kinds}
        dataset = response.nonAlignQueryDataSet
        while dataset is not None:
            for number, kind in kinds.items():
                count = len(dataset.timeList[number]) // 8
                times[number] += struct.unpack(f">{count}q", dataset.timeList[number])
                full = b"\xff" * (count // 8 + 1)
                cells[number] += _column(kind, dataset.valueList[number], full, count)
            answer = self.raw.fetchResults(
                t.TSFetchResultsReq(self.session_id, sql, fetch, response.queryId, False)
            )
            check(answer.status)
            dataset = answer.nonAlignQueryDataSet if answer.hasResultSet else None
        order = [response.columnNameIndexMap[name] for name in response.columns]
        columns = [part for number in order for part in (times[number], cells[number])]
        depth = max(map(len, columns), default=0)
        padded = [column + [None] * (depth - len(column)) for column in columns]
        header = [part for name in response.columns for part in ("Time", name)]
        return header or ["Time"], [list(row) for row in zip(*padded, strict=True)]

    def _rows(self, response: t.TSExecuteStatementResp, sql: str, fetch: int) -> list[list[Any]]:
        return [row for page in self._pages(response, sql, fetch) for row in page]

    def pages(self, sql: str, fetch: int) -> Iterator[list[list[Any]]]:
        """The rows of a query, page by page as they are asked for."""
        response = self.raw.executeQueryStatement(
            t.TSExecuteStatementReq(
                self.session_id, sql, self.statement_id, fetchSize=fetch, timeout=0
            )
        )
        check(response.status)
        return self._pages(response, sql, fetch)

    def _pages(
        self, response: t.TSExecuteStatementResp, sql: str, fetch: int
    ) -> Iterator[list[list[Any]]]:
        dataset = response.queryDataSet
        while dataset is not None and dataset.time:
            yield _rows(response, dataset)
            answer = self.raw.fetchResults(
                t.TSFetchResultsReq(self.session_id, sql, fetch, response.queryId, True)
            )
            check(answer.status)
            dataset = answer.queryDataSet if answer.hasResultSet else None


def tablet(
    session_id: int,
    device: str,
    measurements: list[str],
    times: list[int] | np.ndarray,
    columns: list[list[float]] | np.ndarray,
) -> t.TSInsertTabletReq:
    return t.TSInsertTabletReq(
        session_id,
        device,
        measurements,
        b"".join(np.asarray(column, dtype=">f8").tobytes() for column in columns),
        np.asarray(times, dtype=">i8").tobytes(),
        [4] * len(measurements),
        len(times),
        False,
    )


_FORMATS = {"INT32": "i", "INT64": "q", "FLOAT": "f", "DOUBLE": "d", "BOOLEAN": "?"}


def _rows(response: t.TSExecuteStatementResp, dataset: t.TSQueryDataSet) -> list[list[Any]]:
    count = len(dataset.time) // 8
    times = struct.unpack(f">{count}q", dataset.time)
    cells: dict[int, list[Any]] = {}
    for name, kind in zip(response.columns, response.dataTypeList, strict=True):
        number = response.columnNameIndexMap[name]
        if number not in cells:
            cells[number] = _column(
                kind, dataset.valueList[number], dataset.bitmapList[number], count
            )
    order = [response.columnNameIndexMap[name] for name in response.columns]
    lead = [] if response.ignoreTimeStamp else [list(times)]
    return [list(row) for row in zip(*lead, *(cells[number] for number in order), strict=True)]


def _column(kind: str, data: bytes, bitmap: bytes, count: int) -> list[Any]:
    values: list[Any] = []
    at = 0
    for row in range(count):
        if not bitmap[row // 8] & (0x80 >> (row % 8)):
            values.append(None)
        elif kind == "TEXT":
            size = int.from_bytes(data[at : at + 4], "big")
            values.append(data[at + 4 : at + 4 + size].decode())
            at += 4 + size
        else:
            layout = ">" + _FORMATS[kind]
            values.append(struct.unpack_from(layout, data, at)[0])
            at += struct.calcsize(layout)
    return values
