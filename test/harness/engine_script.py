"""An endless script of engine entries, each made from its index, and a process that applies it.

Run as a module with a folder: applies entries from where the folder's data ends, prints each
durable index, and never stops; a thread syncs the store all the time, so that a kill finds half a
flush.
"""

from __future__ import annotations

import random
import sys
import threading
from pathlib import Path
from typing import Any

from harness.fragments import make_fragment, make_layout
from iotdb_engine import DataType, Engine, EngineOptions, Region

REGION = 5
SERIES = {1: DataType.INT64, 2: DataType.DOUBLE, 3: DataType.TEXT, 4: DataType.BOOLEAN}
LAYOUTS = [
    make_layout({i: SERIES[i] for i in ids}) for ids in ((1, 2, 3, 4), (1, 3), (2,), (4, 2, 1))
]
OPTIONS = EngineOptions(memtable_bytes=60_000, page_points=16, chunk_points=32, batch_bytes=200)


def cell(rng: random.Random, kind: DataType, index: int) -> Any:
    if rng.random() < 0.1:
        return None
    return {
        DataType.INT64: index,
        DataType.DOUBLE: index / 4,
        DataType.TEXT: b"t%d" % index,
        DataType.BOOLEAN: index % 2 == 0,
    }[kind]


def entry(index: int) -> tuple[Any, ...]:
    rng = random.Random(index)
    what = rng.random()
    if what < 0.8:
        layout = rng.choice(LAYOUTS)
        start = rng.randint(0, 3000)
        rows = [
            (start + n, [cell(rng, kind, index) for kind in layout.types])
            for n in range(rng.choice([1, 3, 40]))
        ]
        rng.shuffle(rows)
        return "write", layout, rows
    if what < 0.9:
        low = rng.randint(0, 3000)
        return "delete", rng.sample(sorted(SERIES), 2), low, low + rng.randint(0, 300)
    return "put", {b"%d" % rng.randint(0, 9): b"%d" % index, b"at": b"%d" % index}


def apply(region: Region, index: int) -> None:
    match entry(index):
        case ("write", layout, rows):
            region.write([make_fragment(layout, rows)], index)
        case ("delete", ids, low, high):
            region.delete(ids, low, high, index)
        case ("put", puts):
            region.put(puts, index)


class ScriptModel:
    """What the entries up to an index amount to."""

    def __init__(self) -> None:
        self.index = 0
        self.data: dict[int, dict[int, Any]] = {i: {} for i in SERIES}
        self.kv: dict[bytes, bytes] = {}

    def advance(self, index: int) -> None:
        while self.index < index:
            self.index += 1
            match entry(self.index):
                case ("write", layout, rows):
                    for time, cells in rows:
                        for series_id, value in zip(layout.series_ids, cells, strict=True):
                            if value is not None:
                                self.data[series_id][time] = value
                case ("delete", ids, low, high):
                    for i in ids:
                        self.data[i] = {
                            t: v for t, v in self.data[i].items() if not low <= t <= high
                        }
                case ("put", puts):
                    self.kv.update(puts)

    def rows(self) -> list[tuple[int, tuple[Any, ...]]]:
        times = sorted({t for cells in self.data.values() for t in cells})
        return [(t, tuple(self.data[i].get(t) for i in SERIES)) for t in times]


def main(folder: Path) -> None:
    engine = Engine(folder, OPTIONS)
    region = engine.region(REGION)
    region.on_durable(lambda index: print(index, flush=True))

    def sync() -> None:
        while True:
            engine._store.flush()

    threading.Thread(target=sync, daemon=True).start()
    index = region.applied_index
    while True:
        index += 1
        apply(region, index)
        if index % 50 == 0:
            region.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
