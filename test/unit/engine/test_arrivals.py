from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from harness.fragments import Row, make_fragment, make_layout
from iotdb_engine import DataType, Fragment
from iotdb_engine import arrivals as module
from iotdb_engine.arrivals import Arrivals
from iotdb_engine.cache import ByteCache

LAYOUT = make_layout({1: DataType.INT64, 2: DataType.DOUBLE, 3: DataType.TEXT, 4: DataType.BOOLEAN})
NUMBERS = make_layout({1: DataType.INT64, 2: DataType.DOUBLE, 4: DataType.BOOLEAN})


def fragments_of(rng: random.Random, layout: Any, count: int, nulls_from: int) -> list[Fragment]:
    made, time = [], 0
    for number in range(count):
        rows: list[Row] = []
        for _ in range(rng.randrange(1, 5)):
            time += rng.choice((1, 1, 1, 0, -2)) if number > count // 2 else 1
            cells: list[Any] = [time * 3, time / 7, b"x" * (time % 5), time % 2 == 0]
            if layout is NUMBERS:
                del cells[2]
            if number >= nulls_from:
                cells = [None if rng.random() < 0.3 else cell for cell in cells]
            rows.append((time, cells))
        made.append(make_fragment(layout, rows))
    return made


@pytest.mark.parametrize("layout", [LAYOUT, NUMBERS])
@pytest.mark.parametrize("cache_bytes", [1 << 20, 20_000, 0])
def test_whatever_was_read_before_the_columns_are_those_of_the_fragments(
    layout: Any, cache_bytes: int
) -> None:
    rng = random.Random(cache_bytes)
    fragments = fragments_of(rng, layout, 120, nulls_from=40)
    cached = Arrivals(7, layout, fragments, ByteCache(cache_bytes))
    plain = Arrivals(7, layout, fragments, None)
    seen: list[tuple[Any, Any]] = []
    length = 1
    while length <= len(fragments):
        # now and then a reader that began earlier
        at = max(1, length - rng.choice((0, 0, 0, 3, 20)))
        columns = rng.sample(range(len(layout.types)), rng.randrange(1, len(layout.types) + 1))
        times, ascending = cached.times(at)
        expected, _ = plain.times(at)
        assert times.tolist() == expected.tolist()
        assert ascending == bool((np.diff(expected) > 0).all())
        found = cached.columns(columns, at)
        for got, want in zip(found, plain.columns(columns, at), strict=True):
            assert got.values.dtype == want.values.dtype
            assert got.values.tolist() == want.values.tolist()
            assert valid_of(got) == valid_of(want)
            seen.append((got, want))
        length += rng.randrange(1, 6)
    for got, want in seen:
        assert got.values.tolist() == want.values.tolist()
        assert valid_of(got) == valid_of(want)


def valid_of(column: Any) -> list[bool]:
    if column.valid is None:
        return [True] * len(column.values)
    valid: list[bool] = column.valid.tolist()
    return valid


def test_only_what_came_since_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    fragments = fragments_of(random.Random(1), NUMBERS, 60, nulls_from=60)
    arrivals = Arrivals(7, NUMBERS, fragments, ByteCache(1 << 20))
    decoded = []

    def note(layout: Any, some: Any, columns: Any) -> Any:
        decoded.append((len(some), list(columns)))
        return decode(layout, some, columns)

    decode = module.decode_columns
    monkeypatch.setattr(module, "decode_columns", note)
    arrivals.columns([0, 1], 50)
    arrivals.columns([0], 55)
    arrivals.columns([0, 1, 2], 60)
    arrivals.columns([0, 1, 2], 60)
    assert decoded == [(50, [0, 1]), (5, [0]), (5, [0]), (10, [1]), (60, [2])]
