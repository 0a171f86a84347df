"""Who may do what: every statement, as a user who is not root.

Each line of the tables is tried with no privilege at all, with the privilege at another path, with
every privilege but the one it needs, and with the right one, granted directly and by a role.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import pytest

from cluster.auth.privileges import Privilege
from cluster.rpc.gen.client import ttypes as t
from cluster.sql.context import ParseContext
from cluster.sql.parser import parse
from cluster.sql.statements.families import Command, Query, Statement
from cluster.sql.statements.select import Select
from cluster.sql.statements.show import ListStatement, ShowStatement
from harness.local_server import LocalServer
from harness.privilege_levels import (
    PASSWORD,
    REFUSED,
    USER,
    Needs,
    at_root,
    check_right,
    check_wrong,
    clean,
    code_of,
    grant,
    on,
    prepare,
)
from harness.wire import WireClient

P = Privilege

SERIES = (
    "CREATE TIMESERIES root.sg.d.s1 INT32",
    "CREATE TIMESERIES root.sg.d.s2 INT32",
    "CREATE TIMESERIES root.sg.e.s1 INT32",
    "INSERT INTO root.sg.d(time, s1, s2) VALUES (1, 1, 2)",
    "INSERT INTO root.sg.e(time, s1) VALUES (1, 1)",
)
TEMPLATE = ("SET STORAGE GROUP TO root.sg", "CREATE SCHEMA TEMPLATE t1 (s1 INT32, s2 INT32)")
TEMPLATE_SET = (*TEMPLATE, "SET SCHEMA TEMPLATE t1 TO root.sg.d")
TEMPLATE_ACTIVE = (*TEMPLATE_SET, "CREATE TIMESERIES OF SCHEMA TEMPLATE ON root.sg.d")
PEOPLE = ("CREATE USER another 'password'", "CREATE ROLE a_role")
QUERY = (
    "CREATE CQ cq1 BEGIN SELECT count(s1) INTO root.out.d.c FROM root.sg.d GROUP BY time(10s) END"
)


@dataclass(frozen=True)
class Case:
    """A statement, what it needs, what is done before it by root, and its code when allowed."""

    sql: str
    needs: Needs | None = ()
    """None: for root only. Empty: everybody may."""
    setup: tuple[str, ...] = ()
    code: int = 200


READ = at_root(P.READ_TIMESERIES)

STATEMENTS = [
    # storage groups, series (sql.md 2.4)
    Case("SET STORAGE GROUP TO root.sg", on("root.sg", P.SET_STORAGE_GROUP)),
    Case("CREATE STORAGE GROUP root.sg", on("root.sg", P.SET_STORAGE_GROUP)),
    Case("CREATE DATABASE root.sg", on("root.sg", P.SET_STORAGE_GROUP)),
    Case("CREATE TIMESERIES root.sg.d.s1 INT32", on("root.sg.d.s1", P.CREATE_TIMESERIES)),
    Case("CREATE TIMESERIES root.sg.d.s1(al) INT32", on("root.sg.d", P.CREATE_TIMESERIES)),
    Case(
        "CREATE ALIGNED TIMESERIES root.sg.d(s1 INT32, s2 INT32)",
        on("root.sg.d.s1", P.CREATE_TIMESERIES) + on("root.sg.d.s2", P.CREATE_TIMESERIES),
    ),
    Case("ALTER TIMESERIES root.sg.d.s1 ADD TAGS a=b", None, SERIES),
    Case("ALTER TIMESERIES root.sg.d.s1 UPSERT ALIAS=x TAGS(a=b)", None, SERIES),
    Case("DELETE STORAGE GROUP root.sg", on("root.sg", P.DELETE_STORAGE_GROUP), SERIES),
    Case("DROP DATABASE root.sg", on("root.sg", P.DELETE_STORAGE_GROUP), SERIES),
    Case("DELETE STORAGE GROUP root.**", at_root(P.DELETE_STORAGE_GROUP), SERIES),
    Case("DELETE TIMESERIES root.sg.d.s1", on("root.sg.d.s1", P.DELETE_TIMESERIES), SERIES),
    Case("DELETE TIMESERIES root.sg.d.*", on("root.sg.d", P.DELETE_TIMESERIES), SERIES),
    Case("DELETE TIMESERIES root.sg.**", on("root.sg", P.DELETE_TIMESERIES), SERIES),
    Case(
        "DELETE TIMESERIES root.sg.d.s1, root.sg.e.s1",
        on("root.sg.d.s1", P.DELETE_TIMESERIES) + on("root.sg.e.s1", P.DELETE_TIMESERIES),
        SERIES,
    ),
    Case("DROP TIMESERIES root.sg.d.s1", on("root.sg.d.s1", P.DELETE_TIMESERIES), SERIES),
    Case("DELETE PARTITION root.sg 0", None, SERIES),
    Case("SET TTL TO root.sg 1000", None, SERIES),
    Case("UNSET TTL TO root.sg", None, SERIES),
    Case("ALTER DATABASE root.sg WITH TTL=1000", None, SERIES),
    # templates
    Case("CREATE SCHEMA TEMPLATE t1 (s1 INT32)", at_root(P.UPDATE_TEMPLATE)),
    Case("ALTER SCHEMA TEMPLATE t1 ADD (s3 INT32)", at_root(P.UPDATE_TEMPLATE), TEMPLATE),
    Case("DROP SCHEMA TEMPLATE t1", at_root(P.UPDATE_TEMPLATE), TEMPLATE),
    Case("SET SCHEMA TEMPLATE t1 TO root.sg.d", on("root.sg.d", P.APPLY_TEMPLATE), TEMPLATE),
    Case(
        "UNSET SCHEMA TEMPLATE t1 FROM root.sg.d", on("root.sg.d", P.APPLY_TEMPLATE), TEMPLATE_SET
    ),
    Case(
        "CREATE TIMESERIES OF SCHEMA TEMPLATE ON root.sg.d",
        on("root.sg.d", P.APPLY_TEMPLATE),
        TEMPLATE_SET,
    ),
    Case(
        "DEACTIVATE SCHEMA TEMPLATE t1 FROM root.sg.d",
        on("root.sg.d", P.DELETE_TIMESERIES),
        TEMPLATE_ACTIVE,
    ),
    Case(
        "DELETE TIMESERIES OF SCHEMA TEMPLATE t1 FROM root.sg.d",
        on("root.sg.d", P.DELETE_TIMESERIES),
        TEMPLATE_ACTIVE,
    ),
    # functions, triggers, continuous queries
    Case("CREATE FUNCTION f AS 'm:C'", at_root(P.CREATE_FUNCTION), code=411),
    Case("DROP FUNCTION nothing", at_root(P.DROP_FUNCTION), code=411),
    Case(
        "CREATE TRIGGER tr BEFORE INSERT ON root.sg.d.s1 AS 'm:C'",
        on("root.sg.d.s1", P.CREATE_TRIGGER),
        SERIES,
        code=313,
    ),
    Case("DROP TRIGGER nothing", at_root(P.DROP_TRIGGER), code=313),
    Case("START TRIGGER nothing", at_root(P.START_TRIGGER), code=313),
    Case("STOP TRIGGER nothing", at_root(P.STOP_TRIGGER), code=313),
    Case(
        QUERY,
        at_root(P.CREATE_CONTINUOUS_QUERY)
        + on("root.sg.d", P.READ_TIMESERIES)
        + on("root.out.d.c", P.INSERT_TIMESERIES),
        SERIES,
    ),
    Case("DROP CQ cq1", at_root(P.DROP_CONTINUOUS_QUERY), (*SERIES, QUERY)),
    # users and roles (sql.md 2.5)
    Case("CREATE USER someone 'password'", at_root(P.CREATE_USER)),
    Case("CREATE ROLE somerole", at_root(P.CREATE_ROLE)),
    Case("ALTER USER another SET PASSWORD 'changed'", at_root(P.MODIFY_PASSWORD), PEOPLE),
    Case(f"ALTER USER {USER} SET PASSWORD '{PASSWORD}'", ()),
    Case(
        "GRANT USER another PRIVILEGES READ_TIMESERIES ON root.sg",
        at_root(P.GRANT_USER_PRIVILEGE),
        PEOPLE,
    ),
    Case("GRANT READ_DATA ON root.sg TO USER another", at_root(P.GRANT_USER_PRIVILEGE), PEOPLE),
    Case(
        "GRANT ROLE a_role PRIVILEGES READ_TIMESERIES ON root.sg",
        at_root(P.GRANT_ROLE_PRIVILEGE),
        PEOPLE,
    ),
    Case("GRANT READ_DATA ON root.sg TO ROLE a_role", at_root(P.GRANT_ROLE_PRIVILEGE), PEOPLE),
    Case(
        "REVOKE USER another PRIVILEGES READ_TIMESERIES ON root.sg",
        at_root(P.REVOKE_USER_PRIVILEGE),
        (*PEOPLE, "GRANT USER another PRIVILEGES READ_TIMESERIES ON root.sg"),
    ),
    Case("REVOKE READ_DATA ON root.sg FROM USER another", at_root(P.REVOKE_USER_PRIVILEGE), PEOPLE),
    Case(
        "REVOKE ROLE a_role PRIVILEGES READ_TIMESERIES ON root.sg",
        at_root(P.REVOKE_ROLE_PRIVILEGE),
        (*PEOPLE, "GRANT ROLE a_role PRIVILEGES READ_TIMESERIES ON root.sg"),
    ),
    Case("GRANT a_role TO another", at_root(P.GRANT_USER_ROLE), PEOPLE),
    Case("GRANT ROLE a_role TO another", at_root(P.GRANT_USER_ROLE), PEOPLE),
    Case(
        "REVOKE a_role FROM another",
        at_root(P.REVOKE_USER_ROLE),
        (*PEOPLE, "GRANT a_role TO another"),
    ),
    Case("DROP USER another", at_root(P.DELETE_USER), PEOPLE),
    Case("DROP ROLE a_role", at_root(P.DELETE_ROLE), PEOPLE),
    Case("GRANT WATERMARK_EMBEDDING TO another", None, PEOPLE, code=703),
    Case("REVOKE WATERMARK_EMBEDDING FROM another", None, PEOPLE, code=703),
    Case("LIST USER", at_root(P.LIST_USER)),
    Case("LIST ROLE", at_root(P.LIST_ROLE)),
    Case("LIST USER PRIVILEGES another", at_root(P.LIST_USER), PEOPLE),
    Case("LIST PRIVILEGES USER another ON root.sg", at_root(P.LIST_USER), PEOPLE),
    Case("LIST PRIVILEGES OF USER another", at_root(P.LIST_USER), PEOPLE),
    Case("LIST ROLE PRIVILEGES a_role", at_root(P.LIST_ROLE), PEOPLE),
    Case("LIST PRIVILEGES ROLE a_role ON root.sg", at_root(P.LIST_ROLE), PEOPLE),
    Case("LIST ALL ROLE OF USER another", at_root(P.LIST_USER), PEOPLE),
    Case("LIST ALL USER OF ROLE a_role", at_root(P.LIST_ROLE), PEOPLE),
    # points
    Case("INSERT INTO root.sg.d(time, s1) VALUES (1, 1)", on("root.sg.d.s1", P.INSERT_TIMESERIES)),
    Case("INSERT INTO root.sg.d(s1) ALIGNED VALUES (1)", on("root.sg.d.s1", P.INSERT_TIMESERIES)),
    Case(
        "INSERT INTO root.sg.d(time, s1, s2) VALUES (1, 1, 2)",
        on("root.sg.d.s1", P.INSERT_TIMESERIES) + on("root.sg.d.s2", P.INSERT_TIMESERIES),
    ),
    Case("DELETE FROM root.sg.d.s1", on("root.sg.d.s1", P.DELETE_TIMESERIES), SERIES),
    Case("DELETE FROM root.sg.d.* WHERE time < 9", on("root.sg.d", P.DELETE_TIMESERIES), SERIES),
    Case("DELETE FROM root.**", at_root(P.DELETE_TIMESERIES), SERIES),
    # SELECT in every kind
    *(
        Case(sql, on("root.sg.d.s1", P.READ_TIMESERIES), SERIES)
        for sql in (
            "SELECT s1 FROM root.sg.d",
            "TRACING SELECT s1 FROM root.sg.d",
            "SELECT s1 FROM root.sg.d WHERE time = 1 FILL(PREVIOUS)",
            "SELECT s1 + 1 FROM root.sg.d",
            "SELECT sin(s1) FROM root.sg.d",
            "SELECT count(s1) FROM root.sg.d",
            "SELECT count(s1) FROM root.sg.d GROUP BY ([0, 10), 5ms)",
            "SELECT count(s1) FROM root.sg.d GROUP BY LEVEL=1",
            "SELECT LAST s1 FROM root.sg.d",
            "SELECT s1 FROM root.sg.d ALIGN BY DEVICE",
            "SELECT count(s1) FROM root.sg.d ALIGN BY DEVICE",
            "SELECT s1 FROM root.sg.d DISABLE ALIGN",
        )
    ),
    *(
        Case(sql, on("root.sg.d.s1", P.READ_TIMESERIES) + on(other, P.READ_TIMESERIES), SERIES)
        for sql, other in (
            ("SELECT s1 FROM root.sg.d WHERE s2 > 0", "root.sg.d.s2"),
            ("SELECT s1 FROM root.sg.d WHERE root.sg.e.s1 > 0", "root.sg.e.s1"),
            ("SELECT count(s1) FROM root.sg.d WHERE s2 > 0", "root.sg.d.s2"),
            ("SELECT s1 FROM root.sg.d WHERE s2 > 0 ALIGN BY DEVICE", "root.sg.d.s2"),
            ("SELECT s1 + s2 FROM root.sg.d", "root.sg.d.s2"),
            ("SELECT * FROM root.sg.d", "root.sg.d.s2"),
            ("SELECT s1 FROM root.sg.*", "root.sg.e.s1"),
            ("SELECT s1 FROM root.sg.* ALIGN BY DEVICE", "root.sg.e.s1"),
            ("SELECT LAST s1 FROM root.sg.*", "root.sg.e.s1"),
            ("SELECT s1 FROM root.sg.d, root.sg.e SLIMIT 1", "root.sg.e.s1"),
        )
    ),
    # where nothing is found, as for what was asked
    *(
        Case(sql, on(path, P.READ_TIMESERIES), SERIES)
        for sql, path in (
            ("SELECT nothing FROM root.sg.d", "root.sg.d.nothing"),
            ("SELECT nothing FROM root.sg.*", "root.sg"),
            ("SELECT count(nothing) FROM root.sg.d", "root.sg.d.nothing"),
            ("SELECT LAST * FROM root.sg.nothing", "root.sg.nothing"),
            ("SELECT nothing FROM root.sg.d ALIGN BY DEVICE", "root.sg.d.nothing"),
            ("SELECT s1 FROM root.sg.nothing ALIGN BY DEVICE", "root.sg.nothing"),
        )
    ),
    Case(
        "SELECT s1 INTO root.sg.d.copy FROM root.sg.d",
        on("root.sg.d.s1", P.READ_TIMESERIES) + on("root.sg.d.copy", P.INSERT_TIMESERIES),
        SERIES,
    ),
    # SHOW and COUNT
    *(
        Case(sql, READ, TEMPLATE_ACTIVE)
        for sql in (
            "SHOW STORAGE GROUP",
            "SHOW DATABASES",
            "SHOW TIMESERIES root.sg.d.**",
            "SHOW LATEST TIMESERIES root.sg.d.**",
            "SHOW DEVICES root.sg.**",
            "SHOW CHILD PATHS root.sg",
            "SHOW CHILD NODES root.sg",
            "SHOW TTL ON root.sg",
            "SHOW ALL TTL",
            "SHOW VERSION",
            "SHOW FLUSH INFO",
            "SHOW CLUSTER",
            "SHOW CLUSTERID",
            "SHOW DATANODES",
            "SHOW VARIABLES",
            "SHOW FUNCTIONS",
            "SHOW TRIGGERS",
            "SHOW CONTINUOUS QUERIES",
            "SHOW LOCK INFO root.sg",
            "SHOW QUERY PROCESSLIST",
            "SHOW MERGE",
            "SHOW ALL ARCHIVING",
            "SHOW CURRENT_TIMESTAMP",
            "SHOW SCHEMA TEMPLATES",
            "SHOW NODES IN SCHEMA TEMPLATE t1",
            "SHOW PATHS SET SCHEMA TEMPLATE t1",
            "SHOW PATHS USING SCHEMA TEMPLATE t1",
            "COUNT TIMESERIES root.sg.**",
            "COUNT TIMESERIES root.sg.** GROUP BY LEVEL=1",
            "COUNT DEVICES root.sg.**",
            "COUNT NODES root.sg.** LEVEL=2",
            "COUNT STORAGE GROUP",
        )
    ),
    # utilities (sql.md 2.6)
    Case("MERGE", None),
    Case("FULL MERGE", None),
    Case("FLUSH", None),
    Case("FLUSH root.sg TRUE", None, SERIES),
    Case("CLEAR CACHE", None),
    Case("SETTLE root.sg", None),
    Case("SET SYSTEM TO WRITABLE", None),
    Case("SHOW QUERY RESOURCE", None),
    Case("KILL QUERY", None),
    Case("LOAD CONFIGURATION", None, code=703),
    *(
        Case(sql, None, code=703)
        for sql in (
            "CREATE SNAPSHOT FOR SCHEMA",
            "LOAD 'file.tsfile'",
            "REMOVE 'file.tsfile'",
            "UNLOAD 'file.tsfile' 'folder'",
            "SET ARCHIVING TO root.sg 2022-01-01 1000 'folder'",
            "CANCEL ARCHIVING ON root.sg",
            "PAUSE ARCHIVING ON root.sg",
            "RESUME ARCHIVING ON root.sg",
        )
    ),
    Case("LOAD TIMESERIES 'file.csv' root.sg", None, code=703),
]


@pytest.mark.parametrize("case", STATEMENTS, ids=lambda case: case.sql)
def test_statement(case: Case, server: LocalServer, root: WireClient, user: WireClient) -> None:
    def call() -> int:
        return code_of(lambda: user.run(case.sql))

    check_wrong(server, root, case.needs, case.setup, call)
    if case.needs is not None:
        check_right(server, root, case.needs, case.setup, call, case.code)


@pytest.mark.parametrize(
    "case", [case for case in STATEMENTS if case.needs is None], ids=lambda case: case.sql
)
def test_root_may(case: Case, server: LocalServer, root: WireClient) -> None:
    clean(root)
    prepare(server, case.setup)
    assert code_of(lambda: root.run(case.sql)) == case.code


def test_every_kind_of_statement_is_in_the_table() -> None:
    context = ParseContext(zone="Z", now=0)
    tested = {type(parse(case.sql, context)) for case in STATEMENTS}
    kinds = {*get_args(Command), *get_args(ShowStatement), *get_args(ListStatement), Select}
    assert not kinds - tested
    assert Statement == Query | Command


def test_batches_check_each_statement(root: WireClient, user: WireClient) -> None:
    clean(root)
    grant(root, on("root.sg", P.INSERT_TIMESERIES))
    statements = [
        "INSERT INTO root.sg.d(time, s1) VALUES (1, 1)",
        "INSERT INTO root.other.d(time, s1) VALUES (1, 1)",
        "FLUSH",
    ]
    status = user.raw.executeBatchStatement(
        t.TSExecuteBatchStatementReq(user.session_id, statements)
    )
    assert [part.code for part in status.subStatus] == [200, REFUSED, REFUSED]
    assert root.query("SHOW STORAGE GROUP") == [["root.sg"]]
