"""A dictionary that does what the engine should, and a Hypothesis machine that compares them."""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Generator
from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from harness.fragments import make_fragment, make_layout, plain_rows
from iotdb_engine import (
    T_MAX,
    T_MIN,
    Aggregate,
    DataType,
    Engine,
    EngineOptions,
    Region,
    Windows,
)
from iotdb_engine.key_format import COMPACTED, Kind, split_chunk_key
from iotdb_engine.page import unpack_chunk
from iotdb_engine.store import MemoryStore

SERIES = {number: DataType(number % 6) for number in range(1, 13)}
PARTITION = 16
NOW = [100]
"""The present, which only moves forward."""
OPTIONS = EngineOptions(
    page_points=8,  # long enough for all encodings
    chunk_points=16,
    read_batch_rows=5,
    batch_bytes=300,
    read_cache_bytes=20_000,
    compaction=False,  # it is called by rules, so that a failing example replays
    now=lambda: NOW[0],
)
TTL_RANGES = [(1, 5), (5, 9), (9, 13)]

times = st.integers(0, 40) | st.sampled_from([T_MIN, T_MAX, -1, 15, 16])
ranges = st.tuples(times, times).map(sorted)
VALUES: dict[DataType, st.SearchStrategy[Any]] = {
    DataType.BOOLEAN: st.booleans(),
    DataType.INT32: st.integers(-(1 << 31), (1 << 31) - 1),
    DataType.INT64: st.integers(-(1 << 63), (1 << 63) - 1),
    DataType.FLOAT: st.floats(width=32),
    DataType.DOUBLE: st.floats(),
    DataType.TEXT: st.binary(max_size=6),
}


@st.composite
def fragments(draw: st.DrawFn) -> tuple[tuple[int, ...], list[tuple[int, list[Any]]]]:
    ids = tuple(
        draw(st.lists(st.sampled_from(sorted(SERIES)), min_size=1, max_size=5, unique=True))
    )
    count = draw(st.sampled_from([1, 1, 1, 2, 3, 9, 20]))
    rows = []
    for _ in range(count):
        cells = [
            draw(st.none() | VALUES[SERIES[i]])
            if draw(st.integers(0, 3)) == 0
            else draw(VALUES[SERIES[i]])
            for i in ids
        ]
        rows.append((draw(times), cells))
    return ids, rows


def few_cells(kind: DataType) -> st.SearchStrategy[Any]:
    return (
        st.none()
        | {
            DataType.INT64: st.integers(0, 9),
            DataType.FLOAT: st.sampled_from([0.5, 1.5, math.nan]),
            DataType.DOUBLE: st.sampled_from([0.25, 2.5, -1.0]),
            DataType.TEXT: st.sampled_from([b"", b"x", b"yy"]),
        }[kind]
    )


FEW = (2, 3, 4, 5)
"""Series of bursts: few of them at few times, so that entries meet each other often."""
few_ids = st.lists(st.sampled_from(FEW), min_size=1, max_size=3, unique=True).map(tuple)
few_ranges = st.tuples(st.integers(0, 12), st.integers(0, 12)).map(sorted)
few_writes = few_ids.flatmap(
    lambda ids: st.tuples(
        st.just("write"),
        st.just(ids),
        st.lists(
            st.tuples(
                st.integers(0, 12), st.tuples(*[few_cells(SERIES[i]) for i in ids]).map(list)
            ),
            min_size=1,
            max_size=4,
        ),
    )
)
small_steps = st.one_of(
    few_writes,
    few_writes,
    few_writes,
    st.tuples(st.just("delete"), few_ids, few_ranges),
    st.tuples(st.just("crash"), st.integers(0, 20)),
    st.sampled_from([("flush",), ("flush",), ("freeze",), ("merge",), ("full merge",), ("look",)]),
)


class _Marker:
    """Stands in for a region that wants to be flushed: tells when it is its turn."""

    def __init__(self) -> None:
        self.flushing = self
        self.came = threading.Event()

    def store(self) -> Generator[None, None, bool]:
        self.came.set()
        yield from ()
        return False


def settle(engine: Engine) -> None:
    """Wait until the engine's worker has done all that it was asked for."""
    for _ in range(2):  # what was asked together with the first ends before the second's turn
        marker: Any = _Marker()
        engine._worker.request(marker)
        assert marker.came.wait(60), "the engine's worker hangs"


def slot_of(time: int) -> int:
    return (time // PARTITION) % 5


class Model:
    def __init__(self) -> None:
        self.data: dict[int, dict[int, Any]] = {i: {} for i in SERIES}
        self.kv: dict[bytes, bytes] = {}
        self.ttl: dict[int, int] = {}

    def cells(self, series_id: int) -> dict[int, Any]:
        """Return the rows of a series that are not expired."""
        ttl = self.ttl.get(series_id)
        floor = T_MIN if ttl is None else NOW[0] - ttl
        return {t: v for t, v in self.data[series_id].items() if t >= floor}

    def apply(self, entry: tuple[Any, ...]) -> None:
        match entry:
            case ("write", parts):
                for ids, rows in parts:
                    for time, cells in rows:
                        for series_id, cell in zip(ids, cells, strict=True):
                            if cell is not None:
                                self.data[series_id][time] = cell
            case ("delete", ids, low, high):
                for series_id in ids:
                    cells = self.data[series_id]
                    self.data[series_id] = {t: v for t, v in cells.items() if not low <= t <= high}
            case ("drop", lo, hi):
                for series_id in range(lo, hi):
                    self.data[series_id] = {}
            case ("ttl", lo, hi, ttl):
                self.ttl.update(dict.fromkeys(range(lo, hi), ttl))
            case ("put", puts):
                for key, value in puts.items():
                    if value is None:
                        self.kv.pop(key, None)
                    else:
                        self.kv[key] = value


def same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a):
        return math.isnan(b)
    return type(a) is type(b) and a == b


def same_rows(found: list[Any], expected: list[Any]) -> bool:
    return len(found) == len(expected) and all(
        t == u and len(x) == len(y) and all(map(same, x, y))
        for (t, x), (u, y) in zip(found, expected, strict=True)
    )


def same_total(found: float | None, expected: float | None, cells: dict[int, Any]) -> bool:
    """Compare sums, whose rounding depends on their order, by the size of what was added."""
    if found is None or expected is None or math.isnan(expected):
        return same(found, expected)
    size = sum(abs(float(v)) for v in cells.values())
    if math.isinf(size):
        # Whether a sum overflows on its way depends on the order too.
        return not any(math.isinf(v) for v in cells.values()) or found == expected
    return abs(found - expected) <= 1e-12 * size


def expected_aggregate(kind: DataType, cells: dict[int, Any]) -> Aggregate:
    if not cells:
        return Aggregate()
    in_time = [cells[t] for t in sorted(cells)]
    result = Aggregate(len(cells), min(cells), max(cells), in_time[0], in_time[-1])
    if kind not in (DataType.BOOLEAN, DataType.TEXT):
        numbers = [v for v in in_time if not math.isnan(v)]
        result.minimum = min(numbers) if numbers else math.nan
        result.maximum = max(numbers) if numbers else math.nan
        result.total = float(sum(in_time))
    return result


class EngineMachine(RuleBasedStateMachine):
    """Entries are applied to the engine and kept in a log, from which a crash replays."""

    @initialize()
    def open(self) -> None:
        NOW[0] = 100
        self.store = MemoryStore()
        self.engine = Engine(":memory:", OPTIONS, store=self.store)
        self.region: Region = self.engine.region(7)
        self.model = Model()
        self.log: list[tuple[Any, ...]] = []
        self.layouts: dict[tuple[int, ...], Any] = {}
        self.usable = dict(SERIES)
        self.pinned: list[tuple[Any, list[Any]]] = []

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.engine.close()

    def apply_to_engine(self, entry: tuple[Any, ...], index: int) -> None:
        match entry:
            case ("write", parts):
                self.region.write(
                    [f for ids, rows in parts for f in self.cut_by_slot(ids, rows)], index
                )
            case ("delete", ids, low, high):
                self.region.delete(ids, low, high, index)
            case ("drop", lo, hi):
                self.region.drop_series([(lo, hi)], index)
            case ("put", puts):
                self.region.put(puts, index)
            case ("ttl", lo, hi, ttl):
                self.region.set_ttl(lo, hi, ttl, index)
            case ("nothing",):
                self.region.mark_applied(index)

    def cut_by_slot(self, ids: tuple[int, ...], rows: list[tuple[int, list[Any]]]) -> list[Any]:
        by_slot: dict[int, list[tuple[int, list[Any]]]] = {}
        for row in rows:
            by_slot.setdefault(slot_of(row[0]), []).append(row)
        layout = self.layouts.setdefault(ids, make_layout({i: SERIES[i] for i in ids}))
        return [make_fragment(layout, part, slot) for slot, part in by_slot.items()]

    def apply(self, entry: tuple[Any, ...]) -> None:
        self.log.append(entry)
        self.apply_to_engine(entry, len(self.log))
        self.model.apply(entry)

    @rule(parts=st.lists(fragments(), min_size=1, max_size=3))
    def write(self, parts: list[Any]) -> None:
        alive = []
        for ids, rows in parts:
            kept = [at for at, i in enumerate(ids) if i in self.usable]
            if kept:
                alive.append(
                    (
                        tuple(ids[at] for at in kept),
                        [(t, [cells[at] for at in kept]) for t, cells in rows],
                    )
                )
        if alive:
            self.apply(("write", alive))

    @rule(steps=st.lists(small_steps, min_size=4, max_size=12))
    def burst(self, steps: list[Any]) -> None:
        """Steps that are likely to concern the same points."""
        for step in steps:
            match step:
                case ("write", ids, rows) if all(i in self.usable for i in ids):
                    self.apply(("write", [(ids, rows)]))
                case ("delete", ids, span):
                    self.apply(("delete", ids, *span))
                case ("flush",):
                    self.region.flush()
                case ("freeze",):
                    self.freeze_only()
                case ("merge",):
                    self.region.compact()
                case ("full merge",):
                    self.region.compact(full=True)
                case ("crash", seed):
                    self.crash(seed, flushing=True, compacting=None)
                case ("look",):
                    self.look()
        self.look()

    @rule()
    def look(self) -> None:
        """Compare everything that there is, row by row and by statistics."""
        ids = sorted(SERIES)
        found = plain_rows(self.region.read([(i, SERIES[i]) for i in ids], T_MIN, T_MAX))
        expected = self.expected(ids, T_MIN, T_MAX)
        assert same_rows(found, expected), (found, expected)
        self.check_aggregates(ids, [T_MIN, T_MAX])

    @rule(ids=st.lists(st.sampled_from(sorted(SERIES)), max_size=8, unique=True), span=ranges)
    def delete(self, ids: list[int], span: list[int]) -> None:
        self.apply(("delete", ids, *span))

    @precondition(lambda self: len(self.usable) > 6)
    @rule(lo=st.integers(1, 12), length=st.integers(1, 2))
    def drop(self, lo: int, length: int) -> None:
        hi = min(lo + length, 13)
        self.apply(("drop", lo, hi))
        for series_id in range(lo, hi):
            self.usable.pop(series_id, None)

    @rule(
        puts=st.dictionaries(st.binary(max_size=2), st.none() | st.binary(max_size=3), max_size=3)
    )
    def put(self, puts: dict[bytes, bytes | None]) -> None:
        self.apply(("put", puts))

    @rule(which=st.sampled_from(TTL_RANGES), ttl=st.integers(1, 130))
    def set_ttl(self, which: tuple[int, int], ttl: int) -> None:
        """Tighten a time to live: whether loosening one brings rows back is not promised."""
        lo, hi = which
        self.apply(("ttl", lo, hi, min(ttl, self.model.ttl.get(lo, ttl))))

    @rule(steps=st.integers(1, 10))
    def time_passes(self, steps: int) -> None:
        NOW[0] += steps

    @rule(full=st.booleans())
    def compact(self, full: bool) -> None:
        committed = self.region.state.committed
        assert self.region.compact(full=full)
        if full:
            self.check_nothing_to_compact(committed)

    def check_nothing_to_compact(self, committed: int) -> None:
        """After a full merge chunks do not overlap, and nothing that is expired is left.

        Of the flushes up to `committed`: others may have ended while it was under way, or since.
        """
        spans: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for key, value in self.store._data.items():
            if key[2] != Kind.CHUNK:
                continue
            parts, state = split_chunk_key(key), self.region.state
            if parts.series_id in state.dropped or parts.sequence in state.aborted:
                continue
            if COMPACTED > parts.sequence > committed:
                continue
            chunk = unpack_chunk(value)
            ttl = self.model.ttl.get(parts.series_id)
            assert ttl is None or chunk.last >= NOW[0] - ttl
            spans.setdefault((parts.slot, parts.series_id), []).append(
                (parts.first_time, chunk.last)
            )
        for ranges in spans.values():
            ranges.sort()
            assert all(a[1] < b[0] for a, b in pairwise(ranges)), ranges

    @rule()
    def nothing(self) -> None:
        self.apply(("nothing",))

    @rule()
    def flush(self) -> None:
        self.region.flush()
        assert self.region.durable_index == len(self.log)

    @rule()
    def freeze_only(self) -> None:
        """Leave the memory frozen, as in the middle of a flush."""
        with self.region.state.lock:
            self.region.flushing.freeze()

    @rule()
    def reopen(self) -> None:
        self.check_pinned()
        self.engine.close()
        self.start(self.store.reopen())
        assert self.region.applied_index == len(self.log)

    @rule(
        seed=st.integers(0, 1 << 16),
        flushing=st.booleans(),
        compacting=st.sampled_from([None, False, True]),
    )
    def crash(self, seed: int, flushing: bool, compacting: bool | None) -> None:
        """Lose what is not durable, at any batch, perhaps in the middle of a flush or a merge."""
        self.check_pinned()
        if flushing:
            # Write everything of a flush, but do not sync it.
            with self.region.state.lock:
                self.region.flushing.freeze()
            for _ in self.region.flushing.store():
                pass
        if compacting is not None:
            self.region.compact(full=compacting)
        keep = random.Random(seed).randint(0, self.store.unsynced_count())
        survivor = self.store.crash(keep)
        self.engine.close(flush=False)
        durable = self.region.durable_index
        self.start(survivor)
        assert self.region.applied_index >= durable
        for index in range(self.region.applied_index + 1, len(self.log) + 1):
            self.apply_to_engine(self.log[index - 1], index)

    def start(self, store: MemoryStore) -> None:
        self.store = store
        self.engine = Engine(":memory:", OPTIONS, store=store)
        self.region = self.engine.region(7)
        if self.region.state.ttl:
            # The engine looks for expired slots at its start, in the background: with the steps
            # that follow it would take turns of which no example knows.
            settle(self.engine)

    def expected(self, ids: list[int], low: int, high: int) -> list[Any]:
        cells = {i: self.model.cells(i) for i in ids}
        found = {t for i in ids for t in cells[i] if low <= t <= high}
        return [(t, tuple(cells[i].get(t) for i in ids)) for t in sorted(found)]

    @rule(
        ids=st.lists(st.sampled_from(sorted(SERIES)), min_size=1, max_size=6, unique=True),
        span=ranges,
        descending=st.booleans(),
        limit=st.none() | st.integers(0, 12),
        by_slot=st.booleans(),
    )
    def read(
        self, ids: list[int], span: list[int], descending: bool, limit: int | None, by_slot: bool
    ) -> None:
        batches = list(
            self.region.read(
                [(i, SERIES[i]) for i in ids],
                *span,
                slots=range(5) if by_slot else None,
                descending=descending,
                max_rows=limit,
            )
        )
        assert all(0 < len(b.times) <= OPTIONS.read_batch_rows for b in batches)
        expected = self.expected(ids, *span)
        if descending:
            expected.reverse()
        found = plain_rows(batches)
        assert same_rows(found, expected[:limit]), (found, expected[:limit])

    @rule(
        ids=st.lists(st.sampled_from([3, 4, 8, 9, 10]), min_size=1, max_size=3, unique=True),
        limits=st.lists(st.none() | st.integers(-3, 12), min_size=2, max_size=2),
        descending=st.booleans(),
    )
    def read_bounded(self, ids: list[int], limits: list[int | None], descending: bool) -> None:
        """Rows are only left out where the first series has no value within its bounds."""
        low, high = limits
        bounds = [(low, high), *[None] * (len(ids) - 1)]
        batches = self.region.read(
            [(i, SERIES[i]) for i in ids], T_MIN, T_MAX, descending=descending, bounds=bounds
        )
        found = plain_rows(batches)
        expected = self.expected(ids, T_MIN, T_MAX)
        if descending:
            expected.reverse()
        left = iter(found)
        row = next(left, None)
        for one in expected:
            if row is not None and row[0] == one[0]:
                assert same_rows([row], [one])
                row = next(left, None)
            else:
                value = one[1][0]
                outside = value is None or not math.isnan(value)
                if value is not None and not math.isnan(value):
                    outside = (low is not None and value < low) or (
                        high is not None and value > high
                    )
                assert outside, one
        assert row is None, row

    @rule(ids=st.lists(st.sampled_from(sorted(SERIES)), min_size=1, unique=True), span=ranges)
    def aggregate(self, ids: list[int], span: list[int]) -> None:
        self.check_aggregates(ids, span)

    def check_aggregates(self, ids: list[int], span: list[int]) -> None:
        found = self.region.aggregate([(i, SERIES[i]) for i in ids], *span)
        for series_id, one in zip(ids, found, strict=True):
            cells = {
                t: v for t, v in self.model.cells(series_id).items() if span[0] <= t <= span[1]
            }
            expected = expected_aggregate(SERIES[series_id], cells)
            assert (one.count, one.min_time, one.max_time) == (
                expected.count,
                expected.min_time,
                expected.max_time,
            )
            for name in ("first", "last", "minimum", "maximum"):
                assert same(getattr(one, name), getattr(expected, name)), (name, one, expected)
            assert same_total(one.total, expected.total, cells), (one, expected)

    @rule(
        ids=st.lists(st.sampled_from(sorted(SERIES)), min_size=1, unique=True),
        start=times,
        length=st.integers(1, 25),
        step=st.integers(1, 25),
        count=st.integers(1, 12),
    )
    def windows(self, ids: list[int], start: int, length: int, step: int, count: int) -> None:
        """Windows with gaps, side by side, or over each other."""
        lows = [min(start + n * step, T_MAX) for n in range(count)]
        highs = [min(low + length - 1, T_MAX) for low in lows]
        ranges = Windows(np.array(lows, np.int64), np.array(highs, np.int64))
        found = self.region.aggregate_windows([(i, SERIES[i]) for i in ids], ranges)
        for series_id, one in zip(ids, found, strict=True):
            for n, (low, high) in enumerate(zip(lows, highs, strict=True)):
                cells = {t: v for t, v in self.model.cells(series_id).items() if low <= t <= high}
                expected = expected_aggregate(SERIES[series_id], cells)
                assert one.count[n] == expected.count
                if not cells:
                    continue
                assert one.min_time is not None
                assert one.max_time is not None
                assert (one.min_time[n], one.max_time[n]) == (
                    expected.min_time,
                    expected.max_time,
                )
                for name in ("first", "last", "minimum", "maximum"):
                    array = getattr(one, name)
                    value = None if array is None else array[n : n + 1].tolist()[0]
                    assert same(value, getattr(expected, name)), (name, one, expected)
                total = None if one.total is None else float(one.total[n])
                assert same_total(total, expected.total, cells)

    @rule(ids=st.lists(st.sampled_from(sorted(SERIES)), min_size=1, max_size=4, unique=True))
    def pin(self, ids: list[int]) -> None:
        """Begin a read whose result must not change whatever comes."""
        batches = self.region.read([(i, SERIES[i]) for i in ids], T_MIN, T_MAX)
        self.pinned.append((batches, self.expected(ids, T_MIN, T_MAX)))
        if len(self.pinned) > 3:
            self.check_pinned()

    @rule()
    def check_pinned(self) -> None:
        for batches, expected in self.pinned:
            found = plain_rows(batches)
            assert same_rows(found, expected), (found, expected)
        self.pinned = []

    @rule(ids=st.lists(st.sampled_from(sorted(SERIES)), min_size=1, max_size=4, unique=True))
    def last(self, ids: list[int]) -> None:
        found = self.region.last([(i, SERIES[i]) for i in ids])
        for series_id, one in zip(ids, found, strict=True):
            cells = self.model.cells(series_id)
            if not cells:
                assert one is None
            else:
                assert one is not None
                assert one[0] == max(cells)
                assert same(one[1], cells[max(cells)])

    @rule()
    def verify(self) -> None:
        """Nothing that crashes, flushes and merges leave on disk is taken for damage."""
        report = self.engine.verify()
        assert report.intact, report.lines()

    @rule(prefix=st.binary(max_size=1))
    def scan(self, prefix: bytes) -> None:
        expected = sorted((k, v) for k, v in self.model.kv.items() if k.startswith(prefix))
        assert self.region.scan(prefix) == expected

    @invariant()
    def kv_and_indices(self) -> None:
        if not hasattr(self, "region"):
            return
        assert self.region.applied_index == len(self.log)
        assert self.region.durable_index <= self.region.applied_index
        for key in (b"", b"\x00", b"\x01"):
            assert self.region.get(key) == self.model.kv.get(key)
