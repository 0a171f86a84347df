"""MetaState: what the meta group replicates, as a value with operations.

Storage groups, the node registry and the partition table, and as parts with modules of their own
users and roles (`cluster.auth.auth_state`), schema templates (`templates`), functions, triggers and
continuous queries (`registry`). What changes something is deterministic; it is returned as
key-value puts, which the caller stores together with the applied index:

    sg/<path>       id of the storage group, time to live in ms (0: for ever); both u64 big-endian
    node/<node id>  u64 big-endian: the NodeInfo's fields, JSON
    table           the partition table's bytes
    mode            b"readonly" while changes are refused

and what the parts say of theirs.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from cluster.auth.auth_state import AuthState
from cluster.errors import ClusterError, StatusCode
from cluster.partition.node_info import NodeInfo
from cluster.partition.slot_partition_table import SlotPartitionTable
from cluster.raft.types import NodeId
from cluster.schema.paths import PathPattern, join_path, split_path, validate_storage_group
from cluster.schema.registry import Registry
from cluster.schema.templates import TemplateState

_STORAGE_GROUP = b"sg/"
_NODE = b"node/"
_TABLE = b"table"
_MODE = b"mode"
_READ_ONLY = b"readonly"

Puts = dict[bytes, bytes | None]


class _StorageGroup(NamedTuple):
    path: str
    sg_id: int


class MetaState:
    """One thread applies, any thread reads.

    Storage groups are a tree of dictionaries whose leaves are the groups. Walking it takes no lock:
    a single look-up in a dictionary is atomic, and a leaf never becomes an inner node in place.

    Attributes:
        auth: users and roles.
        templates: schema templates.
        registry: functions, triggers, continuous queries.
    """

    def __init__(self) -> None:
        self.auth = AuthState()
        self.templates = TemplateState()
        self.registry = Registry()
        self._lock = threading.Lock()
        self._tree: dict[str, Any] = {}
        self._by_id: dict[int, _StorageGroup] = {}
        self._sorted: list[_StorageGroup] | None = []
        self._ttls: dict[int, int] = {}
        self._read_only = False
        self._nodes: dict[int, NodeInfo] = {}
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
            if len(value) != 16:
                raise ValueError(f"{len(value)} bytes instead of 16")
            sg_id = int.from_bytes(value[:8], "big")
            self._add(_StorageGroup(path, sg_id), split_path(path))
            self._ttls[sg_id] = int.from_bytes(value[8:], "big")
        elif key.startswith(_NODE):
            node = NodeInfo(**json.loads(value))
            self._nodes[node.node_id] = node
        elif key == _TABLE:
            self._table = value
            self._table_version = SlotPartitionTable.decode(value).version
        elif key == _MODE:
            self._read_only = value == _READ_ONLY
        else:
            any(part.load(key, value) for part in (self.auth, self.templates, self.registry))

    # ---- reading ----

    @property
    def partition_table(self) -> bytes:
        """The partition table's byte form; b"" while there is none."""
        return self._table

    @property
    def read_only(self) -> bool:
        """Whether everything that changes data or schema is refused (SET SYSTEM TO READONLY)."""
        return self._read_only

    def password_hash(self, user: str) -> str | None:
        """Return a user's stored hash, or None when there is no such user."""
        found = self.auth.user(user)
        return found.password_hash if found is not None else None

    def nodes(self) -> list[NodeInfo]:
        """Return the registered nodes, by node id."""
        with self._lock:
            return [self._nodes[node_id] for node_id in sorted(self._nodes)]

    def node(self, node_id: NodeId) -> NodeInfo | None:
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

    def ttl(self, sg_id: int) -> int:
        """Return the time to live of a storage group's points in ms; 0: for ever."""
        return self._ttls.get(sg_id, 0)

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

    # ---- changing: each returns what to store ----

    def set_storage_group(self, path: str, ttl: int, sg_id: int) -> Puts:
        """Create a storage group; nothing to store where it is there with that very id.

        Args:
            path: of the storage group.
            ttl: time to live of its points in ms; 0: for ever.
            sg_id: its id, which no other one had.

        Raises:
            ClusterError: PATH_ALREADY_EXISTS, or the path is illegal.
        """
        nodes = validate_storage_group(path)
        path = join_path(nodes)
        with self._lock:
            found = self.storage_group_of(nodes)
            if found is not None:
                if found == (path, sg_id):  # applied again after a crash
                    return {}
                raise _exists(f"{found[0]} has already been set to storage group")
            level: Any = self._tree
            for node in nodes:
                level = level.get(node)
                if level is None:
                    break
            if level is not None:
                raise _exists(f"some children of {path} have already been set to storage group")
            group = _StorageGroup(path, sg_id)
            self._add(group, nodes)
            self._ttls[sg_id] = ttl
            return self._group_record(group)

    def set_ttl(self, sg_ids: Iterable[int], ttl: int) -> Puts:
        """Set the time to live of storage groups in ms; unknown ids are passed over.

        Raises:
            ClusterError: ILLEGAL_PARAMETER: it is negative.
        """
        if ttl < 0:
            raise ClusterError(StatusCode.ILLEGAL_PARAMETER, f"a TTL of {ttl} is negative")
        puts: Puts = {}
        with self._lock:
            for sg_id in sg_ids:
                group = self._by_id.get(sg_id)
                if group is not None:
                    self._ttls[sg_id] = ttl
                    puts |= self._group_record(group)
        return puts

    def delete_storage_groups(self, sg_ids: Iterable[int]) -> tuple[list[int], Puts]:
        """Forget storage groups, and what is set within them; return the ids that were there."""
        removed = []
        puts: Puts = {}
        with self._lock:
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
                self._ttls.pop(sg_id, None)
                puts[_STORAGE_GROUP + group.path.encode()] = None
                puts |= self.templates.unset_within(group.path)
                puts |= self.registry.drop_triggers_within(group.path)
            self._sorted = None
        return removed, puts

    def set_partition_table(self, data: bytes) -> Puts:
        """Take a partition table; nothing to store where the present one is as new.

        Raises:
            ClusterError: ILLEGAL_PARAMETER: it is damaged.
        """
        try:
            version = SlotPartitionTable.decode(data).version
        except ValueError as error:
            raise ClusterError(StatusCode.ILLEGAL_PARAMETER, str(error)) from error
        with self._lock:
            if self._table and version <= self._table_version:
                return {}
            self._table_version = version
            self._table = data
        return {_TABLE: data}

    def register(self, node: NodeInfo) -> Puts:
        """Take a node's identity and present addresses; nothing to store where they are known.

        Raises:
            ClusterError: ILLEGAL_PARAMETER: its id is another incarnation's.
        """
        with self._lock:
            known = self._nodes.get(node.node_id)
            if known is not None and known.incarnation != node.incarnation:
                raise ClusterError(
                    StatusCode.ILLEGAL_PARAMETER,
                    f"node {node.node_id} ({node.internal_ip}:{node.meta_port}) is registered with "
                    "another data folder: it has lost its data or runs from the wrong data_dir",
                )
            if known == node:
                return {}
            self._nodes[node.node_id] = node
        fields = json.dumps(node._asdict(), ensure_ascii=False, sort_keys=True).encode()
        return {_NODE + node.node_id.to_bytes(8, "big"): fields}

    def set_read_only(self, read_only: bool) -> Puts:
        """Refuse, or accept again, everything that changes data or schema."""
        self._read_only = read_only
        return {_MODE: _READ_ONLY if read_only else None}

    # ---- inside ----

    def _group_record(self, group: _StorageGroup) -> Puts:
        ttl = self._ttls.get(group.sg_id, 0)
        record = group.sg_id.to_bytes(8, "big") + ttl.to_bytes(8, "big")
        return {_STORAGE_GROUP + group.path.encode(): record}

    def _add(self, group: _StorageGroup, nodes: Sequence[str]) -> None:
        level = self._tree
        for node in nodes[:-1]:
            level = level.setdefault(node, {})
        level[nodes[-1]] = group
        self._by_id[group.sg_id] = group
        self._sorted = None


def _exists(message: str) -> ClusterError:
    return ClusterError(StatusCode.PATH_ALREADY_EXISTS, message)
