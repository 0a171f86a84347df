"""Acceptance test 6 of the design: a node rejoins after a million missed points, past compaction.

Twice: a node whose process was killed, and begins again, and one that runs, and was not reached for
a while (it is stopped, as a machine that is suspended). TEST_REJOIN_POINTS=1000000 is the long
form, with several transfers each (TEST_REJOIN_ROUNDS sets how many more than one); with 50 million
the stream counts, and not what any transfer costs.

What must hold is asserted: a snapshot was needed, the replicas are equal, no memory that grows with
what was missed. How quick it is depends on the machine, and what else it does: that is printed, and
held against a file written and synced, and a connection within the machine, of as many bytes.

The rate is that of the bytes sent: records as the store has them, keys and compressed pages. Time
counts from the first piece to the answer that the state is installed, durably; it was read from the
leader's store, which had to be flushed before ("made"). Beside it stands that of raw points,
16 bytes each.

The leader's latency is that of single rows from another process: while the snapshots are made and
sent (the calls are few), and until a second later, beside that of a second with three nodes soon
after each. A node that starts takes a core for its imports for most of a second; that shows as a
time of its own, since elsewhere it happens on another machine.
"""

from __future__ import annotations

import os
import re
import statistics
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import pytest

from harness.faults.serving import storage_groups
from harness.joining import join_all
from harness.machine_rates import disk_s, loopback_s
from harness.node_status import node_status
from harness.process_cluster import Node, ProcessCluster, process_cluster
from harness.pulse import Pulse
from harness.replicas import assert_replicas_equal
from harness.wire import WireClient

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]

POINTS = int(os.environ.get("TEST_REJOIN_POINTS", "100000"))
ROUNDS = int(
    os.environ.get("TEST_REJOIN_ROUNDS", "7" if 1_000_000 <= POINTS <= 10_000_000 else "1")
)
"""So many more transfers, of the same and a little more: one alone is too few calls to tell."""
MISSED_AGAIN = 50_000
QUIET_S = 3.0 if POINTS >= 1_000_000 else 1.0
PATIENCE_S = 60.0
NO_ANSWER = "does not answer"
ALWAYS = 0.0, float("inf")
COLUMNS = [f"v{number}" for number in range(10)]
ROWS = 1000
MAX_GROWTH_BYTES = 96 << 20
"""What either side may take for a transfer: a few pieces, a flush, the store's write buffers."""

SETTINGS = {
    "raft_log_segment_bytes": str(1 << 20),
    "raft_log_keep_bytes": str(1 << 20),
    "raft_log_keep_absent_bytes": str(256 << 10),
    "memtable_bytes": str(16 << 20),
    "snapshot_rate_bytes_per_s": "0",
}


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
        join_all(self._thread)

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
        members = node_status(node.meta_port, node.host, PATIENCE_S).members
    except OSError:
        return -1
    return next((m.appliedIndex for m in members if m.groupId == group_id), -1)


class Shipped(NamedTuple):
    """One transfer, as both sides logged it."""

    sent_at: float
    took_s: float
    size: int
    made_s: float
    install_s: float

    @property
    def window(self) -> tuple[float, float]:
        return self.sent_at - self.made_s, self.sent_at + self.took_s

    @property
    def rate(self) -> float:
        """Bytes a second, from the first piece to the answer that the state is installed."""
        return self.size / max(self.took_s, 0.0001)


def shipped(leader: Node, follower: Node, group_id: int) -> list[Shipped]:
    """Return the transfers that were installed, in order."""
    begins = re.compile(rf"(\S+ \S+),(\d+) .*group {group_id}: .*, ([\d.]+) s after it was ordered")
    ends = re.compile(rf"group {group_id}: .* installed after ([\d.]+) s, (\d+) bytes sent")
    logs = [(follower.folder / f"node.{n}.log").read_text() for n in range(1, follower.starts + 1)]
    installs = iter(re.findall(rf"group {group_id}: .* installed in ([\d.]+) s", "".join(logs)))
    found, begun = [], None
    for line in leader.log().splitlines():
        begun = begins.search(line) or begun
        ended = ends.search(line)
        if ended and begun:
            at, ms, made_s = begun.groups()
            # local time, as it is logged
            sent_at = datetime.strptime(at, "%Y-%m-%d %H:%M:%S").timestamp() + int(ms) / 1000  # noqa: DTZ007
            took_s, size = float(ended[1]), int(ended[2])
            found.append(Shipped(sent_at, took_s, size, float(made_s), float(next(installs))))
    return found


def retries(leader: Node, group_id: int) -> list[str]:
    """Return why transfers were begun again: each costs a quarter of a second, or more."""
    return re.findall(rf"group {group_id}: snapshot to node \d+: (try .*)", leader.log())


def wait_until(is_so: Callable[[], bool], otherwise: str) -> None:
    # seldom: a look may take a node and this process some milliseconds of the cores
    end = time.monotonic() + 300
    while not is_so():
        assert time.monotonic() < end, otherwise
        time.sleep(0.1)


def wait_until_applied(node: Node, group_id: int, index: int) -> None:
    wait_until(lambda: applied(node, group_id) >= index, "it does not catch up")


class Rejoin:
    """A follower misses points, and comes back; what it was like.

    Args:
        leave: what keeps the follower from hearing anything.
        come_back: what ends that.
    """

    def __init__(
        self,
        cluster: ProcessCluster,
        leave: Callable[[Node], None],
        come_back: Callable[[Node], None],
    ) -> None:
        self.cluster = cluster
        self._leave = leave
        self._come_back = come_back
        self.group_id, [self.name] = next(iter(storage_groups(cluster, per_group=1).items()))
        self.leader = cluster.leader_of(self.group_id)
        self.follower = next(node for node in cluster.nodes if node is not self.leader)
        self._quiet: list[tuple[float, float]] = []

    def run(self, folder: Path) -> None:
        """Have it miss the points, and a few more some more times; print what that was like."""
        leader, follower, group_id = self.leader, self.follower, self.group_id
        fresh = resident_bytes(follower)
        write(leader, f"{self.name}.d", ROWS * len(COLUMNS))
        with Pulse(leader, f"{self.name}.before") as before:
            time.sleep(QUIET_S)
        self._miss(f"{self.name}.d", POINTS)
        with Pulse(leader, f"{self.name}.pulse") as pulse:
            away = time.time(), time.time() + QUIET_S
            time.sleep(QUIET_S)
            began, began_at = time.monotonic(), time.time()
            used = cpu_s(leader)
            self._come_back(follower)
            with Memory([(leader, resident_bytes(leader)), (follower, fresh)]) as memory:
                follower.wait_ready()
                # what was there when it was ready; rows of the pulse go on meanwhile
                wait_until_applied(follower, group_id, applied(leader, group_id))
            caught_up_s = time.monotonic() - began
            used = cpu_s(leader) - used
            self._rest()
            for number in range(ROUNDS):
                self._again(f"{self.name}.round{number}")
        found = shipped(leader, follower, group_id)
        assert len(found) > ROUNDS // 2, "no snapshot was sent: the log was not compacted"
        first = found[0]
        loopback = statistics.median(first.size / loopback_s(first.size) for _ in range(5))
        disk = statistics.median(first.size / disk_s(folder, first.size) for _ in range(5))
        rate = statistics.median(item.rate for item in found)
        seconds = [(item.window[0], max(item.window[1], item.sent_at + 1)) for item in found]
        sending = [item.window for item in found]
        raw = first.rate * 16 * POINTS / first.size
        usual, during = pulse.within(self._quiet), pulse.within(seconds)
        print(
            f"\n{POINTS} missed points as {first.size} bytes of stored records "
            f"({first.size / POINTS:.2f} bytes a point): {first.rate / 1e6:.1f} MB/s from the "
            f"first piece to the answer that they are installed, {raw / 1e6:.0f} MB/s of "
            f"raw points of 16 bytes; disk {disk / 1e6:.0f}, loopback {loopback / 1e6:.0f} MB/s "
            f"for as many bytes\n"
            f"  noticed {first.sent_at - began_at:.2f} s after it came back, made in "
            f"{first.made_s * 1e3:.0f} ms, sent in {first.took_s * 1e3:.1f} ms, "
            f"{first.install_s * 1e3:.1f} of them to install it; caught up {caught_up_s:.2f} s "
            f"after it came back; {used:.2f} s of the leader's processor time\n"
            f"  {len(found)} transfers of the same, ms: "
            f"{' '.join(f'{item.took_s * 1e3:.1f}' for item in found)}; their median rate "
            f"{rate / 1e6:.1f} MB/s, {rate / min(disk, loopback):.2f} of the slower of the two; "
            f"begun again: {retries(leader, group_id)}\n"
            f"  rows at the leader: three nodes, before: {before.within([ALWAYS])}\n"
            f"    the follower away: {pulse.within([away])}\n"
            f"    from its return to the snapshot: {pulse.within([(began_at, first.sent_at)])}\n"
            f"    while a snapshot is made and sent: {pulse.within(sending)}\n"
            f"    within a second of that: {during}\n"
            f"    with three nodes, a second soon after each: {usual}; p99 "
            f"{(during.p99 / max(usual.p99, 0.001) - 1) * 100:+.0f} % within a second\n"
            f"  memory grew by {memory.growth[0] >> 20} MiB at the leader, "
            f"{memory.growth[1] >> 20} MiB at the other"
        )
        assert max(memory.growth) < MAX_GROWTH_BYTES
        assert_replicas_equal(self.cluster)
        with WireClient(follower.rpc_port, follower.host, timeout_s=60) as client:
            [counted] = client.query(f"select count({COLUMNS[-1]}) from {self.name}.d")
        assert counted == [POINTS // len(COLUMNS)]

    def _miss(self, device: str, points: int) -> None:
        """Have the follower miss so much that it needs a snapshot."""
        missed_from = applied(self.leader, self.group_id)
        known = self._unanswered()
        self._leave(self.follower)
        # or it would find in its sockets what was sent to it while it stood still
        wait_until(lambda: self._unanswered() > known, "nobody missed it")
        write(self.leader, device, points)
        flush_and_compact(self.leader, self.group_id, missed_from)

    def _unanswered(self) -> int:
        """How often the others found it not to answer."""
        others = [node for node in self.cluster.nodes if node is not self.follower]
        return sum(node.log().count(NO_ANSWER) for node in others)

    def _again(self, device: str) -> None:
        self._miss(device, MISSED_AGAIN)
        target = applied(self.leader, self.group_id)
        time.sleep(0.5)
        self._come_back(self.follower)
        self.follower.wait_ready()
        wait_until_applied(self.follower, self.group_id, target)
        self._rest()

    def _rest(self) -> None:
        """Until a second after the snapshot, and another second, for comparison."""
        time.sleep(1.2)
        began = time.time()
        time.sleep(1)
        self._quiet.append((began, time.time()))


def test_06_a_node_rejoins_after_missed_points_past_log_compaction(tmp_path: Path) -> None:
    """Its process was killed and begins again: both sides share two cores with its start."""
    with process_cluster(tmp_path, 3, own_interpreters=True, **SETTINGS) as cluster:
        Rejoin(cluster, Node.kill, Node.start).run(tmp_path)


def test_06_a_node_that_runs_rejoins_after_missed_points_past_log_compaction(
    tmp_path: Path,
) -> None:
    with process_cluster(tmp_path, 3, own_interpreters=True, **SETTINGS) as cluster:
        Rejoin(cluster, Node.pause, Node.resume).run(tmp_path)
        assert [node.starts for node in cluster.nodes] == [1, 1, 1]


def flush_and_compact(leader: Node, group_id: int, index: int) -> None:
    with WireClient(leader.rpc_port, leader.host, timeout_s=60) as client:
        client.execute("flush")
    wait_until_compacted(leader, group_id, index)


def wait_until_compacted(leader: Node, group_id: int, index: int) -> None:
    """Until the leader's log no longer has the entry behind `index`."""

    def is_compacted() -> bool:
        members = node_status(leader.meta_port, leader.host, PATIENCE_S).members
        return any(m.groupId == group_id and m.firstIndex > index + 1 for m in members)

    wait_until(is_compacted, "the log was not compacted")
