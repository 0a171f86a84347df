"""The storage engine: regions of time series and key-value state over RocksDB.

Usable alone, as a library (docs/engine.md); it knows nothing of clusters, Thrift or SQL. Start
reading at `engine.py`, `local.py` and `region.py` (the whole public interface), then `memtable.py`
and `flush.py` for writing, `reader.py` and `merge.py` for reading, `docs/formats/engine.md` for
what is on disk.
"""

from __future__ import annotations

from iotdb_engine import errors
from iotdb_engine.aggregate_table import AggregateTable
from iotdb_engine.engine import Engine
from iotdb_engine.fragment import check_fragment, check_layout
from iotdb_engine.options import EngineOptions
from iotdb_engine.region import Region
from iotdb_engine.types import (
    T_MAX,
    T_MIN,
    Aggregate,
    Column,
    ColumnBatch,
    DataType,
    Fragment,
    Layout,
)
from iotdb_engine.windows import Needs, WindowAggregates, Windows

__all__ = [
    "T_MAX",
    "T_MIN",
    "Aggregate",
    "AggregateTable",
    "Column",
    "ColumnBatch",
    "DataType",
    "Engine",
    "EngineOptions",
    "Fragment",
    "Layout",
    "Needs",
    "Region",
    "WindowAggregates",
    "Windows",
    "check_fragment",
    "check_layout",
    "errors",
]
