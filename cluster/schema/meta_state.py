"""MetaState: what the meta group replicates, as a value with operations.

Storage groups, users, the node registry and the partition table. `apply` is deterministic; what it
changes is returned as key-value puts, which the caller stores together with the applied index:

    sg/<path>       id of the storage group, u64 big-endian
    user/<name>     password hash, text
    node/<node id>  u64 big-endian: the RegisterNodePlan's fields, JSON
    table           the partition table's bytes
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from cluster.errors import ClusterError, StatusCode
from cluster.member.address_book import NodeInfo
from cluster.partition.slot_partition_table import SlotPartitionTable
from cluster.plan.plans import (
    DeleteStorageGroupsPlan,
    MetaPlan,
    RegisterNodePlan,
    SetPartitionTablePlan,
    SetStorageGroupPlan,
    SetUserPlan,
)
from cluster.raft.types import NodeId
from cluster.schema.paths import PathPattern, join_path, split_path, validate_storage_group

_STORAGE_GROUP = b"sg/"
_USER = b"user/"
_NODE = b"node/"
_TABLE = b"table"

Puts = dict[bytes, bytes | None]


class Outcome(NamedTuple):
    """Result of a meta plan.

    Attributes:
        value: SetStorageGroupPlan: the storage group's id; DeleteStorageGroupsPlan: the ids that
            were there; SetPartitionTablePlan: whether the table was taken; else None.
    """

    status: StatusCode
    message: str = ""
    value: Any = None

    @property
    def ok(self) -> bool:
        """Whether the plan took effect or had nothing to do."""
        return self.status == StatusCode.SUCCESS


class _StorageGroup(NamedTuple):
    path: str
    sg_id: int


class MetaState:
    """One thread applies, any thread reads.

    Storage groups are a tree of dictionaries whose leaves are the groups. Walking it takes no lock:
    a single look-up in a dictionary is atomic, and a leaf never becomes an inner node in place.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tree: dict[str, Any] = {}
        self._by_id: dict[int, _StorageGroup] = {}
        self._sorted: list[_StorageGroup] | None = []
        self._users: dict[str, str] = {}
        self._nodes: dict[int, RegisterNodePlan] = {}
        self._table = b""
        self._table_version = 0

    @classmethod
    def load(cls, pairs: Iterable[tuple[bytes, bytes]]) -> MetaState:
        """Return the state that the puts so far amount to; keys of others are passed over.

        Raises:
            ValueError: a record is damaged.
        """
        state = cls()
        for key, value in pairs:
            try:
                state._load(key, value)
            except (KeyError, TypeError, ValueError, ClusterError) as error:
                raise ValueError(f"meta state record {key!r} is damaged: {error}") from error
        return state

    def _load(self, key: bytes, value: bytes) -> None:
        if key.startswith(_STORAGE_GROUP):
            path = key[len(_STORAGE_GROUP) :].decode()
            self._add(_StorageGroup(path, int.from_bytes(value, "big")), split_path(path))
        elif key.startswith(_USER):
            self._users[key[len(_USER) :].decode()] = value.decode()
        elif key.startswith(_NODE):
            plan = RegisterNodePlan(**json.loads(value))
            self._nodes[plan.node_id] = plan
        elif key == _TABLE:
            self._table = value
            self._table_version = SlotPartitionTable.decode(value).version

    # ---- reading ----

    @property
    def partition_table(self) -> bytes:
        """The partition table's byte form; b"" while there is none."""
        return self._table

    def password_hash(self, user: str) -> str | None:
        """Return a user's stored hash, or None when there is no such user."""
        return self._users.get(user)

    def users(self) -> list[str]:
        """Return the users' names, sorted."""
        with self._lock:
            return sorted(self._users)

    def nodes(self) -> list[NodeInfo]:
        """Return the registered nodes, by node id."""
        with self._lock:
            plans = [self._nodes[node_id] for node_id in sorted(self._nodes)]
        return [
            NodeInfo(
                node_id=NodeId(plan.node_id),
                internal_ip=plan.internal_ip,
                meta_port=plan.meta_port,
                data_port=plan.data_port,
                rpc_address=plan.rpc_address,
                rpc_port=plan.rpc_port,
                incarnation=plan.incarnation,
            )
            for plan in plans
        ]

    def node(self, node_id: NodeId) -> RegisterNodePlan | None:
        """Return what a node registered, or None."""
        return self._nodes.get(node_id)

    def storage_group_of(self, nodes: Sequence[str]) -> tuple[str, int] | None:
        """Return (path, id) of the storage group that a path is in or is, or None."""
        level = self._tree
        for node in nodes:
            found = level.get(node)
            if found is None or type(found) is _StorageGroup:
                return found
            level = found
        return None

    def storage_group_by_id(self, sg_id: int) -> tuple[str, int] | None:
        """Return (path, id) of a storage group, or None."""
        return self._by_id.get(sg_id)

    def match_storage_groups(self, pattern: PathPattern) -> list[tuple[str, int]]:
        """Return (path, id) of the storage groups whose own path matches, sorted by path."""
        if pattern.is_literal:
            found = self.storage_group_of(pattern.nodes)
            return [found] if found is not None and found[0] == str(pattern) else []
        with self._lock:
            if self._sorted is None:
                self._sorted = sorted(self._by_id.values())
            groups = self._sorted
        return [group for group in groups if pattern.matches(split_path(group.path))]

    # ---- applying ----

    def apply(self, plan: MetaPlan, index: int) -> tuple[Outcome, Puts]:
        """Apply a plan.

        Args:
            plan: a meta plan.
            index: its log index; the id of a storage group that it creates.

        Returns:
            The outcome, and what to store (None: to delete). A refused plan changes nothing.
        """
        with self._lock:
            match plan:
                case SetStorageGroupPlan():
                    return self._set_storage_group(plan.path, index)
                case DeleteStorageGroupsPlan():
                    return self._delete_storage_groups(plan.sg_ids)
                case SetPartitionTablePlan():
                    return self._set_table(plan.table)
                case RegisterNodePlan():
                    return self._register(plan)
                case SetUserPlan():
                    self._users[plan.name] = plan.password_hash
                    return _done(puts={_USER + plan.name.encode(): plan.password_hash.encode()})
        raise TypeError(f"the meta group can't apply a {type(plan).__name__}")

    def _set_storage_group(self, path: str, index: int) -> tuple[Outcome, Puts]:
        try:
            nodes = validate_storage_group(path)
        except ClusterError as error:
            return Outcome(error.status, error.message), {}
        path = join_path(nodes)
        found = self.storage_group_of(nodes)
        if found is not None:
            if found == (path, index):  # applied again after a crash
                return _done(index)
            return _refused_as_existing(f"{found[0]} has already been set to storage group")
        level: Any = self._tree
        for node in nodes:
            level = level.get(node)
            if level is None:
                break
        if level is not None:
            return _refused_as_existing(
                f"some children of {path} have already been set to storage group"
            )
        self._add(_StorageGroup(path, index), nodes)
        return _done(index, {_STORAGE_GROUP + path.encode(): index.to_bytes(8, "big")})

    def _delete_storage_groups(self, sg_ids: Sequence[int]) -> tuple[Outcome, Puts]:
        removed = []
        puts: Puts = {}
        for sg_id in sg_ids:
            group = self._by_id.pop(sg_id, None)
            if group is None:
                continue
            nodes = split_path(group.path)
            levels: list[dict[str, Any]] = [self._tree]
            for node in nodes[:-1]:
                levels.append(levels[-1][node])
            for level, node in zip(reversed(levels), reversed(nodes), strict=True):
                del level[node]
                if level:
                    break
            removed.append(sg_id)
            puts[_STORAGE_GROUP + group.path.encode()] = None
        self._sorted = None
        return _done(removed, puts)

    def _set_table(self, data: bytes) -> tuple[Outcome, Puts]:
        try:
            version = SlotPartitionTable.decode(data).version
        except ValueError as error:
            return Outcome(StatusCode.ILLEGAL_PARAMETER, str(error)), {}
        if self._table and version <= self._table_version:
            return _done(value=False)
        self._table_version = version
        self._table = data
        return _done(value=True, puts={_TABLE: data})

    def _register(self, plan: RegisterNodePlan) -> tuple[Outcome, Puts]:
        known = self._nodes.get(plan.node_id)
        if known is not None and known.incarnation != plan.incarnation:
            return Outcome(
                StatusCode.ILLEGAL_PARAMETER,
                f"node {plan.node_id} ({plan.internal_ip}:{plan.meta_port}) is registered with "
                "another data folder: it has lost its data or runs from the wrong data_dir",
            ), {}
        if known == plan:
            return _done()
        self._nodes[plan.node_id] = plan
        fields = json.dumps(vars(plan), ensure_ascii=False, sort_keys=True).encode()
        return _done(puts={_NODE + plan.node_id.to_bytes(8, "big"): fields})

    def _add(self, group: _StorageGroup, nodes: Sequence[str]) -> None:
        level = self._tree
        for node in nodes[:-1]:
            level = level.setdefault(node, {})
        level[nodes[-1]] = group
        self._by_id[group.sg_id] = group
        self._sorted = None


def _done(
    value: int | list[int] | bool | None = None,
    puts: Mapping[bytes, bytes | None] | None = None,
) -> tuple[Outcome, Puts]:
    return Outcome(StatusCode.SUCCESS, value=value), dict(puts or {})


def _refused_as_existing(message: str) -> tuple[Outcome, Puts]:
    return Outcome(StatusCode.PATH_ALREADY_EXISTS, message), {}
