"""Finds built-in functions by name."""

from __future__ import annotations

from cluster.query.functions.casting import CASTING
from cluster.query.functions.elementwise import ELEMENTWISE
from cluster.query.functions.function import Bind
from cluster.query.functions.runs import RUNS
from cluster.query.functions.selecting import SELECTING
from cluster.query.functions.series import SERIES

BUILT_IN: dict[str, Bind] = ELEMENTWISE | CASTING | SERIES | SELECTING | RUNS
"""By lower-case name; the 39 of 0.13."""
