"""Numbers by pcodec (measured in docs/notes/pcodec.md); too few of them to be worth it, raw.

Columns are encoded in blocks, [k, n]: what NumPy does (decimals, ranges, samples) is done for all k
at once, which matters when pages are short; pcodec takes them one by one.

A level below `SEARCH_LEVEL` is for speed: the delta order comes from a sample, and integers lie in
the narrowest type, which pcodec encodes several times faster. From there on pcodec searches, and
gives frequent numbers fewer bits (bins, and ANS codes for them). Those take twice as long to decode
as bits of one width, and gain little where the numbers are noise; they stay where they save an
eighth, which is also what RocksDB wants of a compressed block.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from pcodec import ChunkConfig, DeltaSpec, ModeSpec
from pcodec import standalone as pco

from iotdb_engine.encoding import decimal

RAW_BELOW = 5
"""Values below this count are smaller raw than with pcodec's ~26 bytes of heading."""
RAW_BELOW_TIMES = 5
SEARCH_LEVEL = 4

_PLAIN_LEVEL = 1
"""pcodec makes a single bin up to here: differences as bits of one width."""
_WORTH = 8
"""Codes of more bins save one part of so many at least, or bits of one width are taken."""
_FLOAT_LEVEL = 2
"""Least level for floats that are no decimals: below, they would hardly shrink."""
_FEW = 1024
"""For fewer values, finding out the best delta order takes longer than encoding."""
_SAMPLE = 66
_TIMES_LEVEL = 4
_BEST_TIMES_LEVEL = 8
_GRID = struct.Struct("<qq")
_FEW_BYTES = 64
"""A file of equal numbers is not longer."""
_RAMP = np.arange(8192, dtype=np.int64)
_NARROW = (np.dtype(np.int16), np.dtype(np.int32))
UNKNOWN_ORDER = -1


@dataclass(frozen=True)
class Hints:
    """What earlier pages taught about k columns; encoding a page adds to it.

    Attributes:
        exponents: int64[k] of decimals, or decimal.UNKNOWN, or decimal.NOT_DECIMAL.
        orders: int64[k] of differences, or UNKNOWN_ORDER.
    """

    exponents: npt.NDArray[np.int64]
    orders: npt.NDArray[np.int64]

    @classmethod
    def unknown(cls, count: int) -> Hints:
        """Return the hints of columns of which nothing was seen yet."""
        return cls(
            np.full(count, decimal.UNKNOWN, np.int64), np.full(count, UNKNOWN_ORDER, np.int64)
        )

    def part(self, lo: int, hi: int) -> Hints:
        """Return views of the hints of the columns [lo, hi)."""
        return Hints(self.exponents[lo:hi], self.orders[lo:hi])


@cache
def _config(level: int, order: int, *, classic: bool) -> ChunkConfig:
    delta = {UNKNOWN_ORDER: DeltaSpec.auto, 0: DeltaSpec.no_op}.get(order)
    return ChunkConfig(
        compression_level=level,
        mode_spec=ModeSpec.classic() if classic else ModeSpec.auto(),
        delta_spec=DeltaSpec.try_consecutive(order) if delta is None else delta(),
    )


def encode_integers(
    columns: npt.NDArray[Any],
    lowest: npt.NDArray[Any],
    highest: npt.NDArray[Any],
    orders: npt.NDArray[np.int64],
    *,
    level: int,
) -> list[bytes]:
    """Encode k columns of n whole numbers, which may come as floats.

    Args:
        columns: int32, int64 or float64 [k, n], n >= RAW_BELOW.
        lowest: [k], minimum of each column.
        highest: [k], maximum of each column.
        orders: [k], as in `Hints`; changed.
        level: of pcodec, 0 … 12.
    """
    found = []
    for column, low, high, order in zip(
        columns,
        lowest.tolist(),
        highest.tolist(),
        _orders(columns, orders, level),
        strict=True,
    ):
        narrow = _narrowed(column, low, high)
        config = _config(level, order, classic=level < SEARCH_LEVEL)
        data: bytes = pco.simple_compress(narrow, config)
        found.append(_plain_if_as_good(narrow, data) if level >= SEARCH_LEVEL else data)
    return found


def _plain_if_as_good(column: npt.NDArray[Any], data: bytes) -> bytes:
    """Return a column of integers as bits of one width if `data`, its codes, gain little over it.

    What it would take is worked out first (1 to 3 ns a number; encoding takes 10).
    """
    if len(column) < _FEW:
        return data
    order = int(_sampled_orders(column[np.newaxis])[0])
    wide = np.int32 if column.dtype == np.int16 else np.int64
    differences = np.diff(column.astype(wide, copy=False), order)
    width = (int(differences.max()) - int(differences.min())).bit_length()
    if not _is_as_good(len(column) * width // 8, data):
        return data
    plain: bytes = pco.simple_compress(column, _config(_PLAIN_LEVEL, order, classic=True))
    return plain if _is_as_good(len(plain), data) else data


def _is_as_good(plain: int, data: bytes) -> bool:
    return len(data) > plain - plain // _WORTH


def _narrowed(column: npt.NDArray[Any], low: float, high: float) -> npt.NDArray[Any]:
    for dtype in _NARROW:
        limits = np.iinfo(dtype)
        if limits.min <= low and high <= limits.max:
            return column.astype(dtype)
    if column.dtype.kind == "f":
        return column.astype(np.int64)
    return np.ascontiguousarray(column)


def encode_floats(
    columns: npt.NDArray[Any], orders: npt.NDArray[np.int64], *, level: int
) -> list[bytes]:
    """Encode k columns of n float32 or float64 values as they are; NaN payloads survive.

    Args:
        columns: [k, n], n >= RAW_BELOW.
        orders: [k], as in `Hints`; changed.
        level: of pcodec.
    """
    found = []
    for column, order in zip(columns, _orders(columns, orders, level), strict=True):
        # Second differences of numbers without a decimal grid are noise.
        config = _config(max(level, _FLOAT_LEVEL), min(order, 1), classic=False)
        data: bytes = pco.simple_compress(np.ascontiguousarray(column), config)
        found.append(data)
    return found


def _orders(columns: npt.NDArray[Any], orders: npt.NDArray[np.int64], level: int) -> list[int]:
    """Return for each column the order of differences that has the smallest numbers in a sample.

    UNKNOWN_ORDER: pcodec is to search.
    """
    if level >= SEARCH_LEVEL and columns.shape[1] >= _FEW:
        return [UNKNOWN_ORDER] * len(columns)
    if orders.min() == UNKNOWN_ORDER:
        orders[:] = _sampled_orders(columns)
    found: list[int] = orders.tolist()
    return found


def _sampled_orders(columns: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    start = max(0, (columns.shape[1] - _SAMPLE) // 2)
    sample = columns[:, start : start + _SAMPLE].astype(np.float64)
    with np.errstate(all="ignore"):
        first = sample[:, 1:] - sample[:, :-1]
        second = first[:, 1:] - first[:, :-1]
        middle = sample - sample.mean(axis=1, keepdims=True)
        costs = np.stack([np.abs(x).mean(axis=1) for x in (middle, first, second)])
    # NaN compares as the smallest for argmin; those columns take first differences.
    return np.where(np.isnan(costs).any(axis=0), 1, costs.argmin(axis=0))


def encode_decimals(
    columns: npt.NDArray[Any],
    lowest: npt.NDArray[Any],
    highest: npt.NDArray[Any],
    hints: Hints,
    *,
    level: int,
) -> list[bytes | None]:
    """Encode those of k columns of floats that are decimals: u8 exponent, then the integers.

    Args:
        columns: float32 or float64 [k, n], n >= RAW_BELOW.
        lowest: [k], minimum of each column.
        highest: [k], maximum of each column.
        hints: of the k columns; changed.
        level: of pcodec.

    Returns:
        None for a column that is not decimal.
    """
    exponents = hints.exponents
    unknown = np.flatnonzero(exponents == decimal.UNKNOWN)
    if len(unknown):
        exponents[unknown] = decimal.guess_exponents(columns[unknown])
    found: list[bytes | None] = [None] * len(columns)
    chosen = np.flatnonzero(exponents >= 0)
    if not len(chosen):
        return found
    some = columns if len(chosen) == len(columns) else columns[chosen]
    scaled, exact = decimal.scale(some, exponents[chosen])
    powers = 10.0 ** exponents[chosen]
    low, high = np.rint(lowest[chosen] * powers), np.rint(highest[chosen] * powers)
    exact &= (np.abs(low) < decimal.LARGEST) & (np.abs(high) < decimal.LARGEST)
    # A page that is not what the earlier ones were: the next one is looked at afresh.
    exponents[chosen[~exact]] = decimal.UNKNOWN
    if not exact.all():
        scaled, low, high, chosen = scaled[exact], low[exact], high[exact], chosen[exact]
        if not len(chosen):
            return found
    orders = hints.orders[chosen]
    encoded = encode_integers(scaled, low, high, orders, level=level)
    hints.orders[chosen] = orders
    for column, data in zip(chosen.tolist(), encoded, strict=True):
        found[column] = bytes((int(exponents[column]),)) + data
    return found


def decode_decimals(data: bytes, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Decode what `encode_decimals` made.

    Raises:
        ValueError: the bytes are not that.
    """
    if not data or dtype.kind != "f":
        raise ValueError(f"decimals: {len(data)} bytes for {dtype}")
    return decimal.restore(_decimal_integers(data), data[0], dtype)


def decode_decimals_into(data: bytes | memoryview, out: npt.NDArray[np.float64]) -> None:
    """Decode what `encode_decimals` made of float64.

    Raises:
        ValueError: the bytes are not that, or not as many values as `out` takes.
    """
    integers = _decimal_integers(data)
    if len(integers) != len(out):
        raise ValueError(f"decimals: {len(out)} values expected, {len(integers)} found")
    decimal.restore_into(integers, data[0], out)


def _decimal_integers(data: bytes | memoryview) -> npt.NDArray[Any]:
    if not data:
        raise ValueError("decimals: no bytes")
    values = _decompress(bytes(data[1:]))
    if values.dtype.kind != "i":
        raise ValueError(f"decimals: {values.dtype}, not integers")
    return values


def encode_times(times: npt.NDArray[np.int64], *, best: bool) -> bytes:
    """Encode ascending times by how far each is from a grid; a regular series takes 40 bytes.

    i64 first, i64 step, then the distances from first + step * row. Devices that send at a fixed
    rate are late by themselves each time; those that wait between two readings drift: distances or
    their differences, whatever is smaller in a sample. In the narrowest type, as pcodec finds fewer
    bytes there (docs/notes/pcodec.md). All arithmetic is modulo 2^64.

    Args:
        times: int64[n], n >= RAW_BELOW_TIMES.
        best: take time to make it small.
    """
    first, rows = int(times[0]), len(times)
    step = round((int(times[-1]) - first) / (rows - 1))
    distances = times - _grid(first, step, rows)
    spread = distances[:: 1 + rows // _SAMPLE].astype(np.float64)
    middle = times[max(0, (rows - _SAMPLE) // 2) :][:_SAMPLE]
    steps = np.diff(middle)
    order = int(np.abs(steps - np.float64(step)).mean() < np.abs(spread - spread.mean()).mean())
    if order:  # gaps do not count
        step = int(np.median(steps))
        distances = times - _grid(first, step, rows)
    narrow = _narrowed(distances, int(distances.min()), int(distances.max()))
    # The higher level finds fewer bytes for bell-shaped jitter, more for uniform.
    levels = (_TIMES_LEVEL, _BEST_TIMES_LEVEL) if best else (_TIMES_LEVEL,)
    encoded: list[bytes] = [
        pco.simple_compress(narrow, _config(level, order, classic=True)) for level in levels
    ]
    return _GRID.pack(first, step) + min(encoded, key=len)


def decode_times(data: bytes) -> npt.NDArray[np.int64]:
    """Decode what `encode_times` made.

    Raises:
        ValueError: the bytes are not that.
    """
    first, step, rows, distances = _times_parts(data)
    times = _grid(first, step, rows)
    if distances is not None:
        times += distances
    return times


def decode_times_into(data: bytes | memoryview, out: npt.NDArray[np.int64]) -> None:
    """Decode what `encode_times` made.

    Raises:
        ValueError: the bytes are not that, or not as many times as `out` takes.
    """
    first, step, rows, distances = _times_parts(data)
    if rows != len(out):
        raise ValueError(f"times: {len(out)} expected, {rows} found")
    np.multiply(_ramp(rows), step, out=out)
    out += first
    if distances is not None:
        out += distances


def _times_parts(data: bytes | memoryview) -> tuple[int, int, int, npt.NDArray[Any] | None]:
    """Return first, step, rows, and distances, None where all are 0."""
    if len(data) < _GRID.size:
        raise ValueError(f"times: {len(data)} bytes")
    first, step = _GRID.unpack_from(data)
    file = bytes(data[_GRID.size :])
    rows = _zeros(file) if len(file) <= _FEW_BYTES else 0
    if rows:
        return first, step, rows, None
    distances = _distances(file)
    return first, step, len(distances), distances


def _distances(file: bytes) -> npt.NDArray[Any]:
    distances = _decompress(file)
    if distances.dtype.kind != "i":
        raise ValueError(f"times: {distances.dtype}, not integers")
    return distances


@lru_cache(maxsize=256)
def _zeros(file: bytes) -> int:
    """Return how many zeros a file holds, and nothing else; 0 where it does not.

    Pages of regular times hold nothing but that, and nearly all of them as many.
    """
    distances = _distances(file)
    return 0 if distances.any() else len(distances)


def _ramp(rows: int) -> npt.NDArray[np.int64]:
    if rows > len(_RAMP):
        return np.arange(rows, dtype=np.int64)
    return _RAMP[:rows]


def _grid(first: int, step: int, count: int) -> npt.NDArray[np.int64]:
    times = _ramp(count) * np.int64(step)
    times += first
    return times


def decode(data: bytes, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Decode what `encode_integers` or `encode_floats` made.

    Raises:
        ValueError: the bytes are not such a file, or hold another type.
    """
    values = _decompress(data)
    narrow = dtype.kind == "i" and values.dtype.kind == "i" and values.itemsize <= dtype.itemsize
    if values.dtype != dtype and not narrow:
        raise ValueError(f"pcodec: {values.dtype}, not {dtype}")
    return values.astype(dtype, copy=False)


def decode_into(data: bytes | memoryview, out: npt.NDArray[Any]) -> bool:
    """Decode a pcodec file of the very type of `out` into it; False where that is not sure.

    Raises:
        ValueError: the bytes are no such file, or not as many values as `out` takes.
    """
    if out.dtype.kind != "f":  # integers may have been narrowed
        return False
    try:
        progress = pco.simple_decompress_into(bytes(data), out)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"pcodec: {error}") from error
    if progress.n_processed != len(out) or not progress.finished:
        raise ValueError(f"pcodec: not {len(out)} values")
    return True


def _decompress(data: bytes) -> npt.NDArray[Any]:
    try:
        values = pco.simple_decompress(data)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"pcodec: {error}") from error
    if values is None:
        raise ValueError("pcodec: no values")
    array: npt.NDArray[Any] = values
    return array


def encode_raw(values: npt.NDArray[Any]) -> bytes:
    """Return the values as little-endian bytes."""
    return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


def decode_raw(data: bytes, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Decode what `encode_raw` made."""
    return np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype, copy=False)
