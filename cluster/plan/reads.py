"""Read requests that a coordinator sends to a group's leader, and their byte form.

All are stateless: a long scan is a chain of ReadRows, each continuing after the last timestamp of
the one before, so nothing has to be kept, leased or released on the serving side, and a scan goes
on at another replica when its server dies (0.13 keeps remote readers without a time-to-live).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, TypeAlias

from iotdb_engine.types import Aggregate, DataType


@dataclass(frozen=True)
class AppliedIndexRead:
    """Return an index that, once applied somewhere, makes reads there linearizable."""


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


@dataclass(frozen=True)
class MatchSeriesRead:
    """Return the series of some storage groups whose path matches a pattern."""

    sg_ids: tuple[int, ...]
    pattern: tuple[str, ...]
    prefix: bool


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
    """Return the first rows of series in a time range, aligned; see Region.read."""

    series: tuple[tuple[int, DataType], ...]
    slots: tuple[int, ...] | None
    t_min: int
    t_max: int
    descending: bool
    max_rows: int


@dataclass(frozen=True)
class AggregateRead:
    """Return one partial aggregate for each series over a time range."""

    series: tuple[tuple[int, DataType], ...]
    slots: tuple[int, ...] | None
    t_min: int
    t_max: int


Read: TypeAlias = (
    AppliedIndexRead
    | AwaitAppliedRead
    | ResolveRead
    | MatchSeriesRead
    | MatchDevicesRead
    | NodesRead
    | RowsRead
    | AggregateRead
)

_BY_NAME: dict[str, type[Read]] = {
    cls.__name__: cls
    for cls in (
        AppliedIndexRead,
        AwaitAppliedRead,
        ResolveRead,
        MatchSeriesRead,
        MatchDevicesRead,
        NodesRead,
        RowsRead,
        AggregateRead,
    )
}


def encode_read(read: Read) -> bytes:
    """Return the byte form of a read request."""
    return json.dumps([type(read).__name__, vars(read)], ensure_ascii=False).encode()


def decode_read(data: bytes) -> Read:
    """Read a request back; raises ValueError when malformed."""
    try:
        name, fields = json.loads(data)
        cls = _BY_NAME[name]
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()
        }
        if "series" in values:
            values["series"] = tuple(
                (int(series_id), DataType(data_type)) for series_id, data_type in values["series"]
            )
        return cls(**values)
    except (KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"malformed read request: {error}") from error


def encode_aggregates(aggregates: list[Aggregate]) -> bytes:
    """Return the byte form of partial aggregates."""

    def plain(value: Any) -> Any:  # noqa: ANN401
        return {"b": value.hex()} if isinstance(value, bytes) else value

    return json.dumps(
        [
            [
                item.count,
                item.min_time,
                item.max_time,
                plain(item.first),
                plain(item.last),
                plain(item.minimum),
                plain(item.maximum),
                item.total,
            ]
            for item in aggregates
        ]
    ).encode()


def decode_aggregates(data: bytes) -> list[Aggregate]:
    """Read partial aggregates back."""

    def value_of(plain: Any) -> Any:  # noqa: ANN401
        return bytes.fromhex(plain["b"]) if isinstance(plain, dict) else plain

    return [
        Aggregate(
            count=count,
            min_time=min_time,
            max_time=max_time,
            first=value_of(first),
            last=value_of(last),
            minimum=value_of(minimum),
            maximum=value_of(maximum),
            total=total,
        )
        for count, min_time, max_time, first, last, minimum, maximum, total in json.loads(data)
    ]
