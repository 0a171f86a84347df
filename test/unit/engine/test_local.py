"""Series by name, with a log of the engine's own."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.fragments import make_fragment, make_layout
from iotdb_engine import DataType, Engine, EngineOptions, Windows, errors
from iotdb_engine.repair import repair
from iotdb_engine.verify import verify
from iotdb_engine.wal import segment_paths

OPTIONS = EngineOptions(page_points=64, chunk_points=256)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with Engine(tmp_path / "data", OPTIONS) as made:
        yield made


def rows(engine: Engine, *names: str) -> dict[int, tuple[Any, ...]]:
    times, columns = engine.fetch(names)
    lists = []
    for name in names:
        column = columns[name]
        valid = [True] * len(times) if column.valid is None else column.valid.tolist()
        lists.append(
            [v if ok else None for v, ok in zip(column.values.tolist(), valid, strict=True)]
        )
    return dict(zip(times.tolist(), zip(*lists, strict=True), strict=True))


def crash(engine: Engine) -> None:
    """Let go of the folder without storing anything, as a kill would."""
    engine.close(flush=False)


def test_columns_are_written_and_read(engine: Engine) -> None:
    engine.write(
        [3, 1, 2], {"t": [0.5, 1.5, 2.5], "s": ["c", None, b"b"], "ok": [True, False, None]}
    )
    engine.write_row(4, {"n": 7, "t": -1})
    assert engine.series() == {
        "t": DataType.DOUBLE,
        "s": DataType.TEXT,
        "ok": DataType.BOOLEAN,
        "n": DataType.INT64,
    }
    assert rows(engine, "t", "s", "ok", "n") == {
        1: (1.5, None, False, None),
        2: (2.5, b"b", None, None),
        3: (0.5, b"c", True, None),
        4: (-1.0, None, None, 7),
    }
    assert engine.last(["t", "s"]) == {"t": (4, -1.0), "s": (3, b"c")}
    assert engine.aggregate(["t"], 2, 3)["t"].total == 3.0
    windows = Windows(np.array([1, 3]), np.array([2, 4]))
    assert engine.aggregate_windows(["t"], windows)["t"].count.tolist() == [2, 2]
    batches = list(engine.read(["n"], descending=True, max_rows=1))
    assert [batch.times.tolist() for batch in batches] == [[4]]


@pytest.mark.parametrize(
    ("values", "kind", "stored"),
    [
        (np.array([1, 2], np.int32), DataType.INT32, [1, 2]),
        (np.array([1, 2], np.int8), DataType.INT32, [1, 2]),
        (np.array([1, 2], np.uint32), DataType.INT64, [1, 2]),
        (np.array([1, 2], np.float32), DataType.FLOAT, [1.0, 2.0]),
        (np.array([1, 2.5]), DataType.DOUBLE, [1.0, 2.5]),
        (np.array([True, False]), DataType.BOOLEAN, [True, False]),
        (np.array(["é", "b"]), DataType.TEXT, ["é".encode(), b"b"]),
        ([1, 2], DataType.INT64, [1, 2]),
        ([b"a\0", "b"], DataType.TEXT, [b"a\0", b"b"]),
        ([1, None], DataType.INT64, [1, None]),
        ([None, 2.5], DataType.DOUBLE, [None, 2.5]),
        (np.ma.masked_array([1.0, 2.0], [False, True]), DataType.DOUBLE, [1.0, None]),
    ],
)
def test_types_are_taken_from_values(
    engine: Engine, values: Any, kind: DataType, stored: list[Any]
) -> None:
    engine.write([1, 2], {"x": values, "always": [0, 0]})
    assert engine.series()["x"] is kind
    assert [cells[0] for cells in rows(engine, "x", "always").values()] == stored


def test_whole_numbers_fit_into_series_of_floats(engine: Engine) -> None:
    engine.create_series({"d": DataType.DOUBLE, "f": DataType.FLOAT, "i": DataType.INT32})
    engine.write([1], {"d": [1], "f": [2], "i": [3]})
    assert rows(engine, "d", "f", "i") == {1: (1.0, 2.0, 3)}


@pytest.mark.parametrize(
    ("times", "columns", "error", "says"),
    [
        ([1], {"i": [2.5]}, errors.WrongType, "'i' is of type INT32.*DOUBLE values"),
        ([1], {"i": ["x"]}, errors.WrongType, "TEXT values"),
        ([1], {"i": [1 << 40]}, ValueError, "range of INT32"),
        ([1, 2], {"i": [1, 1], "f": [0.5, 1e39]}, ValueError, "'f' has 1e\\+39.*range of FLOAT"),
        ([1], {"f": [-4e38]}, ValueError, "range of FLOAT"),
        ([1], {"d": np.array(["1e4000"], np.longdouble)}, ValueError, "range of DOUBLE"),
        ([1], {"new": [1], "i": [True]}, errors.WrongType, "BOOLEAN values"),
        ([1, 2], {"new": [1]}, ValueError, "'new' has shape"),
        ([1], {}, ValueError, "no column"),
        ([], {"new": []}, ValueError, "at least one number"),
        ([1.5], {"new": [1]}, ValueError, "whole numbers"),
        ([1], {"new": [object()]}, ValueError, "no numbers and no texts"),
        ([1, 2], {"new": ["x", 1.5]}, ValueError, "mixes texts|column 'new'"),
        ([1], {"": [1]}, ValueError, "name takes"),
        ([1], {"x" * 5000: [1]}, ValueError, "name takes"),
        ([1], {"new": np.array([1j])}, ValueError, "no type"),
    ],
)
def test_what_does_not_fit_is_refused_whole(
    engine: Engine, times: Any, columns: Any, error: type[Exception], says: str
) -> None:
    there = {"i": DataType.INT32, "f": DataType.FLOAT, "d": DataType.DOUBLE}
    engine.create_series(there)
    with pytest.raises(error, match=says):
        engine.write(times, columns)
    assert engine.series() == there
    assert rows(engine, "i", "f", "d") == {}


def test_infinite_and_rounded_numbers_are_no_others(engine: Engine) -> None:
    engine.create_series({"f": DataType.FLOAT, "d": DataType.DOUBLE})
    largest = float(np.finfo(np.float32).max)
    engine.write([1, 2], {"f": [np.inf, largest * (1 + 1e-8)], "d": [-np.inf, 1e300]})
    assert rows(engine, "f", "d") == {1: (np.inf, -np.inf), 2: (largest, 1e300)}
    below = np.ma.masked_array([1e300, 0.5], [True, False])
    engine.write([3, 4], {"f": below, "d": [1.0, 1.0]})
    assert rows(engine, "f")[4] == (0.5,)


def test_unknown_names_are_told(engine: Engine) -> None:
    calls: list[Callable[[], object]] = [
        lambda: engine.read(["nothing"]),
        lambda: engine.fetch(["nothing"]),
        lambda: engine.last(["nothing"]),
        lambda: engine.aggregate(["nothing"]),
        lambda: engine.delete(["nothing"]),
        lambda: engine.drop_series(["nothing"]),
        lambda: engine.set_ttl(["nothing"], 1),
    ]
    for call in calls:
        with pytest.raises(errors.UnknownSeries, match="'nothing'"):
            call()


def test_a_column_of_nulls_creates_nothing(engine: Engine) -> None:
    engine.write([1], {"x": [None]})
    assert engine.series() == {}
    engine.write([1], {"x": [1]})
    engine.write([1, 2], {"x": [None, None], "y": [1, 2]})
    assert rows(engine, "x", "y") == {1: (1, 1), 2: (None, 2)}


def test_datetimes_are_milliseconds(engine: Engine) -> None:
    engine.write(np.array(["1970-01-01T00:00:01.5"], "datetime64"), {"x": [1]})
    assert rows(engine, "x") == {1500: (1,)}


def test_deletes_drops_and_times_to_live(tmp_path: Path) -> None:
    options = EngineOptions(now=lambda: 100)
    with Engine(tmp_path / "data", options) as engine:
        engine.write(range(10, 20), {"a": range(10), "b": range(10), "c": range(10)})
        engine.delete(["a"], 12, 18)
        engine.drop_series(["b"])
        engine.set_ttl(["c"], 85)
        assert rows(engine, "a") == {10: (0,), 11: (1,), 19: (9,)}
        assert sorted(rows(engine, "c")) == [15, 16, 17, 18, 19]
        crash(engine)
    with Engine(tmp_path / "data", options) as engine:
        assert set(engine.series()) == {"a", "c"}
        assert rows(engine, "a") == {10: (0,), 11: (1,), 19: (9,)}
        assert sorted(rows(engine, "c")) == [15, 16, 17, 18, 19]
        engine.write([1], {"b": ["another type"]})
        assert rows(engine, "b") == {1: (b"another type",)}
        with pytest.raises(ValueError, match="at least 1"):
            engine.set_ttl(["a"], 0)


@pytest.mark.parametrize("sync", ["always", "periodic", "never"])
def test_what_was_written_survives_a_kill(tmp_path: Path, sync: Any) -> None:
    for turn in range(4):
        engine = Engine(tmp_path / "data", OPTIONS, sync=sync)
        if turn:
            assert rows(engine, "x", "y") == {n: (n, f"{n}".encode()) for n in range(30 * turn)}
        for n in range(30 * turn, 30 * turn + 30):
            engine.write([n], {"x": [n], "y": [str(n)]})
            if n % 25 == 0:
                engine.flush()
        crash(engine)


def test_a_clean_end_leaves_no_log(tmp_path: Path) -> None:
    with Engine(tmp_path / "data", OPTIONS) as engine:
        engine.write([1], {"x": [1]})
        assert engine.stats()["wal_bytes"] > 0
    assert segment_paths(tmp_path / "data" / "wal") == []
    with Engine(tmp_path / "data", OPTIONS) as engine:
        assert rows(engine, "x") == {1: (1,)}


def test_a_flush_lets_the_log_go(tmp_path: Path) -> None:
    options = EngineOptions(wal_segment_bytes=1000)
    with Engine(tmp_path / "data", options) as engine:
        for n in range(100):
            engine.write([n], {"x": [n]})
        assert len(segment_paths(tmp_path / "data" / "wal")) > 3
        engine.flush()
        pause = threading.Event()
        while len(segment_paths(tmp_path / "data" / "wal")) > 1:  # the flush thread removes them
            pause.wait(0.01)
        engine.write([100], {"x": [100]})
        crash(engine)
    with Engine(tmp_path / "data", options) as engine:
        assert len(rows(engine, "x")) == 101


def test_threads_write_side_by_side(tmp_path: Path) -> None:
    with Engine(tmp_path / "data", OPTIONS) as engine:

        def write(number: int) -> None:
            for n in range(50):
                engine.write([n], {f"s{number}": [n], "common": [number]})
                if n % 20 == number:
                    engine.flush()

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(write, range(4)))
        crash(engine)
    with Engine(tmp_path / "data", OPTIONS) as engine:
        for number in range(4):
            assert rows(engine, f"s{number}") == {n: (n,) for n in range(50)}
        assert len(rows(engine, "common")) == 50


def test_a_damaged_log_is_refused_and_repaired(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    engine = Engine(folder, OPTIONS)
    for n in range(10):
        engine.write([n], {"x": [n], "note": [f"number {n}"]})
    crash(engine)
    assert verify(folder).intact
    (path,) = segment_paths(folder / "wal")
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"number 4")] ^= 1
    path.write_bytes(raw)
    report = verify(folder)
    assert len(report.faults) == 1
    assert "acknowledged" in str(report.faults[0])
    with pytest.raises(errors.LogCorruption, match="acknowledged"):
        Engine(folder, OPTIONS)
    done = repair(folder)
    assert done.left == []
    assert "write-ahead log" in done.lost[0]
    assert verify(folder).intact
    with Engine(folder, OPTIONS) as engine:
        assert sorted(rows(engine, "x")) == [0, 1, 2, 3, 5, 6, 7, 8, 9]


def test_the_log_survives_the_repair_of_the_store(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    engine = Engine(folder, OPTIONS)
    engine.write(range(5000), {"x": np.random.default_rng(1).normal(size=5000)})
    engine.flush()
    engine.write([6000], {"x": [1.0]})
    crash(engine)
    table = max(folder.glob("*.sst"), key=lambda path: path.stat().st_size)
    raw = bytearray(table.read_bytes())
    raw[len(raw) // 2] ^= 1
    table.write_bytes(raw)
    assert repair(folder).lost
    with Engine(folder, OPTIONS) as engine:
        assert 6000 in rows(engine, "x")


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with Engine(tmp_path / "data"), pytest.raises(errors.Locked, match="in use: another process"):
        Engine(tmp_path / "data")


def test_a_nodes_folder_is_left_alone(tmp_path: Path) -> None:
    layout = make_layout({1: DataType.INT64})
    with Engine(tmp_path / "data") as engine:
        engine.region(0).write([make_fragment(layout, [(1, [1])])], 1)
        with pytest.raises(errors.EngineError, match="cluster's node"):
            engine.write([1], {"x": [1]})


def test_memory_only(tmp_path: Path) -> None:
    with Engine(":memory:") as engine:
        engine.write([1], {"x": [1]})
        assert rows(engine, "x") == {1: (1,)}
    with pytest.raises(errors.Closed):
        engine.write([1], {"x": [1]})


def test_sync_has_three_modes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="always, periodic, never"):
        Engine(tmp_path / "data", sync="sometimes")  # type: ignore[arg-type]


def test_a_failed_log_creates_no_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    with Engine(tmp_path / "data") as engine:
        engine.write([1], {"x": [1]})

        def full(fd: int, parts: Any) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "writev", full)
        with pytest.raises(errors.OutOfSpace):
            engine.write([1], {"y": [1]})
        monkeypatch.undo()
        assert set(engine.series()) == {"x"}
        engine.write([2], {"z": [1]})
        crash(engine)
    with Engine(tmp_path / "data") as engine:
        assert rows(engine, "x", "z") == {1: (1, None), 2: (None, 1)}


def test_a_series_may_be_named_twice(engine: Engine) -> None:
    engine.write([1], {"a": [1], "b": [2]})
    engine.set_ttl(["a", "a"], 1000)
    engine.delete(["b", "b"])
    engine.drop_series(["a", "b", "a"])
    assert engine.series() == {}
