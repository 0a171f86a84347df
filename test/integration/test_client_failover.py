"""Programs that use the driver with three hosts go on by themselves when a node is killed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import iotdb_client
from harness.joining import join_all
from harness.process_cluster import process_cluster
from iotdb_client.types import DataType

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(300)]

ROWS = 20
KILLS = 2


class Worker(threading.Thread):
    """Writes the rows 0, 1, 2, … of its device, in order; `done` of them are acknowledged."""

    def __init__(self, url: str, device: str, write: Callable[..., None]) -> None:
        super().__init__(name=device)
        self.device = device
        self.done = 0
        self.error: BaseException | None = None
        self.finish = threading.Event()
        self._url = url
        self._write = write

    def run(self) -> None:
        try:
            with iotdb_client.connect(self._url, timeout_s=20, retry_s=60) as connection:
                while not self.finish.is_set():
                    self._write(connection, self.device, self.done)
                    self.done += ROWS
        except BaseException as error:  # noqa: BLE001 - reported by the test
            self.error = error


def by_tablet(connection: iotdb_client.Connection, device: str, start: int) -> None:
    times = list(range(start, start + ROWS))
    connection.insert_tablet(device, ["v"], [DataType.INT64], times, [[n * 3 for n in times]])


def by_many(connection: iotdb_client.Connection, device: str, start: int) -> None:
    rows = [(n, n * 3) for n in range(start, start + ROWS)]
    connection.cursor().executemany(f"insert into {device}(time, v) values (?, ?)", rows)


def by_statement(connection: iotdb_client.Connection, device: str, start: int) -> None:
    values = ", ".join(f"({n}, {n * 3})" for n in range(start, start + ROWS))
    connection.execute(f"insert into {device}(time, v) values {values}")


class Reader(threading.Thread):
    """Reads a device over and over: what it sees never shrinks, without gaps or strangers."""

    def __init__(self, url: str, device: str) -> None:
        super().__init__(name=f"reader of {device}")
        self.reads = 0
        self.error: BaseException | None = None
        self.finish = threading.Event()
        self._url = url
        self._device = device

    def run(self) -> None:
        try:
            with iotdb_client.connect(self._url, timeout_s=20, retry_s=60) as connection:
                seen = 0
                while not self.finish.is_set():
                    table = connection.execute(f"select v from {self._device}").to_arrow(
                        times="int"
                    )
                    times = table.column("Time").to_pylist()
                    assert times == list(range(len(times)))
                    assert len(times) >= seen
                    seen = len(times)
                    self.reads += 1
        except BaseException as error:  # noqa: BLE001 - reported by the test
            self.error = error


def test_clients_go_on_when_a_node_is_killed(tmp_path: Path) -> None:
    with process_cluster(tmp_path, 3) as cluster:
        hosts = [f"127.0.0.1:{node.rpc_port}" for node in cluster.nodes]
        with iotdb_client.connect(hosts[0]) as connection:
            for n in range(3):
                for kind in ("tablet", "many", "statement"):
                    connection.execute(f"create timeseries root.f.{kind}{n}.v INT64")

        def url(first: int) -> str:
            return ",".join(hosts[first:] + hosts[:first])

        writers = [
            Worker(url(n), f"root.f.{kind}{n}", write)
            for n in range(3)
            for kind, write in (
                ("tablet", by_tablet),
                ("many", by_many),
                ("statement", by_statement),
            )
        ]
        readers = [Reader(url(n), f"root.f.tablet{n}") for n in range(3)]
        threads: list[Worker | Reader] = [*writers, *readers]
        for thread in threads:
            thread.start()

        def progress(why: str) -> None:
            """Wait until every writer and reader has got on."""
            marks = {w.name: w.done for w in writers} | {r.name: r.reads for r in readers}
            end = time.monotonic() + 90

            def stuck() -> list[str]:
                now = {w.name: w.done for w in writers} | {r.name: r.reads for r in readers}
                return [name for name, mark in marks.items() if now[name] <= mark]

            while stuck():
                failed = [(t.name, t.error) for t in threads if t.error is not None]
                assert not failed, f"{why}: {failed}"
                assert time.monotonic() < end, f"{why}: no progress of {stuck()}"
                time.sleep(0.05)

        try:
            progress("before")
            for number in range(KILLS):
                cluster.nodes[number].kill()
                progress(f"node {number + 1} killed")
                cluster.nodes[number].start()
                cluster.nodes[number].wait_ready()
                progress(f"node {number + 1} back")
        finally:
            for thread in threads:
                thread.finish.set()
            join_all(*threads)
        assert not [(t.name, t.error) for t in threads if t.error is not None]

        with iotdb_client.connect(url(0)) as connection:
            for writer in writers:
                rows = connection.execute(f"select v from {writer.device}").fetchall()
                # every acknowledged row, each once; at most one batch that was not
                assert rows[: writer.done] == [(n, n * 3) for n in range(writer.done)]
                assert len(rows) in (writer.done, writer.done + ROWS)
        cluster.stop()
