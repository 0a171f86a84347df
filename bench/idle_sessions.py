"""What idle sessions cost: memory of each, and throughput of others beside them.

usage: python bench/idle_sessions.py [--idle N] [--active N] [--seconds S] [--rounds N] [--record]

One node as a process of its own. The active clients write rows and read them, in rounds: alone,
beside slow peers, alone, beside the idle sessions, alone … Each figure beside others is divided by
the mean of those alone before and after it. Prints one line of JSON:

- `kb_per_session`: growth of the node's resident memory per idle session (acceptance: < 100);
- `ratio`: throughput beside the idle sessions over that alone, median of the rounds (>= 0.9);
- `slow_ratio`: the same with connections beside that send one byte of a request each second.
"""

from __future__ import annotations

import argparse
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

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "test")]

from report import report  # noqa: E402

from harness.process_cluster import Node, process_cluster  # noqa: E402
from harness.wire import WireClient  # noqa: E402

SLOW = 50


class Load:
    """Clients that write a row and now and then read it back, until told to stop."""

    def __init__(self, port: int, count: int) -> None:
        self.clients = [WireClient(port, timeout_s=120) for _ in range(count)]
        self.times = [0] * count

    def run(self, seconds: float) -> float:
        """Requests per second."""
        end = time.monotonic() + seconds
        done = [0] * len(self.clients)

        def work(number: int) -> None:
            client = self.clients[number]
            while time.monotonic() < end:
                self.times[number] += 1
                now = self.times[number]
                client.insert_row(f"root.idle.d{number}", ["s"], now, [now])
                if now % 10 == 0:
                    sql = f"select s from root.idle.d{number} where time = {now}"
                    assert client.query(sql) == [[now, now]]
                    done[number] += 1
                done[number] += 1

        began = time.monotonic()
        threads = [
            threading.Thread(target=work, args=(number,)) for number in range(len(self.clients))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(done) / (time.monotonic() - began)


class SlowPeers:
    """Connections that send one byte of a frame each second."""

    def __init__(self, port: int, count: int) -> None:
        self._sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
        self._frame = struct.pack(">i", 1_000_000)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def _send(self) -> None:
        sent = 0
        while not self._stop.wait(1.0 if sent else 0):
            byte = self._frame[sent : sent + 1] or b"\x80"
            for peer in self._sockets:
                peer.sendall(byte)
            sent += 1

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        for peer in self._sockets:
            peer.close()


def resident_kb(node: Node) -> int:
    assert node.process is not None
    return int(psutil.Process(node.process.pid).memory_info().rss) // 1024


def closed(client: WireClient, process: psutil.Process, active: int, threads: int) -> None:
    """Wait until the node has ended the sessions that were closed, and their threads."""
    while (
        len(client.raw.fetchAllConnectionsInfo().connectionInfoList) > active
        or process.num_threads() > threads
    ):
        time.sleep(0.05)


def measure(idle: int, active: int, seconds: float, rounds: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder, process_cluster(Path(folder), 1) as cluster:
        node = cluster.nodes[0]
        assert node.process is not None
        process = psutil.Process(node.process.pid)
        load = Load(node.rpc_port, active)
        load.run(min(seconds, 2))  # warm
        threads = process.num_threads()
        beside, slow, growth = [], [], []
        alone = [load.run(seconds)]
        for _ in range(rounds):
            peers = SlowPeers(node.rpc_port, SLOW)
            try:
                slow.append(load.run(seconds))
            finally:
                peers.close()
            closed(load.clients[0], process, active, threads)
            alone.append(load.run(seconds))
            before = resident_kb(node)
            sleeping = [WireClient(node.rpc_port, timeout_s=60) for _ in range(idle)]
            for client in sleeping:  # each has done something before it sleeps
                client.query("select s from root.idle.** where time < 100")
            growth.append((resident_kb(node) - before) / max(1, idle))
            beside.append(load.run(seconds))
            shown = load.clients[0].raw.fetchAllConnectionsInfo()
            assert len(shown.connectionInfoList) == idle + active
            for client in sleeping:
                client.close()
            closed(load.clients[0], process, active, threads)
            alone.append(load.run(seconds))
        cluster.stop()

    def ratio(found: list[float], first: int) -> float:
        pairs = zip(alone[first::2], alone[first + 1 :: 2], strict=False)
        return statistics.median(
            2 * one / (before + after) for one, (before, after) in zip(found, pairs, strict=True)
        )

    return {
        "idle": idle,
        "active": active,
        "seconds": seconds,
        "kb_per_session": round(max(growth), 1),
        "alone_per_s": round(statistics.median(alone)),
        "beside_per_s": round(statistics.median(beside)),
        "ratio": round(ratio(beside, 1), 3),
        "slow_peers": SLOW,
        "slow_per_s": round(statistics.median(slow)),
        "slow_ratio": round(ratio(slow, 0), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--idle", type=int, default=2000)
    parser.add_argument("--active", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--record", action="store_true", help="append to bench/results.jsonl")
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, max(soft, 2 * options.idle + 1000))
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    figures = measure(options.idle, options.active, options.seconds, options.rounds)
    report("idle_sessions", figures, record=options.record)


if __name__ == "__main__":
    main()
