"""Who may do what: every request of the client protocol, without a session and without privileges.

Every method of the IDL stands in one of the tables below; others are unknown.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from thrift.Thrift import TApplicationException, TMessageType, TType

from cluster.auth.privileges import Privilege
from cluster.rpc.gen.client import IClientRPCService
from cluster.rpc.gen.client import ttypes as t
from harness.local_server import LocalServer
from harness.privilege_levels import (
    PASSWORD,
    REFUSED,
    USER,
    Needs,
    at_root,
    check_right,
    check_wrong,
    clean,
    grant,
    on,
    prepare,
)
from harness.wire import WireClient, tablet

P = Privilege

NOT_LOGGED_IN = 601
REFUSED_OF_2_0 = 803
"""A session is taken for one of 1.0 or later once it has called a V2 method."""

SERIES = (
    "CREATE TIMESERIES root.sg.d.s1 DOUBLE",
    "CREATE TIMESERIES root.sg.d.s2 DOUBLE",
    "INSERT INTO root.sg.d(time, s1, s2) VALUES (1, 1, 2)",
)
TEMPLATE = ("SET STORAGE GROUP TO root.sg", "CREATE SCHEMA TEMPLATE t1 (s1 INT32, s2 INT32)")
TEMPLATE_SET = (*TEMPLATE, "SET SCHEMA TEMPLATE t1 TO root.sg.d")
TEMPLATE_ACTIVE = (*TEMPLATE_SET, "CREATE TIMESERIES OF SCHEMA TEMPLATE ON root.sg.d")

ROW = b"\x04" + struct.pack(">d", 1.5)
TWO = ["s1", "s2"]
INSERT_TWO = on("root.sg.d.s1", P.INSERT_TIMESERIES) + on("root.sg.d.s2", P.INSERT_TIMESERIES)
INSERT_FAR = on("root.sg.d.s1", P.INSERT_TIMESERIES) + on("root.sg.e.s1", P.INSERT_TIMESERIES)
READ_ONE = on("root.sg.d.s1", P.READ_TIMESERIES)
TABLET = tablet(0, "root.sg.d", TWO, [5], [[1.0], [2.0]])

Make = Callable[[int], tuple[Any, ...]]
"""The arguments of a request, for a session."""


@dataclass(frozen=True)
class Request:
    method: str
    make: Make
    needs: Needs | None
    setup: tuple[str, ...] = ()
    note: str = ""
    code: int = 200

    def __str__(self) -> str:
        return f"{self.method} {self.note}".strip()


def statement(sql: str) -> Make:
    return lambda session: (t.TSExecuteStatementReq(session, sql, 1, fetchSize=10, timeout=0),)


def template_bytes(name: str) -> bytes:
    def text(value: str) -> bytes:
        return struct.pack(">i", len(value)) + value.encode()

    return text(name) + b"\0" + text("") + b"\0" + text("s9") + bytes([1, 0, 1])


EXECUTE = [
    "executeStatement",
    "executeQueryStatement",
    "executeUpdateStatement",
    "executeStatementV2",
    "executeQueryStatementV2",
    "executeUpdateStatementV2",
]

REQUESTS = [
    *(
        Request(method, statement("SELECT s1 FROM root.sg.d"), READ_ONE, SERIES, "SELECT")
        for method in EXECUTE
        if method != "executeUpdateStatement"
    ),
    *(
        Request(
            method,
            statement("SELECT s1 INTO root.sg.d.copy FROM root.sg.d"),
            READ_ONE + on("root.sg.d.copy", P.INSERT_TIMESERIES),
            SERIES,
            "SELECT INTO",
        )
        for method in EXECUTE
        if method != "executeQueryStatement"
    ),
    *(
        Request(method, statement("FLUSH"), None, note="FLUSH")
        for method in EXECUTE
        if method != "executeQueryStatement"
    ),
    *(
        Request(
            f"executeRawDataQuery{version}",
            lambda s: (t.TSRawDataQueryReq(s, ["root.sg.d.s1"], 10, 0, 100, 1),),
            READ_ONE,
            SERIES,
        )
        for version in ("", "V2")
    ),
    *(
        Request(
            f"executeLastDataQuery{version}",
            lambda s: (t.TSLastDataQueryReq(s, ["root.sg.d.s1"], 10, 0, 1),),
            READ_ONE,
            SERIES,
        )
        for version in ("", "V2")
    ),
    *(
        Request(
            f"executeAggregationQuery{version}",
            lambda s: (t.TSAggregationQueryReq(s, 1, ["root.sg.d.s1"], [0]),),
            READ_ONE,
            SERIES,
        )
        for version in ("", "V2")
    ),
    Request(
        "executeFastLastDataQueryForOneDeviceV2",
        lambda s: (t.TSFastLastDataQueryForOneDeviceReq(s, "root.sg", "root.sg.d", ["s1"], 10, 1),),
        READ_ONE,
        SERIES,
    ),
    Request(
        "executeFastLastDataQueryForOnePrefixPath",
        lambda s: (t.TSFastLastDataQueryForOnePrefixPathReq(s, ["root", "sg", "d"], 10, 1),),
        READ_ONE + on("root.sg.d.s2", P.READ_TIMESERIES),
        SERIES,
    ),
    Request(
        "executeGroupByQueryIntervalQuery",
        lambda s: (
            t.TSGroupByQueryIntervalReq(
                s, 1, "root.sg.d", "s1", 4, 0, startTime=0, endTime=10, interval=5
            ),
        ),
        READ_ONE,
        SERIES,
    ),
    Request(
        "fetchMetadata",
        lambda s: (t.TSFetchMetadataReq(s, "COLUMN", "root.sg.d.s1"),),
        at_root(P.READ_TIMESERIES),
        SERIES,
    ),
    Request("setStorageGroup", lambda s: (s, "root.sg"), on("root.sg", P.SET_STORAGE_GROUP)),
    Request(
        "deleteStorageGroups",
        lambda s: (s, ["root.sg"]),
        on("root.sg", P.DELETE_STORAGE_GROUP),
        SERIES,
    ),
    Request(
        "createTimeseries",
        lambda s: (t.TSCreateTimeseriesReq(s, "root.sg.d.s3", 1, 0, 1),),
        on("root.sg.d.s3", P.CREATE_TIMESERIES),
    ),
    Request(
        "createMultiTimeseries",
        lambda s: (
            t.TSCreateMultiTimeseriesReq(s, ["root.sg.d.a", "root.sg.e.b"], [1, 1], [0, 0], [1, 1]),
        ),
        on("root.sg.d.a", P.CREATE_TIMESERIES) + on("root.sg.e.b", P.CREATE_TIMESERIES),
    ),
    Request(
        "createAlignedTimeseries",
        lambda s: (
            t.TSCreateAlignedTimeseriesReq(s, "root.sg.a", TWO, [1, 1], [0, 0], [1, 1], None),
        ),
        on("root.sg.a.s1", P.CREATE_TIMESERIES) + on("root.sg.a.s2", P.CREATE_TIMESERIES),
    ),
    Request(
        "deleteTimeseries",
        lambda s: (s, ["root.sg.d.s1"]),
        on("root.sg.d.s1", P.DELETE_TIMESERIES),
        SERIES,
    ),
    Request(
        "deleteData",
        lambda s: (t.TSDeleteDataReq(s, ["root.sg.d.s1"], 0, 9),),
        on("root.sg.d.s1", P.DELETE_TIMESERIES),
        SERIES,
    ),
    Request(
        "insertRecord",
        lambda s: (t.TSInsertRecordReq(s, "root.sg.d", TWO, ROW * 2, 5),),
        INSERT_TWO,
        SERIES,
    ),
    Request(
        "insertRecords",
        lambda s: (
            t.TSInsertRecordsReq(
                s, ["root.sg.d", "root.sg.e"], [["s1"], ["s1"]], [ROW, ROW], [5, 5]
            ),
        ),
        INSERT_FAR,
    ),
    Request(
        "insertRecordsOfOneDevice",
        lambda s: (
            t.TSInsertRecordsOfOneDeviceReq(s, "root.sg.d", [["s1"], ["s2"]], [ROW, ROW], [5, 6]),
        ),
        INSERT_TWO,
    ),
    Request(
        "insertStringRecord",
        lambda s: (t.TSInsertStringRecordReq(s, "root.sg.d", TWO, ["1", "2"], 5),),
        INSERT_TWO,
    ),
    Request(
        "insertStringRecords",
        lambda s: (
            t.TSInsertStringRecordsReq(
                s, ["root.sg.d", "root.sg.e"], [["s1"], ["s1"]], [["1"], ["1"]], [5, 5]
            ),
        ),
        INSERT_FAR,
    ),
    Request(
        "insertStringRecordsOfOneDevice",
        lambda s: (
            t.TSInsertStringRecordsOfOneDeviceReq(
                s, "root.sg.d", [["s1"], ["s2"]], [["1"], ["2"]], [5, 6]
            ),
        ),
        INSERT_TWO,
    ),
    Request(
        "insertTablet",
        lambda s: (tablet(s, "root.sg.d", TWO, [5], [[1.0], [2.0]]),),
        INSERT_TWO,
    ),
    Request(
        "insertTablets",
        lambda s: (
            t.TSInsertTabletsReq(
                s,
                ["root.sg.d", "root.sg.e"],
                [["s1"], ["s1"]],
                [struct.pack(">d", 1.0)] * 2,
                [struct.pack(">q", 5)] * 2,
                [[4], [4]],
                [1, 1],
            ),
        ),
        INSERT_FAR,
    ),
    Request(
        "createSchemaTemplate",
        lambda s: (t.TSCreateSchemaTemplateReq(s, "t9", template_bytes("t9")),),
        at_root(P.UPDATE_TEMPLATE),
    ),
    Request(
        "appendSchemaTemplate",
        lambda s: (t.TSAppendSchemaTemplateReq(s, "t1", False, ["s3"], [1], [0], [1]),),
        at_root(P.UPDATE_TEMPLATE),
        TEMPLATE,
    ),
    Request(
        "pruneSchemaTemplate",
        lambda s: (t.TSPruneSchemaTemplateReq(s, "t1", "s2"),),
        at_root(P.UPDATE_TEMPLATE),
        TEMPLATE,
    ),
    Request(
        "dropSchemaTemplate",
        lambda s: (t.TSDropSchemaTemplateReq(s, "t1"),),
        at_root(P.UPDATE_TEMPLATE),
        TEMPLATE,
    ),
    Request(
        "setSchemaTemplate",
        lambda s: (t.TSSetSchemaTemplateReq(s, "t1", "root.sg.d"),),
        on("root.sg.d", P.APPLY_TEMPLATE),
        TEMPLATE,
    ),
    Request(
        "unsetSchemaTemplate",
        lambda s: (t.TSUnsetSchemaTemplateReq(s, "root.sg.d", "t1"),),
        on("root.sg.d", P.APPLY_TEMPLATE),
        TEMPLATE_SET,
    ),
    Request(
        "setUsingTemplate",
        lambda s: (t.TSSetUsingTemplateReq(s, "root.sg.d"),),
        on("root.sg.d", P.APPLY_TEMPLATE),
        TEMPLATE_SET,
    ),
    Request(
        "createTimeseriesUsingSchemaTemplate",
        lambda s: (t.TCreateTimeseriesUsingSchemaTemplateReq(s, ["root.sg.d", "root.sg.d.e"]),),
        on("root.sg.d", P.APPLY_TEMPLATE),
        TEMPLATE_SET,
    ),
    Request(
        "unsetUsingTemplate",
        lambda s: (s, "t1", "root.sg.d"),
        on("root.sg.d", P.DELETE_TIMESERIES),
        TEMPLATE_ACTIVE,
    ),
    *(
        Request(
            "querySchemaTemplate",
            lambda s, number=number: (t.TSQueryTemplateReq(s, "t1", number, "s1"),),  # type: ignore[misc]
            at_root(P.READ_TIMESERIES),
            TEMPLATE_ACTIVE,
            f"question {number}",
        )
        for number in range(7)
    ),
]

OF_THE_SESSION: dict[str, Make] = {
    "showConfigurationTemplate": lambda s: (),
    "closeOperation": lambda s: (t.TSCloseOperationReq(s, queryId=12345),),
    "cancelOperation": lambda s: (t.TSCancelOperationReq(s, 12345),),
    "fetchResults": lambda s: (t.TSFetchResultsReq(s, "", 10, 12345, True),),
    "fetchResultsV2": lambda s: (t.TSFetchResultsReq(s, "", 10, 12345, True),),
    "getTimeZone": lambda s: (s,),
    "setTimeZone": lambda s: (t.TSSetTimeZoneReq(s, "+08:00"),),
    "getSystemStatus": lambda s: (s,),
    "executeBatchStatement": lambda s: (t.TSExecuteBatchStatementReq(s, []),),
    "testInsertRecord": lambda s: (t.TSInsertRecordReq(s, "root.sg.d", TWO, ROW * 2, 5),),
    "testInsertStringRecord": lambda s: (
        t.TSInsertStringRecordReq(s, "root.sg.d", TWO, ["1", "2"], 5),
    ),
    "testInsertRecords": lambda s: (t.TSInsertRecordsReq(s, [], [], [], []),),
    "testInsertStringRecords": lambda s: (t.TSInsertStringRecordsReq(s, [], [], [], []),),
    "testInsertRecordsOfOneDevice": lambda s: (
        t.TSInsertRecordsOfOneDeviceReq(s, "root.sg.d", [], [], []),
    ),
    "testInsertTablet": lambda s: (TABLET,),
    "testInsertTablets": lambda s: (t.TSInsertTabletsReq(s, [], [], [], [], [], []),),
}
"""What every user may do with the own session, and nobody without one."""

REFUSED_TO_ALL: dict[str, Make] = {
    "prepareStatement": lambda s: (t.TSPrepareReq(s, "show version", "p"),),
    "executePreparedStatement": lambda s: (t.TSExecutePreparedReq(s, "p", b"", 10, 0, 1),),
    "deallocatePreparedStatement": lambda s: (t.TSDeallocatePreparedReq(s, "p"),),
    "executeOperationSync": lambda s: (t.TSOperationSyncWriteReq(s, 0, b""),),
    "sendPipeData": lambda s: (b"",),
    "sendFile": lambda s: (t.TSyncTransportMetaInfo("f", 0), b""),
}
"""What this server does not do: answered with 703 and what it is."""

OPEN: dict[str, Make] = {
    "fetchAllConnectionsInfo": lambda s: (),
    "requestStatementId": lambda s: (s,),
    "getProperties": lambda s: (),
    "getBackupConfiguration": lambda s: (),
    "testConnectionEmptyRPC": lambda s: (),
}
"""What needs no session, and gives and changes nothing (besides openSession and closeSession)."""

METHODS = sorted(name for name in vars(IClientRPCService.Iface) if not name.startswith("_"))


def answer(client: WireClient, method: str, make: Make) -> int:
    result = getattr(client.raw, method)(*make(client.session_id))
    status = result if isinstance(result, t.TSStatus) else result.status
    return int(status.code)


@pytest.mark.parametrize("request_", REQUESTS, ids=str)
def test_request(request_: Request, server: LocalServer, root: WireClient) -> None:
    with server.client(USER, PASSWORD) as user:

        def call() -> int:
            code = answer(user, request_.method, request_.make)
            return REFUSED if code == REFUSED_OF_2_0 else code

        check_wrong(server, root, request_.needs, request_.setup, call)
        if request_.needs is not None:
            check_right(server, root, request_.needs, request_.setup, call, request_.code)


def test_a_request_without_a_session_is_refused(server: LocalServer) -> None:
    """Whatever session id it names: a session belongs to its connection."""
    with server.client() as victim, server.client() as stranger:
        stranger.raw.closeSession(t.TSCloseSessionReq(stranger.session_id))
        made = [(request.method, request.make) for request in REQUESTS]
        made.append(("showConfiguration", lambda s: (0,)))
        for method, make in [*made, *OF_THE_SESSION.items(), *REFUSED_TO_ALL.items()]:
            for session_id in (victim.session_id, -1):
                stranger.session_id = session_id
                assert answer(stranger, method, make) == NOT_LOGGED_IN, method


@pytest.mark.parametrize("method", OF_THE_SESSION)
def test_a_session_is_enough(method: str, root: WireClient, user: WireClient) -> None:
    clean(root)
    assert answer(user, method, OF_THE_SESSION[method]) == 200


def test_every_method_is_in_a_table() -> None:
    tested = {request.method for request in REQUESTS}
    around = ("openSession", "closeSession", "showConfiguration")
    tables = [*tested, *OF_THE_SESSION, *REFUSED_TO_ALL, *OPEN, *around]
    assert sorted(tables) == METHODS


@pytest.mark.parametrize("method", REFUSED_TO_ALL)
def test_what_is_not_done_here_is_said(method: str, root: WireClient) -> None:
    result = getattr(root.raw, method)(*REFUSED_TO_ALL[method](root.session_id))
    status = result if isinstance(result, t.TSStatus) else result.status
    assert status.code in (703, 300)  # 300 once the session has called a V2 method
    assert "not supported" in status.message


@pytest.mark.parametrize("method", ["handshake", "pipeTransfer", "pipeSubscribe", "none"])
def test_a_method_outside_of_the_idl_is_unknown(method: str, server: LocalServer) -> None:
    """Its argument has the id -1, as those of pipes do; the connection stays."""
    with server.client() as client:
        protocol = client.raw._oprot
        protocol.writeMessageBegin(method, TMessageType.CALL, 1)
        protocol.writeStructBegin("args")
        protocol.writeFieldBegin("req", TType.STRUCT, -1)
        protocol.writeStructBegin("req")
        protocol.writeFieldBegin("version", TType.BYTE, 1)
        protocol.writeByte(1)
        protocol.writeFieldStop()
        protocol.writeFieldStop()
        protocol.writeMessageEnd()
        protocol.trans.flush()
        name, kind, _ = client.raw._iprot.readMessageBegin()
        error = TApplicationException()
        error.read(client.raw._iprot)
        client.raw._iprot.readMessageEnd()
        assert (name, kind) == (method, TMessageType.EXCEPTION)
        assert error.type == TApplicationException.UNKNOWN_METHOD
        assert client.raw.testConnectionEmptyRPC().code == 200


def test_queries_of_others_are_out_of_reach(
    server: LocalServer, root: WireClient, user: WireClient
) -> None:
    clean(root)
    prepare(server, [*SERIES, "INSERT INTO root.sg.d(time, s1) VALUES (2, 1), (3, 1)"])
    opened = root.raw.executeQueryStatement(
        t.TSExecuteStatementReq(root.session_id, "SELECT s1 FROM root.sg.d", 1, fetchSize=1)
    )
    fetch = t.TSFetchResultsReq(root.session_id, "", 10, opened.queryId, True)
    stolen = user.raw.fetchResults(fetch)
    assert (stolen.status.code, stolen.hasResultSet) == (200, False)
    user.raw.closeOperation(t.TSCloseOperationReq(root.session_id, queryId=opened.queryId))
    user.raw.cancelOperation(t.TSCancelOperationReq(root.session_id, opened.queryId))
    assert root.raw.fetchResults(fetch).hasResultSet


def test_a_dropped_user_may_nothing(server: LocalServer, root: WireClient) -> None:
    clean(root)
    prepare(server, [*SERIES, "CREATE USER leaving 'password'"])
    root.run("GRANT USER leaving PRIVILEGES READ_TIMESERIES ON root")
    with server.client("leaving", PASSWORD) as leaving:
        assert leaving.query("SELECT s1 FROM root.sg.d") == [[1, 1.0]]
        root.run("DROP USER leaving")
        assert answer(leaving, "executeStatement", statement("SELECT s1 FROM root.sg.d")) == REFUSED
        assert answer(leaving, "executeStatement", statement("SHOW VERSION")) == REFUSED


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("root.sg.d", 200),
        ("root.sg.`d`", 200),
        ("root.sgd.d", REFUSED),
        ("root.sg.`d.x`", REFUSED),
        ("root.`sg.d`", REFUSED),
        ("root.sg.'d", REFUSED),
        ("root..sg.d", REFUSED),
        (" root.sg.d", REFUSED),
        ("sg.d", REFUSED),
        ("", REFUSED),
    ],
)
def test_paths_of_requests_are_read_as_they_are_carried_out(
    path: str, code: int, root: WireClient, user: WireClient
) -> None:
    clean(root)
    grant(root, on("root.sg.d", P.INSERT_TIMESERIES, P.SET_STORAGE_GROUP))
    request = t.TSInsertStringRecordReq(0, path, ["s1"], ["1"], 5)
    found = user.raw.insertStringRecord(request).code
    assert (found == 200) == (code == 200)
    made = [name for name, *_ in root.query("SHOW TIMESERIES")]
    assert made == (["root.sg.d.s1"] if code == 200 else [])


@pytest.mark.parametrize("version", ["V_0_12", "V_0_13", "V_1_0"])
def test_patterns_reach_no_further_than_the_privilege(
    version: str, server: LocalServer, root: WireClient
) -> None:
    """The prefixes of 0.12 and wildcards are refused where they could match more."""
    clean(root)
    prepare(
        server,
        [
            "CREATE TIMESERIES root.sg.d.s1 INT32",
            "CREATE TIMESERIES root.sg.d.s1x INT32",
            "CREATE TIMESERIES root.sg.d2.s1 INT32",
        ],
    )
    grant(root, on("root.sg.d.s1", P.DELETE_TIMESERIES, P.DELETE_STORAGE_GROUP))
    with server.client(USER, PASSWORD, version=version) as client:
        for pattern in ("root.sg.d", "root.sg.d.s1*", "root.sg.*.s1", "root.sg.d*.s1", "root.**"):
            for sql in ("DELETE TIMESERIES {}", "DELETE FROM {}", "DELETE STORAGE GROUP {}"):
                got = answer(client, "executeStatement", statement(sql.format(pattern)))
                assert got in (REFUSED, REFUSED_OF_2_0), (sql, pattern)
        assert answer(client, "executeStatement", statement("DELETE FROM root.sg.d.s1")) == 200
    assert len(root.query("SHOW TIMESERIES")) == 3
