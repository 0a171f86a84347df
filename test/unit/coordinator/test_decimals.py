import numpy as np
import pytest

from cluster.coordinator.decimals import RoundedColumn, digits_of, round_values, rounded
from cluster.schema.encodings import Encoding
from cluster.schema.series import SeriesInfo
from iotdb_engine import DataType


def series(data_type, encoding, **props):
    return SeriesInfo(1, "root.sg", "root.sg.d", "s", data_type, encoding, 1, False, None,
                      tuple(props.items()))  # fmt: skip


@pytest.mark.parametrize(
    ("data_type", "encoding", "props", "digits"),
    [
        (DataType.FLOAT, Encoding.RLE, {}, 2),
        (DataType.DOUBLE, Encoding.TS_2DIFF, {"max_point_number": "5"}, 5),
        (DataType.DOUBLE, Encoding.TS_2DIFF, {"max_point_number": "0"}, 0),
        (DataType.DOUBLE, Encoding.TS_2DIFF, {"MAX_POINT_NUMBER": "7"}, 7),
        (DataType.DOUBLE, Encoding.TS_2DIFF, {"max_point_number": "-1"}, 2),
        (DataType.DOUBLE, Encoding.TS_2DIFF, {"max_point_number": "few"}, 2),
        (DataType.DOUBLE, Encoding.TS_2DIFF, {"max_point_number": "400"}, None),
        (DataType.DOUBLE, Encoding.GORILLA, {"max_point_number": "5"}, None),
        (DataType.INT64, Encoding.RLE, {"max_point_number": "5"}, None),
    ],
)
def test_what_is_rounded(data_type, encoding, props, digits):
    assert digits_of(series(data_type, encoding, **props), 2) == digits


def test_halves_go_up_and_what_has_no_decimals_stays():
    values = [1.2345678901, -1.125, 0.125, -0.0, 1e300, -(2.0**53), np.inf, -np.inf]
    wanted = [1.23, -1.12, 0.13, 0.0, 1e300, -(2.0**53), np.inf, -np.inf]
    assert round_values(np.array(values), 2).tolist() == wanted
    assert np.isnan(round_values(np.array([np.nan]), 2)).all()


def test_of_32_bits_the_nearest_is_kept():
    values = np.array([1.2345678901, 16777217.0, 3.4e38, 2805.5605], np.float32)
    found = round_values(values, 2)
    assert found.dtype == np.float32
    assert found.tolist() == np.array([1.23, 16777216.0, 3.4e38, 2805.56], np.float32).tolist()


def test_only_the_columns_asked_for_change():
    types = (DataType.TEXT, DataType.DOUBLE, DataType.BOOLEAN, DataType.DOUBLE)
    texts = b"\0\0\0\3abc" + b"\0\0\0\0"
    cells = np.array([1.239, -4.567], ">f8").tobytes()
    values = texts + cells + b"\1\0" + cells
    changed = rounded(memoryview(values), 2, types, [RoundedColumn(3, 1)])
    assert changed == texts + cells + b"\1\0" + np.array([1.2, -4.6], ">f8").tobytes()
