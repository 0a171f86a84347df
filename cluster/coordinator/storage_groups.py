"""Finds, and where configured creates, the storage group of a path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cluster.coordinator.schema_cache import StorageGroupRef
from cluster.errors import ClusterError, StatusCode
from cluster.plan.plans import SetStorageGroupPlan
from cluster.rpc.deadline import Deadline
from cluster.schema.meta_state import MetaState
from cluster.schema.paths import PathPattern, join_path, split_path
from iotdb_engine.types import T_MIN


class StorageGroups:
    """The coordinator's view of the replicated storage groups; thread-safe.

    Args:
        execute_meta: applies a meta plan cluster-wide, visible here when it returns.
        sync_meta: makes the local meta state as new as any acknowledged change.
        level: number of nodes after root in an automatically created storage group's path.
        units_per_ms: of timestamps.
    """

    def __init__(
        self,
        *,
        meta_state: Callable[[], MetaState],
        execute_meta: Callable[[SetStorageGroupPlan, Deadline], Any],
        sync_meta: Callable[[Deadline], None],
        auto_create: bool,
        level: int,
        units_per_ms: int,
    ) -> None:
        self.meta_state = meta_state
        self._execute_meta = execute_meta
        self._sync_meta = sync_meta
        self._auto_create = auto_create
        self._level = level
        self._units_per_ms = units_per_ms

    def of_device(self, device: str, deadline: Deadline) -> StorageGroupRef:
        """Return the storage group that a device's series belong to, creating it if need be.

        Raises:
            ClusterError: 322 when there is none and none may be created; 315 for a bad path.
        """
        nodes = split_path(device)
        found = self._find(nodes)
        if found is None:
            # it may have been created through another node a moment ago
            self._sync_meta(deadline)
            found = self._find(nodes)
        if found is not None:
            return found
        if not self._auto_create:
            raise ClusterError(
                StatusCode.STORAGE_GROUP_NOT_EXIST,
                f"Storage group is not set for current seriesPath: [{device}]",
            )
        if len(nodes) <= self._level:
            raise ClusterError(
                StatusCode.PATH_ILLEGAL,
                f"{device} is not a legal path, because it has no node for a device: storage "
                f"groups are created automatically at level {self._level}",
            )
        outcome = self._execute_meta(
            SetStorageGroupPlan(join_path(nodes[: self._level + 1])), deadline
        )
        found = self._find(nodes)
        if found is None:
            raise ClusterError(outcome.status, outcome.message)
        return found

    def inside(self, path: str) -> StorageGroupRef | None:
        """Return the storage group that a path is in or is, as far as this node knows, or None."""
        return self._find(split_path(path))

    def matching(self, pattern: PathPattern) -> list[StorageGroupRef]:
        """Return the storage groups whose own path matches, sorted by path."""
        return [
            StorageGroupRef(path, sg_id)
            for path, sg_id in self.meta_state().match_storage_groups(pattern)
        ]

    def reachable_by(self, pattern: PathPattern) -> list[StorageGroupRef]:
        """Return the storage groups that may own a path that matches, sorted by path."""
        around = self._find(pattern.literal_prefix)
        if around is not None:
            return [around]  # whatever matches begins with that, and groups are not nested
        return [
            StorageGroupRef(path, sg_id)
            for path, sg_id in self.meta_state().match_storage_groups(PathPattern(("root", "**")))
            if pattern.could_match_below(split_path(path))
        ]

    def first_alive(self, path: str, now: int) -> int:
        """Return the earliest time of a storage group's points that is not past its time to live.

        Args:
            path: of a storage group or anything in it.
            now: clock of the one who decides, in units of the precision: one value for a whole
                query, so that its parts agree whatever clocks the other nodes have.
        """
        found = self.meta_state().storage_group_of(split_path(path))
        return T_MIN if found is None else self.first_alive_in(found[1], now)

    def first_alive_in(self, sg_id: int, now: int) -> int:
        """Return what `first_alive` does, for a storage group by its id."""
        ttl_ms = self.meta_state().ttl(sg_id)
        return max(T_MIN, now - ttl_ms * self._units_per_ms) if ttl_ms else T_MIN

    def _find(self, nodes: tuple[str, ...]) -> StorageGroupRef | None:
        found = self.meta_state().storage_group_of(nodes)
        return StorageGroupRef(*found) if found is not None else None
