"""Read requests that a coordinator sends to a group's leader, and their byte form.

All are stateless: a long scan is a chain of RowsRead, each continuing after the last timestamp of
the one before, so nothing has to be kept, leased or released on the serving side, and a scan goes
on at another replica when its server dies (0.13 keeps remote readers without a time-to-live).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

from cluster.plan.batch_codec import decode_batches, encode_batches
from cluster.plan.filter_codec import (
    filter_from_json,
    filter_to_json,
    windows_from_json,
    windows_to_json,
)
from cluster.scan.region_reads import AggregatesQuery, RowsPage, RowsQuery
from cluster.scan.windows import AggregateTable, Needs
from cluster.schema.paths import PathPattern
from iotdb_engine.types import DataType


class Consistency(IntEnum):
    """What a read may return (docs/consensus.md). Numbers are on the wire: frozen.

    STRONG: everything that was acknowledged before the read began.
    MID: a replica's state if it hears its leader, so at most two election time-outs old.
    WEAK: any replica's state, however old.
    """

    STRONG = 0
    MID = 1
    WEAK = 2


@dataclass(frozen=True)
class AppliedIndexRead:
    """Return an index that, once applied somewhere, makes reads there linearizable."""


@dataclass(frozen=True)
class AppliedIndexesRead:
    """Return such an index for each of several groups, None for those that the node can't tell."""

    groups: tuple[int, ...]


@dataclass(frozen=True)
class AwaitAppliedRead:
    """Answer once an entry is applied on the node that is asked, leader or not."""

    index: int


@dataclass(frozen=True)
class ResolveRead:
    """Look up measurements (or aliases) of a device: (aligned or None, SeriesInfo or None each)."""

    sg_id: int
    device: str
    measurements: tuple[str, ...]


class SeriesQuery(NamedTuple):
    """The series of some storage groups whose path matches a pattern."""

    sg_ids: tuple[int, ...]
    pattern: tuple[str, ...]
    prefix: bool

    @classmethod
    def of(cls, pattern: PathPattern, sg_ids: tuple[int, ...]) -> SeriesQuery:
        """Return the query for a compiled pattern."""
        return cls(sg_ids, pattern.nodes, pattern.prefix)


@dataclass(frozen=True)
class MatchSeriesRead:
    """Return for each query the series that it asks for."""

    queries: tuple[SeriesQuery, ...]


@dataclass(frozen=True)
class MatchDevicesRead:
    """Return the devices of some storage groups whose path matches a pattern."""

    sg_ids: tuple[int, ...]
    pattern: tuple[str, ...]
    prefix: bool


@dataclass(frozen=True)
class NodesRead:
    """Return [path, kind] of the nodes below some storage groups whose path matches a pattern.

    `level`: None, or the number of nodes after root that paths are cut to; see
    `SchemaTree.node_types`.
    """

    sg_ids: tuple[int, ...]
    pattern: tuple[str, ...]
    prefix: bool
    level: int | None


@dataclass(frozen=True)
class RowsRead:
    """Return the next rows of a scan and where it goes on; see `scan.region_reads.rows_page`."""

    query: RowsQuery
    slots: tuple[int, ...] | None
    max_rows: int
    max_scanned: int


@dataclass(frozen=True)
class AggregatesRead:
    """Return partial aggregates over windows; see `scan.region_reads.aggregates`."""

    query: AggregatesQuery
    slots: tuple[int, ...] | None


@dataclass(frozen=True)
class LastRead:
    """Return the latest point of each series, or None."""

    series: tuple[tuple[int, DataType], ...]
    slots: tuple[int, ...] | None


Read: TypeAlias = (
    AppliedIndexRead
    | AppliedIndexesRead
    | AwaitAppliedRead
    | ResolveRead
    | MatchSeriesRead
    | MatchDevicesRead
    | NodesRead
    | RowsRead
    | AggregatesRead
    | LastRead
)

_PLAIN: dict[str, type[Read]] = {
    cls.__name__: cls
    for cls in (
        AppliedIndexRead,
        AppliedIndexesRead,
        AwaitAppliedRead,
        ResolveRead,
        MatchDevicesRead,
        NodesRead,
    )
}
_MALFORMED = (AttributeError, IndexError, KeyError, TypeError, UnicodeDecodeError, OverflowError)


_INDEXES = b'["AppliedIndexesRead"'
_KEPT_BYTES = 512


def encode_read(read: Read) -> bytes:
    """Return the byte form of a read request."""
    return json.dumps([type(read).__name__, _fields(read)], ensure_ascii=False).encode(
        "utf-8", "surrogatepass"
    )


def decode_read(data: bytes) -> Read:
    """Read a request back; raises ValueError when malformed."""
    # the same short question again and again, before each read of a replica that does not lead
    if len(data) <= _KEPT_BYTES and data.startswith(_INDEXES):
        return _kept(data)
    return _decoded(data)


def _decoded(data: bytes) -> Read:
    try:
        name, fields = json.loads(data)
        match name:
            case "RowsRead":
                return _rows_read(fields)
            case "AggregatesRead":
                return _aggregates_read(fields)
            case "MatchSeriesRead":
                return MatchSeriesRead(
                    tuple(
                        SeriesQuery(tuple(sg_ids), tuple(pattern), bool(prefix))
                        for sg_ids, pattern, prefix in fields["queries"]
                    )
                )
            case "LastRead":
                return LastRead(_series(fields["series"]), _slots(fields["slots"]))
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()
        }
        return _PLAIN[name](**values)
    except (*_MALFORMED, RecursionError) as error:
        raise ValueError(f"malformed read request: {error}") from error


_kept = lru_cache(maxsize=256)(_decoded)


def _fields(read: Read) -> dict[str, Any]:
    match read:
        case RowsRead():
            rows = read.query
            return {
                "series": rows.series,
                "selected": rows.selected,
                "range": [rows.t_min, rows.t_max],
                "descending": rows.descending,
                "filter": filter_to_json(rows.row_filter),
                "slots": read.slots,
                "limits": [read.max_rows, read.max_scanned],
            }
        case AggregatesRead():
            query = read.query
            return {
                "series": query.series,
                "selected": query.selected,
                "windows": windows_to_json(query.windows),
                "intervals": query.intervals,
                "needs": int(query.needs),
                "filter": filter_to_json(query.row_filter),
                "slots": read.slots,
            }
        case _:
            return vars(read)


def _rows_read(fields: dict[str, Any]) -> RowsRead:
    t_min, t_max = fields["range"]
    max_rows, max_scanned = fields["limits"]
    query = RowsQuery(
        series=_series(fields["series"]),
        selected=int(fields["selected"]),
        t_min=int(t_min),
        t_max=int(t_max),
        descending=bool(fields["descending"]),
        row_filter=filter_from_json(fields["filter"]),
    )
    return RowsRead(query, _slots(fields["slots"]), int(max_rows), int(max_scanned))


def _aggregates_read(fields: dict[str, Any]) -> AggregatesRead:
    query = AggregatesQuery(
        series=_series(fields["series"]),
        selected=int(fields["selected"]),
        windows=windows_from_json(fields["windows"]),
        intervals=tuple((int(low), int(high)) for low, high in fields["intervals"]),
        needs=Needs(fields["needs"]),
        row_filter=filter_from_json(fields["filter"]),
    )
    return AggregatesRead(query, _slots(fields["slots"]))


def _series(form: Sequence[Any]) -> tuple[tuple[int, DataType], ...]:
    return tuple((int(series_id), DataType(data_type)) for series_id, data_type in form)


def _slots(form: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if form is None else tuple(form)


# ---- answers ----

_RESUME = struct.Struct("<?q")


def encode_rows_page(page: RowsPage) -> bytes:
    """Return the byte form of an answer to RowsRead."""
    return _RESUME.pack(page.resume is not None, page.resume or 0) + encode_batches(page.batches)


def decode_rows_page(data: bytes) -> RowsPage:
    """Read the answer back; arrays are views of `data`."""
    more, resume = _RESUME.unpack_from(data)
    return RowsPage(decode_batches(data[_RESUME.size :]), resume if more else None)


def encode_aggregates(table: AggregateTable) -> bytes:
    """Return the byte form of an answer to AggregatesRead: a batch for each type of series."""
    return encode_batches([block.to_batch() for block in table.blocks.values()])


def decode_aggregates(data: bytes, query: AggregatesQuery) -> AggregateTable:
    """Read the answer to a query back."""
    kinds = [kind for _, kind in query.series[: query.selected]]
    table = AggregateTable(kinds, len(query.windows.lows), query.needs)
    for block, batch in zip(table.blocks.values(), decode_batches(data), strict=True):
        block.fill(batch)
    return table


def encode_last(points: Sequence[tuple[int, Any] | None]) -> bytes:
    """Return the byte form of an answer to LastRead."""

    def plain(value: Any) -> Any:  # noqa: ANN401
        return {"b": value.hex()} if isinstance(value, bytes) else value

    return json.dumps(
        [None if point is None else [point[0], plain(point[1])] for point in points]
    ).encode()


def decode_last(data: bytes) -> list[tuple[int, Any] | None]:
    """Read the answer back."""

    def value_of(plain: Any) -> Any:  # noqa: ANN401
        return bytes.fromhex(plain["b"]) if isinstance(plain, dict) else plain

    return [
        None if point is None else (int(point[0]), value_of(point[1])) for point in json.loads(data)
    ]
