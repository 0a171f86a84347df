"""Servers for the tests of this room."""

# ruff: noqa: N802, N803 - methods have the names of the IDL

from __future__ import annotations

import threading

import pytest

from cluster.rpc.gen.client import IClientRPCService
from cluster.rpc.gen.client import ttypes as t
from cluster.rpc.gen.cluster import MetaGroupService
from cluster.rpc.gen.cluster import ttypes as c
from cluster.rpc.server import ServerLimits, ThriftServer, current_connection
from cluster.threads import ThreadRegistry


class ClientHandler:
    """A handful of the client methods; the rest is missing on purpose."""

    def __init__(self):
        self.entered = threading.Event()
        self.release = threading.Event()
        self.requests = []

    def requestStatementId(self, sessionId):
        return 7

    def closeSession(self, req):
        return t.TSStatus(code=200)

    def openSession(self, req):
        state = current_connection().state
        state["opened"] = state.get("opened", 0) + 1
        return t.TSOpenSessionResp(
            status=t.TSStatus(code=200), serverProtocolVersion=2, sessionId=state["opened"]
        )

    def setTimeZone(self, req):
        raise RuntimeError("the handler has a bug")

    def getTimeZone(self, sessionId):
        return t.TSGetTimeZoneResp(status="not a status", timeZone="Z")

    def insertRecord(self, req):
        self.requests.append(req)
        return t.TSStatus(code=200)

    def insertTablet(self, req):
        self.requests.append(req)
        return t.TSStatus(code=200, message=str(len(req.values)))

    def executeQueryStatement(self, req):
        return t.TSExecuteStatementResp(
            status=t.TSStatus(code=200), queryResult=[bytes(int(req.statement))]
        )

    def fetchResults(self, req):
        answer = t.TSFetchResultsResp(status=t.TSStatus(code=200), hasResultSet=True, isAlign=True)
        answer.pieces = [
            [bytes([number % 256]) * 3, memoryview(b"-%d" % number), b"x" * req.fetchSize]
            for number in range(req.queryId)
        ]
        return answer

    def testConnectionEmptyRPC(self):
        self.entered.set()
        assert self.release.wait(30)
        return t.TSStatus(code=200)


class MetaHandler:
    """A node that counts; `hold` makes startElection wait."""

    def __init__(self, name="a"):
        self.name = name
        self.hold = threading.Event()
        self.hold.set()
        self.entered = threading.Event()
        self.peers = []

    def queryNodeStatus(self):
        self.peers.append(current_connection().peer)
        return c.NodeStatus(
            node=c.NodeInfo(1, self.name, 1, 1, "", 1, ""), members=[], knownNodes=[], stats={}
        )

    def startElection(self, request):
        self.entered.set()
        assert self.hold.wait(30)
        return c.VoteResponse(request.term, True, False, True)

    def timeoutNow(self, request):
        raise RuntimeError("cannot")


class Running:
    def __init__(self, service, handler, limits=None, port=0, on_disconnect=None):
        self.handler = handler
        self.threads = ThreadRegistry()
        self.server = ThriftServer(
            "test",
            service.Processor(handler),
            "127.0.0.1",
            port,
            self.threads,
            limits or ServerLimits(),
            on_disconnect,
        )
        self.server.start()
        self.port = self.server.port

    def stop(self):
        self.server.stop()
        assert self.threads.join_all(60) == []
        assert self.server.connection_count() == 0


@pytest.fixture
def serve():
    """Start servers: `serve("client")` or `serve("meta")`, with ThriftServer's options."""
    running = []

    def start(kind, handler=None, **options):
        if kind == "client":
            made = Running(IClientRPCService, handler or ClientHandler(), **options)
        else:
            made = Running(MetaGroupService, handler or MetaHandler(), **options)
        running.append(made)
        return made

    yield start
    for server in running:
        server.stop()
