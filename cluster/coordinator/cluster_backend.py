"""QueryBackend over the cluster: schema and points from the leaders of the groups that own them."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from typing import TypeVar

import numpy as np

from cluster.coordinator.groups_access import GroupsAccess
from cluster.coordinator.plan_router import PlanRouter
from cluster.coordinator.schema_cache import StorageGroupRef
from cluster.coordinator.storage_groups import StorageGroups
from cluster.member.data_member import DataMember
from cluster.plan.batch_codec import decode_batches
from cluster.plan.codec import decode_result
from cluster.plan.reads import (
    AggregateRead,
    MatchDevicesRead,
    MatchSeriesRead,
    NodesRead,
    RowsRead,
    decode_aggregates,
    encode_read,
)
from cluster.query.result import limited, slice_batch
from cluster.raft.types import GroupId
from cluster.rpc.deadline import Deadline
from cluster.schema.paths import PathPattern, join_path, split_path
from cluster.schema.series import DeviceInfo, SeriesInfo
from iotdb_engine import Aggregate, ColumnBatch, DataType
from iotdb_engine.aggregate import merge_aggregates

T = TypeVar("T")

_ROWS_PER_CALL = 65536
_EVERYTHING = PathPattern(("root", "**"))

_SeriesKey = tuple[tuple[int, DataType], ...]


class ClusterBackend:
    """One query's view; not shared between threads.

    Every read goes to a group's leader after it has confirmed its leadership, so a query sees every
    write that was acknowledged before the query began (consistency level strong).
    """

    def __init__(
        self,
        *,
        access: GroupsAccess,
        router: PlanRouter,
        storage_groups: StorageGroups,
        deadline: Deadline,
        now: int,
    ) -> None:
        self._access = access
        self._router = router
        self._storage_groups = storage_groups
        self._deadline = deadline
        self._now = now
        self._synced = False

    def storage_groups(self, pattern: PathPattern) -> list[str]:
        """Return the matching storage groups' paths, sorted."""
        self._sync()
        return [ref.path for ref in self._storage_groups.matching(pattern)]

    def match_series(self, pattern: PathPattern) -> list[SeriesInfo]:
        """Return the matching series, sorted by device, then creation."""

        def read(group_id: GroupId, sg_ids: tuple[int, ...]) -> Callable[[], list[SeriesInfo]]:
            request = MatchSeriesRead(sg_ids, pattern.nodes, pattern.prefix)
            return lambda: self._access.read(
                group_id,
                encode_read(request),
                self._deadline,
                lambda member: member.machine.schema.match(pattern, sg_ids),
                decode_result,
            )

        found: list[SeriesInfo] = self._from_schema_groups(pattern, read)
        return sorted(found, key=lambda info: (info.device, info.series_id))

    def match_devices(self, pattern: PathPattern) -> list[DeviceInfo]:
        """Return the matching devices, sorted by path."""

        def read(group_id: GroupId, sg_ids: tuple[int, ...]) -> Callable[[], list[DeviceInfo]]:
            request = MatchDevicesRead(sg_ids, pattern.nodes, pattern.prefix)
            return lambda: self._access.read(
                group_id,
                encode_read(request),
                self._deadline,
                lambda member: member.machine.schema.devices(pattern, sg_ids),
                decode_result,
            )

        found: list[DeviceInfo] = self._from_schema_groups(pattern, read)
        return sorted(found, key=lambda info: info.path)

    def read(
        self,
        series: Sequence[SeriesInfo],
        t_min: int,
        t_max: int,
        *,
        descending: bool = False,
        max_rows: int | None = None,
    ) -> Iterator[ColumnBatch]:
        """Stream the rows of series of one storage group."""
        storage_group = series[0].storage_group
        t_min = max(t_min, self._first_alive(storage_group))
        key: _SeriesKey = tuple((info.series_id, info.data_type) for info in series)
        slots = self._router.data_slots(storage_group)
        streams = [
            self._group_rows(
                group.group_id, RowsRead(key, slots, t_min, t_max, descending, max_rows or 0)
            )
            for group in self._router.data_groups(storage_group)
        ]
        if len(streams) == 1:
            return streams[0]
        return limited(interleave(streams, descending=descending), limit=max_rows)

    def aggregate(self, series: Sequence[SeriesInfo], t_min: int, t_max: int) -> list[Aggregate]:
        """Return one aggregate per series, merged over the groups that hold its points."""
        places: dict[tuple[GroupId, tuple[int, ...] | None, int], list[int]] = defaultdict(list)
        for number, info in enumerate(series):
            first = max(t_min, self._first_alive(info.storage_group))
            slots = self._router.data_slots(info.storage_group)
            for group in self._router.data_groups(info.storage_group):
                places[group.group_id, slots, first].append(number)

        def call(group_id: GroupId, request: AggregateRead) -> Callable[[], list[Aggregate]]:
            return lambda: self._access.read(
                group_id,
                encode_read(request),
                self._deadline,
                lambda member: member.machine.region.aggregate(
                    request.series, request.t_min, request.t_max, slots=request.slots
                ),
                decode_aggregates,
            )

        answers = self._access.in_parallel(
            [
                call(
                    group_id,
                    AggregateRead(
                        tuple((series[n].series_id, series[n].data_type) for n in numbers),
                        slots,
                        first,
                        t_max,
                    ),
                )
                for (group_id, slots, first), numbers in places.items()
            ]
        )
        parts: dict[int, list[Aggregate]] = defaultdict(list)
        for numbers, answer in zip(places.values(), answers, strict=True):
            if isinstance(answer, Exception):
                raise answer
            for number, aggregate in zip(numbers, answer, strict=True):
                parts[number].append(aggregate)
        return [reduce(merge_aggregates, parts[number]) for number in range(len(series))]

    def node_types(self, pattern: PathPattern, level: int | None = None) -> dict[str, str]:
        """Return the nodes whose path matches, with their kind; `level` as in SchemaTree."""

        def read(group_id: GroupId, sg_ids: tuple[int, ...]) -> Callable[[], list[list[str]]]:
            request = NodesRead(sg_ids, pattern.nodes, pattern.prefix, level)
            return lambda: self._access.read(
                group_id,
                encode_read(request),
                self._deadline,
                lambda member: [
                    [path, kind]
                    for path, kind in member.machine.schema.node_types(
                        pattern, sg_ids, level
                    ).items()
                ],
                decode_result,
            )

        found = {path: kind for path, kind in self._from_schema_groups(pattern, read)}  # noqa: C416 - lists, not pairs
        for ref in self._storage_groups.matching(_EVERYTHING):
            nodes = split_path(ref.path)
            for depth in range(1, len(nodes) + 1):
                if not pattern.matches(nodes[:depth]):
                    continue
                if level is None:
                    path = join_path(nodes[:depth])
                    found[path] = "SG INTERNAL" if depth < len(nodes) else "DATABASE"
                elif depth > level:
                    found.setdefault(join_path(nodes[: level + 1]), "")
        return found

    # ---- inside ----

    def _first_alive(self, storage_group: str) -> int:
        return self._storage_groups.first_alive(storage_group, self._now)

    def _sync(self) -> None:
        if not self._synced:
            self._access.sync_meta(self._deadline)
            self._synced = True

    def _from_schema_groups(
        self,
        pattern: PathPattern,
        read: Callable[[GroupId, tuple[int, ...]], Callable[[], list[T]]],
    ) -> list[T]:
        self._sync()
        by_group: dict[GroupId, list[StorageGroupRef]] = defaultdict(list)
        for ref in self._storage_groups.reachable_by(pattern):
            by_group[self._router.schema_group(ref.path)].append(ref)
        answers = self._access.in_parallel(
            [
                read(group_id, tuple(ref.sg_id for ref in refs))
                for group_id, refs in by_group.items()
            ]
        )
        found: list[T] = []
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
            found.extend(answer)
        return found

    def _group_rows(self, group_id: GroupId, request: RowsRead) -> Iterator[ColumnBatch]:
        """Stream a group's rows page by page, each from wherever the leader is at that time."""
        limit = request.max_rows or None
        t_min, t_max = request.t_min, request.t_max
        sent = 0
        while t_min <= t_max and (limit is None or sent < limit):
            wanted = _ROWS_PER_CALL if limit is None else min(_ROWS_PER_CALL, limit - sent)
            page = RowsRead(request.series, request.slots, t_min, t_max, request.descending, wanted)
            batches = self._access.read(
                group_id,
                encode_read(page),
                self._deadline,
                lambda member, page=page: _local_rows(member, page),  # type: ignore[misc]
                decode_batches,
            )
            last = None
            for batch in batches:
                if len(batch.times):
                    sent += len(batch.times)
                    last = int(batch.times[-1])
                    yield batch
            if last is None:
                return
            if request.descending:
                t_max = last - 1
            else:
                t_min = last + 1


def _local_rows(member: DataMember, page: RowsRead) -> Iterator[ColumnBatch]:
    return member.machine.region.read(
        page.series,
        page.t_min,
        page.t_max,
        slots=page.slots,
        descending=page.descending,
        max_rows=page.max_rows,
    )


def interleave(
    streams: Sequence[Iterator[ColumnBatch]], *, descending: bool
) -> Iterator[ColumnBatch]:
    """Merge streams of the same columns whose timestamps are disjoint, by time.

    Each step yields the longest run of one stream that comes before every other stream's next row,
    so whole batches pass through untouched where streams do not alternate.
    """
    sign = -1 if descending else 1
    heads: list[tuple[int, int, ColumnBatch]] = []

    def push(number: int) -> None:
        for batch in streams[number]:
            if len(batch.times):
                heapq.heappush(heads, (sign * int(batch.times[0]), number, batch))
                return

    for number in range(len(streams)):
        push(number)
    while heads:
        _, number, batch = heapq.heappop(heads)
        if not heads:
            yield batch
            push(number)
            continue
        bound = heads[0][0]
        run = int(np.searchsorted(sign * batch.times, bound))
        yield slice_batch(batch, 0, run)
        if run < len(batch.times):
            rest = slice_batch(batch, run, len(batch.times))
            heapq.heappush(heads, (sign * int(rest.times[0]), number, rest))
        else:
            push(number)
