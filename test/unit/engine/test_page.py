from __future__ import annotations

import numpy as np
import pytest

from iotdb_engine import DataType
from iotdb_engine.page import (
    INLINE_BYTES,
    EncodedColumn,
    PageEncoder,
    extremes,
    pack_chunk,
    unpack_chunk,
    unpack_page,
)
from iotdb_engine.times_record import pack_times, unpack_times, unpack_times_page
from iotdb_engine.types import BATCH_DTYPES

TIMES = np.arange(0, 200, 2, dtype=np.int64)
VALUES = np.arange(100, dtype=np.float64)
VALID = (np.arange(100) % 3 != 0) & (np.arange(100) // 10 != 4)


def packed(valid: np.ndarray | None = VALID) -> EncodedColumn:
    encoder = PageEncoder(DataType.DOUBLE, 1, level=1)
    return encoder.encode(TIMES, VALUES[np.newaxis], valid, 10)[0]


def test_a_chunk_comes_back_page_by_page() -> None:
    column = packed()
    assert (column.first_time, column.last_time) == (2, 196)
    record, data = pack_chunk(DataType.DOUBLE, 9, 0, 77, column)
    assert data is None
    chunk = unpack_chunk(record)
    assert (chunk.kind, chunk.owner, chunk.times_first) == (DataType.DOUBLE, 9, 0)
    assert (chunk.order, chunk.last) == (77, 196)
    assert chunk.pages["rows"].tolist() == [10] * 10
    assert chunk.pages["count"][4] == 0
    for number, page in enumerate(chunk.pages):
        lo, hi = 10 * number, 10 * number + 10
        if not VALID[lo:hi].any():
            assert page["count"] == 0
            continue
        values, valid = unpack_page(chunk.kind, page, chunk.inline or b"")
        assert valid is not None
        assert valid.tolist() == VALID[lo:hi].tolist()
        here = VALUES[lo:hi][VALID[lo:hi]]
        assert values[valid].tolist() == here.tolist()
        assert (page["low"], page["high"]) == tuple(TIMES[lo:hi][VALID[lo:hi]][[0, -1]])
        assert (page["first"], page["last"]) == (here[0], here[-1])
        assert (page["minimum"], page["maximum"]) == (here.min(), here.max())
        assert page["total"] == here.sum()


def test_a_long_chunk_has_its_pages_in_another_record() -> None:
    values = np.random.default_rng(1).normal(size=1000)
    encoder = PageEncoder(DataType.DOUBLE, 1, level=1)
    times = np.arange(1000, dtype=np.int64)
    column = encoder.encode(times, values[np.newaxis], None, 100)[0]
    body = column.body
    assert len(body) > INLINE_BYTES
    record, data = pack_chunk(DataType.DOUBLE, 1, 0, 77, column)
    assert data == body
    chunk = unpack_chunk(record)
    assert chunk.inline is None
    assert unpack_page(chunk.kind, chunk.pages[3], body)[0].tolist() == values[300:400].tolist()


def test_a_column_without_values_has_no_first_time() -> None:
    assert packed(np.zeros(100, bool))[0] is None


def test_times_come_back_page_by_page() -> None:
    members = [7, 3, 4, (1 << 64) - 1]
    record = pack_times(TIMES, 30, order=5, members=members, best=True)
    head = unpack_times(record)
    assert (head.order, head.last, head.best, head.rows) == (5, 198, True, 100)
    assert head.members == sorted(members)
    assert head.pages["low"].tolist() == TIMES[::30].tolist()
    assert head.pages["high"].tolist() == [58, 118, 178, 198]
    pages = [unpack_times_page(record, head, number) for number in range(4)]
    assert np.concatenate(pages).tolist() == TIMES.tolist()
    with pytest.raises(ValueError, match="page 4 of 4"):
        unpack_times_page(record, head, 4)


def flips(data: bytes) -> list[bytes]:
    return [
        data[:at] + bytes((data[at] ^ 1 << bit,)) + data[at + 1 :]
        for at in range(len(data))
        for bit in (0, 5)
    ]


def test_every_flipped_bit_and_cut_of_a_chunk_is_noticed() -> None:
    column = packed()
    body = column.body
    record, _ = pack_chunk(DataType.DOUBLE, 9, 0, 77, column)
    for damaged in [*flips(record), *(record[:n] for n in range(len(record)))]:
        with pytest.raises(ValueError, match=r"expected|bytes"):
            unpack_chunk(damaged)
    page = unpack_chunk(record).pages[1]
    start, size = int(page["offset"]), int(page["size"])
    for damaged in flips(body[start : start + size]):
        with pytest.raises(ValueError, match="checksum"):
            unpack_page(DataType.DOUBLE, page, body[:start] + damaged + body[start + size :])


def test_every_flipped_bit_and_cut_of_times_is_noticed() -> None:
    record = pack_times(TIMES, 100, order=5, members=[1])
    for damaged in [*flips(record), *(record[:n] for n in range(len(record)))]:
        with pytest.raises(ValueError, match=r"expected|bytes"):
            unpack_times_page(damaged, unpack_times(damaged), 0)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, np.nan, -2.0], (-2.0, 1.0, np.nan)),
        ([np.nan, np.nan], (np.nan, np.nan, np.nan)),
        ([np.inf, -np.inf], (-np.inf, np.inf, np.nan)),
        ([3.0, 4.5], (3.0, 4.5, 7.5)),
    ],
)
def test_extremes_leave_nan_out(values: list[float], expected: tuple[float, ...]) -> None:
    found = extremes(np.array([values, [0.0] * len(values)]))
    np.testing.assert_equal([part[0] for part in found], expected)
    assert [part[1] for part in found] == [0, 0, 0]


@pytest.mark.parametrize("level", [1, 8])
@pytest.mark.parametrize("kind", [DataType.INT32, DataType.INT64, DataType.FLOAT, DataType.DOUBLE])
def test_columns_of_every_sort_share_a_block(kind: DataType, level: int) -> None:
    """Decimals, whole numbers, noise, NaN, and a column that changes its nature on the way."""
    rng = np.random.default_rng(3)
    n = 40_000
    walk = np.cumsum(rng.normal(0, 1, n))
    changing = np.round(walk, 1)
    changing[n // 2 :] = walk[n // 2 :]
    columns = [np.round(walk, 2), np.round(walk), rng.normal(0, 1e3, n), changing, walk * 1e6]
    block = np.array(columns).astype(BATCH_DTYPES[kind])
    if block.dtype.kind == "f":
        block[2, 77] = np.nan
        block[1, 5] = -0.0
        block[0, -1] = np.inf
    encoder = PageEncoder(kind, len(block), level)
    times = np.arange(n, dtype=np.int64)
    for lo in (0, n // 2):
        part = block[:, lo : lo + n // 2]
        for column, made in zip(
            part, encoder.encode(times[lo : lo + n // 2], part, None, 3000), strict=True
        ):
            record, data = pack_chunk(kind, 1, 0, 5, made)
            chunk = unpack_chunk(record)
            assert data is not None
            pages = [unpack_page(kind, page, data)[0] for page in chunk.pages]
            assert np.concatenate(pages).tobytes() == column.tobytes()
            assert chunk.pages["first"].tolist() == column[::3000].tolist()
            lowest = [np.fmin.reduce(column[at : at + 3000]) for at in range(0, len(column), 3000)]
            assert chunk.pages["minimum"].tolist() == lowest
