"""Workloads: client threads whose answers tell whether the cluster kept its promises.

* registers: single points, overwritten and read at strong consistency; linearizable.
* accounts: rows of several series whose sum never changes; also linearizable, as one row of one
  device is one entry of one group and so applies as a whole.
* sets: points at ever new times; none that was acknowledged may be missing, ever, and none may be
  there that nobody sent or that was refused.
"""

from __future__ import annotations

import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from harness.faults.clients import Answer, RovingClient
from harness.history import History, Operation, Outcome, now_ns
from harness.process_cluster import Node
from harness.wire import StatusError, WireClient

ACCOUNTS = ("a", "b", "c", "d")
TOTAL = 400.0
_OPERATIONS_PER_KEY = 120
_KEYS_AT_A_TIME = 2


class Workload(ABC):
    """Client threads on one storage group.

    Args:
        storage_group: its series belong to one data group.
        first_process: the clients' numbers start here.
        pause_s: mean time between two operations of a client.
    """

    name = ""

    def __init__(
        self,
        nodes: list[Node],
        storage_group: str,
        first_process: int,
        seed: int,
        clients: int = 3,
        pause_s: float = 0.01,
    ) -> None:
        self.clients = clients
        self._pause_s = pause_s
        self.storage_group = storage_group
        self.history = History()
        self.acknowledged_ns: list[int] = []
        self.crashes: list[str] = []
        self._nodes = nodes
        self._first_process = first_process
        self._seed = seed
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number,), daemon=True, name=f"client-{number}")
            for number in range(first_process, first_process + self.clients)
        ]

    columns: Sequence[str] = ()

    def prepare(self, client: WireClient) -> None:
        """Make the series: a query finds its series before it reads them, not at one instant."""
        for column in self.columns:
            client.execute(f"create timeseries {self.device}.{column} with datatype=DOUBLE")

    @property
    def device(self) -> str:
        return f"{self.storage_group}.{self.name}"

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float = 60) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout_s)
            if thread.is_alive():
                self.crashes.append(f"{thread.name} did not end")

    def _run(self, process: int) -> None:
        rng = random.Random(self._seed * 1000 + process)
        client = RovingClient(self._nodes, rng, self._stopping)
        try:
            while not self._stopping.is_set():
                self.once(client, process, rng)
                self._stopping.wait(rng.random() * 2 * self._pause_s)
        except Exception as error:  # noqa: BLE001 - a dead client must not go unnoticed
            self.crashes.append(f"client {process} of {self.name}: {error!r}")
        finally:
            client.close()

    @abstractmethod
    def once(self, client: RovingClient, process: int, rng: random.Random) -> None:
        """One operation."""

    def record(
        self,
        client: RovingClient,
        process: int,
        key: str,
        action: str,
        value: Any,
        ask: Callable[[WireClient], Any],
    ) -> Answer:
        called = now_ns()
        answer = client.call(ask)
        answered = now_ns()
        result = answer.value if action == "read" and answer.outcome is Outcome.OK else value
        self.history.add(
            Operation(
                process,
                key,
                action,
                result,
                called,
                answered,
                answer.outcome,
                answer.node,
                answer.error[:300],
            )
        )
        if action == "write" and answer.outcome is Outcome.OK:
            self.acknowledged_ns.append(answered)
        return answer


class _Rows(Workload):
    """Reads and writes of a few rows at fixed times; each row is retired after some operations."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._lock = threading.Lock()
        self._row = 0
        self._left = _OPERATIONS_PER_KEY
        self._written = 0

    def _pick(self, rng: random.Random) -> tuple[int, int]:
        """The time of a row, and a number never given before."""
        with self._lock:
            self._left -= 1
            if self._left < 0:
                self._left = _OPERATIONS_PER_KEY
                self._row += 1
            self._written += 1
            return self._row + rng.randrange(_KEYS_AT_A_TIME), self._written

    def once(self, client: RovingClient, process: int, rng: random.Random) -> None:
        row, number = self._pick(rng)
        key = f"{self.device}@{row}"
        if rng.random() < 0.5:
            values = self.values(number)
            self.record(
                client,
                process,
                key,
                "write",
                values,
                lambda wire: wire.insert_row(self.device, list(self.columns), row, list(values)),
            )
        else:
            self.record(client, process, key, "read", None, lambda wire: self._read(wire, row))

    def _read(self, wire: WireClient, row: int) -> tuple[float, ...] | None:
        rows = wire.query(f"select {','.join(self.columns)} from {self.device} where time = {row}")
        return tuple(rows[0][1:]) if rows else None

    @abstractmethod
    def values(self, number: int) -> tuple[float, ...]:
        """What the number-th write writes; no two alike."""


class Registers(_Rows):
    name = "register"
    columns = ("v",)

    def values(self, number: int) -> tuple[float, ...]:
        return (float(number),)


class Accounts(_Rows):
    """A transfer leaves the total alone; so does every correct read."""

    name = "accounts"
    columns = ACCOUNTS

    def values(self, number: int) -> tuple[float, ...]:
        shares = [float(number), float(number % 97), float(number % 89)]
        return (*shares, TOTAL - sum(shares))


class Sets(Workload):
    """Each client but the last adds points to its device; the last one counts.

    `attempted`, `refused` and `acknowledged` map a device to the times of points.
    """

    name = "set"
    points = 5

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._lock = threading.Lock()
        self._adders = range(self._first_process, self._first_process + self.clients - 1)
        self.attempted: dict[str, set[int]] = {self.set_of(n): set() for n in self._adders}
        self.refused: dict[str, set[int]] = {self.set_of(n): set() for n in self._adders}
        self.acknowledged: dict[str, set[int]] = {self.set_of(n): set() for n in self._adders}
        self.stale: list[str] = []
        self.counts = 0

    def set_of(self, process: int) -> str:
        return f"{self.storage_group}.set{process}"

    def once(self, client: RovingClient, process: int, rng: random.Random) -> None:
        if process in self._adders:
            self._add(client, process)
        else:
            self._count(client, process, rng.choice(list(self.attempted)))
            self._stopping.wait(0.05)

    def _add(self, client: RovingClient, process: int) -> None:
        device = self.set_of(process)
        first = len(self.attempted[device])
        times = list(range(first, first + self.points))
        with self._lock:
            self.attempted[device].update(times)
        answer = self.record(
            client,
            process,
            device,
            "write",
            first,
            lambda wire: wire.insert_tablet(device, ["v"], times, [[float(t) for t in times]]),
        )
        with self._lock:
            if answer.outcome is Outcome.OK:
                self.acknowledged[device].update(times)
            elif answer.outcome is Outcome.FAIL:
                self.refused[device].update(times)

    def _count(self, client: RovingClient, process: int, device: str) -> None:
        with self._lock:
            known = len(self.acknowledged[device])
        answer = self.record(
            client,
            process,
            device,
            "read",
            None,
            lambda wire: wire.query(f"select count(v) from {device}"),
        )
        if answer.outcome is not Outcome.OK:
            return
        self.counts += 1
        seen = answer.value[0][0] if answer.value else 0
        with self._lock:
            possible = len(self.attempted[device]) - len(self.refused[device])
        if seen < known:
            self.stale.append(
                f"{device} at node {answer.node}: counted {seen} points, {known} were acknowledged"
            )
        if seen > possible:
            self.stale.append(
                f"{device} at node {answer.node}: counted {seen} points, {possible} can be there"
            )


class SetCheck:
    """What a set's devices really hold, read at the end through every node."""

    def __init__(self) -> None:
        self.lost: set[tuple[str, int]] = set()
        self.invented: set[tuple[str, int]] = set()
        self.duplicates: set[tuple[str, int]] = set()
        self.read = 0

    def at(self, node: Node, workload: Sets, timeout_s: float = 60) -> None:
        with WireClient(node.rpc_port, node.host, timeout_s) as client:
            for device, attempted in workload.attempted.items():
                rows = retried(lambda d=device: client.query(f"select v from {d}"))  # type: ignore[misc]
                times = [row[0] for row in rows]
                present = set(times)
                self.read += len(times)
                self.lost |= {(device, t) for t in workload.acknowledged[device] - present}
                possible = attempted - workload.refused[device]
                self.invented |= {(device, t) for t in present - possible}
                self.invented |= {(device, row[0]) for row in rows if row[1] != float(row[0])}
                if len(times) != len(present):
                    self.duplicates |= {(device, t) for t in present if times.count(t) > 1}


def retried(ask: Callable[[], Any], tries: int = 5) -> Any:
    """Ask again after a status that says so; the last one is raised."""
    for left in reversed(range(tries)):
        try:
            return ask()
        except StatusError:
            if not left:
                raise
            time.sleep(0.3)
    raise AssertionError("unreachable")
