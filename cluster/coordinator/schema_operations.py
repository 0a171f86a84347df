"""Schema operations over the cluster: storage groups, series, deletion of points, FLUSH."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import Any

from cluster.coordinator.cluster_backend import ClusterBackend
from cluster.coordinator.groups_access import GroupsAccess
from cluster.coordinator.plan_router import PlanRouter
from cluster.coordinator.schema_cache import SchemaCache, StorageGroupRef
from cluster.coordinator.storage_groups import StorageGroups
from cluster.errors import OK, ClusterError, Status, StatusCode
from cluster.plan.plans import (
    AlterSeriesPlan,
    CreateSeriesPlan,
    DataPlan,
    DeleteDataPlan,
    DeleteSeriesPlan,
    DeleteStorageGroupsPlan,
    DropStorageGroupDataPlan,
    FlushPlan,
    MergeKind,
    RegistryAction,
    SetDataTtlPlan,
    SetStorageGroupPlan,
    SetTtlPlan,
    TriggerPlan,
)
from cluster.raft.types import GroupId
from cluster.rpc.deadline import Deadline
from cluster.schema.paths import PathPattern, join_path, split_path
from cluster.schema.registry import Trigger
from cluster.schema.series import AlterAction, SeriesInfo, SeriesSpec
from cluster.schema.templates import TemplateState
from iotdb_engine.types import T_MAX

logger = logging.getLogger(__name__)

_CLOCK_MARGIN_MS = 5 * 60 * 1000


class SchemaOperations:
    """Changes schema where it is owned, and drops data wherever it is; thread-safe."""

    def __init__(
        self,
        *,
        access: GroupsAccess,
        router: PlanRouter,
        storage_groups: StorageGroups,
        cache: SchemaCache,
        backend: Callable[[Deadline], ClusterBackend],
        triggers: Callable[[], Sequence[Trigger]],
        templates: Callable[[], TemplateState],
        units_per_ms: int,
    ) -> None:
        self._access = access
        self._router = router
        self._storage_groups = storage_groups
        self._cache = cache
        self._backend = backend
        self._triggers = triggers
        self._templates = templates
        self._units_per_ms = units_per_ms

    def set_storage_group(self, path: str, deadline: Deadline, *, ttl_ms: int = 0) -> Status:
        """Create a storage group; `ttl_ms` 0: its points live for ever."""
        plan = SetStorageGroupPlan(join_path(split_path(path)), ttl_ms)
        outcome = self._access.execute_meta(plan, deadline)
        self._access.announce_meta(deadline)
        if ttl_ms and outcome.ok:
            ref = self._storage_groups.inside(path)
            if ref is not None:
                return self._expire_data([ref], ttl_ms, deadline)
        return Status(outcome.status, outcome.message)

    def set_ttl(
        self, pattern: str, ttl_ms: int, deadline: Deadline, *, prefix: bool = False
    ) -> Status:
        """Set the time to live of matching storage groups, 0: for ever; no match is a success."""
        self._access.sync_meta(deadline)
        refs = self._storage_groups.matching(PathPattern.parse(pattern, prefix=prefix))
        if not refs:
            return OK
        plan = SetTtlPlan(tuple(sorted(ref.sg_id for ref in refs)), ttl_ms)
        outcome = self._access.execute_meta(plan, deadline)
        self._access.announce_meta(deadline)
        if not outcome.ok:
            return Status(outcome.status, outcome.message)
        return self._expire_data(refs, ttl_ms, deadline)

    def delete_storage_groups(
        self, patterns: Sequence[str], deadline: Deadline, *, prefix: bool = False
    ) -> Status:
        """Drop storage groups with schema and points.

        The meta group forgets them first: from then on nothing of them is visible, whatever becomes
        of the clean-up in the data groups; ids are never used again.
        """
        self._access.sync_meta(deadline)
        found = {}
        for text in patterns:
            refs = self._storage_groups.matching(PathPattern.parse(text, prefix=prefix))
            if not refs:
                return Status(StatusCode.TIMESERIES_NOT_EXIST, f"Path [{text}] does not exist")
            found.update({ref.sg_id: ref for ref in refs})
        outcome = self._access.execute_meta(DeleteStorageGroupsPlan(tuple(sorted(found))), deadline)
        if not outcome.ok:
            return Status(outcome.status, outcome.message)
        self._access.announce_meta(deadline)
        self._cache.clear()
        by_group: dict[GroupId, list[int]] = defaultdict(list)
        for ref in found.values():
            owners = {self._router.schema_group(ref.path)}
            owners.update(group.group_id for group in self._router.data_groups(ref.path))
            for group_id in owners:
                by_group[group_id].append(ref.sg_id)
        return self._on_groups(
            {
                group_id: DropStorageGroupDataPlan(tuple(sorted(sg_ids)))
                for group_id, sg_ids in by_group.items()
            },
            deadline,
        )

    # ---- schema ----

    def create_series(
        self,
        device: str,
        specs: Sequence[SeriesSpec],
        deadline: Deadline,
        *,
        aligned: bool = False,
    ) -> list[Status]:
        """Create series of one device; a status for each."""
        device = join_path(split_path(device))
        storage_group = self._storage_groups.of_device(device, deadline)
        refusal = self._template_refusal(device, specs, deadline)
        if refusal is not None:
            return [refusal] * len(specs)
        plan = CreateSeriesPlan(
            sg_id=storage_group.sg_id,
            sg_path=storage_group.path,
            device=device,
            aligned=aligned,
            specs=tuple(specs),
            if_absent=False,
        )
        outcomes = self._access.execute_data(
            self._router.schema_group(storage_group.path), plan, deadline
        )
        self._cache.forget_device(device)
        return [Status(outcome.status, outcome.message) for outcome in outcomes]

    def _template_refusal(
        self, device: str, specs: Sequence[SeriesSpec], deadline: Deadline
    ) -> Status | None:
        """Refuse what a template that is set here or above will make; None: there is no such thing.

        Source: 0.13, MTree.createTimeseries and createAlignedTimeseries: after the look for what
        exists, whether or not the template is activated.
        """
        holding = self._templates().of_device(split_path(device))
        if holding is None:
            return None
        template = holding[1]
        taken = {item.path.partition(".")[0] for item in template.series}
        for spec in specs:
            if spec.measurement in taken or spec.alias in taken:
                path = f"{device}.{spec.measurement}"
                if self._backend(deadline).match_series(PathPattern.parse(path)):
                    return None  # the group tells that it exists
                return Status(
                    StatusCode.TEMPLATE_INCOMPATIBLE,
                    f"Path [{path}] already exists in [{template.name}]",
                )
        return None

    def alter_series(
        self,
        path: str,
        action: AlterAction,
        deadline: Deadline,
        *,
        pairs: Sequence[tuple[str, str]] = (),
        attributes: Sequence[tuple[str, str]] = (),
        alias: str | None = None,
    ) -> Status:
        """Change tags, attributes or alias of one series; see AlterSeriesPlan."""
        matched = self._backend(deadline).match_series(PathPattern.parse(path))
        if not matched:
            return Status(StatusCode.TIMESERIES_NOT_EXIST, f"Path [{path}] does not exist")
        info = matched[0]
        plan = AlterSeriesPlan(info.series_id, action, tuple(pairs), tuple(attributes), alias)
        outcome = self._access.execute_data(
            self._router.schema_group(info.storage_group), plan, deadline
        )
        self._cache.forget_device(info.device)
        return Status(outcome.status, outcome.message)

    def delete_series(
        self, patterns: Sequence[str], deadline: Deadline, *, prefix: bool = False
    ) -> list[Status]:
        """Delete series and their points; a status for each pattern."""
        backend = self._backend(deadline)
        statuses = []
        for text in patterns:
            matched = backend.match_series(PathPattern.parse(text, prefix=prefix))
            if not matched:
                statuses.append(
                    Status(StatusCode.TIMESERIES_NOT_EXIST, f"Path [{text}] does not exist")
                )
                continue
            status = self.delete_found(matched, deadline)
            if status.ok:
                self._drop_triggers({info.path for info in matched}, deadline)
            statuses.append(status)
        return statuses

    def _drop_triggers(self, paths: Collection[str], deadline: Deadline) -> None:
        """Forget the triggers of series that are gone.

        Where that fails the series are deleted all the same, and nothing fires such a trigger.
        """
        gone = [trigger.name for trigger in self._triggers() if trigger.path in paths]
        try:
            for name in gone:
                self._access.execute_meta(TriggerPlan(RegistryAction.DROP, name), deadline)
            if gone:
                self._access.announce_meta(deadline)
        except ClusterError as error:
            logger.warning("triggers %s of deleted series stay: %s", ", ".join(gone), error)

    def delete_found(self, infos: Sequence[SeriesInfo], deadline: Deadline) -> Status:
        """Delete series with their points."""
        plans: dict[GroupId, list[int]] = defaultdict(list)
        for info in infos:
            self._cache.forget_device(info.device)
            for group_id in self._owners(info):
                plans[group_id].append(info.series_id)
        return self._on_groups(
            {group: DeleteSeriesPlan(tuple(ids)) for group, ids in plans.items()}, deadline
        )

    def delete_data(
        self,
        patterns: Sequence[str],
        t_min: int,
        t_max: int,
        deadline: Deadline,
        *,
        prefix: bool = False,
    ) -> Status:
        """Delete the points of matching series in [t_min, t_max]; no match is a success."""
        backend = self._backend(deadline)
        plans: dict[GroupId, set[int]] = defaultdict(set)
        for text in patterns:
            for info in backend.match_series(PathPattern.parse(text, prefix=prefix)):
                for group in self._router.data_groups(info.storage_group):
                    plans[group.group_id].add(info.series_id)
        return self._on_groups(
            {
                group: DeleteDataPlan(tuple(sorted(ids)), t_min, t_max)
                for group, ids in plans.items()
            },
            deadline,
        )

    def delete_partitions(self, path: str, partitions: Sequence[int], deadline: Deadline) -> Status:
        """Delete the points of a storage group that lie in some time partitions."""
        self._access.sync_meta(deadline)
        refs = self._storage_groups.matching(PathPattern.parse(path))
        if not refs:
            return Status(
                StatusCode.STORAGE_GROUP_NOT_EXIST, f"storage group {path} does not exist"
            )
        for number in partitions:
            first, last = self._router.partition_span(number)
            if first > last:
                continue
            status = self.delete_data([f"{path}.**"], first, last, deadline)
            if not status.ok:
                return status
        return OK

    def flush(
        self, paths: Sequence[str], deadline: Deadline, merge: MergeKind = MergeKind.NONE
    ) -> Status:
        """Have every replica of the groups that hold these storage groups (all: ()) flush.

        `merge`: what they are to merge then. Both go on in the background.
        """
        self._access.sync_meta(deadline)
        if paths:
            groups: set[GroupId] = set()
            unknown = []
            for text in paths:
                refs = self._storage_groups.matching(PathPattern.parse(text))
                if not refs:
                    unknown.append(text)
                for ref in refs:
                    groups.update(group.group_id for group in self._router.data_groups(ref.path))
            if unknown:
                return Status(
                    StatusCode.STORAGE_GROUP_NOT_EXIST,
                    f"Storage group is not set for current seriesPath: [{','.join(unknown)}]",
                )
        else:
            groups = {group.group_id for group in self._router.table().groups}
        return self._on_groups({group: FlushPlan(merge) for group in groups}, deadline)

    # ---- inside ----

    def _expire_data(
        self, refs: Sequence[StorageGroupRef], ttl_ms: int, deadline: Deadline
    ) -> Status:
        """Tell the engines of the groups that hold the points.

        A margin longer than clocks differ: engines go by the clock of their node, queries by that
        of their coordinator, and nothing may vanish before it has expired for every one of them.
        """
        kept_ms = ttl_ms + _CLOCK_MARGIN_MS if ttl_ms else 0
        sg_ids: dict[GroupId, list[int]] = defaultdict(list)
        for ref in refs:
            for group in self._router.data_groups(ref.path):
                sg_ids[group.group_id].append(ref.sg_id)
        ttl = min(kept_ms * self._units_per_ms, T_MAX)
        return self._on_groups(
            {group: SetDataTtlPlan(tuple(sorted(ids)), ttl) for group, ids in sg_ids.items()},
            deadline,
        )

    def _owners(self, info: SeriesInfo) -> set[GroupId]:
        owners = {self._router.schema_group(info.storage_group)}
        owners.update(group.group_id for group in self._router.data_groups(info.storage_group))
        return owners

    def _on_groups(self, plans: dict[GroupId, Any], deadline: Deadline) -> Status:
        """Run one plan per group side by side; the first failure, or success."""
        if not plans:
            return OK

        def call(group_id: GroupId, plan: DataPlan) -> Callable[[], Any]:
            return lambda: self._access.execute_data(group_id, plan, deadline)

        results = self._access.in_parallel(
            [call(group_id, plan) for group_id, plan in plans.items()]
        )
        for result in results:
            if isinstance(result, ClusterError):
                return Status(result.status, result.message)
            if isinstance(result, Exception):
                raise result
        return OK
