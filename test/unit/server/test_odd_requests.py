"""Requests that lack something, or of which a part is unreadable: a status; the rest is done."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from cluster.rpc.gen.client import ttypes as t
from harness.local_server import LocalServer
from harness.wire import WireClient, check

_ONE = b"\x01\0\0\0\1"
_INT32 = 1


@pytest.fixture(scope="module")
def client() -> Iterator[WireClient]:
    with LocalServer() as server, server.client() as opened:
        opened.execute("CREATE TIMESERIES root.sg.d.s INT32")
        yield opened


def times(*values: int) -> bytes:
    return struct.pack(f">{len(values)}q", *values)


def codes(status: t.TSStatus) -> list[int]:
    return [part.code for part in status.subStatus]


def test_a_record_that_is_cut_off_is_one_element_that_failed(client: WireClient) -> None:
    values = [b"\x01\0", _ONE, _ONE + _ONE]
    names = [["s"]] * 3
    request = t.TSInsertRecordsReq(0, ["root.sg.d"] * 3, names, values, [1, 2, 3])
    status = client.raw.insertRecords(request)
    assert (status.code, codes(status)) == (506, [412, 200, 318])
    of_one = t.TSInsertRecordsOfOneDeviceReq(0, "root.sg.d", names, values, [4, 5, 6])
    status = client.raw.insertRecordsOfOneDevice(of_one)
    assert (status.code, codes(status)) == (506, [412, 200, 318])
    assert client.query("SELECT s FROM root.sg.d WHERE time < 10") == [[2, 1], [5, 1]]


def test_a_tablet_that_is_cut_off_is_one_element_that_failed(client: WireClient) -> None:
    values = [b"\0", b"\0\0\0\2"]
    request = t.TSInsertTabletsReq(
        0, ["root.sg.d"] * 2, [["s"]] * 2, values, [times(10), times(11)], [[_INT32]] * 2, [1, 1]
    )
    status = client.raw.insertTablets(request)
    assert (status.code, codes(status)) == (506, [412, 200])


def test_a_tablet_without_rows_or_columns_writes_nothing(client: WireClient) -> None:
    for _ in range(3):  # what comes again is not decoded
        check(client.raw.insertTablet(t.TSInsertTabletReq(0, "root.e.d", ["s"], b"", b"", [1], 0)))
        none = t.TSInsertTabletReq(0, "root.e.d", [], b"", times(1, 2), [], 2)
        check(client.raw.insertTablet(none))
    assert client.query("SHOW TIMESERIES root.e.**") == []


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("insertRecord", t.TSInsertRecordReq(0, "root.sg.d", ["s"])),
        ("insertTablet", t.TSInsertTabletReq(0, "root.sg.d", ["s"], b"", b"")),
        ("insertStringRecord", t.TSInsertStringRecordReq(0, "root.sg.d", ["s"], None, 1)),
        ("createTimeseries", t.TSCreateTimeseriesReq(0)),
        ("createMultiTimeseries", t.TSCreateMultiTimeseriesReq(0, ["root.sg.d.x"])),
        ("createMultiTimeseries", t.TSCreateMultiTimeseriesReq(0, ["root.a.b"], [1, 1], [2], [1])),
        ("createAlignedTimeseries", t.TSCreateAlignedTimeseriesReq(0, "root.c", ["s"], [], [], [])),
        ("deleteData", t.TSDeleteDataReq(0)),
        ("setTimeZone", t.TSSetTimeZoneReq(0)),
        ("executeBatchStatement", t.TSExecuteBatchStatementReq(0)),
    ],
)
def test_what_is_left_out_is_told(client: WireClient, method: str, request_: object) -> None:
    assert getattr(client.raw, method)(request_).code == 318


def test_a_statement_that_is_left_out_is_told(client: WireClient) -> None:
    answer = client.raw.executeStatement(t.TSExecuteStatementReq(0, None, 1))
    assert answer.status.code == 318
    assert "statement" in answer.status.message
    assert answer.queryId
