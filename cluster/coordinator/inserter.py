"""Writes points: resolves the schema (creating it where configured), routes, reports per item."""

from __future__ import annotations

import logging
import struct
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from cluster.coordinator.decimals import RoundedColumn, digits_of, rounded
from cluster.coordinator.groups_access import GroupsAccess
from cluster.coordinator.insert_triggers import InsertedRows, InsertTriggers
from cluster.coordinator.plan_router import PlanRouter, take_columns, take_rows
from cluster.coordinator.prepared import Prepared
from cluster.coordinator.row_writer import CarryOn, RowWriter
from cluster.coordinator.schema_cache import (
    DeviceSchema,
    LayoutKey,
    ResolvedLayout,
    SchemaCache,
    StorageGroupRef,
)
from cluster.coordinator.storage_groups import StorageGroups
from cluster.coordinator.template_operations import TemplateOperations, alignment_error
from cluster.errors import OK, ClusterError, Status, StatusCode
from cluster.plan.plans import CreateSeriesPlan, InsertPlan
from cluster.raft.types import GroupId, NodeId
from cluster.rpc.deadline import Deadline
from cluster.schema.encodings import default_encoding
from cluster.schema.paths import parse_node
from cluster.schema.series import SeriesSpec
from iotdb_engine import T_MIN, DataType, Fragment, Layout

logger = logging.getLogger(__name__)

_ATTEMPTS = 3
_MAX_PLAN_BYTES = 8 << 20
_SNAPPY = 1
_I64 = struct.Struct(">q")


class InsertItem(NamedTuple):
    """Rows of one device, as a client sent them; the bytes are those of a Fragment."""

    device: str
    measurements: tuple[str, ...]
    types: tuple[DataType, ...]
    row_count: int
    times: bytes
    values: bytes | memoryview
    nulls: bytes
    aligned: bool
    prepared: Prepared | None = None
    """Where what the columns are resolved to is kept for the next insert of the same ones."""


class _Resolved(NamedTuple):
    """`measurements` are those of the fragment's columns."""

    storage_group: StorageGroupRef
    fragment: Fragment | None
    status: Status
    measurements: tuple[str, ...]


class _Call:
    """What is special about a call, and how far it is.

    Attributes:
        fires: whether triggers are started.
        whole: whether an item of which a part does not fit its series is not written at all.
        before: the items that their triggers have seen,
        to_write: and the rows and statuses by then.
        unfit: the items that were not written for that.
    """

    def __init__(self, *, fires: bool, whole: bool = False) -> None:
        self.fires = fires
        self.whole = whole
        self.before: set[int] = set()
        self.to_write: dict[int, tuple[InsertedRows, Status]] = {}
        self.unfit: set[int] = set()


class Inserter:
    """Thread-safe. `insert` never raises for a single item's trouble: each item has its Status."""

    def __init__(
        self,
        *,
        access: GroupsAccess,
        router: PlanRouter,
        storage_groups: StorageGroups,
        cache: SchemaCache,
        templates: TemplateOperations,
        triggers: InsertTriggers,
        auto_create: bool,
        float_precision: int,
        now: Callable[[], int],
    ) -> None:
        self._access = access
        self._router = router
        self._storage_groups = storage_groups
        self._cache = cache
        self._templates = templates
        self._triggers = triggers
        self._auto_create = auto_create
        self._float_precision = float_precision
        self._now = now

    def insert(self, items: Sequence[InsertItem], deadline: Deadline) -> list[Status]:
        """Write items; a status for each, in order.

        An item whose series were deleted between its resolution and its application is resolved and
        written anew: the data group refuses ids of dropped series.
        """
        if not self._triggers.any_started():
            return self._insert(items, None, deadline)
        call = _Call(fires=True)
        statuses = self._insert(items, call, deadline)
        self._fire_after(call, statuses, deadline)
        return statuses

    def insert_made(
        self, item: InsertItem, again: Callable[[], InsertItem | None], deadline: Deadline
    ) -> Status:
        """Write an item whose types follow what is remembered of the schema.

        Where they don't fit the schema as it is, nothing is written of it: `again` makes it anew,
        once, by the schema as it is (None: nothing is left of it). Its triggers fire once.
        """
        call = _Call(fires=self._triggers.any_started(), whole=True)
        statuses = self._insert([item], call, deadline)
        if call.unfit:
            call.whole = False
            made = again()
            statuses = [OK] if made is None else self._insert([made], call, deadline)
        self._fire_after(call, statuses, deadline)
        return statuses[0]

    def _fire_after(self, call: _Call, statuses: Sequence[Status], deadline: Deadline) -> None:
        for number, (rows, expected) in call.to_write.items():
            if statuses[number] == expected:
                self._triggers.after(rows, deadline)

    def _insert(
        self, items: Sequence[InsertItem], call: _Call | None, deadline: Deadline
    ) -> list[Status]:
        statuses = [OK] * len(items)
        todo = list(range(len(items)))
        for attempt in range(_ATTEMPTS):
            if attempt:
                self._access.sync_meta(deadline)
            by_group = self._route(items, todo, statuses, call, deadline)
            todo = self._write(by_group, statuses, deadline)
            if not todo:
                return statuses
            for number in todo:
                self._cache.forget_device(items[number].device)
        for number in todo:
            statuses[number] = Status(
                StatusCode.WRITE_PROCESS_ERROR,
                f"the schema of {items[number].device} keeps changing under the write; try again",
            )
        return statuses

    def insert_one(self, item: InsertItem, deadline: Deadline) -> tuple[Status, NodeId]:
        """Write one item; `insert` with less ado where there is nothing special about it.

        Returns:
            Its status, and what `better_node` says.
        """
        plain = self._plain(item)
        if plain is not None:
            group_id, fragment = plain
            written = self._written(group_id, fragment, deadline)
            if written is not None:
                return written, self._access.remote_leader(group_id)
            self._cache.forget_device(item.device)
            self._access.sync_meta(deadline)
        status = self.insert([item], deadline)[0]
        return status, self.better_node(item)

    def begin_one(
        self,
        item: InsertItem,
        writer: RowWriter,
        deadline: Deadline,
        ended: Callable[[NodeId], None],
        left: Callable[[Callable[[], tuple[Status, NodeId]]], None],
    ) -> bool:
        """Begin to write one item in the loop; False: nothing was begun, `insert_one` is to follow.

        Args:
            item: nothing special about it, or False is returned.
            writer: of the loop.
            deadline: of the write.
            ended: called when it is written, with what `better_node` says;
            left: or with what does the rest, for a thread, and returns what `insert_one` does.
        """
        plain = self._plain(item)
        if plain is None:
            return False
        group_id, fragment = plain

        def carry_on(rest: CarryOn) -> tuple[Status, NodeId]:
            try:
                refused = rest()[0]
            except ClusterError as error:
                return Status(error.status, error.message), self._access.remote_leader(group_id)
            if not refused:
                return OK, self._access.remote_leader(group_id)
            # its series are not what they were
            self._cache.forget_device(item.device)
            self._access.sync_meta(deadline)
            return self.insert([item], deadline)[0], self.better_node(item)

        def applied(outcome: Any, better: NodeId) -> None:  # noqa: ANN401
            if outcome[0]:
                left(lambda: carry_on(lambda: outcome))
            else:
                ended(better)

        return writer.begin(
            group_id,
            InsertPlan((fragment,)),
            deadline,
            applied,
            lambda rest: left(lambda: carry_on(rest)),
        )

    def _plain(self, item: InsertItem) -> tuple[GroupId, Fragment] | None:
        """Return where an item goes about which there is nothing special."""
        prepared = item.prepared
        if prepared is None or prepared.epoch != self._cache.epoch:
            return None
        known = prepared.resolved
        assert known is not None
        (path, sg_id), layout, _, columns = known
        state = self._storage_groups.meta_state()
        if state.read_only or state.ttl(sg_id) or self._triggers.any_started(state.registry):
            return None
        home = self._router.home_of(path, item.times, item.row_count)
        if home is None:
            return None
        group_id, slot = home
        return group_id, _fragment(item, layout, columns, slot)

    def _written(self, group_id: GroupId, fragment: Fragment, deadline: Deadline) -> Status | None:
        """Write a fragment; None: it was refused, as its series are not what they were."""
        try:
            outcome = self._access.execute_data(group_id, InsertPlan((fragment,)), deadline)
        except ClusterError as error:
            return Status(error.status, error.message)
        return None if outcome[0] else OK

    def better_node(self, item: InsertItem) -> NodeId:
        """Return the other node that would have written an item's last row without a detour.

        Returns:
            0 when it is this one, or not known.
        """
        known = self._cache.device(item.device)
        if known is None or not item.row_count:
            return NodeId(0)
        (last,) = _I64.unpack_from(item.times, 8 * (item.row_count - 1))
        group_id = self._router.group_at(known.storage_group.path, last)
        return self._access.remote_leader(group_id)

    def device_schema(
        self,
        device: str,
        measurements: Sequence[str],
        deadline: Deadline,
        *,
        aligned: bool,
        fresh: bool = False,
    ) -> DeviceSchema:
        """Return the schema of a device with those of `measurements` that exist.

        Creates the storage group where configured; raises ClusterError 322 when there is none.

        Args:
            device: full path.
            measurements: names or aliases.
            deadline: of the whole.
            aligned: whether the rows to be written are; a template is not activated otherwise.
            fresh: don't trust what is remembered; another node may have changed it.
        """
        if fresh:
            self._cache.forget_device(device)
        known = self._cache.device(device)
        if known is not None and all(name in known.series for name in measurements):
            return known
        storage_group = self._storage_groups.of_device(device, deadline)
        is_aligned, found = self._access.resolve(
            self._router.schema_group(storage_group.path),
            storage_group.sg_id,
            device,
            measurements,
            deadline,
        )
        series = {
            name: info for name, info in zip(measurements, found, strict=True) if info is not None
        }
        missing = [name for name in measurements if name not in series]
        if missing and self._templates.activate_for_insert(
            device, missing, deadline, aligned=aligned
        ):
            return self.device_schema(device, measurements, deadline, aligned=aligned, fresh=True)
        return self._cache.remember_device(device, DeviceSchema(storage_group, is_aligned, series))

    # ---- inside ----

    def _route(
        self,
        items: Sequence[InsertItem],
        todo: list[int],
        statuses: list[Status],
        call: _Call | None,
        deadline: Deadline,
    ) -> dict[GroupId, list[tuple[int, Fragment]]]:
        by_group: dict[GroupId, list[tuple[int, Fragment]]] = defaultdict(list)
        now = self._now()
        for number in todo:
            try:
                resolved = self._resolve(items[number], deadline)
            except ClusterError as error:
                statuses[number] = Status(error.status, error.message)
                if call is not None and error.status is StatusCode.ALIGNED_TIMESERIES_ERROR:
                    call.unfit.add(number)
                continue
            statuses[number] = resolved.status
            if call is not None and call.whole and not resolved.status.ok:
                call.unfit.add(number)
                continue
            fragment = resolved.fragment
            first = self._storage_groups.first_alive(resolved.storage_group.path, now)
            if fragment is not None and first != T_MIN:
                fragment, statuses[number] = _alive_rows(fragment, first, resolved.status)
            if fragment is not None and call is not None and call.fires:
                rows = InsertedRows(items[number].device, resolved.measurements, fragment)
                refused = self._fire_before(number, rows, call, statuses[number], deadline)
                if refused is not None:
                    statuses[number] = refused
                    continue
            if fragment is not None:
                for group_id, piece in self._router.split(resolved.storage_group.path, fragment):
                    by_group[group_id].append((number, piece))
        return by_group

    def _fire_before(
        self, number: int, rows: InsertedRows, call: _Call, status: Status, deadline: Deadline
    ) -> Status | None:
        """Fire an item's triggers once, however often it is routed; what refuses it, or None."""
        if number not in call.before:
            call.before.add(number)
            try:
                self._triggers.before(rows, deadline)
            except ClusterError as error:
                return Status(error.status, error.message)
        call.to_write[number] = rows, status
        return None

    def _write(
        self,
        by_group: dict[GroupId, list[tuple[int, Fragment]]],
        statuses: list[Status],
        deadline: Deadline,
    ) -> list[int]:
        """Write each group's fragments; returns the items that were refused as outdated."""
        plans = [
            (group_id, numbers, plan)
            for group_id, pieces in by_group.items()
            for numbers, plan in _in_plans(pieces)
        ]
        results = self._access.in_parallel(
            [
                lambda group_id=group_id, plan=plan: self._access.execute_data(  # type: ignore[misc]
                    group_id, plan, deadline
                )
                for group_id, _, plan in plans
            ]
        )
        again: list[int] = []
        for (_, numbers, _), result in zip(plans, results, strict=True):
            if isinstance(result, ClusterError):
                for number in numbers:
                    statuses[number] = Status(result.status, result.message)
            elif isinstance(result, Exception):
                raise result
            else:
                again.extend(numbers[position] for position in result[0])
        return sorted(set(again))

    def _resolve(self, item: InsertItem, deadline: Deadline) -> _Resolved:
        prepared = item.prepared
        epoch = self._cache.epoch
        if prepared is None:
            key = LayoutKey(item.device, item.measurements, item.types, item.aligned)
            cached = self._cache.layout(key)
        elif prepared.epoch == epoch:
            key, cached = prepared.key, prepared.resolved
        else:
            key = prepared.key
            cached = prepared.resolved = self._cache.layout(key)
            prepared.epoch = epoch if cached is not None else -1
        if cached is not None:
            fragment = _fragment(item, cached.layout, cached.rounded)
            return _Resolved(cached.storage_group, fragment, OK, cached.measurements)
        if any("`" in name for name in item.measurements):
            item = item._replace(measurements=tuple(map(parse_node, item.measurements)))
        if len(set(item.measurements)) != len(item.measurements):
            twice = next(name for name in item.measurements if item.measurements.count(name) > 1)
            raise ClusterError(
                StatusCode.QUERY_PROCESS_ERROR,
                f"Insertion contains duplicated measurement: {twice}",
            )
        schema = self.device_schema(item.device, item.measurements, deadline, aligned=item.aligned)
        if _disagree(item, schema):
            # before this is held against the client: what is remembered may be out of date
            schema = self.device_schema(
                item.device, item.measurements, deadline, aligned=item.aligned, fresh=True
            )
        if schema.aligned is not None and schema.aligned != item.aligned:
            raise alignment_error(item.device, aligned=schema.aligned)
        problems: dict[str, str] = {}
        missing = [
            (name, data_type)
            for name, data_type in zip(item.measurements, item.types, strict=True)
            if name not in schema.series
        ]
        if missing:
            schema = self._create_missing(item, missing, schema, problems, deadline)
        for name, data_type in zip(item.measurements, item.types, strict=True):
            info = schema.series.get(name)
            if info is not None and info.data_type is not data_type:
                problems[name] = (
                    f"DataType mismatch, Insert measurement {name} type {data_type.name}, "
                    f"metadata tree type {info.data_type.name}"
                )
        return self._resolved(item, key, schema, problems)

    def _resolved(
        self, item: InsertItem, key: LayoutKey, schema: DeviceSchema, problems: dict[str, str]
    ) -> _Resolved:
        keep = [number for number, name in enumerate(item.measurements) if name not in problems]
        layout = Layout(
            tuple(
                schema.series[name].series_id if name in schema.series else 0
                for name in item.measurements
            ),
            item.types,
        )
        if len({layout.series_ids[number] for number in keep}) < len(keep):
            raise _named_twice(item, schema)
        kept = [(number, schema.series[item.measurements[number]]) for number in keep]
        measurements = tuple(info.measurement for _, info in kept)
        columns = tuple(
            RoundedColumn(number, digits)
            for number, info in kept
            if (digits := digits_of(info, self._float_precision)) is not None
        )
        fragment = _fragment(item, layout, columns)
        if not problems:
            self._cache.remember_layout(
                key, ResolvedLayout(schema.storage_group, layout, measurements, columns)
            )
            return _Resolved(schema.storage_group, fragment, OK, measurements)
        names = [name for name in item.measurements if name in problems]
        status = Status(
            StatusCode.STORAGE_ENGINE_ERROR,
            f"failed to insert measurements [{', '.join(names)}] caused by "
            + ",".join(problems[name] for name in names),
        )
        part = take_columns(fragment, keep) if keep else None
        return _Resolved(schema.storage_group, part, status, measurements)

    def _create_missing(
        self,
        item: InsertItem,
        missing: list[tuple[str, DataType]],
        schema: DeviceSchema,
        problems: dict[str, str],
        deadline: Deadline,
    ) -> DeviceSchema:
        if not self._auto_create:
            if len(missing) == len(item.measurements):
                raise ClusterError(
                    StatusCode.TIMESERIES_NOT_EXIST,
                    f"Path [{item.device}.{missing[0][0]}] does not exist",
                )
            for name, _ in missing:
                problems[name] = f"Path [{name}] does not exist"
            return schema
        plan = CreateSeriesPlan(
            sg_id=schema.storage_group.sg_id,
            sg_path=schema.storage_group.path,
            device=item.device,
            aligned=item.aligned,
            specs=tuple(
                SeriesSpec(name, data_type, default_encoding(data_type), _SNAPPY)
                for name, data_type in missing
            ),
            if_absent=True,
        )
        group_id = self._router.schema_group(schema.storage_group.path)
        outcomes = self._access.execute_data(group_id, plan, deadline)
        created = {}
        for (name, _), outcome in zip(missing, outcomes, strict=True):
            if outcome.info is not None:
                created[name] = outcome.info
            elif outcome.status is StatusCode.ALIGNED_TIMESERIES_ERROR:
                raise ClusterError(outcome.status, outcome.message)
            else:
                problems[name] = outcome.message
        return self._cache.remember_device(
            item.device, DeviceSchema(schema.storage_group, item.aligned, created)
        )


def _named_twice(item: InsertItem, schema: DeviceSchema) -> ClusterError:
    """Return the error of rows that have a series twice: by its name, and by its alias."""
    names: dict[int, list[str]] = defaultdict(list)
    for name in item.measurements:
        if name in schema.series:
            names[schema.series[name].series_id].append(name)
    twice = next(found for found in names.values() if len(found) > 1)
    return ClusterError(
        StatusCode.QUERY_PROCESS_ERROR,
        f"Insertion contains duplicated measurement: {twice[0]}, also as {twice[1]}",
    )


def _disagree(item: InsertItem, schema: DeviceSchema) -> bool:
    if schema.aligned is not None and schema.aligned != item.aligned:
        return True
    return any(
        name in schema.series and schema.series[name].data_type is not data_type
        for name, data_type in zip(item.measurements, item.types, strict=True)
    )


def out_of_ttl(time: int, first: int) -> Status:
    """Return the status of a row that is older than its storage group's time to live."""
    return Status(
        StatusCode.OUT_OF_TTL, f"Insertion time [{time}] is less than ttl time bound [{first}]"
    )


def _alive_rows(fragment: Fragment, first: int, status: Status) -> tuple[Fragment | None, Status]:
    """Return a fragment without the rows before `first`, and the status with that in it."""
    times = np.frombuffer(fragment.times, ">i8")
    expired = times < first
    if not expired.any():
        return fragment, status
    refused = out_of_ttl(int(times[expired][0]), first)
    keep = np.flatnonzero(~expired)
    return (take_rows(fragment, keep) if len(keep) else None), refused


def _fragment(
    item: InsertItem, layout: Layout, columns: tuple[RoundedColumn, ...], slot: int = 0
) -> Fragment:
    values = item.values
    if columns:
        values = rounded(values, item.row_count, item.types, columns)
    return Fragment(slot, layout, item.row_count, item.times, values, item.nulls)


def _in_plans(pieces: list[tuple[int, Fragment]]) -> list[tuple[list[int], InsertPlan]]:
    """Cut a group's fragments into plans of bounded size."""
    plans: list[tuple[list[int], InsertPlan]] = []
    numbers: list[int] = []
    fragments: list[Fragment] = []
    size = 0
    for number, fragment in pieces:
        size += len(fragment.values) + len(fragment.times)
        if fragments and size > _MAX_PLAN_BYTES:
            plans.append((numbers, InsertPlan(tuple(fragments))))
            numbers, fragments, size = [], [], len(fragment.values) + len(fragment.times)
        numbers.append(number)
        fragments.append(fragment)
    if fragments:
        plans.append((numbers, InsertPlan(tuple(fragments))))
    return plans
