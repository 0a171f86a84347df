"""Time windows and partial aggregates over them, which the engine works out where it can."""

from __future__ import annotations

from iotdb_engine.aggregate_table import AggregateTable
from iotdb_engine.windows import NUMERIC_TYPES, Needs, WindowAggregates, Windows

__all__ = ["NUMERIC_TYPES", "AggregateTable", "Needs", "WindowAggregates", "Windows"]
