"""Sessions that sleep, and connections that dribble, beside others (bench/idle_sessions.py)."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import psutil
import pytest

from harness.process_cluster import ProcessCluster
from harness.wire import WireClient

pytestmark = [pytest.mark.integration, pytest.mark.slow]

IDLE = 300
DRIBBLING = 30
KB_PER_SESSION = 100


def test_idle_sessions_are_cheap_and_slow_peers_hold_nobody_up(tmp_path: Path) -> None:
    cluster = ProcessCluster(tmp_path, 1)
    node = cluster.nodes[0]
    # what a shell hands out is not enough for so many: the node asks for more itself
    node.prefix = ["sh", "-c", f'ulimit -S -n {IDLE}; exec "$@"', "sh"]
    try:
        cluster.start()
        assert node.process is not None
        process = psutil.Process(node.process.pid)
        with WireClient(node.rpc_port, timeout_s=60) as client:
            client.insert_row("root.idle.d", ["s"], 1, [1.0])
            before = process.memory_info().rss
            sleeping = [WireClient(node.rpc_port, timeout_s=60) for _ in range(IDLE)]
            for other in sleeping:
                assert other.query("select s from root.idle.d") == [[1, 1.0]]
            grown = (process.memory_info().rss - before) / IDLE / 1024
            assert grown < KB_PER_SESSION, f"{grown:.0f} KB for each idle session"

            # a frame that never gets on: its first bytes, and no more
            peers = [
                socket.create_connection(("127.0.0.1", node.rpc_port)) for _ in range(DRIBBLING)
            ]
            for number, peer in enumerate(peers):
                peer.sendall((struct.pack(">i", 1_000_000) + b"\x80")[: 1 + number % 5])
            for time in range(2, 52):
                client.insert_row("root.idle.d", ["s"], time, [float(time)])
                for peer in peers[time % DRIBBLING :: DRIBBLING]:
                    peer.sendall(b"\x80" if time % DRIBBLING % 5 == 4 else b"")
            assert client.query("select count(s) from root.idle.d") == [[51]]
            assert len(client.raw.fetchAllConnectionsInfo().connectionInfoList) == IDLE + 1
            for other in sleeping:
                other.close()
            for peer in peers:
                peer.close()
        cluster.stop()
    finally:
        cluster.kill_all()
