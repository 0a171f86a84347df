"""Decimals: floats that are integers over a power of ten, as most sensors report them.

Problem: 20.17 as a double has 52 bits of noise; encoders for floats find the decimals behind it, at
a third of their speed for integers. Idea: multiply, round, divide, and compare *bits*: where all
come back, the page is stored as integers and an exponent. Sound whatever the values are: -0.0,
infinities and 17-digit numbers do not come back, and are stored as floats. NaN does come back, bit
by bit, but no integer holds it, so it is looked for. The sample only decides which exponent is
worth trying.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

UNKNOWN = -1
"""Exponent of a column of which nothing is known yet: its values are sampled."""
NOT_DECIMAL = -2

_SAMPLE = 24
_MOST_DIGITS: dict[np.dtype[Any], int] = {np.dtype(np.float64): 10, np.dtype(np.float32): 7}
_POWERS = 10.0 ** np.arange(11)
_BITS: dict[np.dtype[Any], np.dtype[Any]] = {
    np.dtype(np.float64): np.dtype(np.int64),
    np.dtype(np.float32): np.dtype(np.int32),
}
LARGEST = float(1 << 53)
"""Integers from here on are not told apart by a double."""


def guess_exponents(columns: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return the least exponent that fits a sample of each column, or NOT_DECIMAL.

    Args:
        columns: float32 or float64 [k, n], n >= 1.
    """
    at = np.linspace(0, columns.shape[1] - 1, _SAMPLE).astype(np.intp)
    sample = columns[:, at]
    powers = _POWERS[: _MOST_DIGITS[columns.dtype]]
    with np.errstate(all="ignore"):
        scaled = np.rint(sample[:, :, None] * powers)
        fits = _same_bits((scaled / powers).astype(columns.dtype), sample[:, :, None])
    fits &= np.abs(scaled) < LARGEST
    every: npt.NDArray[np.bool_] = np.logical_and.reduce(fits, axis=1)
    found = np.logical_or.reduce(every, axis=1)
    return np.where(found, every.argmax(axis=1), NOT_DECIMAL)


def scale(
    columns: npt.NDArray[Any], exponents: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Multiply and round each column by its power of ten.

    Args:
        columns: float32 or float64 [k, n].
        exponents: int64[k], each at least 0.

    Returns:
        Whole numbers as float64 [k, n], and for each column whether `restore` gives back its bits.
    """
    powers = _POWERS[exponents][:, None]
    with np.errstate(all="ignore"):
        scaled = np.rint(np.multiply(columns, powers, dtype=np.float64))
        scaled += 0.0  # -0.0 becomes 0.0, as it would as an integer, and does not come back
        back = (scaled / powers).astype(columns.dtype, copy=False)
    exact: npt.NDArray[np.bool_] = np.logical_and.reduce(_same_bits(back, columns), axis=1)
    exact &= ~np.isnan(scaled.min(axis=1))
    return scaled, exact


def restore(
    integers: npt.NDArray[Any], exponent: int, dtype: np.dtype[Any]
) -> npt.NDArray[np.floating[Any]]:
    """Return the floats behind integers; dividing gives the float nearest to the decimal.

    Raises:
        ValueError: there is no such exponent.
    """
    values: npt.NDArray[np.floating[Any]] = integers / _power(exponent)
    return values.astype(dtype, copy=False)


def restore_into(
    integers: npt.NDArray[Any], exponent: int, out: npt.NDArray[np.floating[Any]]
) -> None:
    """Write the floats behind integers into an array of as many; see `restore`."""
    np.divide(integers, _power(exponent), out=out, dtype=np.float64, casting="same_kind")


def _power(exponent: int) -> np.float64:
    if not 0 <= exponent < len(_POWERS):
        raise ValueError(f"decimals: exponent {exponent}")
    power: np.float64 = _POWERS[exponent]
    return power


def _same_bits(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    bits = _BITS[b.dtype]
    same: npt.NDArray[np.bool_] = np.equal(a.view(bits), b.view(bits))
    return same
