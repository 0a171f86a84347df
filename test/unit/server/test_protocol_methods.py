"""What single methods of the client protocol answer, on a socket."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator

import pytest

from cluster.plan.plans import RegisterNodePlan
from cluster.raft.types import NodeId
from cluster.rpc.deadline import Deadline
from cluster.rpc.gen.client import ttypes as t
from cluster.sql.parser import warm_up
from harness.local_server import LocalServer
from harness.wire import StatusError, WireClient, check, tablet


@pytest.fixture
def server() -> Iterator[LocalServer]:
    warm_up()  # the grammar: not in the time of the first request
    with LocalServer() as started:
        yield started


@pytest.fixture
def client(server: LocalServer) -> Iterator[WireClient]:
    with server.client() as opened:
        for sql in (
            "CREATE TIMESERIES root.sg.d.s INT64",
            "CREATE TIMESERIES root.sg.d.t TEXT",
            "INSERT INTO root.sg.d(time, s, t) VALUES (1, 10, 'x'), (12, 20, 'é')",
        ):
            opened.execute(sql)
        yield opened


def block(data: bytes) -> tuple[list[int], list[list[object]]]:
    """A TsBlock of INT64 and TEXT columns: times, and the columns with None for null."""
    (columns,) = struct.unpack_from(">i", data)
    types = data[4 : 4 + columns]
    (rows,) = struct.unpack_from(">i", data, 4 + columns)
    at = 4 + columns + 4 + 1 + columns

    def column(kind: int) -> list[object]:
        nonlocal at
        nulls = 0
        has_nulls = data[at]
        at += 1
        if has_nulls:
            nulls = int.from_bytes(data[at : at + (rows + 7) // 8], "big")
            at += (rows + 7) // 8
        width = 8 * ((rows + 7) // 8)
        values: list[object] = []
        for row in range(rows):
            if has_nulls and nulls >> (width - 1 - row) & 1:
                values.append(None)
            elif kind == 5:
                (size,) = struct.unpack_from(">i", data, at)
                values.append(data[at + 4 : at + 4 + size].decode())
                at += 4 + size
            else:
                values.append(struct.unpack_from(">q", data, at)[0])
                at += 8
        return values

    times = column(2)
    return times, [column(kind) for kind in types]  # type: ignore[return-value]


# ---- metadata ----


def test_metadata_in_json(client: WireClient) -> None:
    answer = client.raw.fetchMetadata(t.TSFetchMetadataReq(0, "METADATA_IN_JSON"))
    check(answer.status)
    leaf = json.loads(answer.metadataInJson)["root"]["sg"]["d"]["s"]
    assert leaf == {"DataType": "INT64", "Encoding": "RLE", "StorageGroup": "root.sg"}


def test_metadata_of_columns(client: WireClient) -> None:
    answer = client.raw.fetchMetadata(t.TSFetchMetadataReq(0, "COLUMN", "root.sg.d.t"))
    assert (answer.status.code, answer.dataType) == (200, "TEXT")
    answer = client.raw.fetchMetadata(t.TSFetchMetadataReq(0, "ALL_COLUMNS", "root.sg.*.*"))
    assert answer.columnsList == ["root.sg.d.s", "root.sg.d.t"]


@pytest.mark.parametrize(
    ("kind", "path", "code"),
    [("COLUMN", "root.sg.d.none", 304), ("COLUMN", "nonsense", 315), ("DELTA_OBJECT", "", 303)],
)
def test_metadata_that_is_not_there(kind: str, path: str, code: int, client: WireClient) -> None:
    answer = client.raw.fetchMetadata(t.TSFetchMetadataReq(0, kind, path))
    assert answer.status.code == code
    assert answer.status.message


# ---- the node ----


def test_connections_are_listed(server: LocalServer, client: WireClient) -> None:
    client.execute("CREATE USER other 'password'")
    with server.client("other", "password") as other:
        seen = client.raw.fetchAllConnectionsInfo().connectionInfoList
        assert [info.userName for info in seen] == ["root", "other"]
        assert all(info.connectionId.startswith("127.0.0.1:") for info in seen)
        assert abs(seen[0].logInTime - time.time_ns() // 1_000_000) < 60_000
        assert [i.userName for i in other.raw.fetchAllConnectionsInfo().connectionInfoList] == [
            "other"
        ]
        check(other.raw.closeSession(t.TSCloseSessionReq(0)))
        assert other.raw.fetchAllConnectionsInfo().connectionInfoList == []
        assert len(client.raw.fetchAllConnectionsInfo().connectionInfoList) == 1


def test_configuration_is_shown_to_the_administrator(
    server: LocalServer, client: WireClient
) -> None:
    answer = client.raw.showConfiguration(-1)
    check(answer.status)
    lines = answer.content.splitlines()
    assert "timestamp_precision=ms" in lines
    assert "rpc_thrift_compression_enable=false" in lines
    client.execute("CREATE USER other 'password'")
    with server.client("other", "password") as other:
        answer = other.raw.showConfiguration(-1)
        assert (answer.status.code, answer.content) == (602, "")


def test_template_of_the_configuration(client: WireClient) -> None:
    answer = client.raw.showConfigurationTemplate()
    check(answer.status)
    assert "#rpc_port=6667" in answer.content


def test_properties_say_whether_the_system_is_read_only(client: WireClient) -> None:
    properties = client.raw.getProperties()
    assert properties.timestampPrecision == "ms"
    assert properties.supportedTimeAggregationOperations == ["max_time", "min_time"]
    assert (properties.isReadOnly, properties.isReadOnlyV013) == (False, False)
    client.execute("SET SYSTEM TO READONLY")
    properties = client.raw.getProperties()
    assert (properties.isReadOnly, properties.isReadOnlyV013) == (True, True)
    assert client.raw.getSystemStatus(0).systemStatus == "READ_ONLY"


# ---- queries by paths, of 1.x and 2.0 ----


def test_last_points_of_one_device(client: WireClient) -> None:
    answer = client.raw.executeFastLastDataQueryForOneDeviceV2(
        t.TSFastLastDataQueryForOneDeviceReq(0, "root.sg", "root.sg.d", ["s", "none", "t"], 10, 1)
    )
    check(answer.status)
    assert (answer.moreData, answer.columns) == (False, ["Timeseries", "Value", "DataType"])
    times, columns = block(answer.queryResult[0])
    assert times == [12, 12]
    assert columns == [["root.sg.d.s", "root.sg.d.t"], ["20", "é"], ["INT64", "TEXT"]]


@pytest.mark.parametrize(
    ("version", "columns"),
    [
        ("V_0_12", ["timeseries", "value", "dataType"]),
        ("V_0_13", ["timeseries", "value", "dataType"]),
        ("V_1_0", ["Timeseries", "Value", "DataType"]),
    ],
)
def test_columns_of_last_points_are_those_of_the_release(
    version: str, columns: list[str], server: LocalServer, client: WireClient
) -> None:
    with server.client(version=version) as other:
        found = other.run("SELECT LAST s FROM root.sg.d")
        assert found == (["Time", *columns], [[12, "root.sg.d.s", "20", "INT64"]])


def test_last_points_below_a_node(client: WireClient) -> None:
    answer = client.raw.executeFastLastDataQueryForOnePrefixPath(
        t.TSFastLastDataQueryForOnePrefixPathReq(0, ["root", "sg"], 10, 1)
    )
    check(answer.status)
    assert block(answer.queryResult[0])[1][0] == ["root.sg.d.s", "root.sg.d.t"]


def test_windows_of_one_series(client: WireClient) -> None:
    request = t.TSGroupByQueryIntervalReq(
        0, 1, "root.sg.d", "s", 2, t.TAggregationType.COUNT, startTime=0, endTime=20, interval=10
    )
    answer = client.raw.executeGroupByQueryIntervalQuery(request)
    check(answer.status)
    assert block(answer.queryResult[0]) == ([0, 10], [[1, 1]])


# ---- hints ----

ELSEWHERE = RegisterNodePlan(2, "two", "127.0.0.2", 1, 2, "127.0.0.2", 7777)


def lead_elsewhere(server: LocalServer, node: RegisterNodePlan = ELSEWHERE) -> None:
    database = server.database
    database.coordinator.change_meta(node, Deadline.after(10))
    group = database.coordinator.router.group_at("root.sg", 0)
    database.coordinator._access.remote_leaders[group] = NodeId(node.node_id)  # type: ignore[attr-defined]


ROW = b"\x02" + struct.pack(">q", 7)


def record(time: int = 30) -> t.TSInsertRecordReq:
    return t.TSInsertRecordReq(0, "root.sg.d", ["s"], ROW, time)


def records() -> t.TSInsertRecordsReq:
    return t.TSInsertRecordsReq(0, ["root.sg.d"] * 2, [["s"]] * 2, [ROW] * 2, [31, 32])


@pytest.mark.parametrize("version", ["V_0_12", "V_0_13", "V_1_0"])
def test_a_single_write_names_the_leader(
    version: str, server: LocalServer, client: WireClient
) -> None:
    with server.client(version=version) as other:
        assert other.raw.insertRecord(record()).redirectNode is None
        lead_elsewhere(server)
        for status in (
            other.raw.insertRecord(record()),
            other.raw.insertTablet(tablet(0, "root.sg.e", ["v"], [5], [[1.0]])),
        ):
            assert status.code == 200
            assert (status.redirectNode.ip, status.redirectNode.port) == ("127.0.0.2", 7777)
    assert client.query("SELECT s FROM root.sg.d WHERE time = 30") == [[30, 7]]


def test_batches_name_leaders_to_those_who_read_it(server: LocalServer, client: WireClient) -> None:
    lead_elsewhere(server)
    status = client.raw.insertRecords(records())
    assert (status.code, status.subStatus) == (200, None)
    with server.client(version="V_1_0") as newer:
        status = newer.raw.insertRecords(records())
        assert status.code == 400  # a recommendation, to this client
        assert [sub.code for sub in status.subStatus] == [200, 200]
        assert [sub.redirectNode.port for sub in status.subStatus] == [7777, 7777]


def test_a_failed_batch_brings_no_hints(server: LocalServer, client: WireClient) -> None:
    lead_elsewhere(server)
    with server.client(version="V_1_0") as newer:
        request = records()
        request.valuesList = [ROW, b"\x05\0\0\0\x01x"]
        status = newer.raw.insertRecords(request)
        assert status.code == 302
        assert all(sub.redirectNode is None for sub in status.subStatus)


@pytest.mark.parametrize(
    ("rpc_address", "internal_ip", "expected"),
    [
        ("0.0.0.0", "127.0.0.3", "127.0.0.3"),
        ("::", "10.1.1.1", "10.1.1.1"),
        ("db.example", "10.1.1.1", "db.example"),
        ("localhost", "10.1.1.1", "localhost"),
        ("0.0.0.0", "0.0.0.0", None),
    ],
)
def test_hints_name_addresses_that_can_be_reached(
    rpc_address: str,
    internal_ip: str,
    expected: str | None,
    server: LocalServer,
    client: WireClient,
) -> None:
    lead_elsewhere(server, ELSEWHERE.__class__(2, "two", internal_ip, 1, 2, rpc_address, 7777))
    hint = client.raw.insertRecord(record()).redirectNode
    assert (hint.ip if hint else None) == expected


def test_a_client_from_afar_is_not_sent_to_loopback(
    server: LocalServer, client: WireClient
) -> None:
    check(client.raw.insertRecord(record()))
    lead_elsewhere(server)
    from cluster.coordinator.inserter import InsertItem

    item = InsertItem("root.sg.d", ("s",), (), 1, struct.pack(">q", 1), b"", b"", False)
    assert server.handler.redirects.hint(item, "127.0.0.1") == ("127.0.0.2", 7777)
    assert server.handler.redirects.hint(item, "10.0.0.9") is None


# ---- sessions that were idle for too long ----


@pytest.mark.parametrize(("version", "code"), [("V_0_12", 415), ("V_0_13", 415), ("V_1_0", 802)])
def test_an_idle_session_is_closed_and_told(version: str, code: int) -> None:
    with (
        LocalServer(session_timeout_threshold="60000") as server,
        server.client(version=version) as client,
    ):
        client.execute("CREATE TIMESERIES root.sg.d.s INT64")
        (connection,) = server.connections()
        refused: list[StatusError] = []
        while len(refused) < 2:  # it lasts: twice
            try:
                # again where the server noted its last answer only after this
                connection.idle_since -= 61
                client.execute("CREATE TIMESERIES root.sg.d.s2 INT64")
            except StatusError as error:
                if "exist" not in error.message:
                    refused.append(error)
        assert [error.code for error in refused] == [code, code]
        assert all("idle" in error.message for error in refused)
        opened = client.raw.openSession(
            t.TSOpenSessionReq(2, "Z", "root", "root", {"version": version})
        )
        check(opened.status)
        client.execute("CREATE TIMESERIES root.sg.d.s3 INT64")


def test_what_an_expired_session_held_is_freed_while_it_sleeps() -> None:
    with LocalServer(session_timeout_threshold="60000") as server, server.client() as client:
        client.execute("INSERT INTO root.sg.d(time, s) VALUES (1, 1), (2, 2)")
        client.raw.executeQueryStatement(
            t.TSExecuteStatementReq(0, "SELECT s FROM root.sg.d", 1, fetchSize=1, timeout=0)
        )
        assert len(server.handler.executor.running.running()) == 1
        (connection,) = server.connections()
        server.handler.sessions.expire(connection, 59)
        assert len(server.handler.sessions.all()) == 1
        server.handler.sessions.expire(connection, 61)
        assert server.handler.executor.running.running() == []
        assert server.handler.sessions.all() == []


def test_sessions_last_by_default(server: LocalServer, client: WireClient) -> None:
    (connection,) = server.connections()
    server.handler.sessions.expire(connection, 1e9)
    client.execute("FLUSH")


def test_a_refused_login_gets_the_codes_of_its_release(server: LocalServer) -> None:
    with server.client(version="V_1_0") as client:
        refused = client.raw.openSession(
            t.TSOpenSessionReq(2, "Z", "root", "wrong", {"version": "V_1_0"})
        )
        assert (refused.status.code, refused.sessionId) == (801, -1)
        assert client.raw.requestStatementId(-1) >= 1
        assert client.raw.setTimeZone(t.TSSetTimeZoneReq(-1, "Z")).code == 802
