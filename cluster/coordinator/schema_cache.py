"""What this node remembers of the schema of devices it writes to.

Only what exists is remembered; a miss always asks the group that owns the schema. A remembered
series that was deleted meanwhile is harmless: its id is never reused, and the data group refuses
it.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

from cluster.coordinator.decimals import RoundedColumn
from cluster.schema.series import SeriesInfo
from iotdb_engine import DataType, Layout


class StorageGroupRef(NamedTuple):
    """A storage group: path and id (the meta log index that created it)."""

    path: str
    sg_id: int


class DeviceSchema(NamedTuple):
    """A device as far as known.

    Attributes:
        aligned: None while the device has no series.
        series: by measurement name and by alias.
    """

    storage_group: StorageGroupRef
    aligned: bool | None
    series: dict[str, SeriesInfo]


class LayoutKey(NamedTuple):
    """What an insert says of its columns."""

    device: str
    measurements: tuple[str, ...]
    types: tuple[DataType, ...]
    aligned: bool


class ResolvedLayout(NamedTuple):
    """An insert's columns that can all be written, aliases resolved."""

    storage_group: StorageGroupRef
    layout: Layout
    measurements: tuple[str, ...]
    rounded: tuple[RoundedColumn, ...] = ()


class SchemaCache:
    """Bounded, thread-safe. When full it starts over: rare, and cheaper than keeping order.

    Args:
        max_devices: how many devices are kept.
        max_columns: how many columns the kept layouts have in all, some 150 bytes each. Rows that
            leave out what is null have as many layouts as there are sets of columns.
    """

    def __init__(self, max_devices: int = 100_000, max_columns: int = 2_000_000) -> None:
        self._lock = threading.Lock()
        self._max_devices = max_devices
        self._max_columns = max_columns
        self._columns = 0
        self._devices: dict[str, DeviceSchema] = {}
        self._layouts: dict[LayoutKey, ResolvedLayout] = {}
        self._layouts_of: dict[str, list[LayoutKey]] = {}
        self.epoch = 0
        """Moves whenever something that was remembered is not to be trusted any more."""

    def device(self, device: str) -> DeviceSchema | None:
        """Return what is remembered of a device."""
        return self._devices.get(device)

    def layout(self, key: LayoutKey) -> ResolvedLayout | None:
        """Return a remembered layout."""
        return self._layouts.get(key)

    def remember_device(self, device: str, schema: DeviceSchema) -> DeviceSchema:
        """Add what was learned of a device; returns the union with what was known."""
        with self._lock:
            known = self._devices.get(device)
            if known is not None and known.storage_group == schema.storage_group:
                schema = schema._replace(series={**known.series, **schema.series})
            if len(self._devices) >= self._max_devices:
                self._devices.clear()
            self._devices[device] = schema
            return schema

    def remember_layout(self, key: LayoutKey, resolved: ResolvedLayout) -> None:
        """Add a layout of which every column can be written."""
        with self._lock:
            if key not in self._layouts:
                self._columns += len(key.measurements)
                if self._columns > self._max_columns:
                    self._layouts.clear()
                    self._layouts_of.clear()
                    self._columns = len(key.measurements)
                self._layouts_of.setdefault(key.device, []).append(key)
            self._layouts[key] = resolved

    def forget_device(self, device: str) -> None:
        """Drop everything about a device."""
        with self._lock:
            self.epoch += 1
            self._devices.pop(device, None)
            for key in self._layouts_of.pop(device, ()):
                self._layouts.pop(key, None)
                self._columns -= len(key.measurements)

    def clear(self) -> None:
        """Drop everything."""
        with self._lock:
            self.epoch += 1
            self._devices.clear()
            self._layouts.clear()
            self._layouts_of.clear()
            self._columns = 0
