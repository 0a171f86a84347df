"""Two checkouts against one another: the same clients write to a node of each, in turn.

One run of a bench differs from the next by 7 % and more, whatever is measured. Here both nodes
run at the same time, and all clients change from one to the other every 0.3 s, in the order
A B B A, so that whatever the machine does meanwhile happens to both. Prints one JSON line: `ratio`
is B's rate by A's; of eleven such quarters or more its error is some 3 %.

    python bench/two_trees.py TREE_A TREE_B [--kind tablets|rows] [--seconds 16] [--clients N]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TREE = Path(os.environ.get("BENCH_TREE", Path(__file__).resolve().parents[1]))
"""Whose node is served, in the processes that serve."""
sys.path[:0] = [str(TREE), str(TREE / "test")]

import numpy as np  # noqa: E402
from report import commit, report  # noqa: E402

from cluster.rpc.gen.client import ttypes as t  # noqa: E402
from harness.process_cluster import process_cluster  # noqa: E402
from harness.wire import WireClient, tablet  # noqa: E402

SLOT_S = 0.3
SETTLE_S = 0.05
"""Of each slot: what is answered by then may have been begun in the one before."""
ORDER = (0, 1, 1, 0)
WARM_QUARTERS = 2
COLUMNS, ROWS = 100, 100


def serve() -> None:
    """Run a node of TREE until standard input ends."""
    with (
        tempfile.TemporaryDirectory(dir=TREE) as folder,
        process_cluster(Path(folder), 1, own_interpreters=True) as cluster,
    ):
        print(cluster.nodes[0].rpc_port, flush=True)
        sys.stdin.read()
        cluster.stop()


@contextmanager
def node_of(tree: Path) -> Iterator[int]:
    """Yield the port of a node of another checkout."""
    with subprocess.Popen(
        [sys.executable, __file__, "--serve"],
        env={**os.environ, "BENCH_TREE": str(tree)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.strip().isdigit():
            raise SystemExit(f"{tree}: no node came up; is it a checkout of this project?")
        yield int(line)
        process.communicate()


def tablets(number: int) -> Callable[[Any, int], t.TSStatus]:
    """Return what writes the next tablet of 100 x 100 DOUBLE by a client."""
    rng = np.random.default_rng(number)
    walk = np.round(np.cumsum(rng.normal(0, 1, (COLUMNS, ROWS)), axis=1) + 50, 2)
    request = tablet(1, f"root.bench{number}.d", [f"s{n}" for n in range(COLUMNS)], [], [])
    request.types = [4] * COLUMNS
    request.size = ROWS
    request.values = walk.astype(">f8").tobytes()

    def write(client: Any, count: int) -> t.TSStatus:
        request.timestamps = np.arange(count * ROWS, (count + 1) * ROWS, dtype=">i8").tobytes()
        return client.insertTablet(request)

    return write


def rows(number: int) -> Callable[[Any, int], t.TSStatus]:
    """Return what writes the next row of 10 DOUBLE columns by a client."""
    names = [f"s{n}" for n in range(10)]
    values = b"".join(b"\x04" + np.float64(n).astype(">f8").tobytes() for n in range(10))

    def write(client: Any, count: int) -> t.TSStatus:
        request = t.TSInsertRecordReq(1, f"root.rows{number}.d", names, values, count, False)
        return client.insertRecord(request)

    return write


KINDS = {"tablets": (tablets, 4), "rows": (rows, 8)}
"""What clients do, and how many of them there are by default."""


def drive(kind: str, number: int, ports: list[int], start: float, end: float, out: Any) -> None:
    """One client: tell how many writes were answered in each slot."""
    clients = [WireClient(port, timeout_s=60).raw for port in ports]
    write = KINDS[kind][0](number)
    answered: Counter[int] = Counter()
    count = 0
    time.sleep(max(0.0, start - time.monotonic()))
    while (now := time.monotonic()) < end:
        slot = int((now - start) / SLOT_S)
        status = write(clients[ORDER[slot % len(ORDER)]], count)
        assert status.code == 200, status
        count += 1
        if now - start - slot * SLOT_S > SETTLE_S:
            answered[slot] += 1
    out.put(answered)


def compare(kind: str, ports: list[int], clients: int, seconds: float) -> dict[str, Any]:
    """Return rates and their ratio; both nodes do nothing else."""
    out: multiprocessing.Queue[Counter[int]] = multiprocessing.Queue()
    start = time.monotonic() + 1 + 0.2 * clients
    processes = [
        multiprocessing.Process(target=drive, args=(kind, n, ports, start, start + seconds, out))
        for n in range(clients)
    ]
    for process in processes:
        process.start()
    answered: Counter[int] = Counter()
    for _ in processes:
        answered += out.get(timeout=seconds + 120)
    for process in processes:
        process.join()
    quarters = []
    for first in range(WARM_QUARTERS, int(seconds / SLOT_S) // len(ORDER)):
        slots = [answered[first * len(ORDER) + n] for n in range(len(ORDER))]
        quarters.append((slots[0] + slots[3], slots[1] + slots[2]))
    if len(quarters) < 2:
        raise SystemExit(f"{seconds} s are too short: at least {SLOT_S * 4 * (WARM_QUARTERS + 2)}")
    a, b = (
        sum(both) / len(quarters) / 2 / (SLOT_S - SETTLE_S) for both in zip(*quarters, strict=True)
    )
    return {
        "a_per_s": round(a),
        "b_per_s": round(b),
        "ratio": round(b / a, 3),
        "median_of_quarters": round(statistics.median(two / one for one, two in quarters), 3),
        "quarters": len(quarters),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trees", nargs=2, type=Path, help="two checkouts, A and B")
    parser.add_argument("--kind", choices=KINDS, default="tablets")
    parser.add_argument("--seconds", type=float, default=16)
    parser.add_argument("--clients", type=int, help="4 of tablets, 8 of rows")
    options = parser.parse_args()
    clients = options.clients or KINDS[options.kind][1]
    one, two = (tree.resolve() for tree in options.trees)
    with node_of(one) as a, node_of(two) as b:
        found = compare(options.kind, [a, b], clients, options.seconds)
    trees = {"a": commit(one), "b": commit(two), "seconds": options.seconds}
    report("two_trees", {"kind": options.kind, "clients": clients, **trees, **found})


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["--serve"] else main()
