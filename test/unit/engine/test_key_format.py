from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from iotdb_engine import T_MAX, T_MIN
from iotdb_engine.key_format import (
    Kind,
    chunk_key,
    kind_prefix,
    prefix_end,
    region_of,
    region_range,
    series_range,
    slot_end,
    slot_start,
    split_chunk_key,
    with_kind,
)

places = st.tuples(
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF),
    st.integers(0, (1 << 64) - 1),
    st.integers(T_MIN, T_MAX),
    st.integers(0, (1 << 64) - 1),
)


def key(place: tuple[int, int, int, int, int]) -> bytes:
    region, slot, series_id, first_time, sequence = place
    return chunk_key(
        region=region,
        kind=Kind.CHUNK,
        slot=slot,
        series_id=series_id,
        first_time=first_time,
        sequence=sequence,
    )


@given(places, places)
def test_keys_sort_as_their_fields_do(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    assert (key(a) < key(b)) == (a < b)


@given(places)
def test_a_key_can_be_taken_apart(place: tuple[int, int, int, int, int]) -> None:
    parts = split_chunk_key(key(place))
    assert (parts.region, parts.slot, parts.series_id, parts.first_time, parts.sequence) == place
    assert split_chunk_key(with_kind(key(place), Kind.DATA))._replace(kind=Kind.CHUNK) == parts
    assert region_of(key(place)) == place[0]


@given(places)
def test_ranges_hold_exactly_their_keys(place: tuple[int, int, int, int, int]) -> None:
    region, slot, series_id, _, _ = place
    mine = key(place)
    lo, hi = series_range(region, Kind.CHUNK, slot, series_id, series_id + 1)
    assert lo <= mine < hi
    assert slot_start(region, Kind.CHUNK, slot) <= lo
    assert hi <= slot_end(region, Kind.CHUNK, slot)
    prefix = kind_prefix(region, Kind.CHUNK)
    assert slot_end(region, Kind.CHUNK, slot) <= prefix_end(prefix)
    assert region_range(region)[0] <= prefix
    assert prefix_end(prefix) < region_range(region)[1]
    if series_id:
        assert not lo <= key((region, slot, series_id - 1, T_MAX, (1 << 64) - 1)) < hi


def test_a_key_of_known_bytes() -> None:
    """The format is frozen: this is what is on users' disks."""
    assert key((1, 2, 3, -1, 5)).hex() == "0001060002" + "0000000000000003" + "7f" + "f" * 14 + (
        "0000000000000005"
    )
