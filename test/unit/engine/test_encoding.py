from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from iotdb_engine import DataType
from iotdb_engine.encoding import Encoding, decode_values, encode_times, encode_values
from iotdb_engine.types import BATCH_DTYPES

NUMBERS = [k for k in DataType if k is not DataType.TEXT]


@pytest.mark.parametrize("kind", NUMBERS)
@given(data=st.data())
def test_numbers_come_back_bit_by_bit(kind: DataType, data: st.DataObject) -> None:
    values = data.draw(hnp.arrays(BATCH_DTYPES[kind], st.integers(1, 50)))
    encoding, encoded = encode_values(kind, values)
    found = decode_values(kind, encoding, encoded, len(values))
    assert found.dtype == values.dtype
    assert found.tobytes() == values.tobytes()


@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1), min_size=1, max_size=60, unique=True))
def test_times_come_back(times: list[int]) -> None:
    values = np.array(sorted(times), np.int64)
    encoding, encoded = encode_times(values)
    assert decode_values(DataType.INT64, encoding, encoded, len(values)).tolist() == sorted(times)


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


@given(
    st.sampled_from(list(DataType)), st.integers(0, 6), st.binary(max_size=80), st.integers(0, 9)
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


def test_nan_payloads_survive() -> None:
    odd = np.array([0x7FF8000000000123, 0xFFF0000000000001] * 8, np.uint64).view(np.float64)
    encoding, data = encode_values(DataType.DOUBLE, odd)
    found = decode_values(DataType.DOUBLE, encoding, data, len(odd))
    assert math.isnan(found[0])
    assert found.tobytes() == odd.tobytes()
