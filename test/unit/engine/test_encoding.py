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
    Encoding,
    Hints,
    decode_values,
    encode_booleans,
    encode_numbers,
    encode_texts,
    encode_times,
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
