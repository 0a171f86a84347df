"""Who may run what: the privileges that each statement needs (sql.md 2.4 to 2.6 and 5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from cluster.auth.privileges import ADMINISTRATOR, ROOT_PATH, Privilege
from cluster.coordinator.coordinator import Coordinator
from cluster.errors import ClusterError, StatusCode
from cluster.rpc.deadline import Deadline
from cluster.schema.paths import join_path, split_path
from cluster.sql.statements import auth, data, registry, schema, show, template, utility
from cluster.sql.statements.explain import Explain
from cluster.sql.statements.families import Statement, is_query
from cluster.sql.statements.select import Select

_AT_ROOT = (ROOT_PATH,)


class Need(NamedTuple):
    """A privilege on each of some paths; privilege None: only the administrator may."""

    privilege: Privilege | None
    paths: Sequence[str] = _AT_ROOT


_ROOT_ONLY = (Need(None),)


def _fixed(privilege: Privilege) -> Callable[[Any], Sequence[Need]]:
    return lambda _: (Need(privilege),)


def _on(privilege: Privilege, paths: Callable[[Any], Sequence[str]]) -> Callable[[Any], Any]:
    return lambda statement: (Need(privilege, paths(statement)),)


def _root_only(_: Any) -> Sequence[Need]:  # noqa: ANN401
    return _ROOT_ONLY


def _continuous_query(statement: registry.CreateContinuousQuery) -> Sequence[Need]:
    """It runs by itself later, as nobody: its maker must be able to read and write all it may."""
    nodes = []
    for node in split_path(statement.target):
        if "${" in node:
            break
        nodes.append(node)
    return (
        Need(Privilege.CREATE_CONTINUOUS_QUERY),
        Need(Privilege.READ_TIMESERIES, (statement.pattern,)),
        Need(Privilege.INSERT_TIMESERIES, (join_path(nodes),)),
    )


def _change_privileges(statement: auth.ChangePrivileges) -> Sequence[Need]:
    kind = ("GRANT" if statement.grant else "REVOKE") + (
        "_ROLE_PRIVILEGE" if statement.to_role else "_USER_PRIVILEGE"
    )
    return (Need(Privilege[kind]),)


_NEEDS: dict[type[Any], Callable[[Any], Sequence[Need]]] = {
    schema.SetStorageGroup: _on(Privilege.SET_STORAGE_GROUP, lambda s: (s.path,)),
    schema.DeleteStorageGroup: _on(Privilege.DELETE_STORAGE_GROUP, lambda s: s.patterns),
    schema.CreateTimeseries: _on(Privilege.CREATE_TIMESERIES, lambda s: (s.path,)),
    schema.CreateAlignedTimeseries: _on(
        Privilege.CREATE_TIMESERIES,
        lambda s: [f"{s.device}.{column.measurement}" for column in s.columns],
    ),
    schema.DeleteTimeseries: _on(Privilege.DELETE_TIMESERIES, lambda s: s.patterns),
    schema.AlterTimeseries: _root_only,
    schema.DeletePartition: _root_only,
    schema.SetTtl: _root_only,
    template.CreateTemplate: _fixed(Privilege.UPDATE_TEMPLATE),
    template.AlterTemplate: _fixed(Privilege.UPDATE_TEMPLATE),
    template.DropTemplate: _fixed(Privilege.UPDATE_TEMPLATE),
    template.SetTemplate: _on(Privilege.APPLY_TEMPLATE, lambda s: (s.path,)),
    template.UnsetTemplate: _on(Privilege.APPLY_TEMPLATE, lambda s: (s.path,)),
    template.ActivateTemplate: _on(Privilege.APPLY_TEMPLATE, lambda s: (s.path,)),
    template.DeactivateTemplate: _on(Privilege.DELETE_TIMESERIES, lambda s: s.patterns),
    registry.CreateFunction: _fixed(Privilege.CREATE_FUNCTION),
    registry.DropFunction: _fixed(Privilege.DROP_FUNCTION),
    registry.CreateTrigger: _on(Privilege.CREATE_TRIGGER, lambda s: (s.path,)),
    registry.DropTrigger: _fixed(Privilege.DROP_TRIGGER),
    registry.SwitchTrigger: lambda s: (
        Need(Privilege.START_TRIGGER if s.start else Privilege.STOP_TRIGGER),
    ),
    registry.CreateContinuousQuery: _continuous_query,
    registry.DropContinuousQuery: _fixed(Privilege.DROP_CONTINUOUS_QUERY),
    auth.CreateUser: _fixed(Privilege.CREATE_USER),
    auth.CreateRole: _fixed(Privilege.CREATE_ROLE),
    auth.SetPassword: _fixed(Privilege.MODIFY_PASSWORD),
    auth.DropUser: _fixed(Privilege.DELETE_USER),
    auth.DropRole: _fixed(Privilege.DELETE_ROLE),
    auth.ChangePrivileges: _change_privileges,
    auth.ChangeRoleOfUser: lambda s: (
        Need(Privilege.GRANT_USER_ROLE if s.grant else Privilege.REVOKE_USER_ROLE),
    ),
    auth.SetWatermark: _root_only,
    data.Insert: _on(
        Privilege.INSERT_TIMESERIES, lambda s: [f"{s.device}.{name}" for name in s.measurements]
    ),
    data.DeleteData: _on(Privilege.DELETE_TIMESERIES, lambda s: s.patterns),
    show.ListUsers: lambda s: (
        Need(Privilege.LIST_USER if s.role is None else Privilege.LIST_ROLE),
    ),
    show.ListRoles: lambda s: (
        Need(Privilege.LIST_ROLE if s.user is None else Privilege.LIST_USER),
    ),
    show.ListUserPrivileges: _fixed(Privilege.LIST_USER),
    show.ListRolePrivileges: _fixed(Privilege.LIST_ROLE),
    Select: lambda _: (),  # each series that it reads is checked when it is found
    Explain: lambda _: (),
    utility.Flush: _root_only,
    utility.Merge: _root_only,
    utility.ClearCache: _root_only,
    utility.SetSystemMode: _root_only,
    utility.KillQuery: _root_only,
    utility.LoadConfiguration: _root_only,
    utility.ShowQueryResource: _root_only,
    utility.Unsupported: _root_only,
}

_WHILE_READ_ONLY = (
    utility.SetSystemMode,
    utility.KillQuery,
    utility.ClearCache,
    utility.ShowQueryResource,
    utility.LoadConfiguration,
)


def needs_of(statement: Statement) -> Sequence[Need]:
    """Return what a user must hold to run a statement."""
    found = _NEEDS.get(type(statement))
    if found is not None:
        return found(statement)
    if isinstance(statement, show.ShowStatement):
        return (Need(Privilege.READ_TIMESERIES),)
    return _ROOT_ONLY  # a new statement is nobody else's until it is in the table


class Authorizer:
    """Checks users against the replicated grants; thread-safe."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    def check_statement(self, user: str, statement: Statement, deadline: Deadline) -> None:
        """Refuse a statement that its user may not run, and changes while they are switched off.

        Raises:
            ClusterError: NO_PERMISSION or READ_ONLY_SYSTEM.
        """
        writes = not is_query(statement) or (
            isinstance(statement, Select) and statement.into is not None
        )
        if writes and not isinstance(statement, _WHILE_READ_ONLY):
            self.check_writable()
        if user == ADMINISTRATOR:
            return
        if isinstance(statement, auth.SetPassword) and statement.name == user:
            return
        for need in needs_of(statement):
            if need.privilege is None:
                raise ClusterError(
                    StatusCode.NO_PERMISSION,
                    "No permissions for this operation: it is for the user root only",
                )
            paths = need.paths
            if isinstance(statement, (registry.DropTrigger, registry.SwitchTrigger)):
                trigger = self._coordinator.meta_state.registry.trigger(statement.name)
                paths = (trigger.path,) if trigger is not None else paths
            self.check(user, need.privilege, paths, deadline)

    def check(
        self, user: str, privilege: Privilege, paths: Sequence[str], deadline: Deadline
    ) -> None:
        """Refuse unless the user holds a privilege on every path.

        What this node knows may be out of date; before a user is refused, it is made as new as any
        acknowledged grant.

        Raises:
            ClusterError: NO_PERMISSION.
        """
        if self.is_known_to_hold(user, privilege, paths):
            return
        self._coordinator.sync_meta(deadline)
        if not self._holds(user, privilege, paths):
            raise ClusterError(
                StatusCode.NO_PERMISSION,
                f"No permissions for this operation, please add privilege {privilege.name}",
            )

    def is_known_to_hold(self, user: str, privilege: Privilege, paths: Sequence[str]) -> bool:
        """Whether this node knows that a user holds a privilege on every path; asks nobody."""
        return user == ADMINISTRATOR or self._holds(user, privilege, paths)

    def check_writable(self) -> None:
        """Refuse while the system is set to read-only.

        Raises:
            ClusterError: READ_ONLY_SYSTEM.
        """
        if self._coordinator.meta_state.read_only:
            raise ClusterError(
                StatusCode.READ_ONLY_SYSTEM,
                "Database is read-only, and does not accept non-query operation now",
            )

    def reader(self, user: str, deadline: Deadline) -> Callable[[str], None] | None:
        """Return the check of each path that a user's query reads, None when it may read all."""
        if user == ADMINISTRATOR:
            return None
        return lambda path: self.check(user, Privilege.READ_TIMESERIES, (path,), deadline)

    def _holds(self, user: str, privilege: Privilege, paths: Sequence[str]) -> bool:
        granted = self._coordinator.meta_state.auth
        return all(granted.is_allowed(user, privilege, path) for path in paths)
