"""The 31 privileges of 0.13 and what they cover (sql.md 5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum

ROOT_PATH = "root"
ADMINISTRATOR = "root"
"""The user that may do everything; can't be dropped, granted to or revoked from."""


class Privilege(IntEnum):
    """Numbers of 0.13 `PrivilegeType`; frozen, they are in the log and in the meta state."""

    SET_STORAGE_GROUP = 0
    INSERT_TIMESERIES = 1
    UPDATE_TIMESERIES = 2
    READ_TIMESERIES = 3
    CREATE_TIMESERIES = 4
    DELETE_TIMESERIES = 5
    CREATE_USER = 6
    DELETE_USER = 7
    MODIFY_PASSWORD = 8
    LIST_USER = 9
    GRANT_USER_PRIVILEGE = 10
    REVOKE_USER_PRIVILEGE = 11
    GRANT_USER_ROLE = 12
    REVOKE_USER_ROLE = 13
    CREATE_ROLE = 14
    DELETE_ROLE = 15
    LIST_ROLE = 16
    GRANT_ROLE_PRIVILEGE = 17
    REVOKE_ROLE_PRIVILEGE = 18
    CREATE_FUNCTION = 19
    DROP_FUNCTION = 20
    CREATE_TRIGGER = 21
    DROP_TRIGGER = 22
    START_TRIGGER = 23
    STOP_TRIGGER = 24
    CREATE_CONTINUOUS_QUERY = 25
    DROP_CONTINUOUS_QUERY = 26
    ALL = 27
    DELETE_STORAGE_GROUP = 28
    UPDATE_TEMPLATE = 29
    APPLY_TEMPLATE = 30


PATH_SCOPED = frozenset(
    {
        Privilege.SET_STORAGE_GROUP,
        Privilege.INSERT_TIMESERIES,
        Privilege.UPDATE_TIMESERIES,
        Privilege.READ_TIMESERIES,
        Privilege.CREATE_TIMESERIES,
        Privilege.DELETE_TIMESERIES,
        Privilege.CREATE_TRIGGER,
        Privilege.DROP_TRIGGER,
        Privilege.START_TRIGGER,
        Privilege.STOP_TRIGGER,
        Privilege.DELETE_STORAGE_GROUP,
        Privilege.APPLY_TEMPLATE,
        Privilege.ALL,
    }
)
"""Privileges that hold on a path and below it; the others are kept at `root`."""

_BY_NAME = {privilege.name: privilege for privilege in Privilege}

PathPrivileges = Mapping[str, frozenset[int]]
"""Privilege numbers by path, in the order in which paths were first granted."""


def privilege_by_name(name: str) -> Privilege | None:
    """Return a privilege by its name in any case, or None."""
    return _BY_NAME.get(name.upper())


def expanded(privileges: Iterable[int]) -> frozenset[int]:
    """Return the numbers that a grant or a revocation of these means: ALL stands for every one."""
    numbers = frozenset(int(privilege) for privilege in privileges)
    return frozenset(map(int, Privilege)) if Privilege.ALL in numbers else numbers


def covers(granted_on: str, path: str) -> bool:
    """Return whether a privilege on one path holds on another: the same, or an ancestor of it."""
    return path == granted_on or path.startswith(f"{granted_on}.")


def holds(granted: PathPrivileges, privilege: int, path: str) -> bool:
    """Return whether grants give a privilege on a path."""
    return any(
        privilege in numbers and covers(granted_on, path) for granted_on, numbers in granted.items()
    )


def describe(path: str, numbers: Iterable[int]) -> str:
    """Return a grant as LIST prints it: path, then the names by number."""
    names = " ".join(Privilege(number).name for number in sorted(numbers))
    return f"{path} : {names}"
