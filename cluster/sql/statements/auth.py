"""Statements about users, roles and privileges."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CreateUser:
    """CREATE USER."""

    name: str
    password: str


@dataclass(frozen=True)
class CreateRole:
    """CREATE ROLE."""

    name: str


@dataclass(frozen=True)
class SetPassword:
    """ALTER USER … SET PASSWORD."""

    name: str
    password: str


@dataclass(frozen=True)
class DropUser:
    """DROP USER."""

    name: str


@dataclass(frozen=True)
class DropRole:
    """DROP ROLE."""

    name: str


@dataclass(frozen=True)
class ChangePrivileges:
    """GRANT or REVOKE privileges, in any of its forms.

    Attributes:
        grant: give, else take.
        to_role: whether `name` is a role, else a user.
        name: who.
        privileges: names as typed, of 0.13 or of 1.3 and later.
        paths: on which.
    """

    grant: bool
    to_role: bool
    name: str
    privileges: tuple[str, ...]
    paths: tuple[str, ...]


@dataclass(frozen=True)
class ChangeRoleOfUser:
    """GRANT role TO user, REVOKE role FROM user."""

    grant: bool
    role: str
    user: str


@dataclass(frozen=True)
class SetWatermark:
    """GRANT or REVOKE WATERMARK_EMBEDDING."""

    users: tuple[str, ...]


AuthStatement = (
    CreateUser
    | CreateRole
    | SetPassword
    | DropUser
    | DropRole
    | ChangePrivileges
    | ChangeRoleOfUser
    | SetWatermark
)
