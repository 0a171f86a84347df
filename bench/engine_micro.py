"""Measures the storage engine alone, in one process, and prints one JSON line.

write: 100-row x 100-column tablets, and rows of 10 columns one by one; flush: those tablets to
disk; read and aggregate: what was flushed; bytes a point: a random walk of two decimals.

Run: python bench/engine_micro.py [--points 10000000] [--path DIR]
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

import numpy as np  # noqa: E402

from iotdb_engine import (  # noqa: E402
    T_MAX,
    T_MIN,
    DataType,
    Engine,
    EngineOptions,
    Fragment,
    Layout,
)

COLUMNS = 100
ROWS = 100
START_MS = 1_700_000_000_000


def timed(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def tablets(count: int, layout: Layout) -> list[Fragment]:
    rng = np.random.default_rng(1)
    steps = rng.normal(0, 0.1, (COLUMNS, count * ROWS))
    walk = np.round(20 + np.cumsum(steps, axis=1), 2).astype(">f8")
    times = (START_MS + 1000 * np.arange(count * ROWS)).astype(">i8")
    return [
        Fragment(
            0,
            layout,
            ROWS,
            times[at : at + ROWS].tobytes(),
            np.ascontiguousarray(walk[:, at : at + ROWS]).tobytes(),
        )
        for at in range(0, count * ROWS, ROWS)
    ]


def single_rows(count: int) -> list[Fragment]:
    layouts = [
        Layout(tuple(range(10_000 + 10 * d, 10_010 + 10 * d)), (DataType.DOUBLE,) * 10)
        for d in range(100)
    ]
    values = np.arange(10, dtype=">f8").tobytes()
    return [
        Fragment(0, layouts[n % 100], 1, (START_MS + 10 * n).to_bytes(8, "big"), values)
        for n in range(count)
    ]


def measure(path: str, points: int) -> dict[str, float]:
    options = EngineOptions(memtable_bytes=8 << 30, read_cache_bytes=256 << 20)
    layout = Layout(tuple(range(COLUMNS)), (DataType.DOUBLE,) * COLUMNS)
    count = max(1, points // (ROWS * COLUMNS))
    points = count * ROWS * COLUMNS
    found: dict[str, float] = {"points": points}
    load = tablets(count, layout)
    series = [(i, DataType.DOUBLE) for i in range(COLUMNS)]
    with Engine(path, options) as engine:
        region = engine.region(0)

        def write(fragments: list[Fragment], base: int) -> None:
            for number, fragment in enumerate(fragments):
                region.write((fragment,), base + number)

        seconds = timed(lambda: write(load, 1))
        found["write_us_per_fragment"] = 1e6 * seconds / count
        found["memory_read_mpoints_s"] = (
            points / 1e6 / timed(lambda: [None for _ in region.read(series, T_MIN, T_MAX)])
        )
        found["flush_mpoints_s"] = points / 1e6 / timed(region.flush)
        found["bytes_per_point"] = engine.stats()["flushed_bytes"] / points
        found["read_cold_mpoints_s"] = (
            points
            / 1e6
            / timed(lambda: [None for _ in region.read(series, T_MIN, T_MAX, slots=[0])])
        )
        one = series[:1]
        first = [*region.read(one, T_MIN, T_MAX, slots=[0])]
        rows = sum(len(batch.times) for batch in first)
        found["read_one_series_mpoints_s"] = (
            rows / 1e6 / timed(lambda: [None for _ in region.read(one, T_MIN, T_MAX, slots=[0])])
        )
        found["limit_1_ms"] = 1e3 * timed(
            lambda: next(region.read(series, T_MIN, T_MAX, slots=[0], descending=True, max_rows=1))
        )
        found["aggregate_mpoints_s"] = (
            points / 1e6 / timed(lambda: region.aggregate(series, T_MIN, T_MAX, slots=[0]))
        )
        middle = START_MS + 1000 * (count * ROWS // 3)
        found["aggregate_cut_mpoints_s"] = (
            points
            / 3e6
            / timed(lambda: region.aggregate(series, middle + 1, middle * 2 - START_MS, slots=[0]))
        )
        rows_load = single_rows(200_000)
        seconds = timed(lambda: write(rows_load, count + 1))
        found["write_us_per_single_row"] = 1e6 * seconds / len(rows_load)
        found["flush_single_row_mpoints_s"] = len(rows_load) * 10 / 1e6 / timed(region.flush)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=10_000_000)
    parser.add_argument("--path", default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.path) as folder:
        found = measure(str(Path(folder) / "data"), arguments.points)
    found = {name: round(value, 3) for name, value in found.items()}
    print(json.dumps({"bench": "engine_micro", "python": platform.python_version(), **found}))


if __name__ == "__main__":
    main()
