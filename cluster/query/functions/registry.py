"""Finds built-in functions by name."""

from __future__ import annotations

from cluster.query.functions.casting import CASTING
from cluster.query.functions.elementwise import ELEMENTWISE
from cluster.query.functions.function import Bind
from cluster.query.functions.runs import RUNS
from cluster.query.functions.sampling import SAMPLING
from cluster.query.functions.selecting import SELECTING
from cluster.query.functions.series import SERIES
from cluster.query.functions.texts import MODERN

BUILT_IN: dict[str, Bind] = ELEMENTWISE | CASTING | SERIES | SELECTING | RUNS
"""By lower-case name; the 39 of 0.13."""

KNOWN: dict[str, Bind] = BUILT_IN | MODERN | SAMPLING
"""By lower-case name; those of 1.x besides, which every session may use."""
