"""Statements about users, roles and privileges, from parse trees."""

from __future__ import annotations

from lark import Token

from cluster.sql.context import ParseContext
from cluster.sql.names import identifier_text
from cluster.sql.nodes import Node, full_path_of, part, parts, patterns_of, tokens_of
from cluster.sql.statements.auth import (
    AuthStatement,
    ChangePrivileges,
    ChangeRoleOfUser,
    CreateRole,
    CreateUser,
    DropRole,
    DropUser,
    SetPassword,
    SetWatermark,
)
from cluster.sql.tokens import unquote


class AuthBuilder:
    """Builds what `auth.lark` parses; `build_<rule>` methods are found by the rule's name."""

    def __init__(self, context: ParseContext) -> None:
        self._context = context

    def build_create_user(self, node: Node) -> AuthStatement:
        """Build rule `create_user`."""
        name, password = tokens_of(node)
        return CreateUser(name_text(name), unquote(str(password)))

    def build_create_role(self, node: Node) -> AuthStatement:
        """Build rule `create_role`."""
        return CreateRole(name_text(tokens_of(node)[0]))

    def build_alter_user(self, node: Node) -> AuthStatement:
        """Build rule `alter_user`."""
        name, password = tokens_of(node)
        return SetPassword(name_text(name), unquote(str(password)))

    def build_drop_user(self, node: Node) -> AuthStatement:
        """Build rule `drop_user`."""
        return DropUser(name_text(tokens_of(node)[0]))

    def build_drop_role(self, node: Node) -> AuthStatement:
        """Build rule `drop_role`."""
        return DropRole(name_text(tokens_of(node)[0]))

    def build_grant_user(self, node: Node) -> AuthStatement:
        """Build rule `grant_user`."""
        return _change(node, grant=True, to_role=False)

    def build_grant_role(self, node: Node) -> AuthStatement:
        """Build rule `grant_role`."""
        return _change(node, grant=True, to_role=True)

    def build_revoke_user(self, node: Node) -> AuthStatement:
        """Build rule `revoke_user`."""
        return _change(node, grant=False, to_role=False)

    def build_revoke_role(self, node: Node) -> AuthStatement:
        """Build rule `revoke_role`."""
        return _change(node, grant=False, to_role=True)

    def build_grant_privileges(self, node: Node) -> AuthStatement:
        """Build rule `grant_privileges`."""
        return _change_many(node, grant=True)

    def build_revoke_privileges(self, node: Node) -> AuthStatement:
        """Build rule `revoke_privileges`."""
        return _change_many(node, grant=False)

    def build_grant_role_to_user(self, node: Node) -> AuthStatement:
        """Build rule `grant_role_to_user`."""
        role, user = map(name_text, tokens_of(node))
        return ChangeRoleOfUser(True, role, user)

    def build_revoke_role_from_user(self, node: Node) -> AuthStatement:
        """Build rule `revoke_role_from_user`."""
        role, user = map(name_text, tokens_of(node))
        return ChangeRoleOfUser(False, role, user)

    def build_watermark(self, node: Node) -> AuthStatement:
        """Build rule `watermark`."""
        return SetWatermark(tuple(map(name_text, tokens_of(node))))


def name_text(token: Token) -> str:
    """Return the name of a user or role; `root` in whatever case it was typed is the user root."""
    return "root" if token.type == "ROOT" else identifier_text(token)


def _privileges(node: Node) -> tuple[str, ...]:
    words = tokens_of(parts(node, "privileges")[0])
    return tuple(
        (unquote(str(word)) if word.type == "STRING" else str(word)).upper() for word in words
    )


def _change(node: Node, *, grant: bool, to_role: bool) -> ChangePrivileges:
    name = name_text(tokens_of(node)[0])
    return ChangePrivileges(grant, to_role, name, _privileges(node), (full_path_of(node),))


def _change_many(node: Node, *, grant: bool) -> ChangePrivileges:
    role = part(node, "grantee_role")
    grantee = role or part(node, "grantee_user")
    assert grantee is not None
    name = name_text(tokens_of(grantee)[0])
    return ChangePrivileges(grant, role is not None, name, _privileges(node), patterns_of(node))
