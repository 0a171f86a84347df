"""Statements that change the schema."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.schema.series import SeriesSpec
from iotdb_engine.types import DataType


@dataclass(frozen=True)
class SetStorageGroup:
    """SET STORAGE GROUP TO, CREATE STORAGE GROUP, CREATE DATABASE; `ttl_ms` 0: none."""

    path: str
    ttl_ms: int = 0


@dataclass(frozen=True)
class DeleteStorageGroup:
    """DELETE STORAGE GROUP, DROP DATABASE."""

    patterns: tuple[str, ...]


@dataclass(frozen=True)
class CreateTimeseries:
    """CREATE TIMESERIES. `encoding` or `compressor` None: the default; `props` keys lower-case."""

    path: str
    data_type: DataType
    encoding: int | None = None
    compressor: int | None = None
    alias: str | None = None
    props: tuple[tuple[str, str], ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    attributes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class CreateAlignedTimeseries:
    """CREATE ALIGNED TIMESERIES device (column, …), defaults filled in."""

    device: str
    columns: tuple[SeriesSpec, ...]


@dataclass(frozen=True)
class AlterTimeseries:
    """ALTER TIMESERIES; the fields are those of AlterSeriesPlan."""

    path: str
    action: str
    pairs: tuple[tuple[str, str], ...] = ()
    attributes: tuple[tuple[str, str], ...] = ()
    alias: str | None = None


@dataclass(frozen=True)
class DeletePartition:
    """DELETE PARTITION: drop what a storage group holds in some time partitions."""

    path: str
    partitions: tuple[int, ...]


@dataclass(frozen=True)
class SetTtl:
    """SET TTL, UNSET TTL (0)."""

    pattern: str
    ttl_ms: int


@dataclass(frozen=True)
class DeleteTimeseries:
    """DELETE TIMESERIES, DROP TIMESERIES."""

    patterns: tuple[str, ...]


SchemaStatement = (
    SetStorageGroup
    | DeleteStorageGroup
    | CreateTimeseries
    | CreateAlignedTimeseries
    | AlterTimeseries
    | DeletePartition
    | SetTtl
    | DeleteTimeseries
)
