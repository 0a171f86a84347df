"""What the tables of privileges share: levels of privilege, and a request tried at each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cluster.auth.privileges import PATH_SCOPED, Privilege
from cluster.plan.plans import AuthorAction, AuthorPlan
from cluster.rpc.deadline import Deadline
from harness.local_server import LocalServer, cheap_hash
from harness.wire import StatusError, WireClient

USER, PASSWORD, ROLE = "tester", "password", "tester_role"

REFUSED = 602

Needs = tuple[tuple[Privilege, str], ...]
"""Privileges, each with the narrowest path that will do."""


def on(path: str, *privileges: Privilege) -> Needs:
    return tuple((privilege, path) for privilege in privileges)


def at_root(*privileges: Privilege) -> Needs:
    return on("root", *privileges)


def prepare(server: LocalServer, statements: Sequence[str]) -> None:
    """Run statements as root; users get a hash that is computed once."""
    for sql in statements:
        if sql.startswith("CREATE USER"):
            name = sql.split()[2]
            plan = AuthorPlan(AuthorAction.CREATE_USER, name, password_hash=cheap_hash(PASSWORD))
            server.database.coordinator.change_meta(plan, Deadline.after(10))
        else:
            server.database.execute(sql)


def clean(root: WireClient) -> None:
    """Drop everything but the two users."""
    for (storage_group,) in root.query("SHOW STORAGE GROUP"):
        root.run(f"DELETE STORAGE GROUP {storage_group}")
    for (name,) in root.query("SHOW SCHEMA TEMPLATES"):
        for (path,) in root.query(f"SHOW PATHS SET SCHEMA TEMPLATE {name}"):
            root.run(f"UNSET SCHEMA TEMPLATE {name} FROM {path}")
        root.run(f"DROP SCHEMA TEMPLATE {name}")
    for name, *_ in root.query("SHOW CQS"):
        root.run(f"DROP CQ {name}")
    for (name,) in root.query("LIST USER"):
        if name not in ("root", USER):
            root.run(f"DROP USER {name}")
    for (name,) in root.query("LIST ROLE"):
        root.run(f"DROP ROLE {name}")
    revoke_all(root)


def revoke_all(root: WireClient) -> None:
    for _, line in root.query(f"LIST USER PRIVILEGES {USER}"):
        path, _, names = line.partition(" : ")
        root.run(f"REVOKE USER {USER} PRIVILEGES {','.join(names.split())} ON {path}")


def grant(root: WireClient, needs: Needs) -> None:
    for privilege, path in needs:
        root.run(f"GRANT USER {USER} PRIVILEGES {privilege.name} ON {path}")


def elsewhere(needs: Needs) -> Needs:
    """The same privileges, where they must not help: beside and below what is needed."""
    found = []
    for privilege, path in needs:
        if privilege not in PATH_SCOPED:
            continue
        found.append((privilege, "root.elsewhere"))
        found.append((privilege, "root.s"))  # a prefix of root.sg as text, not as nodes
        found.append((privilege, f"{path}.below" if path != "root" else "root.sg"))
    return tuple(dict.fromkeys(found))


def all_but(missing: Privilege) -> Needs:
    return at_root(*(p for p in Privilege if p not in (missing, Privilege.ALL)))


def code_of(call: Callable[[], Any]) -> int:
    try:
        call()
    except StatusError as error:
        return int(error.code)
    return 200


def check_wrong(
    server: LocalServer,
    root: WireClient,
    needs: Needs | None,
    setup: Sequence[str],
    call: Callable[[], int],
) -> None:
    """Try a request at every level of privilege but the right one."""
    clean(root)
    prepare(server, setup)
    if needs == ():
        return
    assert call() == REFUSED, "without any privilege"
    if needs is None:
        grant(root, at_root(Privilege.ALL))
        assert call() == REFUSED, "with all privileges, but not as root"
        return
    grant(root, elsewhere(needs))
    assert call() == REFUSED, f"with {elsewhere(needs)}"
    revoke_all(root)
    for number, (privilege, _) in enumerate(needs):
        if all(other != privilege for other, _ in needs[:number] + needs[number + 1 :]):
            grant(root, all_but(privilege))
            assert call() == REFUSED, f"with everything but {privilege.name}"
            revoke_all(root)
        if len(needs) > 1:
            grant(root, needs[:number] + needs[number + 1 :])
            assert call() == REFUSED, f"without {privilege.name} on {needs[number][1]}"
            revoke_all(root)


def check_right(
    server: LocalServer,
    root: WireClient,
    needs: Needs,
    setup: Sequence[str],
    call: Callable[[], int],
    code: int,
) -> None:
    """Try a request with the right privileges: the user's own, then a role's."""
    clean(root)
    prepare(server, setup)
    grant(root, needs)
    assert call() == code
    clean(root)
    prepare(server, setup)
    root.run(f"CREATE ROLE {ROLE}")
    root.run(f"GRANT {ROLE} TO {USER}")
    for privilege, path in needs:
        root.run(f"GRANT ROLE {ROLE} PRIVILEGES {privilege.name} ON {path}")
    assert call() == code, "with a role"
