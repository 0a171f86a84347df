"""Reads look into the slots that have chunks of a series, and into no others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from iotdb_engine import Engine, EngineOptions, Fragment, Layout
from iotdb_engine.region import Region
from iotdb_engine.types import T_MAX, T_MIN, DataType

KIND = DataType.INT64


def series_of(family: int, number: int) -> int:
    return family << 32 | number


def write(region: Region, slot: int, series_id: int, time: int, index: int) -> None:
    cell = np.array([time], ">i8").tobytes()
    region.write([Fragment(slot, Layout((series_id,), (KIND,)), 1, cell, cell)], index)


def times_of(region: Region, series_id: int) -> list[int]:
    batches = region.read([(series_id, KIND)], T_MIN, T_MAX)
    return [time for batch in batches for time in batch.times.tolist()]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 1)),  # a row
        st.sampled_from(["flush", "read", "reopen"]),
    ),
    max_size=20,
)


@given(STEPS)
@settings(max_examples=60, deadline=None)
def test_every_row_is_found(steps: Iterable[object]) -> None:
    with Engine(":memory:", EngineOptions(compaction=False)) as engine:
        region = engine.region(1)
        written: dict[int, list[int]] = {}
        for number, step in enumerate(steps, start=1):
            if step == "flush":
                region.flush()
            elif step == "read":
                for series_id, times in written.items():
                    assert times_of(region, series_id) == times
            elif step == "reopen":
                region.flush()
                with region.state.lock:
                    region.state.slots = None
            else:
                slot, family, member = step
                series_id = series_of(family, member)
                write(region, slot, series_id, number, number)
                written.setdefault(series_id, []).append(number)
        region.flush()
        for series_id, times in written.items():
            assert times_of(region, series_id) == times


def test_only_slots_of_the_family_are_looked_into() -> None:
    def slots_of(region: Region, series_id: int) -> Sequence[int]:
        with region.open_read([]) as read:
            return region.state.slot_map().of(series_id, read.snapshot.view)

    with Engine(":memory:", EngineOptions(compaction=False)) as engine:
        region = engine.region(1)
        for slot in range(20):
            write(region, slot, series_of(slot % 2, 5), slot, slot + 1)
        region.flush()
        assert list(region.state.known_slots()) == list(range(20))
        assert slots_of(region, series_of(1, 7)) == tuple(range(1, 20, 2))
        write(region, 30, series_of(1, 8), 30, 30)
        region.flush()
        assert slots_of(region, series_of(1, 7)) == (*range(1, 20, 2), 30)
        assert slots_of(region, series_of(0, 7)) == tuple(range(0, 20, 2))
        assert slots_of(region, series_of(9, 7)) == ()
