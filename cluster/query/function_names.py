"""The functions that SHOW FUNCTIONS lists (sql.md 6.2); class names are those of 0.13."""

from __future__ import annotations

_CLASS_PREFIX = "org.apache.iotdb.db.query.udf.builtin.UDTF"

NATIVE = (
    "AVG",
    "COUNT",
    "EXTREME",
    "FIRST_VALUE",
    "LAST_VALUE",
    "MAX_TIME",
    "MAX_VALUE",
    "MIN_TIME",
    "MIN_VALUE",
    "SUM",
)
_REGULAR = """
    ABS ACOS ASIN ATAN BOTTOM_K CAST CEIL CONST COS COSH DEGREES EXP FLOOR IN_RANGE LN
    NON_NEGATIVE_DERIVATIVE NON_ZERO_COUNT NON_ZERO_DURATION ON_OFF RADIANS ROUND SIGN SIN SINH SQRT
    TAN TANH TIME_DIFFERENCE TOP_K ZERO_COUNT ZERO_DURATION
"""
_IRREGULAR = {
    "DERIVATIVE": "CommonDerivative",
    "DIFFERENCE": "CommonValueDifference",
    "E": "ConstE",
    "LN": "Log",
    "LOG10": "Log10",
    "NON_NEGATIVE_DIFFERENCE": "NonNegativeValueDifference",
    "PI": "ConstPi",
    "STRING_CONTAINS": "Contains",
    "STRING_MATCHES": "Matches",
}
BUILT_IN: dict[str, str] = {
    name: _CLASS_PREFIX + "".join(word.capitalize() for word in name.split("_"))
    for name in _REGULAR.split()
} | {name: _CLASS_PREFIX + words for name, words in _IRREGULAR.items()}
"""Built-in time-series functions by name, with the class that 0.13 says."""
