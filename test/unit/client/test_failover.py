from __future__ import annotations

import threading
import time

import pytest

import iotdb_client
from cluster.rpc.gen.client.ttypes import TSStatus
from harness.fake_database import FakeDatabase, Table, serving, wait_until
from iotdb_client.types import DataType

ROWS = Table(["s"], ["INT64"], [(number,) for number in range(25)], times=list(range(25)))
INSERT = "insert into root.d(time, s) values (1, 2)"


@pytest.fixture
def two():
    """Two servers with the same results, and a connection to both that is at the first."""
    first, second = FakeDatabase(), FakeDatabase()
    for database in (first, second):
        database.results["select"] = database.results["q"] = ROWS
    with (
        serving(first) as port,
        serving(second) as other,
        iotdb_client.connect(
            f"127.0.0.1:{port},127.0.0.1:{other}", fetch_size=10, retry_s=3, zone="UTC"
        ) as connection,
    ):
        yield first, second, connection


@pytest.mark.parametrize("statement", ["select", INSERT])
def test_what_may_be_repeated_goes_on_at_the_next_host(two, statement):
    first, second, connection = two
    first.swallow.add(statement)
    cursor = connection.execute(statement)
    assert (first.statements, second.statements) == ([statement], [statement])
    if statement == "select":
        assert len(cursor.fetchall()) == 25
    connection.execute("set x")
    assert second.statements[-1] == "set x"  # and stays there
    assert not connection.closed


@pytest.mark.parametrize(
    "statement",
    [
        "create timeseries root.d.s INT64",
        "insert into root.d(s) values (2)",
        "insert into root.d(time, s) values (now(), 2)",
        "select s into t from root.d",
        "delete from root.d.s where time < now()",
    ],
)
def test_what_may_not_is_reported(two, statement):
    first, second, connection = two
    first.swallow.add(statement)
    with pytest.raises(iotdb_client.OperationalError, match="lost") as caught:
        connection.execute(statement)
    assert not caught.value.definite
    assert second.statements == []
    connection.execute("set x")
    assert second.statements == ["set x"]


def test_tablets_go_on_at_the_next_host(two):
    first, second, connection = two
    first.swallow.add("tablet")
    connection.insert_tablet("root.d", ["s"], [DataType.INT64], [1, 2], [[3, 4]])
    assert len(first.tablets) == len(second.tablets) == 1
    assert first.tablets[0].values == second.tablets[0].values


@pytest.mark.parametrize("code", [700, 702, 706])
def test_a_certain_refusal_for_want_of_a_leader_is_tried_elsewhere(two, code):
    first, second, connection = two
    first.results["create it"] = TSStatus(code=code, message="no leader")
    connection.execute("create it")
    assert (first.statements, second.statements) == (["create it"], ["create it"])


@pytest.mark.parametrize(("statement", "repeated"), [("create it", False), (INSERT, True)])
def test_an_unknown_outcome_is_repeated_only_where_that_is_safe(two, statement, repeated):
    first, second, connection = two
    first.results[statement] = TSStatus(code=701, message="not known")
    if repeated:
        connection.execute(statement)
    else:
        with pytest.raises(iotdb_client.OperationalError) as caught:
            connection.execute(statement)
        assert (caught.value.status, caught.value.definite) == (701, False)
    assert bool(second.statements) == repeated


def test_a_refusal_after_a_try_of_unknown_outcome_tells_nothing_of_that(two):
    first, second, connection = two
    first.swallow.add(INSERT)
    second.results[INSERT] = TSStatus(code=303, message="no")
    with pytest.raises(iotdb_client.ProgrammingError) as caught:
        connection.execute(INSERT)
    assert (caught.value.status, caught.value.definite) == (303, False)
    with pytest.raises(iotdb_client.ProgrammingError) as caught:
        connection.execute(INSERT)
    assert caught.value.definite is True  # that of another statement


def test_other_refusals_stay_where_they_are(two):
    first, second, connection = two
    first.results["bad"] = TSStatus(code=401, message="what?")
    with pytest.raises(iotdb_client.ProgrammingError):
        connection.execute("bad")
    assert second.logins == []


def test_the_rest_of_a_result_is_lost_with_its_server(two):
    first, _, connection = two
    cursor = connection.execute("q")
    assert cursor.fetchone() == (0, 0)
    first.swallow.add("x")
    with pytest.raises(iotdb_client.OperationalError):
        connection.execute("x")
    with pytest.raises(iotdb_client.OperationalError, match="run the query again") as caught:
        cursor.fetchall()
    assert caught.value.definite
    cursor.close()
    assert len(connection.execute("q").fetchall()) == 25


def test_a_table_starts_over_since_nothing_was_handed_out(two):
    first, second, connection = two
    cursor = connection.execute("select")
    first.swallow.add("x")
    with pytest.raises(iotdb_client.OperationalError):
        connection.execute("x")
    assert cursor.to_arrow(times="int").column("s").to_pylist() == list(range(25))
    assert second.statements == ["select"]


def test_hosts_that_are_all_gone_are_tried_for_a_while():
    database = FakeDatabase()
    with serving(database) as port:
        connection = iotdb_client.connect(f"127.0.0.1:{port},127.0.0.1:{port}", retry_s=0.5)
    start = time.monotonic()
    with pytest.raises(iotdb_client.OperationalError) as caught:
        connection.execute("select")
    assert time.monotonic() - start > 0.4
    assert caught.value.definite
    connection.close()


def test_a_connection_that_ended_while_it_was_idle_costs_no_statement():
    """A server that was started anew since has certainly not got what was not sent."""
    first, second = FakeDatabase(), FakeDatabase()
    with serving(first) as port:
        connection = iotdb_client.connect(f"127.0.0.1:{port}", zone="UTC")
        connection.execute("create it")
    with serving(second, port):
        connection.execute("create it, too")
        connection.execute("and this")
        connection.close()
    assert (first.statements, second.statements) == (["create it"], ["create it, too", "and this"])
    assert len(second.logins) == 1


def test_a_single_host_is_asked_once_more_and_no_longer():
    database = FakeDatabase()
    database.results["select"] = ROWS
    with serving(database) as port, iotdb_client.connect(f"127.0.0.1:{port}") as connection:
        database.swallow.add("select")
        with pytest.raises(iotdb_client.OperationalError, match="lost"):
            connection.execute("select")
        assert database.statements == ["select", "select"]
        database.swallow.clear()
        assert len(connection.execute("select").fetchall()) == 25


def test_cancel_names_the_session_that_waits():
    database = FakeDatabase(hang=threading.Event())
    with serving(database) as port, iotdb_client.connect(f"127.0.0.1:{port}") as connection:
        worker = threading.Thread(target=lambda: connection.execute("hang"))
        worker.start()
        wait_until(lambda: database.statements)
        connection.cancel()
        worker.join(10)
        assert not worker.is_alive()
        (request,) = database.cancelled
        assert (request.sessionId, request.queryId) == (connection.session._session_id, -1)


def test_a_cancel_that_reaches_nobody_says_so(monkeypatch):
    with (
        serving(FakeDatabase()) as port,
        iotdb_client.connect(f"127.0.0.1:{port}") as connection,
    ):
        another = connection.session._another_transport

        def broken(transport):
            made = another(transport)
            made.close()  # lost before the login on it
            return made

        monkeypatch.setattr(connection.session, "_another_transport", broken)
        with pytest.raises(iotdb_client.OperationalError, match="not cancelled"):
            connection.cancel()
