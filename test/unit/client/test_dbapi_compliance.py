"""The public suite dbapi-compliance, over the wire and embedded.

Its statements are of SQL tables, which this database does not have: a row gets a device for its
table and a new time, and Time is left out of results. Everything else is the suite's and the
driver's.
"""

from __future__ import annotations

import itertools
import re

import dbapi20
import pytest

import iotdb_client
from cluster.config.settings import Settings
from cluster.main import ClusterMain
from harness.ports import free_ports

_INSERT = re.compile(r"insert into (?P<table>\w+) values \((?P<values>.*)\)", re.IGNORECASE)
_SELECT = re.compile(r"select (?P<names>[\w, ]+) from (?P<table>\w+)", re.IGNORECASE)
_CREATE = re.compile(r"create table (?P<table>\w+) \((?P<columns>.*)\)", re.IGNORECASE)
_DROP = re.compile(r"drop table (?P<table>\w+)", re.IGNORECASE)
_COLUMNS = {"booze": ["name"], "barflys": ["name", "drink"]}
_TIMES = itertools.count(1)


def columns_of(table):
    return next(columns for name, columns in _COLUMNS.items() if table.endswith(name))


def as_series(sql):
    """Say a statement of the suite in this dialect."""
    device = "root.suite.{}".format
    if match := _CREATE.fullmatch(sql):
        names = columns_of(match["table"])
        series = ", ".join(f"{name} TEXT" for name in names)
        return f"create aligned timeseries {device(match['table'])}({series})"
    if match := _DROP.fullmatch(sql):
        return f"delete timeseries {device(match['table'])}.*"
    if match := _SELECT.fullmatch(sql):
        names = ", ".join(f"{name} as {name}" for name in re.split(r"\s*,\s*", match["names"]))
        return f"select {names} from {device(match['table'])}"
    if match := _INSERT.fullmatch(sql):
        names = ", ".join(columns_of(match["table"]))
        time = next(_TIMES)
        target = f"{device(match['table'])}(time, {names})"
        return f"insert into {target} aligned values ({time}, {match['values']})"
    return sql


class SuiteCursor(iotdb_client.Cursor):
    def execute(self, operation, parameters=None):
        return super().execute(as_series(operation), parameters)

    def executemany(self, operation, seq_of_parameters):
        match = _INSERT.fullmatch(operation)
        names = ", ".join(columns_of(match["table"]))
        marks = match["values"]
        time = ":time" if ":" in marks else "?"
        target = f"root.suite.{match['table']}(time, {names})"
        sql = f"insert into {target} aligned values ({time}, {marks})"
        return super().executemany(
            sql,
            [
                {**row, "time": next(_TIMES)} if isinstance(row, dict) else (next(_TIMES), *row)
                for row in seq_of_parameters
            ],
        )


class SuiteConnection(iotdb_client.Connection):
    def cursor(self):
        if self.closed:
            raise iotdb_client.InterfaceError("the connection is closed")
        return SuiteCursor(self)


class Suite(dbapi20.DatabaseAPI20Test):
    driver = iotdb_client
    where = ""

    def _connect(self):
        made = iotdb_client.connect(self.where, zone="UTC", time_column=False)
        connection = SuiteConnection(made.info, time_column=False)
        connection.session.open()
        made.close()
        self.addCleanup(connection.close)  # some tests of the suite leave theirs open
        return connection

    def test_non_idempotent_close(self):
        """To close twice is allowed, as psycopg and sqlite3 have it; the suite calls this open."""
        connection = self._connect()
        connection.close()
        connection.close()

    def test_None(self):  # noqa: N802 - the suite's name
        """As the suite's, but with the other column in the result: nulls alone make no row here."""
        connection = self._connect()
        cursor = connection.cursor()
        self.executeDDL2(cursor)
        cursor.execute(f"insert into {self.table_prefix}barflys values ('a', NULL)")
        cursor.execute(f"select name, drink from {self.table_prefix}barflys")
        assert cursor.fetchall() == [("a", None)]

    def test_nextset(self):
        """An optional method; the suite has no test of its own."""

    def test_setoutputsize(self):
        """See test_setoutputsize_basic; this one is for drivers to extend."""

    def test_callproc(self):
        """There are no procedures, so the optional method is absent."""
        assert not hasattr(iotdb_client.Cursor, "callproc")

    def test_rollback(self):
        """There are no transactions: the optional method says so."""
        connection = self._connect()
        with pytest.raises(iotdb_client.NotSupportedError):
            connection.rollback()
        connection.close()


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    rpc, meta, data = free_ports(3)
    node = ClusterMain(
        Settings.load(
            None,
            {
                "data_dir": str(tmp_path_factory.mktemp("node")),
                "rpc_port": str(rpc),
                "internal_meta_port": str(meta),
                "internal_data_port": str(data),
                "seed_nodes": f"127.0.0.1:{meta}",
            },
        )
    )
    node.start()
    yield rpc
    node.stop()


class TestOverTheWire(Suite):
    @pytest.fixture(autouse=True)
    def _server(self, port):
        type(self).where = f"127.0.0.1:{port}"


class TestEmbedded(Suite):
    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _folder(cls, tmp_path_factory):
        cls.where = str(tmp_path_factory.mktemp("embedded"))


del Suite
