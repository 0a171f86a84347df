"""MetaState: what the meta group replicates, as a value with operations.

Storage groups, the node registry and the partition table, and as parts with modules of their own
users and roles (`cluster.auth.auth_state`), schema templates (`templates`), functions, triggers and
continuous queries (`registry`). `apply` is deterministic; what it changes is returned as key-value
puts, which the caller stores together with the applied index:

    sg/<path>       id of the storage group, time to live in ms (0: for ever); both u64 big-endian
    node/<node id>  u64 big-endian: the RegisterNodePlan's fields, JSON
    table           the partition table's bytes
    mode            b"readonly" while changes are refused

and what the parts say of theirs.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from cluster.auth.auth_state import AuthState
from cluster.errors import ClusterError, StatusCode
from cluster.partition.node_info import NodeInfo
from cluster.partition.slot_partition_table import SlotPartitionTable
from cluster.plan.plans import (
    AuthorAction,
    AuthorPlan,
    ContinuousQueryPlan,
    CreateContinuousQueryPlan,
    DeleteStorageGroupsPlan,
    FunctionPlan,
    MetaPlan,
    RegisterNodePlan,
    RegistryAction,
    SetPartitionTablePlan,
    SetStorageGroupPlan,
    SetTtlPlan,
    SetUserPlan,
    SystemModePlan,
    TemplateAction,
    TemplatePlan,
    TriggerPlan,
)
from cluster.raft.types import NodeId
from cluster.schema.paths import PathPattern, join_path, split_path, validate_storage_group
from cluster.schema.registry import Registry, Trigger
from cluster.schema.templates import TemplateState

_STORAGE_GROUP = b"sg/"
_NODE = b"node/"
_TABLE = b"table"
_MODE = b"mode"
_READ_ONLY = b"readonly"

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
        self._nodes: dict[int, RegisterNodePlan] = {}
        self._table = b""
        self._table_version = 0
        self._handlers: dict[type[Any], Callable[[Any, int], tuple[Outcome, Puts]]] = {
            SetStorageGroupPlan: self._set_storage_group,
            DeleteStorageGroupsPlan: lambda plan, _: self._delete_storage_groups(plan.sg_ids),
            SetTtlPlan: lambda plan, _: self._set_ttl(plan),
            SetPartitionTablePlan: lambda plan, _: self._set_table(plan.table),
            RegisterNodePlan: lambda plan, _: self._register(plan),
            SetUserPlan: lambda plan, _: _done(
                puts=self.auth.put_user(plan.name, plan.password_hash)
            ),
            AuthorPlan: lambda plan, _: _done(puts=_change_auth(self.auth, plan)),
            TemplatePlan: lambda plan, _: _done(puts=_change_templates(self.templates, plan)),
            FunctionPlan: lambda plan, _: _done(puts=_change_functions(self.registry, plan)),
            TriggerPlan: lambda plan, _: _done(puts=_change_triggers(self.registry, plan)),
            CreateContinuousQueryPlan: lambda plan, _: _done(
                puts=self.registry.create_query(plan.query)
            ),
            ContinuousQueryPlan: lambda plan, _: _done(puts=_change_queries(self.registry, plan)),
            SystemModePlan: lambda plan, _: self._set_mode(plan),
        }

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
            plan = RegisterNodePlan(**json.loads(value))
            self._nodes[plan.node_id] = plan
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

    # ---- applying ----

    def apply(self, plan: MetaPlan, index: int) -> tuple[Outcome, Puts]:
        """Apply a plan.

        Args:
            plan: a meta plan.
            index: its log index; the id of a storage group that it creates.

        Returns:
            The outcome, and what to store (None: to delete). A refused plan changes nothing.
        """
        handler = self._handlers.get(type(plan))
        if handler is None:
            raise TypeError(f"the meta group can't apply a {type(plan).__name__}")
        with self._lock:
            try:
                return handler(plan, index)
            except ClusterError as refusal:
                return Outcome(refusal.status, refusal.message), {}

    def _set_storage_group(self, plan: SetStorageGroupPlan, index: int) -> tuple[Outcome, Puts]:
        nodes = validate_storage_group(plan.path)
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
        group = _StorageGroup(path, index)
        self._add(group, nodes)
        self._ttls[index] = plan.ttl
        return _done(index, self._group_record(group))

    def _group_record(self, group: _StorageGroup) -> Puts:
        ttl = self._ttls.get(group.sg_id, 0)
        record = group.sg_id.to_bytes(8, "big") + ttl.to_bytes(8, "big")
        return {_STORAGE_GROUP + group.path.encode(): record}

    def _set_ttl(self, plan: SetTtlPlan) -> tuple[Outcome, Puts]:
        if plan.ttl < 0:
            return Outcome(StatusCode.ILLEGAL_PARAMETER, f"a TTL of {plan.ttl} is negative"), {}
        puts: Puts = {}
        for sg_id in plan.sg_ids:
            group = self._by_id.get(sg_id)
            if group is not None:
                self._ttls[sg_id] = plan.ttl
                puts |= self._group_record(group)
        return _done(puts=puts)

    def _set_mode(self, plan: SystemModePlan) -> tuple[Outcome, Puts]:
        self._read_only = plan.read_only
        return _done(puts={_MODE: _READ_ONLY if plan.read_only else None})

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
            self._ttls.pop(sg_id, None)
            puts[_STORAGE_GROUP + group.path.encode()] = None
            puts |= self.templates.unset_within(group.path)
            puts |= self.registry.drop_triggers_within(group.path)
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


def _change_auth(auth: AuthState, plan: AuthorPlan) -> Puts:
    match plan.action:
        case AuthorAction.CREATE_USER:
            return auth.create_user(plan.user, plan.password_hash)
        case AuthorAction.CREATE_ROLE:
            return auth.create_role(plan.role)
        case AuthorAction.SET_PASSWORD:
            return auth.set_password(plan.user, plan.password_hash)
        case AuthorAction.DROP_USER:
            return auth.drop_user(plan.user)
        case AuthorAction.DROP_ROLE:
            return auth.drop_role(plan.role)
        case AuthorAction.GRANT_USER:
            return auth.grant_to_user(plan.user, plan.privileges, plan.paths)
        case AuthorAction.GRANT_ROLE:
            return auth.grant_to_role(plan.role, plan.privileges, plan.paths)
        case AuthorAction.GRANT_ROLE_TO_USER:
            return auth.grant_role(plan.role, plan.user)
        case AuthorAction.REVOKE_USER:
            return auth.revoke_from_user(plan.user, plan.privileges, plan.paths)
        case AuthorAction.REVOKE_ROLE:
            return auth.revoke_from_role(plan.role, plan.privileges, plan.paths)
        case AuthorAction.REVOKE_ROLE_FROM_USER:
            return auth.revoke_role(plan.role, plan.user)


def _change_templates(templates: TemplateState, plan: TemplatePlan) -> Puts:
    match plan.action:
        case TemplateAction.CREATE:
            return templates.create(plan.name, plan.aligned, plan.series)
        case TemplateAction.DROP:
            return templates.drop(plan.name)
        case TemplateAction.APPEND:
            return templates.append(plan.name, plan.series)
        case TemplateAction.PRUNE:
            return templates.prune(plan.name, plan.path)
        case TemplateAction.SET:
            return templates.set(plan.name, plan.path)
        case TemplateAction.UNSET:
            return templates.unset(plan.name, plan.path)


def _change_functions(registry: Registry, plan: FunctionPlan) -> Puts:
    match plan.action:
        case RegistryAction.CREATE:
            return registry.create_function(plan.name, plan.class_name)
        case RegistryAction.DROP:
            return registry.drop_function(plan.name)
    raise _no_such_action(plan)


def _change_triggers(registry: Registry, plan: TriggerPlan) -> Puts:
    match plan.action:
        case RegistryAction.CREATE:
            return registry.create_trigger(
                Trigger(plan.name, plan.event, plan.path, plan.class_name, plan.attributes)
            )
        case RegistryAction.DROP:
            return registry.drop_trigger(plan.name)
        case RegistryAction.START | RegistryAction.STOP:
            return registry.switch_trigger(plan.name, started=plan.action is RegistryAction.START)
    raise _no_such_action(plan)


def _change_queries(registry: Registry, plan: ContinuousQueryPlan) -> Puts:
    match plan.action:
        case RegistryAction.DROP:
            return registry.drop_query(plan.name)
        case RegistryAction.CLAIM:
            return registry.claim_run(plan.name, plan.due, plan.next_run)
    raise _no_such_action(plan)


def _no_such_action(plan: FunctionPlan | TriggerPlan | ContinuousQueryPlan) -> ClusterError:
    return ClusterError(
        StatusCode.ILLEGAL_PARAMETER, f"{plan.action.name} means nothing in {type(plan).__name__}"
    )
