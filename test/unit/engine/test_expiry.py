"""Slots whose points are all expired go at once, and only those."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from harness.fragments import make_fragment, make_layout, plain_rows
from iotdb_engine import T_MAX, T_MIN, DataType, Engine, EngineOptions
from iotdb_engine.compaction_merge import GuardedWriter, Stopped
from iotdb_engine.key_format import CHUNK_KEY_BYTES, Kind, split_chunk_key
from iotdb_engine.picture import RegionPicture, points_digest
from iotdb_engine.region import Region
from iotdb_engine.store import Batch, MemoryStore
from iotdb_engine.verify import verify_store
from iotdb_engine.verify_report import Report

SERIES = [(number, DataType.INT64) for number in range(1, 5)]
LAYOUT = make_layout(dict(SERIES))
PARTITION = 100


class Clock:
    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def opened(clock: Clock, store: MemoryStore | None = None) -> Engine:
    options = EngineOptions(page_points=8, chunk_points=16, compaction=False, now=clock)
    return Engine(":memory:", options, store=store or MemoryStore())


def fill(region: Region, upto: int) -> None:
    """Write rows of 4 series at every time from 0, a slot for each hundred."""
    for low in range(0, upto, PARTITION):
        rows: list[Any] = [(time, [time] * 4) for time in range(low, low + PARTITION)]
        fragment = make_fragment(LAYOUT, rows, slot=low // PARTITION)
        region.write([fragment], region.applied_index + 1)
    region.flush()


def records(region: Region) -> Counter[tuple[int, Kind]]:
    view = region.store.view()
    try:
        found: Counter[tuple[int, Kind]] = Counter()
        for key, _ in view.scan(b"", b"\xff" * 64):
            if len(key) == CHUNK_KEY_BYTES:
                found[(split_chunk_key(key).slot, Kind(key[2]))] += 1
        return found
    finally:
        view.release()


def intact(region: Region) -> bool:
    report = Report()
    assert isinstance(region.store, MemoryStore)
    verify_store(region.store, report)
    return report.intact


def times_of(region: Region, number: int = 1) -> list[int]:
    return [time for time, _ in plain_rows(region.read([SERIES[number - 1]], T_MIN, T_MAX))]


def test_only_slots_that_are_wholly_expired_go(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(clock) as engine:
        region = engine.region(1)
        fill(region, 500)
        clock.now = 700
        ranges: list[Any] = []
        original = Batch.delete_range
        monkeypatch.setattr(
            Batch, "delete_range", lambda self, *span: ranges.append(span) or original(self, *span)
        )
        region.set_ttl(1, 5, 450, region.applied_index + 1)
        region.flush()
        # 250 lies within slot 2: slots 0 and 1 went, three ranges each, whatever was in them
        assert len(ranges) == 6
        assert {slot for slot, _ in records(region)} == {2, 3, 4}
        assert engine.stats()["expired_slots"] == 2
        assert times_of(region) == list(range(250, 500))
        assert intact(region)
        clock.now = 749
        region.put({b"k": b"v"}, region.applied_index + 1)
        region.flush()
        assert len(ranges) == 6
        clock.now = 750
        region.put({b"k": b"w"}, region.applied_index + 1)
        region.flush()
        assert {slot for slot, _ in records(region)} == {3, 4}
        # without the rule, what was removed stays so and nothing is missed
        region.set_ttl(1, 5, None, region.applied_index + 1)
        assert times_of(region) == list(range(300, 500))
        assert [one.count for one in region.aggregate(SERIES, T_MIN, T_MAX)] == [200] * 4
        assert intact(region)


def test_times_that_others_share_stay(clock: Clock) -> None:
    with opened(clock) as engine:
        region = engine.region(1)
        fill(region, 300)
        clock.now = 300
        region.set_ttl(1, 3, 100, region.applied_index + 1)
        region.flush()
        found = records(region)
        assert found[(0, Kind.CHUNK)] < found[(2, Kind.CHUNK)]
        assert found[(0, Kind.TIMES)] == found[(2, Kind.TIMES)]
        assert times_of(region, 1) == list(range(200, 300))
        assert times_of(region, 3) == list(range(300))
        region.compact(full=True)
        assert times_of(region, 4) == list(range(300))
        assert intact(region)


def test_what_comes_late_is_removed_later_and_what_is_alive_stays(clock: Clock) -> None:
    with opened(clock) as engine:
        region = engine.region(1)
        fill(region, 200)
        clock.now = 1000
        region.set_ttl(1, 5, 100, region.applied_index + 1)
        region.flush()
        assert not records(region)
        late = [make_fragment(LAYOUT, [(50, [1] * 4)], slot=0)]
        alive = [make_fragment(LAYOUT, [(950, [2] * 4)], slot=0)]
        region.write(late, region.applied_index + 1)
        region.flush()
        region.put({b"k": b"v"}, region.applied_index + 1)
        region.flush()
        assert not records(region)
        region.write(late, region.applied_index + 1)
        region.write(alive, region.applied_index + 1)
        region.flush()
        region.put({b"k": b"w"}, region.applied_index + 1)
        region.flush()
        assert times_of(region) == [950]
        assert intact(region)


def test_a_merge_in_a_slot_that_was_emptied_gives_up(clock: Clock) -> None:
    with opened(clock) as engine:
        region = engine.region(1)
        fill(region, 200)
        here = GuardedWriter(region.state, 0, [1])
        elsewhere = GuardedWriter(region.state, 7, [1])
        clock.now = 1000
        region.set_ttl(1, 5, 100, region.applied_index + 1)
        region.flush()
        here.put(b"\xff", b"")
        with pytest.raises(Stopped):
            here.finish()
        elsewhere.put(b"\xfe", b"")
        elsewhere.finish()


def test_a_full_merge_is_whole_although_expired_points_go_meanwhile(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(clock) as engine:
        region = engine.region(1)
        fill(region, 100)
        fill(region, 100)  # once more: chunks that overlap
        region.set_ttl(1, 3, 500, region.applied_index + 1)
        clock.now = 1000
        begun = []

        def remove_first(self: GuardedWriter) -> None:
            if not begun:
                begun.append(self)
                region.flushing.expiry.run()
            finish(self)

        finish = GuardedWriter.finish
        monkeypatch.setattr(GuardedWriter, "finish", remove_first)
        assert region.compact(full=True)
        assert begun
        assert region.flushing.expiry.removed == 1
        # 100 rows in chunks of 16, of the two series that live
        assert records(region) == {(0, Kind.CHUNK): 2 * 7, (0, Kind.TIMES): 7}
        assert intact(region)


def test_slots_that_expired_while_nobody_was_there_go_at_the_start(clock: Clock) -> None:
    store = MemoryStore()
    with opened(clock, store) as engine:
        region = engine.region(1)
        fill(region, 200)
        region.set_ttl(1, 5, 1000, region.applied_index + 1)
        region.flush()
        assert len(records(region))
    clock.now = 5000
    with opened(clock, store.reopen()) as engine:
        region = engine.region(1)
        assert not times_of(region)
        region.put({b"k": b"v"}, region.applied_index + 1)
        region.flush()
        assert not records(region)


def test_digests_do_not_tell_whether_expired_slots_are_gone(clock: Clock) -> None:
    found = []
    for removed in (False, True):
        clock.now = 0
        with opened(clock) as engine:
            region = engine.region(1)
            fill(region, 500)
            region.set_ttl(1, 5, 250, region.applied_index + 1)
            if not removed:
                region.flush()
            clock.now = 600
            if removed:
                region.flush()
            assert (len({slot for slot, _ in records(region)}) == 5) is not removed
            picture = RegionPicture(region)
            parts = [(one, points_digest(one[1], picture.read(*one))) for one in picture.series()]
            picture.close()
            found.append([part for part in parts if part[1][0]])
    assert found[0] == found[1]
