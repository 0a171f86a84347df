"""Sessions that do nothing cost next to nothing, and slow senders hold nobody up.

The whole form, with figures: `python test/integration/test_idle_sessions.py 2000`.
"""

from __future__ import annotations

import resource
import socket
import statistics
import struct
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest

from harness.process_cluster import Node, process_cluster
from harness.wire import WireClient

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(300)]

NAMES = [f"s{n}" for n in range(10)]


def throughput(port: int, clients: int, seconds: float) -> float:
    """Rows a second that some writers get acknowledged, together."""
    counts = [0] * clients
    begin = threading.Barrier(clients + 1)
    end = [0.0]

    def write(number: int) -> None:
        with WireClient(port, timeout_s=60) as client:
            client.insert_row(f"root.idle.d{number}", NAMES, 0, [0.5] * 10)
            begin.wait()
            time_ = 1
            while time.monotonic() < end[0]:
                client.insert_row(f"root.idle.d{number}", NAMES, time_, [0.5] * 10)
                time_ += 1
                counts[number] += 1

    threads = [threading.Thread(target=write, args=(n,)) for n in range(clients)]
    for thread in threads:
        thread.start()
    end[0] = time.monotonic() + seconds + 0.05
    begin.wait()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


def dribble(port: int, stop: threading.Event) -> None:
    """Send a request of a thousand bytes, one each second."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(struct.pack(">i", 1000))
        while not stop.wait(1.0):
            sock.sendall(b"\x80")


def measure(node: Node, sessions: int, seconds: float, rounds: int) -> dict[str, float]:
    """Compare writers alone with writers beside idle sessions and slow senders."""
    assert node.process is not None
    process = psutil.Process(node.process.pid)
    throughput(node.rpc_port, 16, seconds / 2)  # warm
    before = process.memory_info().rss
    idle = [WireClient(node.rpc_port, timeout_s=60) for _ in range(sessions)]
    held = process.memory_info().rss - before
    for client in idle:
        client.close()
    alone, beside = [], []
    for _ in range(rounds):
        alone.append(throughput(node.rpc_port, 16, seconds))
        idle = [WireClient(node.rpc_port, timeout_s=60) for _ in range(sessions)]
        stop = threading.Event()
        slow = [threading.Thread(target=dribble, args=(node.rpc_port, stop)) for _ in range(4)]
        for thread in slow:
            thread.start()
        beside.append(throughput(node.rpc_port, 16, seconds))
        stop.set()
        for thread in slow:
            thread.join()
        assert idle[0].run("show version") is not None
        for client in idle:
            client.close()
    return {
        "sessions": sessions,
        "alone_per_s": statistics.median(alone),
        "beside_per_s": statistics.median(beside),
        "ratio": statistics.median(beside) / statistics.median(alone),
        "kib_per_session": held / sessions / 1024,
    }


def test_idle_sessions_cost_little(tmp_path: Path) -> None:
    with process_cluster(tmp_path, 1) as cluster:
        found = measure(cluster.nodes[0], 300, 1.0, 1)
        print(found)
        assert found["kib_per_session"] < 100
        assert found["ratio"] > 0.5  # one short round on a shared machine; the whole form says more
        cluster.stop()


def main() -> None:
    sessions = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 2 * sessions + 1000), hard))
    with (
        tempfile.TemporaryDirectory() as folder,
        process_cluster(
            Path(folder), 1, rpc_max_concurrent_client_num=str(sessions + 200)
        ) as cluster,
    ):
        print(measure(cluster.nodes[0], sessions, 4.0, 3))
        cluster.stop()


if __name__ == "__main__":
    main()
