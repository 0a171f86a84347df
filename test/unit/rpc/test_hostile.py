"""Ten thousand hostile frames: the servers go on, and keep their memory."""

from __future__ import annotations

import logging
import random

import psutil
import pytest
from thrift.protocol.TBinaryProtocol import TBinaryProtocolAccelerated
from thrift.transport import TSocket, TTransport

from cluster.rpc.gen.client import IClientRPCService
from cluster.rpc.gen.cluster import MetaGroupService
from cluster.rpc.server import Connection, ServerLimits, ThriftServer
from cluster.threads import ThreadRegistry
from harness.hostile import hostile_frames, throw_frames

FRAMES = 5000


class TrivialHandler:
    """Answers every method of a service with an empty value of the right type."""

    def __init__(self, service):
        self._service = service

    def __getattr__(self, name):
        result = getattr(self._service, f"{name}_result", None)
        if result is None:
            raise AttributeError(name)

        def answer(*arguments):
            if not result.thrift_spec:
                return None
            kind = result.thrift_spec[0][3]
            return kind[0]() if isinstance(kind, list) else 1

        return answer


@pytest.mark.parametrize("service", [IClientRPCService, MetaGroupService])
def test_hostile_frames(service, caplog):
    caplog.set_level(logging.CRITICAL)  # a line for each frame is not what this is about
    ended = []

    def on_disconnect(connection: Connection) -> None:
        ended.append(connection.number)

    threads = ThreadRegistry()
    server = ThriftServer(
        "hostile",
        service.Processor(TrivialHandler(service)),
        "127.0.0.1",
        0,
        threads,
        ServerLimits(max_frame_bytes=64 << 20),
        on_disconnect,
    )
    server.start()
    process = psutil.Process()
    try:
        rng = random.Random(2333)
        throw_frames(server.port, hostile_frames(rng, 500), rng)  # warm: allocator, caches
        before = process.memory_info().rss
        opened = throw_frames(server.port, hostile_frames(rng, FRAMES), rng)
        grown = process.memory_info().rss - before
        assert opened > FRAMES / 4
        assert grown < 50 << 20, f"{grown >> 20} MB"
        _assert_serving(server.port, service)
    finally:
        server.stop()
    assert len(ended) == len(set(ended))
    assert server.connection_count() == 0
    assert threads.join_all(5) == []


def _assert_serving(port, service):
    transport = TTransport.TFramedTransport(TSocket.TSocket("127.0.0.1", port))
    transport.open()
    client = service.Client(TBinaryProtocolAccelerated(transport))
    if service is IClientRPCService:
        assert client.requestStatementId(1) == 1
    else:
        assert client.queryNodeStatus() is not None
    transport.close()


def test_frames_are_reproducible():
    first = list(hostile_frames(random.Random(7), 200))
    assert first == list(hostile_frames(random.Random(7), 200))
    assert len({len(frame) for frame in first}) > 50
