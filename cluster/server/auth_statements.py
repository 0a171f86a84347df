"""Runs statements about users, roles and privileges."""

from __future__ import annotations

from collections.abc import Sequence

from cluster.auth.auth_state import auth_error, check_name, check_password
from cluster.auth.privileges import ADMINISTRATOR, Privilege, privilege_by_name
from cluster.auth.users import hash_password
from cluster.coordinator.coordinator import Coordinator
from cluster.errors import OK, ClusterError, Status, StatusCode
from cluster.plan.plans import AuthorAction, AuthorPlan
from cluster.rpc.deadline import Deadline
from cluster.schema.paths import is_wildcard, join_path, split_path
from cluster.sql.statements import auth

_MODERN = {
    "READ_DATA": ("READ_TIMESERIES",),
    "READ_SCHEMA": ("READ_TIMESERIES",),
    "READ": ("READ_TIMESERIES",),
    "WRITE_DATA": ("INSERT_TIMESERIES", "DELETE_TIMESERIES"),
    "WRITE_SCHEMA": ("CREATE_TIMESERIES", "DELETE_TIMESERIES", "APPLY_TEMPLATE"),
    "WRITE": (
        "INSERT_TIMESERIES",
        "CREATE_TIMESERIES",
        "DELETE_TIMESERIES",
        "APPLY_TEMPLATE",
    ),
    "MANAGE_DATABASE": ("SET_STORAGE_GROUP", "DELETE_STORAGE_GROUP"),
    "MANAGE_USER": (
        "CREATE_USER",
        "DELETE_USER",
        "MODIFY_PASSWORD",
        "LIST_USER",
        "GRANT_USER_PRIVILEGE",
        "REVOKE_USER_PRIVILEGE",
        "GRANT_USER_ROLE",
        "REVOKE_USER_ROLE",
    ),
    "MANAGE_ROLE": (
        "CREATE_ROLE",
        "DELETE_ROLE",
        "LIST_ROLE",
        "GRANT_ROLE_PRIVILEGE",
        "REVOKE_ROLE_PRIVILEGE",
    ),
    "USE_TRIGGER": ("CREATE_TRIGGER", "DROP_TRIGGER", "START_TRIGGER", "STOP_TRIGGER"),
    "USE_UDF": ("CREATE_FUNCTION", "DROP_FUNCTION"),
    "USE_CQ": ("CREATE_CONTINUOUS_QUERY", "DROP_CONTINUOUS_QUERY"),
    "EXTEND_TEMPLATE": ("UPDATE_TEMPLATE",),
}
"""Privileges of 1.3 and later → those of 0.13 that they stand for (sql.md 7.7)."""


def run_auth_statement(
    statement: auth.AuthStatement, coordinator: Coordinator, deadline: Deadline
) -> Status:
    """Run one."""
    match statement:
        case auth.CreateUser():
            check_name(statement.name, "user")
            check_password(statement.password)
            hashed = hash_password(statement.password)
            plan = AuthorPlan(AuthorAction.CREATE_USER, statement.name, password_hash=hashed)
        case auth.CreateRole():
            check_name(statement.name, "role")
            plan = AuthorPlan(AuthorAction.CREATE_ROLE, role=statement.name)
        case auth.SetPassword():
            check_password(statement.password)
            hashed = hash_password(statement.password)
            plan = AuthorPlan(AuthorAction.SET_PASSWORD, statement.name, password_hash=hashed)
        case auth.DropUser():
            plan = AuthorPlan(AuthorAction.DROP_USER, statement.name)
        case auth.DropRole():
            plan = AuthorPlan(AuthorAction.DROP_ROLE, role=statement.name)
        case auth.ChangeRoleOfUser():
            if statement.user == ADMINISTRATOR:
                raise auth_error("Invalid operation, administrator already has all privileges")
            action = (
                AuthorAction.GRANT_ROLE_TO_USER
                if statement.grant
                else AuthorAction.REVOKE_ROLE_FROM_USER
            )
            plan = AuthorPlan(action, statement.user, statement.role)
        case auth.ChangePrivileges():
            return _change_privileges(statement, coordinator, deadline)
        case auth.SetWatermark():
            raise ClusterError(
                StatusCode.UNSUPPORTED_OPERATION, "watermarks are not supported by this server"
            )
    return coordinator.change_meta(plan, deadline)


def _change_privileges(
    statement: auth.ChangePrivileges, coordinator: Coordinator, deadline: Deadline
) -> Status:
    numbers: dict[int, None] = {}
    modern = False
    for name in statement.privileges:
        privilege = privilege_by_name(name)
        if privilege is not None:
            numbers[privilege] = None
            continue
        if name not in _MODERN:
            raise auth_error(f"there is no privilege {name}")
        modern = True
        numbers.update(dict.fromkeys(int(Privilege[word]) for word in _MODERN[name]))
    paths = [_plain_path(path) for path in statement.paths]
    privileges: Sequence[int] = list(numbers)
    if modern:
        # several words of 1.x stand for one privilege of ours: what is so already is no error
        coordinator.sync_meta(deadline)
        privileges = [
            number
            for number in privileges
            if any(
                _held(coordinator, statement, number, path) is not statement.grant for path in paths
            )
        ]
        if not privileges:
            return OK
    if statement.to_role:
        action = AuthorAction.GRANT_ROLE if statement.grant else AuthorAction.REVOKE_ROLE
        plan = AuthorPlan(
            action, role=statement.name, privileges=tuple(privileges), paths=tuple(paths)
        )
    else:
        action = AuthorAction.GRANT_USER if statement.grant else AuthorAction.REVOKE_USER
        plan = AuthorPlan(action, statement.name, privileges=tuple(privileges), paths=tuple(paths))
    return coordinator.change_meta(plan, deadline)


def _held(
    coordinator: Coordinator, statement: auth.ChangePrivileges, number: int, path: str
) -> bool:
    known = coordinator.meta_state.auth
    holder = known.role(statement.name) if statement.to_role else known.user(statement.name)
    return holder is not None and number in holder.privileges.get(path, ())


def _plain_path(path: str) -> str:
    """Return the path that a grant is kept at: without the `.**` of 1.x, which is meant anyway."""
    nodes = split_path(path)
    if nodes[-1] == "**":
        nodes = nodes[:-1]
    if any(is_wildcard(node) for node in nodes):
        raise auth_error(f"wildcards are not supported in the path of a privilege: {path}")
    return join_path(nodes)
