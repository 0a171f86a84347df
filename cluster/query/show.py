"""SHOW and COUNT: what is known of the schema, as tables (sql.md 2.7)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

from cluster.errors import ClusterError, StatusCode
from cluster.query.backend import QueryBackend
from cluster.query.result import Cell, ResultSet, table
from cluster.schema.encodings import compressor_name, encoding_name
from cluster.schema.paths import PathPattern, join_path, split_path
from cluster.schema.series import SeriesInfo
from cluster.sql.statements.families import Statement
from cluster.sql.statements.show import (
    CountDevices,
    CountStorageGroup,
    CountTimeseries,
    ShowDevices,
    ShowStorageGroup,
    ShowTimeseries,
    ShowVersion,
)
from iotdb_engine.types import DataType

T = TypeVar("T")

_TEXT = DataType.TEXT
_INT32 = DataType.INT32

_TIMESERIES_HEADER = [
    (name, _TEXT)
    for name in (
        "timeseries",
        "alias",
        "storage group",
        "dataType",
        "encoding",
        "compression",
        "tags",
        "attributes",
        "deadband",
        "deadband parameters",
    )
]
_DEADBAND_PARAMETERS = ("compdev", "compmintime", "compmaxtime")


def show(statement: Statement, backend: QueryBackend, *, version: str, prefix: bool) -> ResultSet:
    """Answer a SHOW or COUNT statement.

    Args:
        statement: any query but Select.
        backend: where the schema is looked up.
        version: what SHOW VERSION says.
        prefix: whether patterns mean what they meant in 0.12.
    """
    match statement:
        case ShowVersion():
            return table([("        version", _TEXT)], [[version]])
        case ShowStorageGroup():
            groups = backend.storage_groups(_pattern(statement.pattern, prefix))
            return table([("storage group", _TEXT)], [[path] for path in groups])
        case CountStorageGroup():
            count = len(backend.storage_groups(_pattern(statement.pattern, prefix)))
            return table([("storage group", _INT32)], [[count]])
        case ShowDevices():
            return _show_devices(statement, backend, prefix)
        case CountDevices():
            count = len(backend.match_devices(_pattern(statement.pattern, prefix)))
            return table([("devices", _INT32)], [[count]])
        case ShowTimeseries():
            found = backend.match_series(_pattern(statement.pattern, prefix))
            rows = [_timeseries_row(info) for info in _cut(found, statement)]
            return table(_TIMESERIES_HEADER, rows)
        case CountTimeseries():
            return _count_timeseries(statement, backend, prefix)
        case _:
            raise ClusterError(
                StatusCode.UNSUPPORTED_OPERATION,
                f"{type(statement).__name__} is not supported yet",
            )


def _pattern(text: str, prefix: bool) -> PathPattern:
    return PathPattern.parse(text, prefix=prefix)


def _cut(rows: Sequence[T], statement: ShowTimeseries | ShowDevices) -> Sequence[T]:
    end = None if statement.limit is None else statement.offset + statement.limit
    return rows[statement.offset : end]


def _show_devices(statement: ShowDevices, backend: QueryBackend, prefix: bool) -> ResultSet:
    devices = _cut(backend.match_devices(_pattern(statement.pattern, prefix)), statement)
    header = [("devices", _TEXT), ("isAligned", _TEXT)]
    rows: list[list[Cell]] = [
        [device.path, "true" if device.aligned else "false"] for device in devices
    ]
    if statement.with_storage_group:
        header.insert(1, ("storage group", _TEXT))
        for row, device in zip(rows, devices, strict=True):
            row.insert(1, device.storage_group)
    return table(header, rows)


def _timeseries_row(info: SeriesInfo) -> list[Cell]:
    return [
        info.path,
        info.alias,
        info.storage_group,
        info.data_type.name,
        encoding_name(info.encoding),
        compressor_name(info.compressor),
        _json(info.tags),
        _json(info.attributes),
        *_deadband(info),
    ]


def _json(pairs: Sequence[tuple[str, str]]) -> str | None:
    if not pairs:
        return None
    return json.dumps(dict(pairs), ensure_ascii=False, separators=(",", ":"))


def _deadband(info: SeriesInfo) -> tuple[str | None, str | None]:
    props = dict(info.props)
    if "loss" not in props:
        return None, None
    shown = [f"{key}={props[key]}" for key in _DEADBAND_PARAMETERS if key in props]
    return props["loss"].upper(), "{" + ", ".join(shown) + "}"


def _count_timeseries(statement: CountTimeseries, backend: QueryBackend, prefix: bool) -> ResultSet:
    found = backend.match_series(_pattern(statement.pattern, prefix))
    level = statement.level
    if level is None:
        return table([("count", _INT32)], [[len(found)]])
    counts: Counter[str] = Counter()
    for info in found:
        nodes = split_path(info.path)
        if len(nodes) > level:
            counts[join_path(nodes[: level + 1])] += 1
    return table([("column", _TEXT), ("count", _INT32)], [[*pair] for pair in counts.items()])
