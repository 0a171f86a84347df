"""Points out of order: how much slower they come in, and whether scans care after compaction.

100 devices x 10 DOUBLE columns, tablets of 100 rows. Of 30 % of the rows the time is thrown back,
by up to an hour, behind what was written before; beside it the same rows sorted, so that both end
with the same points. Ratios of CPU seconds hold on a busy machine too. Prints one JSON line.

    python bench/engine_disorder.py [--points 20000000] [--share 0.3] [--path DIR] [--record]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from engine_data import START_MS, cpu_s, layouts, timed, walks
from report import report

from iotdb_engine import T_MAX, T_MIN, DataType, Engine, EngineOptions, Fragment

DEVICES, COLUMNS, ROWS = 100, 10, 100
STEP_MS = 1000
BACK_MS = 3_600_000


def fragments(count: int, share: float, *, ordered: bool) -> list[Fragment]:
    """Return tablets, the devices in turn; late rows have times between those of others."""
    rng = np.random.default_rng(3)
    values = walks(COLUMNS, count * ROWS).astype(">f8")
    times = START_MS + STEP_MS * np.arange(count * ROWS)
    late = rng.random(count * ROWS) < share
    times[late] -= rng.integers(1, BACK_MS, int(late.sum())) // STEP_MS * STEP_MS + 1
    if ordered:
        order = np.argsort(times, kind="stable")
        times, values = times[order], values[:, order]
    made = layouts(DEVICES, COLUMNS, DataType.DOUBLE)
    found = []
    for lo in range(0, count * ROWS, ROWS):
        body = np.ascontiguousarray(values[:, lo : lo + ROWS]).tobytes()
        packed = times[lo : lo + ROWS].astype(">i8").tobytes()
        found += [Fragment(0, layout, ROWS, packed, body) for layout in made]
    return found


def cpu_of(run: Callable[[], object]) -> float:
    began = time.thread_time()
    run()
    return time.thread_time() - began


def measure(folder: Path, load: list[Fragment], points: int) -> dict[str, Any]:
    series = [(i, DataType.DOUBLE) for i in range(1, 1 + DEVICES * COLUMNS)]
    # Small memory tables: late rows must meet what is on disk already.
    options = EngineOptions(memtable_bytes=64 << 20, compaction=False)
    found: dict[str, Any] = {}
    with Engine(folder, options) as engine:
        region = engine.region(0)

        def write() -> None:
            for number, fragment in enumerate(load):
                region.write((fragment,), number + 1)
            region.flush()

        busy = cpu_s()
        found["ingest_mpoints_s"] = round(points / 1e6 / timed(write), 2)
        found["ingest_mpoints_cpu_s"] = round(points / 1e6 / (cpu_s() - busy), 2)
        found["flushes"] = engine.stats()["flushes"]
        scans = series[:: len(series) // 40]

        def scan() -> None:
            for one in scans:
                for _ in region.read([one], T_MIN, T_MAX):
                    pass

        def rate() -> float:
            best = min(cpu_of(scan) for _ in range(5))
            return round(points / len(series) * len(scans) / 1e6 / best, 2)

        found["scan_before_mpoints_cpu_s"] = rate()
        found["compaction_s"] = round(timed(lambda: region.compact(full=True)), 2)
        stats = engine.stats()
        found["write_amplification"] = round(
            1 + stats["compaction_bytes"] / stats["flushed_bytes"], 2
        )
    with Engine(folder, options) as engine:
        region = engine.region(0)
        found["scan_after_mpoints_cpu_s"] = rate()
        assert sum(a.count for a in region.aggregate(series, T_MIN, T_MAX)) > 0.8 * points
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=20_000_000)
    parser.add_argument("--share", type=float, default=0.3)
    parser.add_argument("--path", default=None)
    parser.add_argument("--record", action="store_true", help="add to bench/results.jsonl")
    options = parser.parse_args()
    count = max(1, options.points // (DEVICES * COLUMNS * ROWS))
    points = count * DEVICES * COLUMNS * ROWS
    with tempfile.TemporaryDirectory(dir=options.path) as folder:
        load = fragments(count, options.share, ordered=True)
        ordered = measure(Path(folder) / "ordered", load, points)
        load = fragments(count, options.share, ordered=False)
        late = measure(Path(folder) / "late", load, points)
    figures = {"points": points, "share_late": options.share, "in_order": ordered, "late": late}
    for name in ("ingest_mpoints_s", "ingest_mpoints_cpu_s", "scan_after_mpoints_cpu_s"):
        figures[f"{name}_ratio"] = round(late[name] / ordered[name], 2)
    report("engine_disorder", figures, record=options.record)


if __name__ == "__main__":
    main()
