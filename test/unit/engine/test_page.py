from __future__ import annotations

import numpy as np
import pytest

from iotdb_engine import DataType
from iotdb_engine.page import (
    INLINE_BYTES,
    encode_chunk_pages,
    extremes,
    pack_chunk,
    pack_times,
    unpack_chunk,
    unpack_page,
    unpack_times_page,
)

TIMES = np.arange(0, 200, 2, dtype=np.int64)
VALUES = np.arange(100, dtype=np.float64)
VALID = (np.arange(100) % 3 != 0) & (np.arange(100) // 10 != 4)


def packed(valid: np.ndarray | None = VALID) -> tuple[int | None, bytes, bytes]:
    return encode_chunk_pages(DataType.DOUBLE, TIMES, VALUES, valid, 10)


def test_a_chunk_comes_back_page_by_page() -> None:
    first_time, table, body = packed()
    assert first_time == 2
    record, data = pack_chunk(DataType.DOUBLE, 9, 0, table, body)
    assert data is None
    chunk = unpack_chunk(record)
    assert (chunk.kind, chunk.owner, chunk.times_first) == (DataType.DOUBLE, 9, 0)
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
    _, table, body = encode_chunk_pages(
        DataType.DOUBLE, np.arange(1000, dtype=np.int64), values, None, 100
    )
    assert len(body) > INLINE_BYTES
    record, data = pack_chunk(DataType.DOUBLE, 1, 0, table, body)
    assert data == body
    chunk = unpack_chunk(record)
    assert chunk.inline is None
    assert unpack_page(chunk.kind, chunk.pages[3], body)[0].tolist() == values[300:400].tolist()


def test_a_column_without_values_has_no_first_time() -> None:
    assert packed(np.zeros(100, bool))[0] is None


def test_times_come_back_page_by_page() -> None:
    record = pack_times(TIMES, 30)
    pages = [unpack_times_page(record, number) for number in range(4)]
    assert np.concatenate(pages).tolist() == TIMES.tolist()
    with pytest.raises(ValueError, match="page 4 of 4"):
        unpack_times_page(record, 4)


def flips(data: bytes) -> list[bytes]:
    return [
        data[:at] + bytes((data[at] ^ 1 << bit,)) + data[at + 1 :]
        for at in range(len(data))
        for bit in (0, 5)
    ]


def test_every_flipped_bit_and_cut_of_a_chunk_is_noticed() -> None:
    _, table, body = packed()
    record, _ = pack_chunk(DataType.DOUBLE, 9, 0, table, body)
    for damaged in [*flips(record), *(record[:n] for n in range(len(record)))]:
        with pytest.raises(ValueError, match=r"expected|bytes"):
            unpack_chunk(damaged)
    page = unpack_chunk(record).pages[1]
    start, size = int(page["offset"]), int(page["size"])
    for damaged in flips(body[start : start + size]):
        with pytest.raises(ValueError, match="checksum"):
            unpack_page(DataType.DOUBLE, page, body[:start] + damaged + body[start + size :])


def test_every_flipped_bit_and_cut_of_times_is_noticed() -> None:
    record = pack_times(TIMES, 100)
    for damaged in [*flips(record), *(record[:n] for n in range(len(record)))]:
        with pytest.raises(ValueError, match=r"expected|bytes"):
            unpack_times_page(damaged, 0)


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
    np.testing.assert_equal(extremes(np.array(values)), expected)
