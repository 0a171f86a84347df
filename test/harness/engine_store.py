"""A small store with everything in it that the engine keeps, and what a reader finds in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from harness.fragments import make_fragment, make_layout, plain_rows
from iotdb_engine import T_MAX, T_MIN, DataType, Engine, EngineOptions, Region

OPTIONS = EngineOptions(
    page_points=64, chunk_points=256, batch_bytes=4000, compaction=False, now=lambda: 5000
)
SERIES = {
    1: DataType.DOUBLE,
    2: DataType.TEXT,
    3: DataType.INT64,
    4: DataType.BOOLEAN,
    5: DataType.FLOAT,
    6: DataType.INT32,
    7: DataType.DOUBLE,
}
REGIONS = (0, 3)


def fill(folder: Path, *, rows: int = 1500) -> None:
    """Make the store: several table files; nulls, deletes, drops, times to live, state, merges."""
    with Engine(folder, OPTIONS) as engine:
        for number in REGIONS:
            _fill_region(engine.region(number), rows)


def _fill_region(region: Region, rows: int) -> None:
    rng = np.random.default_rng(region.id)
    first = make_layout({i: SERIES[i] for i in (1, 2, 3)})
    second = make_layout({i: SERIES[i] for i in (4, 5, 6, 7)})
    for step in range(4):
        times = range(step * rows // 4, (step + 1) * rows // 4)
        index = region.applied_index + 1
        region.write(
            [
                make_fragment(first, [(t, _cells(rng, first.types, t)) for t in times], slot=2),
                make_fragment(second, [(t, _cells(rng, second.types, t)) for t in times], slot=9),
            ],
            index,
        )
        region.put({b"key %d" % step: b"value" * 40}, index)
        if step == 1:
            region.delete([1, 4], 100, 200, index + 1)
            region.set_ttl(7, 8, 4900, index + 1)
        region.flush()
        if step == 2:
            region.compact(full=True)
    region.delete([3], 10, 20, region.applied_index + 1)
    region.drop_series([(6, 7)], region.applied_index + 1)
    region.flush()


def _cells(rng: np.random.Generator, kinds: tuple[DataType, ...], time: int) -> list[Any]:
    found: list[Any] = []
    for kind in kinds:
        value: Any = float(np.float32(rng.normal()))
        if kind is DataType.TEXT:
            value = b"text %d" % rng.integers(1 << 30)
        elif kind is DataType.BOOLEAN:
            value = bool(rng.integers(2))
        elif kind in (DataType.INT32, DataType.INT64):
            value = int(rng.integers(1 << 30))
        found.append(None if kind is DataType.FLOAT and time % 5 == 0 else value)
    return found


def contents(engine: Engine) -> dict[tuple[int, int], dict[int, Any]]:
    """Return the points of every series: (region, series) → time → value."""
    found = {}
    for number in REGIONS:
        region = engine.region(number)
        for series_id, kind in SERIES.items():
            rows = plain_rows(region.read([(series_id, kind)], T_MIN, T_MAX))
            found[number, series_id] = {time: cells[0] for time, cells in rows}
    return found
