"""QueryBackend over the cluster: schema and points from the groups that own them."""

from __future__ import annotations

import heapq
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np

from cluster.coordinator.early_reads import EarlyRound, StaleReadError
from cluster.coordinator.plan_router import PlanRouter
from cluster.coordinator.query_reads import QueryReads
from cluster.coordinator.schema_cache import StorageGroupRef
from cluster.coordinator.storage_groups import StorageGroups
from cluster.member.data_member import DataMember
from cluster.member.meta_member import META_GROUP_ID
from cluster.plan.codec import decode_result
from cluster.plan.reads import (
    AggregatesRead,
    LastRead,
    MatchDevicesRead,
    MatchSeriesRead,
    NodesRead,
    RowsRead,
    SeriesQuery,
    decode_aggregates,
    decode_last,
    decode_rows_page,
)
from cluster.query.result import limited, slice_batch
from cluster.raft.types import GroupId
from cluster.rpc.deadline import Deadline
from cluster.scan.filters import Check, RowFilter
from cluster.scan.region_reads import (
    AggregatesQuery,
    RowsQuery,
    aggregates,
    last_points,
    stream_rows,
)
from cluster.scan.windows import AggregateTable, Needs, Windows
from cluster.schema.meta_state import MetaState
from cluster.schema.paths import PathPattern, join_path, split_path
from cluster.schema.series import DeviceInfo, SeriesInfo
from iotdb_engine import T_MAX, T_MIN, ColumnBatch, DataType
from iotdb_engine.errors import Closed

logger = logging.getLogger(__name__)

T = TypeVar("T")

_EVERYTHING = PathPattern(("root", "**"))

_ROWS_PER_CALL = 65536
"""Rows in one answer of a group on another node."""

_EARLY_S = 0.05
"""A query that takes longer looks whether its leaders have answered before it goes on."""

_SCANNED_PER_CALL = 1 << 20
"""Rows that a group on another node looks at for one answer."""


class _Place(NamedTuple):
    """Where points of a series are: a group, its slots, and the first time that is not expired."""

    group_id: GroupId
    slots: tuple[int, ...] | None
    first: int


class ClusterBackend:
    """One query's view; not shared between threads.

    Every read goes to a group's leader after it has confirmed its leadership, or to this node's
    replica once it has applied what such a leader had: a query sees every write that was
    acknowledged before the query began (consistency level strong).

    Args:
        reads: of the groups, until the query's deadline.
        deadline: of the query; looked at while something is computed here.
        now: what time to live goes by, in units of the precision.
        check: called with the path of each series that is found, to refuse the query; where
            nothing is, with what the patterns begin with, so that who may read nothing there is
            refused as well.
        stored: rows may come as `iotdb_engine.stored.StoredBatch`: they go to a client that decodes
            pages.
        early: replicas may be read before their leaders have answered; `settle` must follow.
    """

    def __init__(
        self,
        *,
        reads: QueryReads,
        router: PlanRouter,
        storage_groups: StorageGroups,
        deadline: Deadline,
        now: int,
        check: Callable[[str], None] | None = None,
        stored: bool = False,
        early: bool = False,
    ) -> None:
        self._early = early
        self._unsettled: list[EarlyRound] = []
        self._settle_by = 0.0
        self._reads = reads
        self._router = router
        self._storage_groups = storage_groups
        self._deadline = deadline
        self._now = now
        self._check = check
        self._stored = stored

    def meta(self) -> MetaState:
        """Return this node's meta state, made as new as the query needs."""
        self._sync()
        return self._storage_groups.meta_state()

    def settle(self) -> None:
        """Return when it is known that what was read is what had to be seen; any number of times.

        From then on nothing is read early.

        Raises:
            StaleReadError: it is not: the query has to begin again, without reading early.
        """
        self._early = False
        stale = False
        with suppress(IndexError):  # it is empty; threads that read for this one may settle, too
            while True:  # each of them, whatever became of the others
                stale = not self._unsettled.pop().settle() or stale
        if stale:
            raise StaleReadError

    def storage_groups(self, pattern: PathPattern) -> list[str]:
        """Return the matching storage groups' paths, sorted."""
        self._sync()
        return [ref.path for ref in self._storage_groups.matching(pattern)]

    def match_series(self, pattern: PathPattern) -> list[SeriesInfo]:
        """Return the matching series, sorted by device, then creation."""
        return self.match_all((pattern,))[0]

    def match_all(
        self,
        patterns: Sequence[PathPattern],
        span: Callable[[], tuple[int, int]] = lambda: (T_MIN, T_MAX),
    ) -> list[list[SeriesInfo]]:
        """Return for each pattern the matching series, all as of one read of each group."""
        if not self._router.is_one_group:
            self._confirm(patterns, span())
        self._sync()
        found = self._match_one(patterns) or self._match_each(patterns)
        if self._check is not None:
            for series in found:
                for info in series:
                    self._check(info.path)
            if not any(found):
                self._check_unmatched(patterns)
        return found

    def _check_unmatched(self, patterns: Sequence[PathPattern]) -> None:
        assert self._check is not None
        for pattern in patterns:
            self._check(join_path(pattern.literal_prefix))

    def _match_one(self, patterns: Sequence[PathPattern]) -> list[list[SeriesInfo]] | None:
        """Do what `_match_each` does, for a path in one storage group; None: it is not that.

        Mostly it is, and then this costs half as much.
        """
        if len(patterns) != 1:
            return None
        (pattern,) = patterns
        refs = self._storage_groups.reachable_by(pattern)
        if len(refs) != 1:
            return None
        path, sg_id = refs[0]
        sg_ids = (sg_id,)
        found: list[list[SeriesInfo]] = self._reads.read(
            self._router.schema_group(path),
            lambda: MatchSeriesRead((SeriesQuery.of(pattern, sg_ids),)),
            lambda member: [member.machine.schema.match(pattern, sg_ids)],
            decode_result,
        )
        return found

    def _match_each(self, patterns: Sequence[PathPattern]) -> list[list[SeriesInfo]]:
        wanted: dict[GroupId, list[tuple[int, tuple[int, ...]]]] = defaultdict(list)
        owners: dict[StorageGroupRef, tuple[GroupId, tuple[int, ...]]] = {}
        for number, pattern in enumerate(patterns):
            refs = self._storage_groups.reachable_by(pattern)
            for ref in refs:
                if ref not in owners:
                    owners[ref] = self._router.schema_group(ref.path), (ref.sg_id,)
            if len(refs) == 1:  # mostly
                group_id, sg_ids = owners[refs[0]]
                wanted[group_id].append((number, sg_ids))
                continue
            by_group: dict[GroupId, list[int]] = defaultdict(list)
            for ref in refs:
                by_group[owners[ref][0]].append(ref.sg_id)
            for group_id, some in by_group.items():
                wanted[group_id].append((number, tuple(some)))

        def read(
            group_id: GroupId, parts: Sequence[tuple[int, tuple[int, ...]]]
        ) -> Callable[[], list[list[SeriesInfo]]]:
            return lambda: self._reads.read(
                group_id,
                lambda: MatchSeriesRead(
                    tuple(SeriesQuery.of(patterns[number], sg_ids) for number, sg_ids in parts)
                ),
                lambda member: member.machine.schema.match_all(
                    [(patterns[number], sg_ids) for number, sg_ids in parts]
                ),
                decode_result,
            )

        found: list[list[SeriesInfo]] = [[] for _ in patterns]
        answers = self._reads.read_each(
            [(group_id, read(group_id, parts)) for group_id, parts in wanted.items()],
        )
        for parts, answer in zip(wanted.values(), answers, strict=True):
            for (number, _), series in zip(parts, answer, strict=True):
                known = found[number]
                found[number] = sorted([*known, *series], key=_place) if known else series
        return found

    def match_devices(self, pattern: PathPattern) -> list[DeviceInfo]:
        """Return the matching devices, sorted by path."""

        def read(group_id: GroupId, sg_ids: tuple[int, ...]) -> Callable[[], list[DeviceInfo]]:
            return lambda: self._reads.read(
                group_id,
                lambda: MatchDevicesRead(sg_ids, pattern.nodes, pattern.prefix),
                lambda member: member.machine.schema.devices(pattern, sg_ids),
                decode_result,
            )

        found: list[DeviceInfo] = self._from_schema_groups(pattern, read)
        if self._check is not None and not found:
            self._check_unmatched((pattern,))
        return sorted(found, key=lambda info: info.path)

    def read(
        self,
        series: Sequence[SeriesInfo],
        t_min: int,
        t_max: int,
        *,
        selected: int | None = None,
        row_filter: RowFilter | None = None,
        descending: bool = False,
        max_rows: int | None = None,
    ) -> Iterator[ColumnBatch]:
        """Stream the rows of series of one storage group."""
        storage_group = series[0].storage_group
        t_min = max(t_min, self._first_alive(series[0]))
        if t_min > t_max:
            return iter(())
        query = RowsQuery(
            series=_keys(series),
            selected=len(series) if selected is None else selected,
            t_min=t_min,
            t_max=t_max,
            descending=descending,
            row_filter=row_filter,
        )
        slots = self._router.data_slots(storage_group)
        streams = [
            self._group_rows(group.group_id, query, slots, max_rows)
            for group in self._router.data_groups(storage_group, t_min, t_max)
        ]
        if len(streams) == 1:
            return streams[0]
        return limited(interleave(streams, descending=descending), limit=max_rows)

    def aggregate(
        self,
        series: Sequence[SeriesInfo],
        windows: Windows,
        intervals: Sequence[tuple[int, int]],
        needs: Needs,
        *,
        selected: int | None = None,
        row_filter: RowFilter | None = None,
    ) -> AggregateTable:
        """Return the series' aggregates, merged over the groups that hold their points."""
        count = len(series) if selected is None else selected
        filtered = row_filter is not None or count < len(series)

        def query_of(numbers: Sequence[int], first: int) -> AggregatesQuery:
            keys = _keys([series[number] for number in numbers])
            alive = [(max(low, first), high) for low, high in intervals if high >= first]
            return AggregatesQuery(
                series=keys,
                selected=count if filtered else len(keys),
                windows=windows,
                intervals=tuple(alive),
                needs=needs,
                row_filter=row_filter,
            )

        def call(
            group_id: GroupId, query: AggregatesQuery, slots: tuple[int, ...] | None
        ) -> Callable[[], AggregateTable]:
            return lambda: self._reads.read(
                group_id,
                lambda: AggregatesRead(query, slots),
                lambda member: aggregates(member.machine.region, query, slots, self._check_time),
                lambda data: decode_aggregates(data, query),
            )

        low, high = int(windows.lows[0]), int(windows.highs[-1])
        if intervals:
            low, high = max(low, intervals[0][0]), min(high, intervals[-1][1])
        places = self._places(series, low, high)
        answers = self._reads.read_each(
            [
                (group_id, call(group_id, query_of(numbers, first), slots))
                for (group_id, slots, first), numbers in places.items()
            ],
        )
        result: AggregateTable | None = None
        for numbers, answer in zip(places.values(), answers, strict=True):
            mine = numbers[: len(answer)]
            if result is None and len(mine) == count:
                result = answer  # mostly the only one
                continue
            if result is None:
                kinds = [info.data_type for info in series[:count]]
                result = AggregateTable(kinds, len(windows.lows), needs)
            result.merge(answer, mine)
        if result is None:
            kinds = [info.data_type for info in series[:count]]
            result = AggregateTable(kinds, len(windows.lows), needs)
        return result

    def last(self, series: Sequence[SeriesInfo]) -> list[tuple[int, Any] | None]:
        """Return the latest point of each series, over the groups that hold its points."""
        if len(series) == 1:
            return [self._last_of(series[0])]

        def call(
            place: _Place, numbers: Sequence[int]
        ) -> Callable[[], list[tuple[int, Any] | None]]:
            return lambda: self._last_at(place, _keys([series[number] for number in numbers]))

        places = self._places(series)
        answers = self._reads.read_each(
            [(place.group_id, call(place, numbers)) for place, numbers in places.items()],
        )
        latest: list[tuple[int, Any] | None] = [None] * len(series)
        for (_, _, first), numbers, answer in zip(places, places.values(), answers, strict=True):
            for number, point in zip(numbers, answer, strict=True):
                known = latest[number]
                if (
                    point is not None
                    and point[0] >= first
                    and (known is None or point[0] >= known[0])
                ):
                    latest[number] = point
        return latest

    def _last_of(self, info: SeriesInfo) -> tuple[int, Any] | None:
        """Do what `last` does for a single series."""
        first = self._first_alive(info)
        slots = self._router.data_slots(info.storage_group)
        keys = _keys((info,))
        places = [
            _Place(group.group_id, slots, first)
            for group in self._router.data_groups(info.storage_group, first, T_MAX)
        ]
        latest: tuple[int, Any] | None = None
        for (point,) in self._reads.read_each(
            [(place.group_id, partial(self._last_at, place, keys)) for place in places],
        ):
            if point is not None and point[0] >= first:
                latest = point if latest is None or point[0] >= latest[0] else latest
        return latest

    def _last_at(
        self, place: _Place, keys: tuple[tuple[int, DataType], ...]
    ) -> list[tuple[int, Any] | None]:
        return self._reads.read(
            place.group_id,
            lambda: LastRead(keys, place.slots),
            lambda member: last_points(member.machine.region, keys, place.slots, self._check_time),
            decode_last,
        )

    def node_types(self, pattern: PathPattern, level: int | None = None) -> dict[str, str]:
        """Return the nodes whose path matches, with their kind; `level` as in SchemaTree."""

        def read(group_id: GroupId, sg_ids: tuple[int, ...]) -> Callable[[], list[list[str]]]:
            return lambda: self._reads.read(
                group_id,
                lambda: NodesRead(sg_ids, pattern.nodes, pattern.prefix, level),
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

    def _check_time(self) -> None:
        """Look now and then, while something is computed that may take long, whether to go on."""
        self._deadline.check()
        if self._unsettled and time.monotonic() > self._settle_by:
            self.settle()  # what would count for nothing is not computed to its end

    def _first_alive(self, info: SeriesInfo) -> int:
        return self._storage_groups.first_alive_in(info.sg_id, self._now)

    def _sync(self) -> None:
        self._reads.sync_meta()

    def _confirm(self, patterns: Sequence[PathPattern], span: tuple[int, int]) -> None:
        """Ask in one trip for what the query seems to need, as far as this node knows.

        It may know too little of new storage groups: then their groups are asked when it comes to
        them.
        """
        groups = {META_GROUP_ID}
        for pattern in patterns:
            for ref in self._storage_groups.reachable_by(pattern):
                groups.add(self._router.schema_group(ref.path))
                for group in self._router.data_groups(ref.path, *span):
                    groups.add(group.group_id)
        unsettled = self._reads.confirm(groups, early=self._early)
        if unsettled is not None:
            self._unsettled.append(unsettled)
            self._settle_by = time.monotonic() + _EARLY_S

    def _from_schema_groups(
        self,
        pattern: PathPattern,
        read: Callable[[GroupId, tuple[int, ...]], Callable[[], list[T]]],
    ) -> list[T]:
        self._sync()
        by_group: dict[GroupId, list[StorageGroupRef]] = defaultdict(list)
        for ref in self._storage_groups.reachable_by(pattern):
            by_group[self._router.schema_group(ref.path)].append(ref)
        answers = self._reads.read_each(
            [
                (group_id, read(group_id, tuple(ref.sg_id for ref in refs)))
                for group_id, refs in by_group.items()
            ],
        )
        found: list[T] = []
        for answer in answers:
            found.extend(answer)
        return found

    def _places(
        self, series: Sequence[SeriesInfo], t_min: int = T_MIN, t_max: int = T_MAX
    ) -> dict[_Place, list[int]]:
        """Return which series (by number) may have points within a range where."""
        owners: dict[str, list[int]] = {}
        for number, info in enumerate(series):
            owners.setdefault(info.storage_group, []).append(number)
        places: dict[_Place, list[int]] = defaultdict(list)
        for storage_group, numbers in owners.items():
            first = self._first_alive(series[numbers[0]])
            slots = self._router.data_slots(storage_group)
            for group in self._router.data_groups(storage_group, max(t_min, first), t_max):
                places[_Place(group.group_id, slots, first)].extend(numbers)
        if len(owners) > 1:
            for numbers in places.values():
                numbers.sort()
        return places

    def _group_rows(
        self,
        group_id: GroupId,
        query: RowsQuery,
        slots: tuple[int, ...] | None,
        max_rows: int | None,
    ) -> Iterator[ColumnBatch]:
        """Stream a group's rows page by page, each from wherever the leader is at that time.

        Where the leader is here, one page is all: the scan itself, taken as it is needed.
        """
        wanted = _ROWS_PER_CALL if max_rows is None else min(max_rows, _ROWS_PER_CALL)
        left = max_rows
        while left is None or left > 0:
            batches, resume = self._reads.read(
                group_id,
                lambda query=query: RowsRead(query, slots, wanted, _SCANNED_PER_CALL),  # type: ignore[misc]
                lambda member, query=query, left=left: _local_rows(  # type: ignore[misc]
                    member, query, slots, left, self._check_time, stored=self._stored
                ),
                decode_rows_page,
            )
            last: int | None = None
            try:
                for batch in batches:
                    yield batch
                    last = batch.last_time
                    if left is not None:
                        left -= batch.rows
                        if left <= 0:
                            return
            except Closed as error:
                # a snapshot takes the place of this node's replica: the rest comes from elsewhere
                logger.debug("group %d: a scan goes on at the leader: %s", group_id, error)
                self._reads.forget(group_id)
                resume = query.first if last is None else query.after(last)
            if resume is None:
                return
            query = query.from_(resume)


def _place(info: SeriesInfo) -> tuple[str, int]:
    return info.device, info.series_id


def _keys(series: Sequence[SeriesInfo]) -> tuple[tuple[int, DataType], ...]:
    return tuple((info.series_id, info.data_type) for info in series)


def _local_rows(
    member: DataMember,
    query: RowsQuery,
    slots: tuple[int, ...] | None,
    max_rows: int | None,
    check: Check,
    *,
    stored: bool,
) -> tuple[Iterable[ColumnBatch], int | None]:
    region = member.machine.region
    return stream_rows(region, query, slots, max_rows, check, stored=stored), None


def interleave(
    streams: Sequence[Iterator[ColumnBatch]], *, descending: bool
) -> Iterator[ColumnBatch]:
    """Merge streams of the same columns whose timestamps are disjoint, by time.

    Each step yields the longest run of one stream that comes before every other stream's next row,
    so whole batches pass through untouched where streams do not alternate.
    """
    # for the latest first, times are compared by their complement: the earliest has no negative
    flip = -1 if descending else 0
    heads: list[tuple[int, int, ColumnBatch]] = []

    def push(number: int) -> None:
        for batch in streams[number]:
            if len(batch.times):
                heapq.heappush(heads, (int(batch.times[0]) ^ flip, number, batch))
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
        run = int(np.searchsorted(batch.times ^ flip, bound))
        yield slice_batch(batch, 0, run)
        if run < len(batch.times):
            rest = slice_batch(batch, run, len(batch.times))
            heapq.heappush(heads, (int(rest.times[0]) ^ flip, number, rest))
        else:
            push(number)
