from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from iotdb_engine import DataType
from iotdb_engine.encoding import (
    Encoded,
    EncodedPage,
    Encoding,
    Hints,
    decode_pages_into,
    decode_values,
    encode_booleans,
    encode_numbers,
    encode_texts,
    encode_times,
    runs,
)
from iotdb_engine.types import BATCH_DTYPES


def encode_values(kind: DataType, values: np.ndarray, level: int = 1) -> Encoded:
    if kind is DataType.TEXT:
        return encode_texts(values)
    if kind is DataType.BOOLEAN:
        return encode_booleans(values)
    with np.errstate(invalid="ignore"):
        low, high = values[np.newaxis].min(axis=1), values[np.newaxis].max(axis=1)
    return encode_numbers(values[np.newaxis], low, high, Hints.unknown(1), level=level)[0]


NUMBERS = [k for k in DataType if k is not DataType.TEXT]


@pytest.mark.parametrize("kind", NUMBERS)
@given(data=st.data(), level=st.sampled_from([0, 1, 8]))
def test_numbers_come_back_bit_by_bit(kind: DataType, data: st.DataObject, level: int) -> None:
    values = data.draw(hnp.arrays(BATCH_DTYPES[kind], st.integers(1, 50)))
    encoding, encoded = encode_values(kind, values, level)
    found = decode_values(kind, encoding, encoded, len(values))
    assert found.dtype == values.dtype
    assert found.tobytes() == values.tobytes()


@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1), min_size=1, max_size=60, unique=True))
def test_times_come_back(times: list[int]) -> None:
    values = np.array(sorted(times), np.int64)
    for best in (False, True):
        encoding, encoded = encode_times(values, best=best)
        found = decode_values(DataType.INT64, encoding, encoded, len(values))
        assert found.tolist() == sorted(times)


@given(st.lists(st.binary(max_size=8) | st.sampled_from([b"on", b"off"]), min_size=1, max_size=80))
def test_texts_come_back(texts: list[bytes]) -> None:
    values = np.empty(len(texts), object)
    values[:] = texts
    encoding, encoded = encode_values(DataType.TEXT, values)
    assert decode_values(DataType.TEXT, encoding, encoded, len(texts)).tolist() == texts


@pytest.mark.parametrize("distinct", [2, 300, 70_000])
def test_repeated_texts_take_a_dictionary(distinct: int) -> None:
    texts = [b"state-%d" % (n % distinct) for n in range(4 * distinct)]
    values = np.empty(len(texts), object)
    values[:] = texts
    encoding, encoded = encode_values(DataType.TEXT, values)
    assert encoding == Encoding.TEXT_DICTIONARY
    assert decode_values(DataType.TEXT, encoding, encoded, len(texts)).tolist() == texts


def test_a_walk_of_two_decimals_takes_less_than_a_byte() -> None:
    rng = np.random.default_rng(1)
    values = np.round(20 + np.cumsum(rng.normal(0, 0.1, 8192)), 2)
    assert len(encode_values(DataType.DOUBLE, values)[1]) < 8192
    regular = 1_700_000_000_000 + 1000 * np.arange(8192)
    assert len(encode_times(regular)[1]) < 100


def entropy_bytes(values: npt.NDArray[np.int64]) -> float:
    """Return the bytes a value that no encoding of independent draws can go below."""
    shares = np.unique(values, return_counts=True)[1] / len(values)
    return float(-(shares * np.log2(shares)).sum() / 8)


@pytest.mark.parametrize(
    ("shape", "codes"), [("noise", False), ("quiet", True), ("steps", True), ("few", True)]
)
def test_codes_that_save_less_than_an_eighth_are_bits_of_one_width(shape: str, codes: bool) -> None:
    rng = np.random.default_rng(5)
    numbers = {
        "noise": np.cumsum(np.rint(rng.normal(0, 100, 8192))),  # codes would save 12 %
        "quiet": np.cumsum(np.rint(rng.normal(0, 10, 8192))),  # 22 %
        "steps": np.cumsum(rng.random(8192) < 0.05),  # two thirds
        "few": np.cumsum(np.rint(rng.normal(0, 100, 500))),  # not looked at
    }[shape].astype(np.int64)
    block = numbers[np.newaxis]
    lowest, highest = block.min(axis=1), block.max(axis=1)

    ((_, plain),) = encode_numbers(block, lowest, highest, Hints.unknown(1), level=1)
    ((encoding, data),) = encode_numbers(block, lowest, highest, Hints.unknown(1), level=6)

    assert (data != plain) == codes
    assert len(data) <= len(plain)
    np.testing.assert_array_equal(
        decode_values(DataType.INT64, encoding, data, len(numbers)), numbers
    )


def test_codes_are_kept_where_the_widest_difference_alone_is_wide() -> None:
    numbers = np.tile(np.arange(64, dtype=np.int64), 128)
    numbers[4000] = np.iinfo(np.int64).max
    numbers[5000] = np.iinfo(np.int64).min
    block = numbers[np.newaxis]
    ends = block.min(axis=1), block.max(axis=1)

    ((encoding, data),) = encode_numbers(block, *ends, Hints.unknown(1), level=6)

    assert len(data) < len(numbers)
    np.testing.assert_array_equal(
        decode_values(DataType.INT64, encoding, data, len(numbers)), numbers
    )


@pytest.mark.parametrize("shape", ["of their own", "adding up", "with gaps"])
@pytest.mark.parametrize("draw", ["bell", "uniform"])
def test_times_with_jitter_take_little_more_than_the_jitter_says(shape: str, draw: str) -> None:
    rng = np.random.default_rng(2)
    jitter = np.round(rng.normal(0, 20, 8192)) if draw == "bell" else rng.integers(-10, 11, 8192)
    jitter = jitter.astype(np.int64)
    times = 1_700_000_000_000 + 1000 * np.arange(8192)
    times = times + jitter if shape == "of their own" else times + np.cumsum(jitter)
    allowed = 1.03 * entropy_bytes(jitter)
    if shape == "with gaps":
        times[4000:] += 86_400_000
        allowed += 0.02
    encoding, data = encode_times(times, best=True)
    assert decode_values(DataType.INT64, encoding, data, 8192).tolist() == times.tolist()
    assert len(data) / 8192 < allowed


@given(
    st.sampled_from(list(DataType)), st.integers(0, 7), st.binary(max_size=80), st.integers(0, 9)
)
def test_any_bytes_are_decoded_or_refused(
    kind: DataType, encoding: int, data: bytes, count: int
) -> None:
    try:
        values = decode_values(kind, encoding, data, count)
    except ValueError:
        return
    assert len(values) == count
    assert values.dtype == BATCH_DTYPES[kind]


@pytest.mark.parametrize("kind", [DataType.FLOAT, DataType.DOUBLE])
@pytest.mark.parametrize("digits", range(8))
def test_decimals_are_found_and_come_back(kind: DataType, digits: int) -> None:
    rng = np.random.default_rng(digits)
    whole = rng.integers(-(10**6), 10**6, 100)
    values = (whole / 10.0**digits).astype(BATCH_DTYPES[kind])
    encoding, data = encode_values(kind, values)
    assert encoding == Encoding.DECIMAL or (kind is DataType.FLOAT and digits == 7)
    assert decode_values(kind, encoding, data, 100).tobytes() == values.tobytes()


@pytest.mark.parametrize("odd", [-0.0, math.nan, math.inf, 0.1 + 0.2, 1e300, 2.0**53])
def test_one_value_that_is_no_decimal_is_kept_bit_by_bit(odd: float) -> None:
    values = np.arange(1000) / 100
    values[301] = odd
    encoding, data = encode_values(DataType.DOUBLE, values)
    assert encoding == Encoding.PCODEC
    assert decode_values(DataType.DOUBLE, encoding, data, 1000).tobytes() == values.tobytes()


def test_nan_payloads_survive() -> None:
    odd = np.array([0x7FF8000000000123, 0xFFF0000000000001] * 8, np.uint64).view(np.float64)
    encoding, data = encode_values(DataType.DOUBLE, odd)
    found = decode_values(DataType.DOUBLE, encoding, data, len(odd))
    assert math.isnan(found[0])
    assert found.tobytes() == odd.tobytes()


# ---- pages one after another ----

RUN_KINDS = [
    DataType.INT32,
    DataType.INT64,
    DataType.FLOAT,
    DataType.DOUBLE,
    DataType.BOOLEAN,
]
SHAPES = ["walk", "wide walk", "cents", "noise", "special", "constant"]


def page_values(kind: DataType, shape: str, rows: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    dtype = BATCH_DTYPES[kind]
    if kind is DataType.BOOLEAN:
        return rng.random(rows) > 0.5
    steps = np.cumsum(rng.integers(-50, 51, rows))
    if shape == "walk":
        return steps.astype(dtype)
    if shape == "wide walk":
        return (steps * 1000).astype(dtype)
    if shape == "constant":
        return np.full(rows, 3, dtype)
    if dtype.kind == "i":
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, rows, dtype, endpoint=True)
    if shape == "cents":
        return np.round(steps / 100, 2).astype(dtype)
    values = rng.normal(0, 1, rows).astype(dtype)
    if shape == "special":
        values[::3] = np.nan
        values[1::3] = -0.0
    return values


@given(
    st.sampled_from(RUN_KINDS),
    st.lists(
        st.tuples(
            st.sampled_from(SHAPES), st.sampled_from([1, 4, 5, 60, 256, 1000]), st.booleans()
        ),
        min_size=1,
        max_size=6,
    ),
    st.integers(1, 3000),
)
def test_pages_one_after_another(
    kind: DataType, plan: list[tuple[str, int, bool]], most: int
) -> None:
    pages, expected = [], []
    for seed, (shape, rows, best) in enumerate(plan):
        values = page_values(kind, shape, rows, seed)
        encoding, data = encode_values(kind, values, 8 if best else 1)
        pages.append(EncodedPage(encoding, memoryview(data), rows))
        expected.append(values)
    out = np.empty(sum(map(len, expected)), BATCH_DTYPES[kind])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "MOST_ROWS", most)
        decode_pages_into(kind, pages, out)
    assert out.tobytes() == np.concatenate(expected).tobytes()


def test_pages_that_are_alike_take_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    walk = page_values(DataType.DOUBLE, "cents", 6000, 1)
    pages = [
        EncodedPage(*encode_values(DataType.DOUBLE, walk[at : at + 1000], 8), 1000)
        for at in range(0, 6000, 1000)
    ]
    calls = []
    decode = runs.Run.decode
    monkeypatch.setattr(
        runs.Run, "decode", lambda run, out: (calls.append(run.rows), decode(run, out))
    )
    out = np.empty(6000)
    decode_pages_into(DataType.DOUBLE, pages, out)
    assert out.tobytes() == walk.tobytes()
    assert calls == [6000]


def test_times_one_after_another() -> None:
    rng = np.random.default_rng(1)
    regular = np.arange(20_000, dtype=np.int64) * 1000 + 5
    late = regular[:3000] + rng.integers(0, 20, 3000)
    expected = [regular[:9000], regular[9000:9010], late + 10**9, np.array([1 << 62])]
    pages = [EncodedPage(*encode_times(times), len(times)) for times in expected]
    out = np.empty(sum(map(len, expected)), np.int64)
    for _ in range(2):  # what a regular page holds is remembered
        out[:] = 0
        decode_pages_into(DataType.INT64, pages, out)
        assert out.tolist() == np.concatenate(expected).tolist()


@given(data=st.data())
def test_damaged_pages_one_after_another_are_errors(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from([DataType.INT64, DataType.FLOAT, DataType.DOUBLE]))
    values = page_values(kind, "cents", 1200, 2)
    pages = [EncodedPage(*encode_values(kind, values[at : at + 400]), 400) for at in (0, 400, 800)]
    number = data.draw(st.integers(0, 2))
    encoding, body, rows = pages[number]
    if data.draw(st.booleans()):
        body = body[: data.draw(st.integers(0, len(body) - 1))]
    else:
        rows += 1
    pages[number] = EncodedPage(encoding, body, rows)
    out = np.empty(sum(page.rows for page in pages), BATCH_DTYPES[kind])
    with pytest.raises(ValueError, match=r"."):
        decode_pages_into(kind, pages, out)


def test_pages_have_as_many_rows_as_there_is_room() -> None:
    page = EncodedPage(*encode_values(DataType.INT64, np.arange(100)), 100)
    with pytest.raises(ValueError, match="other than 150"):
        decode_pages_into(DataType.INT64, [page, page], np.empty(150, np.int64))
