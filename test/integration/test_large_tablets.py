"""Large tablets of a node that is alone: its loop begins their writes and goes on meanwhile."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import numpy as np
import pytest
from thrift.transport.TTransport import TTransportException

from harness.node_status import node_status
from harness.process_cluster import Node, process_cluster
from harness.wire import StatusError, WireClient

pytestmark = [pytest.mark.integration, pytest.mark.slow]

CLIENTS = 4
ROWS = 100
NAMES = [f"s{number}" for number in range(100)]
WAIT_S = 60.0


class Writer:
    """Inserts tablets with ever later times until the node is gone, or `stop`."""

    def __init__(self, node: Node, number: int, first: int) -> None:
        self.device = f"root.sg{number}.d"
        self.acknowledged = first
        """Tablets that are certainly there."""
        self.begun = first
        self.stop = threading.Event()
        self.progress = threading.Semaphore(0)
        self._node = node
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def _write(self) -> None:
        values = np.outer(np.arange(1, len(NAMES) + 1), np.ones(ROWS))
        try:
            with WireClient(self._node.rpc_port, timeout_s=WAIT_S) as client:
                for turn in itertools.count(self.acknowledged):
                    if self.stop.is_set():
                        return
                    times = np.arange(turn * ROWS, (turn + 1) * ROWS)
                    self.begun = turn + 1
                    client.insert_tablet(self.device, NAMES, times, values + turn)
                    self.acknowledged = turn + 1
                    self.progress.release()
        except (OSError, EOFError, TTransportException, StatusError):
            pass

    def join(self) -> None:
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()


def check(node: Node, writers: list[Writer]) -> None:
    with WireClient(node.rpc_port, timeout_s=WAIT_S) as client:
        for writer in writers:
            rows = client.query(f"SELECT s0, s99 FROM {writer.device}", fetch=1_000_000)
            tablets = len(rows) // ROWS
            assert writer.acknowledged <= tablets <= writer.begun
            assert rows == [
                [time, 1.0 + time // ROWS, 100.0 + time // ROWS] for time in range(tablets * ROWS)
            ], "whole tablets, each with its values"
            writer.acknowledged = writer.begun = tablets


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_nothing_acknowledged_is_lost(tmp_path: Path, how: str) -> None:
    with process_cluster(tmp_path, 1, raft_log_segment_bytes=str(2 << 20)) as cluster:
        node = cluster.nodes[0]
        begun = [0] * CLIENTS
        for _ in range(3):
            writers = [Writer(node, number, first) for number, first in enumerate(begun)]
            for writer in writers:
                for _ in range(60):
                    assert writer.progress.acquire(timeout=WAIT_S)
            stats = node_status(node.meta_port).stats
            if how == "killed":
                node.kill()
            else:
                assert node.process is not None
                node.process.terminate()
                assert node.wait_exit() == 0
            for writer in writers:
                writer.join()
            node.start()
            node.wait_ready()
            check(node, writers)
            begun = [writer.acknowledged for writer in writers]
        assert int(stats["log_async_writes"]) > 20, stats
        cluster.stop()
