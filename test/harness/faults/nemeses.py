"""Nemeses: each breaks something, proves that it is broken, and mends it.

`inject` returns when the fault is in effect and says how that was seen; `heal` returns at the
fault's end, from which moment on every group has to serve again. A node that was killed, or gave
up by itself, is started again by `heal`: its fault ends when it says that it is ready.
"""

from __future__ import annotations

import random
import re
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from thrift.transport.TTransport import TTransportException

from harness import disks, namespaces, stepped_clock
from harness.disks import Disk
from harness.namespaces import Network
from harness.node_status import led_groups
from harness.process_cluster import Node, ProcessCluster
from harness.stepped_clock import set_offset
from harness.wire import WireClient

DISK_WAS_FULL = "No space left on device"
_GIVES_UP = re.compile(r"CRITICAL.*(Raft log|stops at term)|cannot store any more")
"""A full disk that it only failed to make a file ahead on is no reason for a node to end."""
_STATUS_ERRORS = (OSError, TTransportException, EOFError)


class Ineffective(AssertionError):
    """A fault was ordered but nothing is broken: the harness is at fault."""


class Grounds(NamedTuple):
    """What nemeses work on."""

    cluster: ProcessCluster
    disks: dict[int, Disk]
    rng: random.Random


class Nemesis:
    """One kind of fault.

    Attributes:
        name: on the command line and in the tally.
        lasts: whether it is to be held for a while between `inject` and `heal`.
    """

    name = ""
    lasts = True

    def __init__(self, grounds: Grounds) -> None:
        self.grounds = grounds
        self.cluster = grounds.cluster
        self.rng = grounds.rng

    @classmethod
    def unavailable(cls) -> str:
        """Why this machine can't do it, or ""."""
        return ""

    def inject(self) -> str:
        raise NotImplementedError

    def heal(self) -> None:
        raise NotImplementedError

    def any_node(self) -> Node:
        return self.rng.choice(self.cluster.nodes)

    def a_leader(self) -> Node:
        """A node that leads a group, the meta group's or another's, by chance."""
        leaders = []
        for node in self.cluster.nodes:
            with suppress(*_STATUS_ERRORS):
                leaders += [node for _ in led_groups(node.meta_port, node.host, 2)]
        return self.rng.choice(leaders or self.cluster.nodes)


def restart_dead(cluster: ProcessCluster) -> None:
    """Start whatever has ended, and wait until all are ready."""
    started = []
    for node in cluster.nodes:
        if node.process is not None and node.process.poll() is not None:
            node.process = None
        if node.process is None:
            node.start()
            started.append(node)
    for node in started:
        node.wait_ready()


class Kill(Nemesis):
    """kill -9 of the nodes that `pick` names."""

    def __init__(self, grounds: Grounds) -> None:
        super().__init__(grounds)
        self.killed: list[Node] = []

    def pick(self) -> list[Node]:
        return [self.any_node()]

    def inject(self) -> str:
        self.killed = self.pick()
        processes = []
        for node in self.killed:
            assert node.process is not None
            processes.append(node.process)
            node.process.kill()
        for node in self.killed:
            node.kill()
        codes = [process.returncode for process in processes]
        if codes != [-signal.SIGKILL] * len(codes):
            raise Ineffective(f"ended with {codes} instead of by SIGKILL")
        return f"processes {[process.pid for process in processes]} ended by SIGKILL"

    def heal(self) -> None:
        restart_dead(self.cluster)


class KillOne(Kill):
    name = "kill-one"


class KillLeader(Kill):
    name = "kill-leader"

    def pick(self) -> list[Node]:
        return [self.a_leader()]


class KillAll(Kill):
    name = "kill-all"

    def pick(self) -> list[Node]:
        return list(self.cluster.nodes)


class Pause(Nemesis):
    """SIGSTOP: the node hangs, its connections stay open."""

    name = "pause"

    def __init__(self, grounds: Grounds) -> None:
        super().__init__(grounds)
        self.paused: list[Node] = []

    def pick(self) -> list[Node]:
        return [self.any_node()]

    def inject(self) -> str:
        self.paused = self.pick()
        for node in self.paused:
            node.pause()
        for node in self.paused:
            assert node.process is not None
            wait_until(lambda pid=node.process.pid: process_state(pid) == "T", "not stopped")
        return f"nodes {[node.number for node in self.paused]} are in state T"

    def heal(self) -> None:
        for node in self.paused:
            node.resume()
        for node in self.paused:
            assert node.process is not None
            wait_until(lambda pid=node.process.pid: process_state(pid) != "T", "still stopped")


class PauseLeader(Pause):
    name = "pause-leader"

    def pick(self) -> list[Node]:
        return [self.a_leader()]


class PauseAll(Pause):
    """Every node sleeps past its lease at once, as a machine that is suspended."""

    name = "pause-all"

    def pick(self) -> list[Node]:
        return list(self.cluster.nodes)


class Partition(Nemesis):
    """Some packets between nodes vanish; clients reach all nodes."""

    @classmethod
    def unavailable(cls) -> str:
        return namespaces.unavailable()

    @property
    def network(self) -> Network:
        assert self.cluster.network is not None
        return self.cluster.network

    def prove(self, lost: set[tuple[int, int]]) -> str:
        """Send a datagram over each link."""
        numbers = [node.number for node in self.cluster.nodes]
        links = [(a, b) for a in numbers for b in numbers if a != b]
        found = self.network.lost(links, lost)
        if found != lost:
            raise Ineffective(f"links {sorted(lost)} should lose packets, {sorted(found)} do")
        return f"datagrams are lost on the links {sorted(lost)} only"

    def heal(self) -> None:
        self.network.heal()

    def separate(self, numbers: set[int]) -> str:
        self.network.cut_off(numbers)
        rest = {node.number for node in self.cluster.nodes} - numbers
        return self.prove(
            {(a, b) for a in numbers for b in rest} | {(b, a) for a in numbers for b in rest}
        )


class IsolateLeader(Partition):
    name = "isolate-leader"

    def inject(self) -> str:
        return self.separate({self.a_leader().number})


class Halves(Partition):
    """A random minority on one side, the majority on the other."""

    name = "partition-halves"

    def inject(self) -> str:
        numbers = [node.number for node in self.cluster.nodes]
        return self.separate(set(self.rng.sample(numbers, (len(numbers) - 1) // 2)))


class OneWay(Partition):
    """One node can't send to another, but hears it."""

    name = "partition-one-way"

    def inject(self) -> str:
        sender = self.a_leader().number
        receiver = self.rng.choice(
            [node.number for node in self.cluster.nodes if node.number != sender]
        )
        if self.rng.random() < 0.5:
            sender, receiver = receiver, sender
        self.network.cut(sender, receiver)
        return self.prove({(sender, receiver)})


class Deaf(Partition):
    """A node hears nobody but is heard by all: what makes naive clusters elect without end."""

    name = "partition-deaf"

    def inject(self) -> str:
        deaf = self.any_node().number
        others = [node.number for node in self.cluster.nodes if node.number != deaf]
        for other in others:
            self.network.cut(other, deaf)
        return self.prove({(other, deaf) for other in others})


class Ring(Partition):
    """Every node sees a majority, no two the same one (of five: its two neighbours and itself)."""

    name = "partition-ring"

    @classmethod
    def unavailable(cls) -> str:
        return namespaces.unavailable()

    def inject(self) -> str:
        numbers = [node.number for node in self.cluster.nodes]
        size = len(numbers)
        lost = set()
        for i, a in enumerate(numbers):
            for j, b in enumerate(numbers):
                if i != j and min((i - j) % size, (j - i) % size) > (size - 1) // 4:
                    lost.add((a, b))
        if size == 3:  # of three: the link of two of them is cut, both see the third
            cut = self.rng.sample(numbers, 2)
            lost = {(cut[0], cut[1]), (cut[1], cut[0])}
        for a, b in lost:
            self.network.cut(a, b)
        return self.prove(lost)


class OnDisk(Nemesis):
    def __init__(self, grounds: Grounds) -> None:
        super().__init__(grounds)
        self.disk: Disk | None = None

    @classmethod
    def unavailable(cls) -> str:
        return disks.unavailable()


class FullDisk(OnDisk):
    """A node's disk has no free block; whoever runs it makes room, and starts it if it gave up."""

    name = "full-disk"

    def __init__(self, grounds: Grounds) -> None:
        super().__init__(grounds)
        self.node: Node | None = None

    def inject(self) -> str:
        self.node = node = self.any_node()
        self.disk = self.grounds.disks[node.number]
        self.disk.fill()
        if not self.disk.is_full():
            raise Ineffective("a file of two blocks found room on the full disk")
        return f"node {node.number}: ENOSPC for a file of two blocks"

    def heal(self) -> None:
        assert self.disk is not None
        assert self.node is not None
        assert self.node.process is not None
        self.disk.make_room()
        if _GIVES_UP.search(self.node.log()):
            # it ends for good; found alive in the second that this takes, it would be taken for
            # one that goes on
            self.node.process.wait(60)
        restart_dead(self.cluster)


class SlowDisk(OnDisk):
    """Writes and syncs of a node stall for a third of a second again and again."""

    name = "slow-disk"
    stall_s = 0.3

    def inject(self) -> str:
        node = self.any_node()
        self.disk = self.grounds.disks[node.number]
        self.disk.slow_down(self.stall_s)
        worst = self.disk.worst_sync_s(3 * self.stall_s)
        if worst < self.stall_s / 2:
            raise Ineffective(f"a sync takes {worst:.3f} s at most")
        return f"node {node.number}: a synced write took {worst:.2f} s"

    def heal(self) -> None:
        assert self.disk is not None
        self.disk.normal_speed()


class HangingDisk(SlowDisk):
    """One stall of four seconds, longer than an election."""

    name = "hanging-disk"
    stall_s = 4.0


class RollingRestart(Nemesis):
    """An orderly restart of one node after the other, as for an upgrade."""

    name = "rolling-restart"
    lasts = False

    def inject(self) -> str:
        before = [node.process.pid for node in self.cluster.nodes if node.process is not None]
        for node in self.cluster.nodes:
            node.stop()
            node.start()
            node.wait_ready()
        after = [node.process.pid for node in self.cluster.nodes if node.process is not None]
        if set(before) & set(after):
            raise Ineffective(f"processes {before} became {after}")
        return f"processes {before} became {after}"

    def heal(self) -> None:
        """Nothing is left broken."""


class ClockStep(Nemesis):
    """The wall clock of a node jumps; its monotonic clock does not, as on a real machine."""

    name = "clock-step"
    steps_s = (-3600, 3600, -5, 5)

    def __init__(self, grounds: Grounds) -> None:
        super().__init__(grounds)
        self.node: Node | None = None

    def inject(self) -> str:
        self.node = self.any_node()
        step = self.rng.choice(self.steps_s)
        set_offset(clock_file(self.node), step * 1_000_000_000)
        seen = self._offset_s(self.node)
        if abs(seen - step) > 2.5:
            raise Ineffective(f"node {self.node.number} is {seen:.1f} s off instead of {step}")
        return f"node {self.node.number} stamps rows {seen:+.1f} s off"

    def _offset_s(self, node: Node) -> float:
        """How far off the time is that the node gives to a row inserted without one."""
        device = f"root.clock{node.number}.d"
        with WireClient(node.rpc_port, host=node.host) as client:
            before = time.time()
            client.execute(f"insert into {device}(s) values(1)")
            [row] = client.query(f"select s from {device}")
            client.execute(f"delete from {device}.*")
        return float(row[0]) / 1000 - before

    def heal(self) -> None:
        assert self.node is not None
        set_offset(clock_file(self.node), 0)


def clock_file(node: Node) -> Path:
    return node.folder / "clock"


def give_clocks(cluster: ProcessCluster) -> None:
    """Let every node run under a wall clock of its own; before they start."""
    for node in cluster.nodes:
        node.folder.mkdir(parents=True, exist_ok=True)
        set_offset(clock_file(node), 0)
        node.runner = [
            str(Path(stepped_clock.__file__)),
            str(clock_file(node)),
            "cluster.node_command",
        ]


def process_state(pid: int) -> str:
    """The letter of /proc: R, S, D, T, Z."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def wait_until(condition: Callable[[], bool], problem: str, timeout_s: float = 10) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise Ineffective(problem)
        time.sleep(0.01)


ALL: tuple[type[Nemesis], ...] = (
    KillOne,
    KillLeader,
    KillAll,
    Pause,
    PauseLeader,
    PauseAll,
    IsolateLeader,
    Halves,
    OneWay,
    Deaf,
    Ring,
    FullDisk,
    SlowDisk,
    HangingDisk,
    RollingRestart,
    ClockStep,
)
