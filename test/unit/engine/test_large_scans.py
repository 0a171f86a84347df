"""Scans of more than the cache holds, and reads that are ended from outside."""

from __future__ import annotations

import pytest

from harness.fragments import make_fragment, make_layout, plain_rows
from iotdb_engine import T_MAX, T_MIN, ColumnBatch, DataType, Engine, EngineOptions
from iotdb_engine.region import Region
from iotdb_engine.windows import Windows

LAYOUT = make_layout({1: DataType.INT64, 2: DataType.INT64})
KEYS = [(1, DataType.INT64), (2, DataType.INT64)]
ROWS = 4000
OPTIONS = EngineOptions(
    page_points=100, chunk_points=500, read_batch_rows=70, compaction=False, read_cache_bytes=50_000
)


def filled(engine: Engine) -> Region:
    region = engine.region(1)
    region.write([make_fragment(LAYOUT, [(n, [n, -n]) for n in range(ROWS)])], 1)
    region.flush()
    return region


@pytest.mark.parametrize("descending", [False, True])
def test_a_scan_of_more_than_the_cache_leaves_it_to_others(descending: bool) -> None:
    with Engine(":memory:", OPTIONS) as engine:
        region = filled(engine)
        recent = plain_rows(region.read(KEYS[:1], 0, 250))
        used = region._cache.used_bytes
        assert used > 2000
        found = plain_rows(region.read(KEYS, T_MIN, T_MAX, descending=descending))
        expected = [(n, (n, -n)) for n in range(ROWS)]
        assert found == (expected[::-1] if descending else expected)
        # page tables of the second series may have come in, and no page
        assert used <= region._cache.used_bytes < used + 15_000
        hits = region._cache.hits
        assert plain_rows(region.read(KEYS[:1], 0, 250)) == recent
        assert region._cache.hits > hits


class EndedError(Exception):
    pass


def test_a_read_ends_where_its_check_says_so() -> None:
    with Engine(":memory:", OPTIONS) as engine:
        region = filled(engine)
        calls = 0

        def check() -> None:
            nonlocal calls
            calls += 1
            if calls > 10:
                raise EndedError

        seen: list[ColumnBatch] = []
        with pytest.raises(EndedError):
            seen.extend(region.read(KEYS, T_MIN, T_MAX, check=check))
        assert 0 < sum(len(batch.times) for batch in seen) < ROWS / 2
        calls = 0
        region.write([make_fragment(LAYOUT, [(n, [n, -n]) for n in range(0, ROWS, 50)])], 2)
        with pytest.raises(EndedError):
            region.aggregate_windows(KEYS, Windows.single().clipped(1, ROWS - 2), check=check)
        calls = 10
        with pytest.raises(EndedError):
            region.last(KEYS, check=check)
