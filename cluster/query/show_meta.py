"""SHOW and LIST of templates, users, roles and what is registered by name."""

from __future__ import annotations

from collections.abc import Iterable

from cluster.auth.auth_state import AuthState, auth_error
from cluster.auth.privileges import (
    ADMINISTRATOR,
    PathPrivileges,
    Privilege,
    covers,
    describe,
)
from cluster.query.aggregates import MODERN_AGGREGATES
from cluster.query.backend import QueryBackend
from cluster.query.context import QueryContext
from cluster.query.function_names import BUILT_IN, NATIVE
from cluster.query.result import Cell, ResultSet, table
from cluster.query.row_aggregates import ROW_AGGREGATES
from cluster.query.show_node import show_node
from cluster.schema.encodings import compressor_name, encoding_name
from cluster.schema.paths import PathPattern, split_path
from cluster.schema.templates import activated_on, undefined
from cluster.sql.statements.families import Statement
from cluster.sql.statements.show import (
    ListRolePrivileges,
    ListRoles,
    ListUserPrivileges,
    ListUsers,
    ShowContinuousQueries,
    ShowFunctions,
    ShowTemplateNodes,
    ShowTemplatePaths,
    ShowTemplates,
    ShowTriggers,
)
from iotdb_engine.types import DataType

_TEXT = DataType.TEXT
_INT64 = DataType.INT64
_EVERYTHING = PathPattern(("root", "**"))


def show_meta(statement: Statement, backend: QueryBackend, context: QueryContext) -> ResultSet:
    """Answer a statement about the meta state, or pass it on to `show_node`."""
    modern = context.modern
    match statement:
        case ShowTemplates():
            names = backend.meta().templates.names()
            return _texts(["TemplateName" if modern else "template name"], [[n] for n in names])
        case ShowTemplateNodes():
            return _template_nodes(statement, backend, modern=modern)
        case ShowTemplatePaths():
            return _template_paths(statement, backend, context)
        case ShowFunctions():
            return _functions(backend, modern=modern)
        case ShowTriggers():
            return _triggers(statement, backend, context)
        case ShowContinuousQueries():
            return _continuous_queries(backend, modern=modern)
        case ListUsers():
            return _users(statement, backend.meta().auth, modern=modern)
        case ListRoles():
            return _roles(statement, backend.meta().auth, modern=modern)
        case ListUserPrivileges():
            return _user_privileges(statement, backend.meta().auth, modern=modern)
        case ListRolePrivileges():
            return _role_privileges(statement, backend.meta().auth, modern=modern)
        case _:
            return show_node(statement, backend, context)


def _texts(header: Iterable[str], rows: list[list[Cell]]) -> ResultSet:
    return table([(name, _TEXT) for name in header], rows)


# ---- templates ----


def _template_nodes(
    statement: ShowTemplateNodes, backend: QueryBackend, *, modern: bool
) -> ResultSet:
    template = backend.meta().templates.template(statement.name)
    if template is None:
        raise undefined(statement.name)
    header = ["child nodes", "dataType", "encoding", "compression"]
    if modern:
        header = ["ChildNodes", "DataType", "Encoding", "Compression"]
    return _texts(
        header,
        [
            [
                item.path,
                item.spec.data_type.name,
                encoding_name(item.spec.encoding),
                compressor_name(item.spec.compressor),
            ]
            for item in template.series
        ],
    )


def _template_paths(
    statement: ShowTemplatePaths, backend: QueryBackend, context: QueryContext
) -> ResultSet:
    templates = backend.meta().templates
    if statement.name != "*" and templates.template(statement.name) is None:
        raise undefined(statement.name)
    if statement.using:
        found = {
            activated_on(device.path, templates.template(device.template))
            for device in backend.match_devices(_EVERYTHING)
            if device.template and statement.name in ("*", device.template)
        }
    else:
        found = set(templates.paths_of(statement.name))
    if statement.pattern is not None:
        pattern = PathPattern.parse(statement.pattern, prefix=context.prefix_dialect)
        found = {path for path in found if pattern.matches(split_path(path))}
    header = "Paths" if context.modern else "child paths"
    return _texts([header], [[path] for path in sorted(found)])


# ---- registered by name ----


def _functions(backend: QueryBackend, *, modern: bool) -> ResultSet:
    rows: list[list[Cell]] = [[name, "native", ""] for name in NATIVE]
    rows += [[name, "built-in UDTF", class_name] for name, class_name in BUILT_IN.items()]
    rows += [
        [name, "external UDTF", class_name]
        for name, class_name in backend.meta().registry.functions()
    ]
    if modern:
        rows += [[name.upper(), "native", ""] for name in (*MODERN_AGGREGATES, *ROW_AGGREGATES)]
    rows.sort(key=lambda row: str(row[0]).lower())
    if modern:
        header = ["FunctionName", "FunctionType", "ClassName(UDF)", "State"]
        return _texts(header, [[*row, "AVAILABLE"] for row in rows])
    return _texts(["function name", "function type", "class name (UDF)"], rows)


def _triggers(statement: ShowTriggers, backend: QueryBackend, context: QueryContext) -> ResultSet:
    pattern = PathPattern.parse(statement.pattern, prefix=context.prefix_dialect)
    found = [
        trigger
        for trigger in backend.meta().registry.triggers()
        if pattern.matches(split_path(trigger.path))
    ]
    if context.modern:
        header = [
            "TriggerName",
            "Event",
            "Type",
            "State",
            "PathPattern",
            "ClassName",
            "NodeID",
        ]
        return _texts(
            header,
            [
                [
                    trigger.name,
                    trigger.event.upper().replace(" ", "_"),
                    "STATELESS",
                    "ACTIVE" if trigger.started else "INACTIVE",
                    trigger.path,
                    trigger.class_name,
                    "ALL",
                ]
                for trigger in found
            ],
        )
    header = ["trigger name", "status", "event", "path", "class name", "attributes"]
    return _texts(
        header,
        [
            [
                trigger.name,
                "started" if trigger.started else "stopped",
                trigger.event,
                trigger.path,
                trigger.class_name,
                "{" + ", ".join(f"{key}={value}" for key, value in trigger.attributes) + "}",
            ]
            for trigger in found
        ],
    )


def _continuous_queries(backend: QueryBackend, *, modern: bool) -> ResultSet:
    queries = backend.meta().registry.continuous_queries()
    if modern:
        return _texts(
            ["CQId", "Query", "State"],
            [[query.name, query.query, "ACTIVE"] for query in queries],
        )
    return table(
        [
            ("cq name", _TEXT),
            ("every interval", _INT64),
            ("for interval", _INT64),
            ("boundary", _INT64),
            ("query sql", _TEXT),
            ("target path", _TEXT),
        ],
        [
            [query.name, query.every, query.span, query.boundary, query.query, query.target]
            for query in queries
        ],
    )


# ---- users and roles ----


def _users(statement: ListUsers, auth: AuthState, *, modern: bool) -> ResultSet:
    names = auth.users()
    if statement.role is not None:
        if auth.role(statement.role) is None:
            raise auth_error(f"No such role : {statement.role}")
        names = auth.users_of(statement.role)
    return _texts(["User" if modern else "user"], [[name] for name in names])


def _roles(statement: ListRoles, auth: AuthState, *, modern: bool) -> ResultSet:
    names = auth.roles()
    if statement.user is not None:
        user = auth.user(statement.user)
        if user is None:
            raise auth_error(f"No such user : {statement.user}")
        names = list(user.roles)
    return _texts(["Role" if modern else "role"], [[name] for name in names])


def _held(privileges: PathPrivileges, path: str | None) -> list[tuple[str, frozenset[int]]]:
    """Return grants in the order of granting; with a path only those that hold there."""
    return [
        (granted_on, numbers)
        for granted_on, numbers in privileges.items()
        if path is None or covers(granted_on, path)
    ]


def _user_privileges(statement: ListUserPrivileges, auth: AuthState, *, modern: bool) -> ResultSet:
    user = auth.user(statement.user)
    if user is None:
        raise auth_error(f"No such user : {statement.user}")
    if modern or statement.modern:
        grants: list[tuple[str, PathPrivileges]] = [("", user.privileges)]
        grants += [(name, role.privileges) for name in user.roles if (role := auth.role(name))]
        if statement.user == ADMINISTRATOR:
            grants = [("", {"root": frozenset(map(int, Privilege))})]
        return _modern_privileges(grants)
    if statement.user == ADMINISTRATOR:
        return _texts(["privilege"], [[privilege.name] for privilege in Privilege])
    rows: list[list[Cell]] = [
        ["", describe(path, numbers)] for path, numbers in _held(user.privileges, statement.path)
    ]
    for name in user.roles:
        role = auth.role(name)
        if role is not None:
            rows += [
                [name, describe(path, numbers)]
                for path, numbers in _held(role.privileges, statement.path)
            ]
    return _texts(["role", "privilege"], rows)


def _role_privileges(statement: ListRolePrivileges, auth: AuthState, *, modern: bool) -> ResultSet:
    role = auth.role(statement.role)
    if role is None:
        raise auth_error(f"No such role : {statement.role}")
    if modern or statement.modern:
        return _modern_privileges([(statement.role, role.privileges)])
    held = _held(role.privileges, statement.path)
    return _texts(["privilege"], [[describe(path, numbers)] for path, numbers in held])


def _modern_privileges(grants: list[tuple[str, PathPrivileges]]) -> ResultSet:
    """Rows of 1.3 and later: one for each privilege and path."""
    rows: list[list[Cell]] = [
        [role, f"{path}.**" if path == "root" else path, Privilege(number).name, 0]
        for role, privileges in grants
        for path, numbers in privileges.items()
        for number in sorted(numbers)
    ]
    header = [(name, _TEXT) for name in ("Role", "Path", "Privileges")]
    return table([*header, ("GrantOption", DataType.BOOLEAN)], rows)
