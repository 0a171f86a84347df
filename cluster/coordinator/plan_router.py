"""Which slot and group own what (0.13 `ClusterPlanRouter`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct

import numpy as np

from cluster.errors import ClusterError, StatusCode
from cluster.partition.partition_group import PartitionGroup
from cluster.partition.slot_partition_table import SlotPartitionTable
from cluster.partition.slots import partition_id, slot_of
from cluster.raft.types import GroupId
from iotdb_engine import T_MAX, T_MIN, DataType, Fragment

_TIME = np.dtype(">i8")
_I64 = Struct(">q")

_MAX_PARTITIONS = 64
"""Of a range that is looked at one by one to see which groups it concerns."""


class PlanRouter:
    """Routes by storage group and time partition.

    Args:
        table: the present partition table, or None while there is none.
        interval: length of a time partition in units of the timestamp precision.
        enabled: `enable_partition`; when off, everything of a storage group is in one slot.
    """

    def __init__(
        self, table: Callable[[], SlotPartitionTable | None], interval: int, *, enabled: bool
    ) -> None:
        self._table = table
        self._interval = interval
        self._enabled = enabled

    def table(self) -> SlotPartitionTable:
        """Return the present table; raises ClusterError while there is none."""
        table = self._table()
        if table is None:
            raise ClusterError(
                StatusCode.PARTITION_NOT_READY, "the cluster has no partition table yet"
            )
        return table

    @property
    def is_one_group(self) -> bool:
        """Whether there is but one data group, or none yet."""
        table = self._table()
        return table is None or len(table.groups) == 1

    def schema_group(self, storage_group: str) -> GroupId:
        """Return the group that owns a storage group's schema: that of its first slot."""
        return self.table().group_of_slot(slot_of(storage_group, 0)).group_id

    def group_at(self, storage_group: str, time: int) -> GroupId:
        """Return the group that owns a storage group's points of one time."""
        partition = partition_id(time, self._interval, enabled=self._enabled)
        return self.table().group_of_slot(slot_of(storage_group, partition)).group_id

    def data_groups(
        self, storage_group: str, t_min: int = T_MIN, t_max: int = T_MAX
    ) -> Sequence[PartitionGroup]:
        """Return every group that may hold points of a storage group within an inclusive range.

        Cost: O(time partitions in the range), or O(1) where there are very many: then all groups.
        """
        table = self.table()
        if not self._enabled:
            return (table.group_of_slot(slot_of(storage_group, 0)),)
        if len(table.groups) == 1:
            return table.groups
        first = partition_id(t_min, self._interval, enabled=True)
        last = partition_id(t_max, self._interval, enabled=True)
        if last - first >= _MAX_PARTITIONS:
            return table.groups
        numbers = {table.slots[slot_of(storage_group, one)] for one in range(first, last + 1)}
        return [table.groups[number] for number in sorted(numbers)]

    def data_slots(self, storage_group: str) -> tuple[int, ...] | None:
        """Return the slots to look in for a storage group's points; None: any of the group's."""
        return None if self._enabled else (slot_of(storage_group, 0),)

    def partition_span(self, number: int) -> tuple[int, int]:
        """Return the first and last time of a time partition; all there is when there is but 0.

        Numbers come from division that rounds toward 0, so partition 0 has twice the length.
        """
        if not self._enabled:
            return (T_MIN, T_MAX) if number == 0 else (1, 0)
        interval = self._interval
        if number > 0:
            first, last = number * interval, (number + 1) * interval - 1
        elif number < 0:
            first, last = (number - 1) * interval + 1, number * interval
        else:
            first, last = 1 - interval, interval - 1
        return max(first, T_MIN), min(last, T_MAX)

    def home_of(
        self, storage_group: str, times: bytes | memoryview, row_count: int
    ) -> tuple[GroupId, int] | None:
        """Return the group and slot of rows that all belong to one time partition.

        Args:
            storage_group: its path.
            times: of the rows, as in a Fragment.
            row_count: at least 1.

        Returns:
            None: they belong to several.
        """
        interval = self._interval
        if not self._enabled:
            partition = 0
        elif row_count == 1:  # what follows costs more than all the rest of a row's routing
            partition = partition_id(_I64.unpack(times)[0], interval, enabled=True)
        else:
            array = np.frombuffer(times, _TIME).astype(np.int64)
            partition = partition_id(int(np.minimum.reduce(array)), interval, enabled=True)
            # partitions ascend with the times
            if partition != partition_id(int(np.maximum.reduce(array)), interval, enabled=True):
                return None
        slot = slot_of(storage_group, partition)
        return self.table().group_of_slot(slot).group_id, slot

    def split(self, storage_group: str, fragment: Fragment) -> list[tuple[GroupId, Fragment]]:
        """Give a fragment its slot; cut it where rows belong to different time partitions.

        Every row is routed by its own time. A fragment within one partition is not copied.
        """
        home = self.home_of(storage_group, fragment.times, fragment.row_count)
        if home is not None:
            return [(home[0], fragment._replace(slot=home[1]))]
        table = self.table()
        times = np.frombuffer(fragment.times, _TIME).astype(np.int64)
        # truncating division, as partition_id does; -times would not fit for the lowest time
        ids, rest = np.divmod(times, self._interval)
        ids += (ids < 0) & (rest != 0)
        pieces = []
        for partition in np.unique(ids).tolist():
            slot = slot_of(storage_group, partition)
            rows = np.flatnonzero(ids == partition)
            piece = take_rows(fragment, rows)._replace(slot=slot)
            pieces.append((table.group_of_slot(slot).group_id, piece))
        return pieces


def take_rows(fragment: Fragment, rows: np.ndarray) -> Fragment:
    """Return a fragment with some of the rows, in the given order."""
    count = fragment.row_count
    times = np.frombuffer(fragment.times, _TIME)[rows].tobytes()
    parts: list[bytes] = []
    values = bytes(fragment.values)
    at = 0
    for data_type in fragment.layout.types:
        column, at = _column_cells(values, at, data_type, count)
        if isinstance(column, np.ndarray):
            parts.append(column[rows].tobytes())
        else:
            parts.extend(column[row] for row in rows.tolist())
    nulls = b""
    if fragment.nulls:
        width = (count + 7) // 8
        bits = np.frombuffer(fragment.nulls, np.uint8).reshape(len(fragment.layout.types), width)
        cells = np.unpackbits(bits, axis=1, count=count, bitorder="little")[:, rows]
        if cells.any():
            nulls = np.packbits(cells, axis=1, bitorder="little").tobytes()
    return fragment._replace(row_count=len(rows), times=times, values=b"".join(parts), nulls=nulls)


def take_columns(fragment: Fragment, keep: list[int]) -> Fragment:
    """Return a fragment with some of the columns, in the given order."""
    count = fragment.row_count
    spans: list[bytes] = []
    values = bytes(fragment.values)
    at = 0
    for data_type in fragment.layout.types:
        start = at
        at = _column_end(values, at, data_type, count)
        spans.append(values[start:at])
    nulls = b""
    if fragment.nulls:
        width = (count + 7) // 8
        nulls = b"".join(fragment.nulls[number * width : (number + 1) * width] for number in keep)
        if not any(nulls):
            nulls = b""
    layout = fragment.layout
    return fragment._replace(
        layout=layout._replace(
            series_ids=tuple(layout.series_ids[number] for number in keep),
            types=tuple(layout.types[number] for number in keep),
        ),
        values=b"".join(spans[number] for number in keep),
        nulls=nulls,
    )


_WIDTHS = {
    DataType.BOOLEAN: 1,
    DataType.INT32: 4,
    DataType.INT64: 8,
    DataType.FLOAT: 4,
    DataType.DOUBLE: 8,
}


def _column_end(values: bytes, at: int, data_type: DataType, count: int) -> int:
    width = _WIDTHS.get(data_type)
    if width is not None:
        return at + width * count
    for _ in range(count):
        at += 4 + int.from_bytes(values[at : at + 4], "big")
    return at


def _column_cells(
    values: bytes, at: int, data_type: DataType, count: int
) -> tuple[np.ndarray | list[bytes], int]:
    """Return the cells of the column at `at` as raw bytes each, and where the next begins."""
    width = _WIDTHS.get(data_type)
    if width is not None:
        end = at + width * count
        return np.frombuffer(values, np.dtype(f"V{width}"), count, at), end
    cells = []
    for _ in range(count):
        end = at + 4 + int.from_bytes(values[at : at + 4], "big")
        cells.append(values[at:end])
        at = end
    return cells, at
