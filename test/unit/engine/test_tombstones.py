from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotdb_engine import T_MAX, T_MIN
from iotdb_engine.tombstones import (
    Cut,
    DroppedSeries,
    cuts_for,
    decode_drop,
    decode_tombstone,
    encode_drop,
    encode_tombstone,
    make_tombstone,
)

ids = st.integers(0, (1 << 64) - 1)


@given(st.sets(ids, max_size=5), st.integers(T_MIN, T_MAX), st.integers(T_MIN, T_MAX))
def test_a_tombstone_comes_back(series: set[int], t_min: int, t_max: int) -> None:
    found = decode_tombstone(3, encode_tombstone(make_tombstone(3, series, t_min, t_max)))
    assert set(found.series_ids.tolist()) == series
    assert (found.sequence, found.t_min, found.t_max) == (3, t_min, t_max)
    assert all(found.hides(i) for i in series)


def test_cuts_are_of_the_series_asked_for() -> None:
    stones = [make_tombstone(4, [1, 2], 0, 9), make_tombstone(6, [2], 5, 20)]
    assert cuts_for(stones, 2) == (Cut(4, 0, 9), Cut(6, 5, 20))
    assert cuts_for(stones, 3) == ()


def test_a_wider_delete_makes_an_older_one_redundant() -> None:
    old = make_tombstone(1, [1, 2], 5, 9)
    assert make_tombstone(2, [2, 1], 0, 9).covers(old)
    assert not make_tombstone(2, [2, 1], 6, 9).covers(old)
    assert not make_tombstone(2, [1], 0, 9).covers(old)


@pytest.mark.parametrize("data", [b"", b"\x02" + bytes(23), b"\x01" + bytes(25)])
def test_damaged_records_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="tombstone"):
        decode_tombstone(1, data)
    with pytest.raises(ValueError, match="drop record"):
        decode_drop(data)


@given(ids, st.integers(0, 1 << 64))
def test_a_drop_comes_back(lo: int, hi: int) -> None:
    assert decode_drop(encode_drop(lo, hi)) == (lo, hi)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=8))
def test_dropped_series_are_the_union_of_ranges(ranges: list[tuple[int, int]]) -> None:
    dropped = DroppedSeries(ranges[:4]).with_ranges(ranges[4:])
    for series_id in range(32):
        assert (series_id in dropped) == any(lo <= series_id < hi for lo, hi in ranges)
    assert bool(dropped) == any(lo < hi for lo, hi in ranges)
