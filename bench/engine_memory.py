"""Memory: many points through a small budget, and a query over all of them by batches.

1 000 series, tablets of 10 columns x 1 000 rows, a budget of 512 MB for memory tables. The memory
of the process is looked at after every tenth of a million points. Then rows that are not flushed:
how much the process grows while a query reads them all by batches, where they came in order, 30 %
late, and in any order. Prints one JSON line.

    python bench/engine_memory.py [--points 1000000000] [--unflushed-rows 50000000]
        [--budget-mb 512] [--path DIR] [--record]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from engine_data import START_MS, layouts, rss_mb, walks
from report import report

from iotdb_engine import T_MAX, T_MIN, DataType, Engine, EngineOptions, Fragment

DEVICES, COLUMNS, ROWS = 100, 10, 1000
BLOCKS = 64
LOOK_EVERY = 100_000


class Peak:
    """Highest memory of the process that was seen."""

    def __init__(self) -> None:
        self.mb = 0

    def look(self) -> None:
        self.mb = max(self.mb, rss_mb())


def unflushed(order: str, rows: int) -> dict[str, Any]:
    """Read one series of rows that are all in memory; return the growth meanwhile."""
    tablet = 10_000
    rng = np.random.default_rng(1)
    body = walks(1, tablet).astype(">f8").tobytes()
    layout = layouts(1, 1, DataType.DOUBLE)[0]
    settings = EngineOptions(memtable_bytes=16 << 30)
    with Engine(":memory:", settings) as engine:
        region = engine.region(0)
        for number in range(rows // tablet):
            times = np.arange(number * tablet, (number + 1) * tablet)
            if order == "30_percent_late":
                late = rng.random(tablet) < 0.3
                times = 10 * times - np.where(late, rng.integers(1, 500_000, tablet) * 10 + 1, 0)
            elif order == "any_order":  # odd multiples modulo a power of two are a permutation
                times = times * 2654435761 % (1 << 31)
            packed = (START_MS + times).astype(">i8").tobytes()
            region.write((Fragment(0, layout, tablet, packed, bytes(bytearray(body))),), number + 1)
        before, began, found = rss_mb(), time.perf_counter(), 0
        peak = Peak()
        for batch in region.read([(1, DataType.DOUBLE)], T_MIN, T_MAX):
            found += len(batch.times)
            peak.look()
        elapsed = time.perf_counter() - began
        assert rows * 0.9 < found <= rows, (found, rows)
    grown = max(0, peak.mb - before)
    return {"grown_mb": grown, "table_mb": before, "mrows_s": round(found / 1e6 / elapsed, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=1_000_000_000)
    parser.add_argument("--unflushed-rows", type=int, default=50_000_000)
    parser.add_argument("--budget-mb", type=int, default=512)
    parser.add_argument("--path", default=None)
    parser.add_argument("--record", action="store_true", help="add to bench/results.jsonl")
    options = parser.parse_args()
    whole = walks(COLUMNS, BLOCKS * ROWS).astype(">f8")
    blocks = [
        np.ascontiguousarray(whole[:, n * ROWS : (n + 1) * ROWS]).tobytes() for n in range(BLOCKS)
    ]
    each = COLUMNS * ROWS
    rounds = max(1, options.points // (DEVICES * each))
    points = rounds * DEVICES * each
    series = [(i, DataType.DOUBLE) for i in range(1, 1 + DEVICES * COLUMNS)]
    figures: dict[str, Any] = {
        "points": points,
        "memtable_budget_mb": options.budget_mb,
        "rss_before_mb": rss_mb(),
    }
    # However slow the disk and the machine are: writers wait, and the budget holds.
    settings = EngineOptions(memtable_bytes=options.budget_mb << 20, stall_s=600)
    with tempfile.TemporaryDirectory(dir=options.path) as folder:
        peak = Peak()
        with Engine(Path(folder) / "data", settings) as engine:
            region = engine.region(0)
            made = layouts(DEVICES, COLUMNS, DataType.DOUBLE)
            index, began, looked = 0, time.perf_counter(), 0
            for number in range(rounds):
                times = START_MS + 1000 * np.arange(number * ROWS, (number + 1) * ROWS)
                packed = times.astype(">i8").tobytes()
                for layout in made:
                    index += 1
                    # bytes of their own, as those of requests are
                    body = bytes(bytearray(blocks[index % BLOCKS]))
                    region.write((Fragment(0, layout, ROWS, packed, body),), index)
                    if index * each >= looked:
                        looked += LOOK_EVERY
                        peak.look()
            region.flush()
            peak.look()
            elapsed = time.perf_counter() - began
            figures["ingest_mpoints_s"] = round(points / 1e6 / elapsed, 2)
            figures["ingest_peak_rss_mb"] = peak.mb
            figures["write_stall_ms"] = engine.stats()["write_stall_ms"]
        peak = Peak()
        with Engine(Path(folder) / "data", settings) as engine:
            region = engine.region(0)
            began, rows, total = time.perf_counter(), 0, 0.0
            # all columns of a device together, device after device: every value is decoded
            for lo in range(0, len(series), COLUMNS):
                for batch in region.read(series[lo : lo + COLUMNS], T_MIN, T_MAX):
                    rows += len(batch.times)
                    total += float(sum(column.values.sum() for column in batch.columns))
                    peak.look()
            elapsed = time.perf_counter() - began
            assert rows * COLUMNS == points
            sums = region.aggregate(series, T_MIN, T_MAX)
            assert np.isclose(total, sum(one.total or 0.0 for one in sums))
            figures["query_all_mpoints_s"] = round(points / 1e6 / elapsed, 2)
            figures["query_peak_rss_mb"] = peak.mb
    for order in ("in_order", "30_percent_late", "any_order"):
        figures[f"unflushed_{order}"] = unflushed(order, options.unflushed_rows)
    report("engine_memory", figures, record=options.record)


if __name__ == "__main__":
    main()
