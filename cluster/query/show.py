"""SHOW and COUNT of storage groups, devices, series and nodes, as tables (sql.md 2.7, 7.2).

What does not come from the schema is in `show_meta` (templates, users, registered things) and
`show_node` (queries, nodes, versions).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeVar

from cluster.errors import ClusterError, StatusCode
from cluster.query.backend import QueryBackend
from cluster.query.context import QueryContext
from cluster.query.result import Cell, ResultSet, table
from cluster.query.show_meta import show_meta
from cluster.schema.encodings import compressor_name, encoding_name
from cluster.schema.meta_state import MetaState
from cluster.schema.paths import PathPattern, join_path, split_path
from cluster.schema.series import DeviceInfo, SeriesInfo
from cluster.sql.statements.families import Statement
from cluster.sql.statements.show import (
    CountDevices,
    CountNodes,
    CountStorageGroup,
    CountTimeseries,
    ShowChildNodes,
    ShowChildPaths,
    ShowDevices,
    ShowStorageGroup,
    ShowTimeseries,
    ShowTtl,
)
from cluster.sql.statements.show_filters import (
    DeviceFilter,
    PathContains,
    SeriesFilter,
    TagContains,
    TagEquals,
    TypeEquals,
)
from iotdb_engine.types import DataType

T = TypeVar("T")

_TEXT = DataType.TEXT
_INT32 = DataType.INT32
_INT64 = DataType.INT64

_TIMESERIES_HEADER = (
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
_MODERN_TIMESERIES_HEADER = (
    "Timeseries",
    "Alias",
    "Database",
    "DataType",
    "Encoding",
    "Compression",
    "Tags",
    "Attributes",
    "Deadband",
    "DeadbandParameters",
    "ViewType",
)
_DEADBAND_PARAMETERS = ("compdev", "compmintime", "compmaxtime")


def show(statement: Statement, backend: QueryBackend, context: QueryContext) -> ResultSet:
    """Answer a SHOW, COUNT or LIST statement.

    Args:
        statement: any query but Select.
        backend: where the schema is looked up.
        context: of the session and node.
    """
    return _Show(backend, context).table(statement)


def _ttl_of(meta: MetaState, storage_group: str) -> int:
    """Return the time to live of a storage group's points in ms, 0 when they stay."""
    found = meta.storage_group_of(split_path(storage_group))
    return 0 if found is None else meta.ttl(found[1])


class _Show:
    def __init__(self, backend: QueryBackend, context: QueryContext) -> None:
        self._backend = backend
        self._context = context

    def table(self, statement: Statement) -> ResultSet:
        match statement:
            case ShowStorageGroup():
                return self._storage_groups(statement)
            case CountStorageGroup():
                count = len(self._backend.storage_groups(self._pattern(statement.pattern)))
                if statement.modern or self._context.modern:
                    return table([("count(database)", _INT32)], [[count]])
                return table([("storage group", _INT32)], [[count]])
            case ShowDevices():
                return self._devices(statement)
            case CountDevices():
                count = len(self._backend.match_devices(self._pattern(statement.pattern)))
                return self._count("devices", "count(devices)", count)
            case ShowTimeseries():
                return self._timeseries(statement)
            case CountTimeseries():
                return self._count_timeseries(statement)
            case ShowChildPaths() | ShowChildNodes():
                return self._children(statement)
            case CountNodes():
                pattern = self._pattern(statement.pattern)
                count = len(self._backend.node_types(pattern, statement.level))
                return self._count("count", "count(nodes)", count)
            case ShowTtl():
                return self._ttl(statement)
            case _:
                return show_meta(statement, self._backend, self._context)

    # ---- storage groups ----

    def _storage_groups(self, statement: ShowStorageGroup) -> ResultSet:
        groups = self._backend.storage_groups(self._pattern(statement.pattern))
        if not (statement.modern or self._context.modern):
            return table([("storage group", _TEXT)], [[path] for path in groups])
        header = [
            ("Database", _TEXT),
            ("SchemaReplicationFactor", _INT32),
            ("DataReplicationFactor", _INT32),
            ("TimePartitionOrigin", _INT64),
            ("TimePartitionInterval", _INT64),
        ]
        replicas, interval = self._context.replica_count, self._context.partition_interval
        return table(header, [[path, replicas, replicas, 0, interval] for path in groups])

    def _ttl(self, statement: ShowTtl) -> ResultSet:
        patterns = [self._pattern(text) for text in statement.patterns or ("root.**",)]
        groups = sorted(
            {path for pattern in patterns for path in self._backend.storage_groups(pattern)}
        )
        meta = self._backend.meta()
        modern = self._context.modern
        header = (
            [("Device", _TEXT), ("TTL(ms)", _TEXT)]
            if modern
            else [
                ("storage group", _TEXT),
                ("ttl(ms)", _INT64),
            ]
        )
        rows: list[list[Cell]] = []
        for path in groups:
            ttl_ms = _ttl_of(meta, path)
            if modern:
                rows.append([f"{path}.**", str(ttl_ms) if ttl_ms else "INF"])
            else:
                rows.append([path, ttl_ms or None])
        return table(header, rows)

    # ---- devices ----

    def _devices(self, statement: ShowDevices) -> ResultSet:
        found = self._backend.match_devices(self._pattern(statement.pattern))
        if statement.filter is not None:
            wanted = statement.filter
            found = [device for device in found if _device_passes(device, wanted)]
        modern = self._context.modern
        header = (
            ["Device", "IsAligned", "Template", "TTL(ms)"] if modern else ["devices", "isAligned"]
        )
        rows: list[list[Cell]] = []
        for device in _cut(found, statement):
            row: list[Cell] = [device.path, "true" if device.aligned else "false"]
            if modern:
                ttl_ms = _ttl_of(self._backend.meta(), device.storage_group)
                row += [device.template or None, str(ttl_ms) if ttl_ms else "INF"]
            if statement.with_storage_group:
                row.insert(1, device.storage_group)
            rows.append(row)
        if statement.with_storage_group:
            header.insert(1, "Database" if modern else "storage group")
        return table([(name, _TEXT) for name in header], rows)

    # ---- series ----

    def _timeseries(self, statement: ShowTimeseries) -> ResultSet:
        found = self._filtered(statement)
        if statement.latest:
            found = self._latest_first(found)
        elif statement.filter is not None:
            found = sorted(found, key=lambda info: info.path)
        rows = [_timeseries_row(info) for info in _cut(found, statement)]
        if not self._context.modern:
            return table([(name, _TEXT) for name in _TIMESERIES_HEADER], rows)
        header = [(name, _TEXT) for name in _MODERN_TIMESERIES_HEADER]
        return table(header, [[*row, "BASE"] for row in rows])

    def _filtered(self, statement: ShowTimeseries | CountTimeseries) -> list[SeriesInfo]:
        found = self._backend.match_series(self._pattern(statement.pattern))
        if statement.filter is None:
            return found
        wanted = statement.filter
        passing = [info for info in found if _series_passes(info, wanted)]
        if not passing and isinstance(wanted, TagEquals | TagContains) and not self._context.modern:
            self._refuse_attribute(wanted.key)
        return passing

    def _refuse_attribute(self, key: str) -> None:
        """Raise 303 when a key is an attribute and nobody's tag, as sessions up to 0.13 expect."""
        everywhere = self._backend.match_series(PathPattern.parse("root.**"))
        keys = [(dict(info.tags), dict(info.attributes)) for info in everywhere]
        if not any(key in tags for tags, _ in keys) and any(key in held for _, held in keys):
            raise ClusterError(StatusCode.METADATA_ERROR, f"The key {key} is not a tag.")

    def _latest_first(self, found: Sequence[SeriesInfo]) -> list[SeriesInfo]:
        """Order by the time of the last point, newest first; series without points at the end.

        Those of one time are in the order of their paths, node by node.
        """
        last = self._backend.last(found) if found else []
        times = [point[0] if point is not None else None for point in last]
        order = sorted(
            range(len(found)),
            key=lambda number: (
                times[number] is None,
                -(times[number] or 0),
                split_path(found[number].path),
            ),
        )
        return [found[number] for number in order]

    def _count_timeseries(self, statement: CountTimeseries) -> ResultSet:
        found = self._filtered(statement)
        level = statement.level
        if level is None:
            return self._count("count", "count(timeseries)", len(found))
        counts: Counter[str] = Counter()
        for info in found:
            nodes = split_path(info.path)
            if len(nodes) > level:
                counts[join_path(nodes[: level + 1])] += 1
        if self._context.modern:
            header = [("Column", _TEXT), ("count(timeseries)", _INT64)]
        else:
            header = [("column", _TEXT), ("count", _INT32)]
        return table(header, [[*pair] for pair in counts.items()])

    # ---- nodes ----

    def _children(self, statement: ShowChildPaths | ShowChildNodes) -> ResultSet:
        nodes = split_path(statement.pattern)
        found = self._backend.node_types(PathPattern((*nodes, "*")))
        paths: Any = sorted(found)
        if isinstance(statement, ShowChildNodes):
            names = sorted({split_path(path)[-1] for path in paths})
            header = "ChildNodes" if self._context.modern else "child nodes"
            return table([(header, _TEXT)], [[name] for name in _cut(names, statement)])
        paths = _cut(paths, statement)
        if self._context.modern:
            return table(
                [("ChildPaths", _TEXT), ("NodeTypes", _TEXT)],
                [[path, found[path]] for path in paths],
            )
        return table([("child paths", _TEXT)], [[path] for path in paths])

    # ---- parts ----

    def _pattern(self, text: str) -> PathPattern:
        return PathPattern.parse(text, prefix=self._context.prefix_dialect)

    def _count(self, name: str, modern_name: str, count: int) -> ResultSet:
        if self._context.modern:
            return table([(modern_name, _INT64)], [[count]])
        return table([(name, _INT32)], [[count]])


def _cut(
    rows: Sequence[T],
    statement: ShowTimeseries | ShowDevices | ShowChildPaths | ShowChildNodes,
) -> Sequence[T]:
    end = None if statement.limit is None else statement.offset + statement.limit
    return rows[statement.offset : end]


def _series_passes(info: SeriesInfo, wanted: SeriesFilter) -> bool:
    match wanted:
        case TagEquals():
            return (wanted.key, wanted.value) in info.tags
        case TagContains():
            return any(key == wanted.key and wanted.value in value for key, value in info.tags)
        case PathContains():
            return wanted.text in info.path
        case TypeEquals():
            return info.data_type is wanted.data_type


def _device_passes(device: DeviceInfo, wanted: DeviceFilter) -> bool:
    if isinstance(wanted, PathContains):
        return wanted.text in device.path
    if wanted.name is None:
        return bool(device.template) is wanted.negated
    return (device.template == wanted.name) is not wanted.negated


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
    if props.get("loss", "").lower() != "sdt":
        return None, None
    shown = [f"{key}={props[key]}" for key in _DEADBAND_PARAMETERS if key in props]
    return "SDT", "{" + ", ".join(shown) + "}"
