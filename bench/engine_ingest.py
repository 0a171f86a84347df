"""Ingestion into the engine alone: tablets of 100 columns x 1 000 rows, with the flush to disk.

In the same run: tablets of 10 columns x 100 rows of 100 devices; the same bytes put into plain
RocksDB, the library's own interface with its log (sync=always), and DuckDB where it is installed.
Prints one JSON line.

    python bench/engine_ingest.py [--points 100000000] [--path DIR] [--record]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from engine_data import START_MS, cpu_s, layouts, rss_mb, walks
from report import report

from iotdb_engine import DataType, Engine, EngineOptions, Fragment, Layout
from iotdb_engine.store import Batch, RocksStore

COLUMNS = 100
ROWS = 1000
BLOCKS = 32
POINTS = COLUMNS * ROWS
OPTIONS = EngineOptions()


def blocks() -> list[bytes]:
    """Return the values of some tablets, as clients send them."""
    whole = walks(COLUMNS, BLOCKS * ROWS).astype(">f8")
    return [
        np.ascontiguousarray(whole[:, n * ROWS : (n + 1) * ROWS]).tobytes() for n in range(BLOCKS)
    ]


def times(number: int) -> bytes:
    return (START_MS + 1000 * np.arange(number * ROWS, (number + 1) * ROWS)).astype(">i8").tobytes()


class Clock:
    """Wall and CPU seconds of a piece of work."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), cpu_s()

    def rates(self, points: int) -> dict[str, float]:
        wall, cpu = time.perf_counter() - self._wall, cpu_s() - self._cpu
        return {
            "mpoints_s": round(points / 1e6 / wall, 2),
            "mpoints_cpu_s": round(points / 1e6 / cpu, 2),
        }


def engine(folder: Path, values: list[bytes], count: int) -> dict[str, Any]:
    layout = Layout(tuple(range(1, COLUMNS + 1)), (DataType.DOUBLE,) * COLUMNS)
    with Engine(folder, OPTIONS) as opened:
        region = opened.region(0)
        clock = Clock()
        for number in range(count):
            fragment = Fragment(0, layout, ROWS, times(number), values[number % BLOCKS])
            region.write((fragment,), number + 1)
        region.flush()
        found: dict[str, Any] = clock.rates(count * POINTS)
        stats = opened.stats()
        found["bytes_per_point"] = round(stats["flushed_bytes"] / (count * POINTS), 3)
        found["write_stall_ms"] = stats["write_stall_ms"]
        found["rss_mb"] = rss_mb()
    return found


def small_tablets(folder: Path, points: int) -> dict[str, Any]:
    """Tablets of 10 columns x 100 rows, the devices in turn, with the flush."""
    columns, rows, devices = 10, 100, 100
    whole = walks(columns, BLOCKS * rows).astype(">f8")
    bodies = [np.ascontiguousarray(part).tobytes() for part in np.split(whole, BLOCKS, axis=1)]
    made = layouts(devices, columns, DataType.DOUBLE)
    rounds = max(1, points // (devices * columns * rows))
    with Engine(folder, OPTIONS) as opened:
        region = opened.region(0)
        index = 0
        clock = Clock()
        for number in range(rounds):
            stamps = START_MS + 1000 * np.arange(number * rows, (number + 1) * rows)
            packed = stamps.astype(">i8").tobytes()
            for layout in made:
                index += 1
                body = bodies[index % BLOCKS]
                region.write((Fragment(0, layout, rows, packed, body),), index)
        region.flush()
        return clock.rates(rounds * devices * columns * rows)


def library(folder: Path, count: int) -> dict[str, Any]:
    whole = walks(COLUMNS, BLOCKS * ROWS)
    parts = [
        {f"s{c}": whole[c, n * ROWS : (n + 1) * ROWS] for c in range(COLUMNS)}
        for n in range(BLOCKS)
    ]
    at = np.arange(ROWS)
    with Engine(folder, OPTIONS, sync="always") as opened:
        clock = Clock()
        for number in range(count):
            opened.write(START_MS + 1000 * (at + number * ROWS), parts[number % BLOCKS])
        opened.flush()
        return clock.rates(count * POINTS)


def plain_rocksdb(folder: Path, values: list[bytes], count: int) -> dict[str, Any]:
    """The same bytes, a column of a tablet a value, in batches of a quarter of a megabyte."""
    store = RocksStore(folder)
    clock = Clock()
    step = ROWS * 8
    batch = Batch()
    for number in range(count):
        body = values[number % BLOCKS]
        for column in range(COLUMNS):
            key = column.to_bytes(4, "big") + number.to_bytes(8, "big")
            batch.put(key, body[column * step : (column + 1) * step])
            if batch.size >= OPTIONS.batch_bytes:
                store.write(batch)
                batch = Batch()
    store.write(batch)
    store.flush()
    found = clock.rates(count * POINTS)
    store.close()
    return found


def duckdb(folder: Path, count: int) -> dict[str, Any] | str:
    try:
        import duckdb
    except ImportError:
        return "not installed"
    whole = walks(COLUMNS, BLOCKS * ROWS)
    base = duckdb.connect(str(folder), config={"threads": 2})
    names = [f"s{c}" for c in range(COLUMNS)]
    base.execute(f"CREATE TABLE d (time BIGINT, {', '.join(f'{n} DOUBLE' for n in names)})")
    at = np.arange(ROWS)
    clock = Clock()
    for number in range(count):
        lo = number % BLOCKS * ROWS
        part: dict[str, Any] = {"time": START_MS + 1000 * (at + number * ROWS)}
        part |= {name: whole[c, lo : lo + ROWS] for c, name in enumerate(names)}
        base.register("part", part)
        base.execute("INSERT INTO d SELECT * FROM part")
        base.unregister("part")
    base.execute("CHECKPOINT")
    found = clock.rates(count * POINTS)
    base.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=100_000_000)
    parser.add_argument("--path", default=None)
    parser.add_argument("--record", action="store_true", help="add to bench/results.jsonl")
    options = parser.parse_args()
    count = max(1, options.points // POINTS)
    small = max(1, count // 5)
    values = blocks()
    with tempfile.TemporaryDirectory(dir=options.path) as name:
        folder = Path(name)
        figures: dict[str, Any] = {"points": count * POINTS, "shape": "100 x 1000 DOUBLE"}
        figures["engine"] = engine(folder / "engine", values, count)
        figures["engine_10_x_100"] = small_tablets(folder / "small", small * POINTS)
        figures["plain_rocksdb"] = plain_rocksdb(folder / "rocksdb", values, small)
        figures["library_sync_always"] = library(folder / "library", small)
        figures["duckdb"] = duckdb(folder / "duckdb", max(1, small // 5))
    ratio = figures["engine"]["mpoints_s"] / figures["plain_rocksdb"]["mpoints_s"]
    figures["ratio_to_plain_rocksdb"] = round(ratio, 2)
    report("engine_ingest", figures, record=options.record)


if __name__ == "__main__":
    main()
