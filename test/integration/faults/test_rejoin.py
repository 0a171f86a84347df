"""Acceptance test 6 of the design: a node rejoins after a million missed points, past compaction.

TEST_REJOIN_POINTS=1000000 is the long form; it also holds the figures to their targets, for which
the machine has to be quiet. With 50 million the stream counts and not what any transfer costs.

The rate is that of the bytes sent: records as the store has them, keys and compressed pages. It is
held against a file written and synced, and a connection within the machine, of as many bytes.
"""

from __future__ import annotations

import os
import re
import socket
import statistics
import threading
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import psutil
import pytest

from harness.faults.serving import storage_groups
from harness.node_status import node_status
from harness.process_cluster import Node, process_cluster
from harness.replicas import assert_replicas_equal
from harness.wire import WireClient

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]

POINTS = int(os.environ.get("TEST_REJOIN_POINTS", "100000"))
IS_LONG = POINTS >= 1_000_000
COLUMNS = [f"v{number}" for number in range(10)]
ROWS = 1000
PIECE_BYTES = 512 << 10
MAX_GROWTH_BYTES = 96 << 20
"""What either side may take for a transfer: a few pieces, a flush, the store's write buffers."""

SETTINGS = {
    "raft_log_segment_bytes": str(1 << 20),
    "raft_log_keep_bytes": str(1 << 20),
    "raft_log_keep_absent_bytes": str(256 << 10),
    "memtable_bytes": str(16 << 20),
    "snapshot_rate_bytes_per_s": "0",
}


class Pulse:
    """Single rows to the leader, one after the other: (when, how long) of each, in seconds."""

    def __init__(self, node: Node, device: str) -> None:
        self.samples: list[tuple[float, float]] = []
        self._node = node
        self._device = device
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Pulse:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        row = 0
        with WireClient(self._node.rpc_port, self._node.host, timeout_s=60) as client:
            while not self._stop.wait(0.001):
                row += 1
                began = time.time()
                client.insert_row(self._device, ["p"], row, [float(row)])
                self.samples.append((began, time.time() - began))

    def p99_ms(self, since: float, until: float) -> tuple[float, int]:
        """The 99th percentile of the calls that began in a time, and how many there were."""
        found = [took * 1000 for began, took in self.samples if since <= began <= until]
        if len(found) < 2:
            return 0.0, len(found)
        return statistics.quantiles(found, n=100)[98], len(found)


class Memory:
    """The largest resident size of nodes' processes while the block lasts, above a size each."""

    def __init__(self, sizes: list[tuple[Node, int]]) -> None:
        self._processes = [process_of(node) for node, _ in sizes]
        self._first = [size for _, size in sizes]
        self.growth = [0 for _ in sizes]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            for number, process in enumerate(self._processes):
                grown = process.memory_info().rss - self._first[number]
                self.growth[number] = max(self.growth[number], grown)


def process_of(node: Node) -> psutil.Process:
    assert node.process is not None
    return psutil.Process(node.process.pid)


def resident_bytes(node: Node) -> int:
    return int(process_of(node).memory_info().rss)


def cpu_s(node: Node) -> float:
    """Processor time of a node's process so far."""
    times = process_of(node).cpu_times()
    return float(times.user + times.system)


def write(node: Node, device: str, points: int) -> None:
    """Values that hardly compress, so that there is something to send."""
    rng = np.random.default_rng(6)
    with WireClient(node.rpc_port, node.host, timeout_s=60) as client:
        for first in range(0, points // len(COLUMNS), ROWS):
            times = np.arange(first, first + ROWS)
            client.insert_tablet(device, COLUMNS, times, rng.random((len(COLUMNS), ROWS)))


def applied(node: Node, group_id: int) -> int:
    """-1 while the node, or its member, is not there yet."""
    try:
        members = node_status(node.meta_port, node.host).members
    except OSError:
        return -1
    return next((m.appliedIndex for m in members if m.groupId == group_id), -1)


def log_times(node: Node, pattern: str) -> list[float]:
    """When, by the wall clock, a node logged lines with a pattern."""
    stamps = re.findall(rf"^(\S+ \S+),(\d+) .*{pattern}", node.log(), re.MULTILINE)
    return [
        datetime.strptime(at, "%Y-%m-%d %H:%M:%S").timestamp() + int(ms) / 1000  # noqa: DTZ007 - local time, as logged
        for at, ms in stamps
    ]


def loopback_rate(size: int) -> float:
    """Bytes a second through a TCP connection of this machine with itself, in pieces."""
    server = socket.create_server(("127.0.0.1", 0))
    sender = socket.create_connection(server.getsockname())
    receiver, _ = server.accept()

    def send() -> None:
        for _ in range(0, size, PIECE_BYTES):
            sender.sendall(bytes(PIECE_BYTES))
        sender.close()

    thread = threading.Thread(target=send)
    began = time.monotonic()
    thread.start()
    while receiver.recv(1 << 20):
        pass
    took = time.monotonic() - began
    thread.join()
    receiver.close()
    server.close()
    return size / took


def disk_rate(folder: Path, size: int) -> float:
    """Bytes a second that a file takes in pieces, until they are durable."""
    piece = os.urandom(PIECE_BYTES)
    began = time.monotonic()
    with (folder / "rate").open("wb") as file:
        for _ in range(0, size, PIECE_BYTES):
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    return size / (time.monotonic() - began)


def test_06_a_node_rejoins_after_missed_points_past_log_compaction(tmp_path: Path) -> None:
    """It takes a snapshot at half the rate of disk or loopback; the leader hardly notices."""
    with process_cluster(tmp_path, 3, **SETTINGS) as cluster:
        group_id, [name] = next(iter(storage_groups(cluster, per_group=1).items()))
        leader = cluster.leader_of(group_id)
        follower = next(node for node in cluster.nodes if node is not leader)
        fresh = resident_bytes(follower)
        write(leader, f"{name}.d", ROWS * len(COLUMNS))
        before_kill = applied(leader, group_id)
        follower.kill()
        write(leader, f"{name}.d", POINTS)
        with WireClient(leader.rpc_port, leader.host, timeout_s=60) as client:
            client.execute("flush")
        wait_until_compacted(leader, group_id, before_kill)
        with Pulse(leader, f"{name}.pulse") as pulse:
            quiet_from = time.time()
            time.sleep(4)
            quiet_until = time.time()
            follower.start()
            began, began_at = time.monotonic(), time.time()
            used = cpu_s(leader)
            with Memory([(leader, resident_bytes(leader)), (follower, fresh)]) as memory:
                follower.wait_ready()
                # what was there when it was ready; rows of the pulse go on meanwhile
                target = applied(leader, group_id)
                while applied(follower, group_id) < target:
                    assert time.monotonic() - began < 300
                    time.sleep(0.02)
            caught_up_s = time.monotonic() - began
            used = cpu_s(leader) - used
            time.sleep(0.2)
        report = re.findall(
            rf"group {group_id}: node \d+: snapshot at \d+ installed after ([\d.]+) s, (\d+) bytes "
            r"sent; ([\d.]+) s of it after the last piece",
            leader.log(),
        )
        assert report, "no snapshot was sent: the log was not compacted"
        took_s, size, install_s = float(report[-1][0]), int(report[-1][1]), float(report[-1][2])
        [made_s, *_] = re.findall(
            rf"group {group_id}: snapshot at \d+ goes to node \d+, ([\d.]+) s", leader.log()
        )
        [sent_at, *_] = log_times(leader, rf"group {group_id}: snapshot at \d+ goes to")
        before_ms, calls_before = pulse.p99_ms(quiet_from, quiet_until)
        # a short transfer alone would be too few calls for a percentile
        during_ms, calls = pulse.p99_ms(sent_at, sent_at + max(took_s, 1.0))
        rate = size / max(took_s, 0.001)
        loopback, disk = loopback_rate(size), disk_rate(tmp_path, size)
        print(
            f"\n{POINTS} missed points as {size} bytes of stored records "
            f"({size / POINTS:.2f} bytes a point), all counted: {rate / 1e6:.1f} MB/s; disk "
            f"{disk / 1e6:.0f}, loopback {loopback / 1e6:.0f} MB/s for as many bytes\n"
            f"  noticed {sent_at - began_at:.2f} s after the process began, made in {made_s} s, "
            f"streamed in {took_s - install_s:.3f} s "
            f"({size / max(took_s - install_s, 0.001) / 1e6:.1f} MB/s), installed in "
            f"{install_s:.3f} s; caught up {caught_up_s:.2f} s after the process began\n"
            f"  processor time since: {used:.2f} s of the leader, {cpu_s(follower):.2f} s of the "
            f"other with its start\n"
            f"  leader's p99 {before_ms:.1f} ms before ({calls_before} calls), {during_ms:.1f} ms "
            f"during ({calls} calls); memory grew by {memory.growth[0] >> 20} MiB at the leader, "
            f"{memory.growth[1] >> 20} MiB at the other"
        )
        assert_replicas_equal(cluster)
        with WireClient(follower.rpc_port, follower.host, timeout_s=60) as client:
            [counted] = client.query(f"select count({COLUMNS[-1]}) from {name}.d")
        assert counted == [POINTS // len(COLUMNS)]
        assert max(memory.growth) < MAX_GROWTH_BYTES
        if IS_LONG:
            assert rate >= 0.5 * min(disk, loopback)
            assert during_ms < 1.2 * before_ms


def wait_until_compacted(leader: Node, group_id: int, index: int) -> None:
    """Until the leader's log no longer has the entry behind `index`."""
    end = time.monotonic() + 60
    while True:
        members = node_status(leader.meta_port, leader.host).members
        if any(m.groupId == group_id and m.firstIndex > index + 1 for m in members):
            return
        assert time.monotonic() < end, "the log was not compacted"
        time.sleep(0.1)
