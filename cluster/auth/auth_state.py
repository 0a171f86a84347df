"""AuthState: users, roles and what they were granted; a part of the meta state.

Replicated: every method that changes something is deterministic, and returns what to store with the
applied index:

    user/<name>  JSON [password hash, [[path, [privilege, …]], …], [role, …]]
    role/<name>  JSON [[path, [privilege, …]], …]

A refusal raises ClusterError and changes nothing. Texts of refusals follow 0.13 `BasicAuthorizer`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cluster.auth.privileges import (
    ADMINISTRATOR,
    PATH_SCOPED,
    ROOT_PATH,
    PathPrivileges,
    Privilege,
    expanded,
    holds,
)
from cluster.errors import ClusterError, StatusCode

USER_PREFIX = b"user/"
ROLE_PREFIX = b"role/"

MIN_NAME_LENGTH = 4

Puts = dict[bytes, bytes | None]


@dataclass(frozen=True)
class User:
    """A user; replaced as a whole when something changes. `roles` in the order of granting."""

    password_hash: str
    privileges: PathPrivileges
    roles: tuple[str, ...] = ()


@dataclass(frozen=True)
class Role:
    """A named set of grants."""

    privileges: PathPrivileges


def auth_error(text: str) -> ClusterError:
    """Return the error of an impossible change to users or roles (0.13 `AuthException`)."""
    return ClusterError(StatusCode.QUERY_PROCESS_ERROR, text)


def check_name(name: str, what: str) -> None:
    """Refuse names of users and roles that are too short or have blanks.

    Raises:
        ClusterError: QUERY_PROCESS_ERROR.
    """
    if len(name) < MIN_NAME_LENGTH:
        raise auth_error(
            f"The length of {what} name must be greater than or equal to {MIN_NAME_LENGTH}: {name}"
        )
    if any(character.isspace() for character in name):
        raise auth_error(f"The {what} name contains a space: {name!r}")


def check_password(password: str) -> None:
    """Refuse passwords that are too short or have blanks.

    Raises:
        ClusterError: QUERY_PROCESS_ERROR.
    """
    if len(password) < MIN_NAME_LENGTH:
        raise auth_error(
            f"The length of password must be greater than or equal to {MIN_NAME_LENGTH}"
        )
    if any(character.isspace() for character in password):
        raise auth_error("The password contains a space")


class AuthState:
    """One thread changes, any thread reads: records are immutable and replaced in one step."""

    def __init__(self) -> None:
        self._users: dict[str, User] = {}
        self._roles: dict[str, Role] = {}

    def load(self, key: bytes, value: bytes) -> bool:
        """Take a stored record; False when the key is not of this kind.

        Raises:
            ValueError, TypeError: the record is damaged.
        """
        if key.startswith(USER_PREFIX):
            password_hash, privileges, roles = json.loads(value)
            self._users[key[len(USER_PREFIX) :].decode()] = User(
                password_hash, _privileges(privileges), tuple(roles)
            )
            return True
        if key.startswith(ROLE_PREFIX):
            self._roles[key[len(ROLE_PREFIX) :].decode()] = Role(_privileges(json.loads(value)))
            return True
        return False

    # ---- reading ----

    def user(self, name: str) -> User | None:
        """Return a user, or None."""
        return self._users.get(name)

    def role(self, name: str) -> Role | None:
        """Return a role, or None."""
        return self._roles.get(name)

    def users(self) -> list[str]:
        """Return the users' names, sorted."""
        return sorted(self._users)

    def roles(self) -> list[str]:
        """Return the roles' names, sorted."""
        return sorted(self._roles)

    def users_of(self, role: str) -> list[str]:
        """Return the users that have a role, sorted."""
        return sorted(name for name, user in list(self._users.items()) if role in user.roles)

    def is_allowed(self, name: str, privilege: int, path: str) -> bool:
        """Return whether a user, or one of its roles, has a privilege on a path."""
        if name == ADMINISTRATOR:
            return True
        user = self._users.get(name)
        if user is None:
            return False
        if holds(user.privileges, privilege, path):
            return True
        roles = (self._roles.get(role) for role in user.roles)
        return any(role is not None and holds(role.privileges, privilege, path) for role in roles)

    # ---- changing ----

    def put_user(self, name: str, password_hash: str) -> Puts:
        """Create a user, or change a user's password."""
        known = self._users.get(name)
        if known is None:
            return self._put_user(name, User(password_hash, {}))
        return self._put_user(name, replace(known, password_hash=password_hash))

    def set_password(self, name: str, password_hash: str) -> Puts:
        """Change the password of a user that exists."""
        return self._put_user(name, replace(self._known_user(name), password_hash=password_hash))

    def create_user(self, name: str, password_hash: str) -> Puts:
        """Create a user without privileges."""
        check_name(name, "user")
        if name in self._users:
            raise auth_error(f"User {name} already exists")
        return self._put_user(name, User(password_hash, {}))

    def drop_user(self, name: str) -> Puts:
        """Remove a user."""
        if name == ADMINISTRATOR:
            raise auth_error("Default administrator cannot be deleted")
        if name not in self._users:
            raise auth_error(f"User {name} does not exist")
        del self._users[name]
        return {USER_PREFIX + name.encode(): None}

    def create_role(self, name: str) -> Puts:
        """Create a role without privileges."""
        check_name(name, "role")
        if name in self._roles:
            raise auth_error(f"Role {name} already exists")
        return self._put_role(name, Role({}))

    def drop_role(self, name: str) -> Puts:
        """Remove a role, also from the users that have it."""
        if name not in self._roles:
            raise auth_error(f"Role {name} does not exist")
        del self._roles[name]
        puts: Puts = {ROLE_PREFIX + name.encode(): None}
        for holder in self.users_of(name):
            user = self._users[holder]
            roles = tuple(role for role in user.roles if role != name)
            puts |= self._put_user(holder, replace(user, roles=roles))
        return puts

    def grant_role(self, role: str, user_name: str) -> Puts:
        """Give a role to a user."""
        self._known_role(role)
        user = self._known_user(user_name)
        if role in user.roles:
            raise auth_error(f"User {user_name} already has role {role}")
        return self._put_user(user_name, replace(user, roles=(*user.roles, role)))

    def revoke_role(self, role: str, user_name: str) -> Puts:
        """Take a role from a user."""
        self._known_role(role)
        user = self._known_user(user_name)
        if role not in user.roles:
            raise auth_error(f"User {user_name} does not have role {role}")
        return self._put_user(
            user_name, replace(user, roles=tuple(held for held in user.roles if held != role))
        )

    def grant_to_user(self, name: str, privileges: Sequence[int], paths: Sequence[str]) -> Puts:
        """Give a user privileges on each path; all of them or none."""
        if name == ADMINISTRATOR:
            raise auth_error("Invalid operation, administrator already has all privileges")
        user = self._known_user(name)
        granted = _granted(user.privileges, privileges, paths, f"User {name}")
        return self._put_user(name, replace(user, privileges=granted))

    def revoke_from_user(self, name: str, privileges: Sequence[int], paths: Sequence[str]) -> Puts:
        """Take privileges on each path from a user; all of them or none."""
        if name == ADMINISTRATOR:
            raise auth_error("Invalid operation, administrator must have all privileges")
        user = self._known_user(name)
        left = _revoked(user.privileges, privileges, paths, f"User {name}")
        return self._put_user(name, replace(user, privileges=left))

    def grant_to_role(self, name: str, privileges: Sequence[int], paths: Sequence[str]) -> Puts:
        """Give a role privileges on each path; all of them or none."""
        role = self._known_role(name)
        return self._put_role(
            name, Role(_granted(role.privileges, privileges, paths, f"Role {name}"))
        )

    def revoke_from_role(self, name: str, privileges: Sequence[int], paths: Sequence[str]) -> Puts:
        """Take privileges on each path from a role; all of them or none."""
        role = self._known_role(name)
        return self._put_role(
            name, Role(_revoked(role.privileges, privileges, paths, f"Role {name}"))
        )

    # ---- inside ----

    def _known_user(self, name: str) -> User:
        user = self._users.get(name)
        if user is None:
            raise auth_error(f"No such user : {name}")
        return user

    def _known_role(self, name: str) -> Role:
        role = self._roles.get(name)
        if role is None:
            raise auth_error(f"No such role : {name}")
        return role

    def _put_user(self, name: str, user: User) -> Puts:
        self._users[name] = user
        record = [user.password_hash, _plain(user.privileges), user.roles]
        return {USER_PREFIX + name.encode(): _dump(record)}

    def _put_role(self, name: str, role: Role) -> Puts:
        self._roles[name] = role
        return {ROLE_PREFIX + name.encode(): _dump(_plain(role.privileges))}


def _places(privileges: Iterable[int], paths: Sequence[str]) -> list[tuple[str, frozenset[int]]]:
    """Return which privileges a statement means on which path; those without scope at root."""
    unknown = sorted(set(privileges) - set(map(int, Privilege)))
    if unknown:
        raise auth_error(f"there is no privilege {unknown[0]}")
    if Privilege.ALL in privileges:
        return [(path, expanded(privileges)) for path in dict.fromkeys(paths)]
    numbers = expanded(privileges)
    scoped = frozenset(number for number in numbers if number in PATH_SCOPED)
    places: dict[str, frozenset[int]] = {}
    if scoped:
        places = dict.fromkeys(paths, scoped)
    if numbers - scoped:
        places[ROOT_PATH] = places.get(ROOT_PATH, frozenset()) | (numbers - scoped)
    return list(places.items())


def _granted(
    held: PathPrivileges, privileges: Sequence[int], paths: Sequence[str], who: str
) -> PathPrivileges:
    after = dict(held)
    for path, numbers in _places(privileges, paths):
        already = after.get(path, frozenset())
        twice = numbers <= already if Privilege.ALL in numbers else numbers & already
        if twice:
            names = _names(privileges, numbers & already)
            raise auth_error(f"{who} already has {names} on {path}")
        after[path] = already | numbers
    return after


def _revoked(
    held: PathPrivileges, privileges: Sequence[int], paths: Sequence[str], who: str
) -> PathPrivileges:
    after = dict(held)
    for path, numbers in _places(privileges, paths):
        already = after.get(path, frozenset())
        missing = not already if Privilege.ALL in numbers else numbers - already
        if missing:
            names = _names(privileges, numbers - already)
            raise auth_error(f"{who} does not have {names} on {path}")
        after[path] = already - numbers
        if not after[path]:
            del after[path]
    return after


def _names(asked: Sequence[int], numbers: Iterable[int]) -> str:
    if Privilege.ALL in asked:
        return Privilege.ALL.name
    return ", ".join(Privilege(number).name for number in sorted(numbers))


def _privileges(plain: Any) -> PathPrivileges:  # noqa: ANN401
    return {path: frozenset(map(int, numbers)) for path, numbers in plain}


def _plain(privileges: PathPrivileges) -> list[Any]:
    return [[path, sorted(numbers)] for path, numbers in privileges.items()]


def _dump(value: Any) -> bytes:  # noqa: ANN401
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
