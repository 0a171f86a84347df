"""Data shapes for the engine's measurements, and what they have in common. Not a program."""

from __future__ import annotations

import csv
import os
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402

from iotdb_engine import DataType, Fragment, Layout, Region  # noqa: E402

START_MS = 1_700_000_000_000
TSBS_START_MS = 1_451_606_400_000
HOSTS = 100
METRICS = 10
STEP_MS = 10_000
DAY_ROWS = 8640


def timed(run: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def median_ms(run: Callable[[int], object], repeats: int = 15) -> float:
    """Return the median time of a call with 0, 1, 2 …, in milliseconds."""
    run(0)
    return round(1e3 * float(np.median([timed(lambda n=n: run(n)) for n in range(repeats)])), 3)


def tsbs_walks(series: int, rows: int) -> npt.NDArray[np.float64]:
    """Return whole numbers of walks with N(0, 1) steps, kept in [0, 100]: float64[series, rows]."""
    rng = np.random.default_rng(123)
    state = rng.uniform(0, 100, series)
    out = np.empty((rows, series))
    for row in range(rows):
        state = np.clip(state + rng.normal(0, 1, series), 0, 100)
        out[row] = state
    return np.trunc(out.T)


def layouts(devices: int, columns: int, kind: DataType) -> list[Layout]:
    """Return a layout a device: series ids count up."""
    return [
        Layout(tuple(range(1 + d * columns, 1 + (d + 1) * columns)), (kind,) * columns)
        for d in range(devices)
    ]


def tablets(
    layout: Layout,
    times: npt.NDArray[np.int64],
    values: npt.NDArray[Any],
    rows: int,
    wire: str,
) -> Iterator[Fragment]:
    """Cut a device's columns, [k, n], into fragments of so many rows."""
    for lo in range(0, len(times), rows):
        part = values[:, lo : lo + rows]
        yield Fragment(
            0,
            layout,
            part.shape[1],
            times[lo : lo + rows].astype(">i8").tobytes(),
            np.ascontiguousarray(part).astype(wire).tobytes(),
        )


def load(region: Region, fragments: list[Fragment], index: int = 0) -> int:
    """Write fragments one by one; return the last index."""
    for fragment in fragments:
        index += 1
        region.write((fragment,), index)
    return index


def real_series(folder: Path) -> dict[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]]:
    """Read CSV files of (timestamp, value): times in ms, ascending and unique, and values."""
    found = {}
    for path in sorted(folder.glob("*.csv")):
        points: dict[int, float] = {}
        with path.open(newline="") as file:
            for line in csv.DictReader(file):
                moment = datetime.fromisoformat(line["timestamp"]).replace(tzinfo=timezone.utc)
                points[int(moment.timestamp() * 1000)] = float(line["value"])
        times = np.array(sorted(points), np.int64)
        found[path.stem] = (times, np.array([points[int(t)] for t in times]))
    return found


def walks(columns: int, rows: int, seed: int = 1) -> npt.NDArray[np.float64]:
    """Return random walks of two decimals, float64[columns, rows]."""
    steps = np.random.default_rng(seed).normal(0, 0.1, (columns, rows))
    return np.round(20 + np.cumsum(steps, axis=1), 2)


def rss_mb() -> int:
    """Return the memory of this process now, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20


def cpu_s() -> float:
    """Return the CPU seconds of this process so far, all threads."""
    times = os.times()
    return times.user + times.system
