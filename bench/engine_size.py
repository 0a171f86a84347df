"""Bytes a value on disk, everything included: keys, times, statistics, RocksDB's own.

TSBS cpu-only walks, walks of two decimals at one second with jitter (N(0, 20) ms, or up to 10 ms)
beside the entropy of their steps, and real series from CSV files
(header timestamp,value) beside zstd level 1 over the raw little-endian columns, times too; DuckDB's
file where it is installed. Prints one JSON line.

    python bench/engine_size.py [--real FOLDER] [--path DIR] [--record]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zstandard
from engine_data import (
    DAY_ROWS,
    HOSTS,
    METRICS,
    START_MS,
    STEP_MS,
    TSBS_START_MS,
    layouts,
    load,
    real_series,
    tablets,
    tsbs_walks,
    walks,
)
from report import report

from iotdb_engine import DataType, Engine, EngineOptions

OPTIONS = EngineOptions(compaction=False)
Times = npt.NDArray[np.int64]
Values = npt.NDArray[Any]


def stored_bytes(folder: Path, devices: list[tuple[Times, Values]]) -> int:
    """Store devices (times [n], values [columns, n]); return the bytes of all files of data."""
    kind = DataType.INT64 if devices[0][1].dtype.kind == "i" else DataType.DOUBLE
    wire = ">i8" if kind is DataType.INT64 else ">f8"
    with Engine(folder, OPTIONS) as engine:
        region = engine.region(0)
        index = 0
        made = layouts(len(devices), len(devices[0][1]), kind)
        for layout, (times, values) in zip(made, devices, strict=True):
            index = load(region, list(tablets(layout, times, values, 1000, wire)), index)
        region.flush()
        region.compact(full=True)
        assert isinstance(folder, Path)
        region.store.compact()  # type: ignore[attr-defined]
        assert engine.verify().intact
    return sum(path.stat().st_size for path in folder.glob("*.sst"))


def zstd_bytes(devices: list[tuple[Times, Values]]) -> int:
    packer = zstandard.ZstdCompressor(level=1)
    return sum(
        len(packer.compress(times.astype("<i8").tobytes()))
        + sum(len(packer.compress(np.ascontiguousarray(row).tobytes())) for row in values)
        for times, values in devices
    )


def duckdb_bytes(folder: Path, devices: list[tuple[Times, Values]]) -> int | str:
    try:
        import duckdb
    except ImportError:
        return "not installed"
    base = duckdb.connect(str(folder))
    names = [f"m{m}" for m in range(len(devices[0][1]))]
    kind = "BIGINT" if devices[0][1].dtype.kind == "i" else "DOUBLE"
    columns = ", ".join(f"{name} {kind}" for name in names)
    base.execute(f"CREATE TABLE t (device INTEGER, time BIGINT, {columns})")
    for number, (times, values) in enumerate(devices):
        part: dict[str, Any] = {"device": np.full(len(times), number, np.int32), "time": times}
        part |= {name: row.copy() for name, row in zip(names, values, strict=True)}
        base.register("part", part)
        base.execute("INSERT INTO t SELECT * FROM part")
        base.unregister("part")
    base.execute("CHECKPOINT")
    base.close()
    return folder.stat().st_size


def measured(folder: Path, devices: list[tuple[Times, Values]]) -> dict[str, Any]:
    values = sum(part.size for _, part in devices)
    mine = stored_bytes(folder / "engine", devices)
    zstd = zstd_bytes(devices)
    duck = duckdb_bytes(folder / "duck.db", devices)
    return {
        "values": values,
        "bytes_per_value": round(mine / values, 3),
        "zstd1_bytes_per_value": round(zstd / values, 3),
        "zstd1_ratio": round(zstd / mine, 2),
        "duckdb_bytes_per_value": duck if isinstance(duck, str) else round(duck / values, 3),
    }


def tsbs(kind: str) -> list[tuple[Times, Values]]:
    times = TSBS_START_MS + STEP_MS * np.arange(DAY_ROWS, dtype=np.int64)
    whole = tsbs_walks(HOSTS * METRICS, DAY_ROWS).astype(kind)
    return [(times, whole[h * METRICS : (h + 1) * METRICS]) for h in range(HOSTS)]


def jitter(draw: Callable[[np.random.Generator, int], Values]) -> list[tuple[Times, Values]]:
    """Return walks of 10 columns at steps of a second and what is drawn, in ms, on top."""
    rng = np.random.default_rng(4)
    found = []
    for device in range(10):
        steps = 1000 + draw(rng, 100_000).astype(np.int64)
        found.append((START_MS + np.cumsum(np.maximum(steps, 1)), walks(10, 100_000, device)))
    return found


def normal_20(rng: np.random.Generator, count: int) -> Values:
    return np.round(rng.normal(0, 20, count))


def uniform_10(rng: np.random.Generator, count: int) -> Values:
    return rng.integers(-10, 11, count)


def entropy(values: Values) -> float:
    """Return the bytes a value that no encoding of independent draws goes below."""
    shares = np.unique(values, return_counts=True)[1] / len(values)
    return float(-(shares * np.log2(shares)).sum() / 8)


def floor(devices: list[tuple[Times, Values]]) -> float:
    """Return the bytes a value of walks of two decimals, their steps and those of time counted."""
    of_times = sum(entropy(np.diff(times)) for times, _ in devices)
    columns = [row for _, values in devices for row in values]
    of_values = sum(entropy(np.diff(np.round(row * 100))) for row in columns)
    return round((of_times + of_values) / len(columns), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--real", default=None, help="folder of CSV files")
    parser.add_argument("--path", default=None)
    parser.add_argument("--record", action="store_true", help="add to bench/results.jsonl")
    options = parser.parse_args()
    shapes = {
        "tsbs_double": tsbs("<f8"),
        "tsbs_int64": tsbs("<i8"),
        "walk_2_decimals_jitter": jitter(normal_20),
        "walk_2_decimals_jitter_1_column": [(t, v[:1]) for t, v in jitter(normal_20)],
        "walk_2_decimals_jitter_10_ms_1_column": [(t, v[:1]) for t, v in jitter(uniform_10)],
    }
    if options.real:
        series = real_series(Path(options.real))
        shapes |= {f"real {name}": [(t, v[np.newaxis])] for name, (t, v) in series.items()}
        shapes["real all six"] = [(t, v[np.newaxis]) for t, v in series.values()]
    figures: dict[str, Any] = {}
    for name, devices in shapes.items():
        with tempfile.TemporaryDirectory(dir=options.path) as folder:
            figures[name] = measured(Path(folder), devices)
        if name.startswith("walk"):
            figures[name]["floor_bytes_per_value"] = floor(devices)
    report("engine_size", figures, record=options.record)


if __name__ == "__main__":
    main()
