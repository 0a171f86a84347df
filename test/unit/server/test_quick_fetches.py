"""What is answered without decoding is answered as it would be with that."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from thrift.Thrift import TMessageType

from cluster.rpc.framing import BinaryOutput, output_like, protocols_for
from cluster.rpc.gen.client import IClientRPCService
from cluster.rpc.gen.client import ttypes as t
from cluster.rpc.server import Connection, calls_of
from cluster.server.quick_fetches import QuickFetches
from cluster.sql.parser import warm_up
from harness.local_server import LocalServer
from harness.wire import WireClient


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    warm_up()
    with LocalServer() as started:
        yield started


@pytest.fixture(scope="module", params=["V_0_12", "V_0_13", "V_1_0"])
def client(server: LocalServer, request: pytest.FixtureRequest) -> Iterator[WireClient]:
    with server.client(version=request.param) as opened:
        opened.execute("INSERT INTO root.sg.d(time, s) VALUES (1, 10), (2, 20), (3, 30)")
        yield opened


def message(request: t.TSFetchResultsReq, sequence: int = 7) -> bytes:
    output = output_like(BinaryOutput)
    output.writeMessageBegin("fetchResults", TMessageType.CALL, sequence)
    IClientRPCService.fetchResults_args(req=request).write(output)
    output.writeMessageEnd()
    return b"".join(output.trans.take())


def slowly(server: LocalServer, payload: bytes) -> bytes:
    incoming, outgoing = protocols_for(payload)
    incoming.load(payload, 1 << 20, 1 << 20)
    IClientRPCService.Processor(server.handler).process(incoming, outgoing)
    return b"".join(outgoing.trans.take())


def connection_of(server: LocalServer) -> Connection:
    return server.connections()[-1]


@pytest.mark.parametrize(
    ("align", "timeout", "statement"), [*product([True, False], [None, 0, 5], [None, 3])]
)
def test_the_same_answer(
    server: LocalServer,
    client: WireClient,
    align: bool,
    timeout: int | None,
    statement: int | None,
) -> None:
    quick = QuickFetches(server.handler)
    payload = message(
        t.TSFetchResultsReq(1, "select é", 10, 99999, align, timeout, statement), sequence=-3
    )
    with calls_of(connection_of(server)):
        answer = quick.answer(connection_of(server), payload)
        assert answer == slowly(server, payload)


def test_a_query_with_more_rows_is_left_to_the_handler(
    server: LocalServer, client: WireClient
) -> None:
    request = t.TSExecuteStatementReq(1, "select s from root.sg.d", 1, fetchSize=2, timeout=0)
    opened = client.raw.executeStatement(request)
    quick = QuickFetches(server.handler)
    payload = message(t.TSFetchResultsReq(1, "", 2, opened.queryId, True))
    connection = connection_of(server)
    with calls_of(connection):
        assert quick.answer(connection, payload) is None
        rest = client.raw.fetchResults(t.TSFetchResultsReq(1, "", 2, opened.queryId, True))
        assert rest.hasResultSet
        assert quick.answer(connection, payload) is not None
    again = client.raw.fetchResults(t.TSFetchResultsReq(1, "", 2, opened.queryId, True))
    assert not again.hasResultSet


def test_nobody_is_logged_in(server: LocalServer) -> None:
    stranger = Connection(99, None, ("127.0.0.1", 1))
    with calls_of(stranger):
        payload = message(t.TSFetchResultsReq(1, "", 2, 5, True))
        assert QuickFetches(server.handler).answer(stranger, payload) is None


@pytest.mark.parametrize(
    "request_",
    [
        t.TSFetchResultsReq(1, "", 2, 5, None),
        t.TSFetchResultsReq(1, "", None, 5, True),
        t.TSFetchResultsReq(1, None, 2, 5, True),
        t.TSFetchResultsReq(None, "", 2, 5, True),
    ],
)
def test_other_forms_are_decoded(
    server: LocalServer, client: WireClient, request_: t.TSFetchResultsReq
) -> None:
    with calls_of(connection_of(server)):
        payload = message(request_)
        assert QuickFetches(server.handler).answer(connection_of(server), payload) is None


@given(st.integers(20, 120), st.binary(max_size=4))
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_spoilt_bytes_are_decoded_or_right(
    server: LocalServer, client: WireClient, at: int, junk: bytes
) -> None:
    payload = message(t.TSFetchResultsReq(1, "abc", 10, 99999, True, 4))
    spoilt = payload[:at] + junk + payload[at + len(junk) :]
    connection = connection_of(server)
    with calls_of(connection):
        answer = QuickFetches(server.handler).answer(connection, spoilt)
        if answer is not None and b"abc" in spoilt:  # else the text may be no UTF-8
            assert answer == slowly(server, spoilt)
