"""WHERE clauses of SHOW and COUNT."""

from __future__ import annotations

from dataclasses import dataclass

from iotdb_engine.types import DataType


@dataclass(frozen=True)
class TagEquals:
    """`WHERE key = value`, `WHERE TAGS(key) = value`."""

    key: str
    value: str


@dataclass(frozen=True)
class TagContains:
    """`WHERE key CONTAINS value`."""

    key: str
    value: str


@dataclass(frozen=True)
class PathContains:
    """`WHERE TIMESERIES CONTAINS text`, `WHERE DEVICE CONTAINS text`."""

    text: str


@dataclass(frozen=True)
class TypeEquals:
    """`WHERE DATATYPE = type`."""

    data_type: DataType


@dataclass(frozen=True)
class TemplateIs:
    """`WHERE TEMPLATE = name`; None: `IS NULL`."""

    name: str | None
    negated: bool = False


SeriesFilter = TagEquals | TagContains | PathContains | TypeEquals
DeviceFilter = PathContains | TemplateIs
