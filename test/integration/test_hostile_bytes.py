"""10 000 random and mutated frames on each of the three ports leave the node serving."""

from __future__ import annotations

import random
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from harness.hostile import hostile_frames
from harness.process_cluster import process_cluster
from harness.wire import WireClient

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(400)]

FRAMES = 10_000
MAX_GROWTH_BYTES = 50 << 20
FRAMES_PER_CONNECTION = 5
CONNECTIONS = 8
"""At a time: most of the test's time passes with waiting for answers that never come."""


def send(port: int, frames: list[bytes]) -> None:
    """Send frames on one connection until the server closes it; answers are drained."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        sock.settimeout(0.01)
        for frame in frames:
            try:
                sock.sendall(frame)
                sock.recv(65536)
            except TimeoutError:
                continue  # no answer to half a frame: go on, or hang up
            except OSError:
                return


def send_all(port: int, frames: list[bytes]) -> None:
    """Send frames, a few on each connection, several connections at a time."""
    starts = range(0, len(frames), FRAMES_PER_CONNECTION)
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        pieces = (frames[start : start + FRAMES_PER_CONNECTION] for start in starts)
        for _ in pool.map(lambda piece: send(port, piece), pieces):
            pass


@pytest.mark.parametrize("which", ["meta_port", "data_port", "rpc_port"])
def test_hostile_frames_cost_nothing(which: str, tmp_path: Path) -> None:
    # its memory is measured: all of it is to be its own
    with process_cluster(tmp_path, 1, own_interpreters=True) as cluster:
        node = cluster.nodes[0]
        assert node.process is not None
        with WireClient(node.rpc_port) as client:
            client.execute("insert into root.sg.d(timestamp, s) values(1, 1.5)")
        process = psutil.Process(node.process.pid)
        rng = random.Random(which)
        frames = list(hostile_frames(rng, FRAMES))
        warm_up, rest = frames[:500], frames[500:]
        port = getattr(node, which)
        send_all(port, warm_up)
        before = process.memory_info().rss
        send_all(port, rest)
        growth = process.memory_info().rss - before
        print(f"{which}: rss {before >> 20} MiB, growth {growth / (1 << 20):.1f} MiB")
        assert growth < MAX_GROWTH_BYTES
        with WireClient(node.rpc_port) as client:
            client.execute("insert into root.sg.d(timestamp, s) values(2, 2.5)")
            assert client.query("select s from root.sg.d") == [[1, 1.5], [2, 2.5]]
        assert cluster.nodes[0].stop() == 0
