"""Stored form of a series: a JSON list under `schema/series/<series id u64>`."""

from __future__ import annotations

import json
import sys
from typing import Any

from cluster.schema.series import SeriesInfo
from iotdb_engine.types import DataType


def dump_json(value: Any) -> bytes:  # noqa: ANN401
    """Return compact JSON; the same bytes for the same value on every replica."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def encode_series(info: SeriesInfo) -> bytes:
    """Return the record of a series; its id is the key."""
    return dump_json(
        [
            info.storage_group,
            info.device,
            info.measurement,
            int(info.data_type),
            info.encoding,
            info.compressor,
            info.aligned,
            info.alias,
            info.props,
            info.tags,
            info.attributes,
            info.template,
        ]
    )


def decode_series(series_id: int, record: bytes) -> SeriesInfo:
    """Read a record back; ValueError or TypeError when it is damaged."""
    (
        storage_group,
        device,
        measurement,
        data_type,
        encoding,
        compressor,
        aligned,
        alias,
        props,
        tags,
        attributes,
        template,
    ) = json.loads(record)
    return SeriesInfo(
        series_id=series_id,
        storage_group=sys.intern(storage_group),
        device=sys.intern(device),
        measurement=measurement,
        data_type=DataType(data_type),
        encoding=encoding,
        compressor=compressor,
        aligned=aligned,
        alias=alias,
        props=tuple((key, value) for key, value in props),
        tags=tuple((key, value) for key, value in tags),
        attributes=tuple((key, value) for key, value in attributes),
        template=sys.intern(template),
    )
