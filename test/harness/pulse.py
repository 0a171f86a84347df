"""Single rows to one node, one after the other, from a process of its own; how long each took.

A thread of the test's process would wait for the interpreter while the test does something else.
As a program: `python -m harness.pulse HOST PORT DEVICE`, until its input ends.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from harness.process_cluster import Node
from harness.wire import WireClient

_PAUSE_S = 0.004
"""Few enough that three nodes and this have the cores to themselves most of the time."""
_ROOT = Path(__file__).resolve().parents[2]


class Latency(NamedTuple):
    """Of the calls within some time, in milliseconds."""

    calls: int
    p50: float
    p99: float
    most: float

    def __str__(self) -> str:
        return (
            f"p50 {self.p50:.2f}, p99 {self.p99:.2f}, most {self.most:.1f} ms of {self.calls} calls"
        )


class Pulse:
    """The process; what it measured is there when the block has ended.

    Attributes:
        samples: (when by the wall clock, how long) of each call, in seconds.
    """

    def __init__(self, node: Node, device: str) -> None:
        self.samples: list[tuple[float, float]] = []
        self._command = [
            *(sys.executable, "-m", "harness.pulse"),
            *(node.host, str(node.rpc_port), device),
        ]

    def __enter__(self) -> Pulse:
        path = os.pathsep.join((str(_ROOT), str(_ROOT / "test")))
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"began\n"
        return self

    def __exit__(self, *_: object) -> None:
        out, _err = self._process.communicate(timeout=60)
        self.samples = [(began, took) for began, took in json.loads(out)]

    def within(self, windows: Sequence[tuple[float, float]]) -> Latency:
        """Return the latency of the calls that were under way at any time within the windows."""
        found = [
            took * 1000
            for began, took in self.samples
            if any(began <= until and began + took >= since for since, until in windows)
        ]
        if len(found) < 2:
            return Latency(len(found), 0.0, 0.0, 0.0)
        p99 = statistics.quantiles(found, n=100, method="inclusive")[98]
        return Latency(len(found), statistics.median(found), p99, max(found))


def _main(host: str, port: int, device: str) -> None:
    stop = threading.Event()

    def watch() -> None:
        sys.stdin.read()
        stop.set()

    samples = []
    row = 0
    with WireClient(port, host, timeout_s=60) as client:
        client.insert_row(device, ["p"], row, [0.0])
        print("began", flush=True)
        threading.Thread(target=watch, daemon=True).start()
        while not stop.is_set():
            time.sleep(_PAUSE_S)
            row += 1
            began = time.time()
            client.insert_row(device, ["p"], row, [float(row)])
            samples.append((began, time.time() - began))
    json.dump(samples, sys.stdout)


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
