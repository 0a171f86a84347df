"""Queries of the engine on TSBS cpu-only data (100 hosts x 10 metrics x 1 day), and on 100 million
points; DuckDB beside it where it is installed. Prints one JSON line.

    python bench/engine_queries.py [--points 100000000] [--path DIR] [--record]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from engine_data import (
    DAY_ROWS,
    HOSTS,
    METRICS,
    STEP_MS,
    TSBS_START_MS,
    layouts,
    load,
    median_ms,
    tablets,
    timed,
    tsbs_walks,
)
from report import report

from iotdb_engine import T_MAX, T_MIN, DataType, Engine, EngineOptions, Needs, Windows

OPTIONS = EngineOptions(memtable_bytes=1 << 30, read_cache_bytes=256 << 20, compaction=False)
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def windows(start: int, step: int, count: int) -> Windows:
    lows = start + step * np.arange(count, dtype=np.int64)
    return Windows(lows, lows + step - 1)


def tsbs(folder: str, walks: np.ndarray) -> dict[str, Any]:
    times = TSBS_START_MS + STEP_MS * np.arange(DAY_ROWS, dtype=np.int64)
    every = layouts(HOSTS, METRICS, DataType.DOUBLE)
    series = [(i, DataType.DOUBLE) for i in range(1, 1 + HOSTS * METRICS)]
    rng = np.random.default_rng(5)
    starts = TSBS_START_MS + rng.integers(0, 12 * HOUR_MS, 64) // STEP_MS * STEP_MS
    found: dict[str, Any] = {}
    with Engine(folder, OPTIONS) as engine:
        region = engine.region(0)
        index = 0
        for host, layout in enumerate(every):
            values = walks[host * METRICS : (host + 1) * METRICS]
            index = load(region, list(tablets(layout, times, values, 1000, ">f8")), index)
        region.flush()
        region.compact(full=True)
        found["count_all_ms"] = median_ms(lambda n: region.aggregate(series, T_MIN, T_MAX))
        assert sum(a.count for a in region.aggregate(series, T_MIN, T_MAX)) == walks.size
        found["hourly_mean_all_12h_ms"] = median_ms(
            lambda n: region.aggregate_windows(
                series, windows(int(starts[n]), HOUR_MS, 12), Needs.TOTAL
            )
        )
        found["minute_max_1_series_1h_ms"] = median_ms(
            lambda n: region.aggregate_windows(
                series[n : n + 1], windows(int(starts[n]), 60_000, 60), Needs.EXTREMES
            )
        )
        found["day_raw_1_series_ms"] = median_ms(
            lambda n: list(region.read(series[n : n + 1], T_MIN, T_MAX))
        )
        found["last_1000_series_ms"] = median_ms(lambda n: region.last(series))
        found["exact_point_ms"] = median_ms(
            lambda n: list(region.read(series[n : n + 1], int(starts[n]), int(starts[n])))
        )
        found["newest_10_rows_ms"] = median_ms(
            lambda n: next(
                region.read(series[n : n + 1], T_MIN, T_MAX, descending=True, max_rows=10)
            )
        )
    return found


def duckdb_tsbs(walks: np.ndarray) -> dict[str, Any] | None:
    try:
        import duckdb
    except ImportError:
        return None
    base = duckdb.connect(":memory:", config={"threads": 2})
    times = TSBS_START_MS + STEP_MS * np.arange(DAY_ROWS, dtype=np.int64)
    columns = ", ".join(f"m{m} DOUBLE" for m in range(METRICS))
    base.execute(f"CREATE TABLE cpu (host INTEGER, time BIGINT, {columns})")
    names = [f"m{m}" for m in range(METRICS)]
    for host in range(HOSTS):
        part = {"host": np.full(DAY_ROWS, host, np.int32), "time": times}
        part.update({name: walks[host * METRICS + m].copy() for m, name in enumerate(names)})
        base.register("part", part)
        base.execute("INSERT INTO cpu SELECT * FROM part")
        base.unregister("part")
    rng = np.random.default_rng(5)
    starts = TSBS_START_MS + rng.integers(0, 12 * HOUR_MS, 64) // STEP_MS * STEP_MS

    def ask(text: str) -> float:
        return median_ms(
            lambda n: base.execute(
                text.format(
                    a=int(starts[n]),
                    h12=int(starts[n]) + 12 * HOUR_MS,
                    h1=int(starts[n]) + HOUR_MS,
                    host=n,
                )
            ).fetchnumpy()
        )

    counts = ", ".join(f"count({name})" for name in names)
    means = ", ".join(f"avg({name})" for name in names)
    lasts = ", ".join(f"arg_max({name}, time)" for name in names)
    return {
        "count_all_ms": ask(f"SELECT {counts} FROM cpu"),
        "hourly_mean_all_12h_ms": ask(
            f"SELECT host, (time - {{a}}) // 3600000 h, {means} FROM cpu "
            "WHERE time >= {a} AND time < {h12} GROUP BY host, h"
        ),
        "minute_max_1_series_1h_ms": ask(
            "SELECT (time - {a}) // 60000 m, max(m0) FROM cpu "
            "WHERE host = {host} AND time >= {a} AND time < {h1} GROUP BY m"
        ),
        "day_raw_1_series_ms": ask("SELECT time, m0 FROM cpu WHERE host = {host} ORDER BY time"),
        "last_1000_series_ms": ask(f"SELECT host, {lasts} FROM cpu GROUP BY host"),
    }


def many_points(folder: str, points: int) -> dict[str, Any]:
    """1 000 series of 10 to a device; a walk of two decimals, shifted for each device."""
    rows = points // 1000
    rng = np.random.default_rng(9)
    walk = np.round(50 + np.cumsum(rng.normal(0, 0.1, (METRICS, rows)), axis=1), 2)
    times = TSBS_START_MS + 1000 * np.arange(rows, dtype=np.int64)
    series = [(i, DataType.DOUBLE) for i in range(1, 1001)]
    found: dict[str, Any] = {"points": rows * 1000}
    with Engine(folder, OPTIONS) as engine:
        region = engine.region(0)
        index = 0
        for device, layout in enumerate(layouts(100, METRICS, DataType.DOUBLE)):
            fragments = tablets(layout, times, walk + device, 1000, ">f8")
            index = load(region, list(fragments), index)
        region.flush()
    holder: list[Engine] = []
    found["cold_start_s"] = round(timed(lambda: holder.append(Engine(folder, OPTIONS))), 3)
    with holder[0] as engine:
        region = engine.region(0)
        cold = timed(lambda: region.aggregate(series, T_MIN, T_MAX))
        found["aggregate_all_cold_ms"] = round(1e3 * cold, 1)
        found["aggregate_all_ms"] = median_ms(lambda n: region.aggregate(series, T_MIN, T_MAX), 5)
        one = [
            timed(lambda n=n: list(region.read(series[n : n + 1], T_MIN, T_MAX)))
            for n in range(20, 40)
        ]
        found["scan_1_series_mpoints_s"] = round(rows / 1e6 / float(np.median(one)), 1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=100_000_000)
    parser.add_argument("--path", default=None)
    parser.add_argument("--record", action="store_true", help="add to bench/results.jsonl")
    options = parser.parse_args()
    walks = tsbs_walks(HOSTS * METRICS, DAY_ROWS)
    with tempfile.TemporaryDirectory(dir=options.path) as folder:
        figures: dict[str, Any] = {"tsbs": tsbs(str(Path(folder) / "tsbs"), walks)}
        figures["duckdb"] = duckdb_tsbs(walks)
        if options.points:
            figures["many"] = many_points(str(Path(folder) / "many"), options.points)
    report("engine_queries", figures, record=options.record)


if __name__ == "__main__":
    main()
