from __future__ import annotations

import datetime as dt
import pickle
import socket
import threading

import pytest

import iotdb_client
from cluster.rpc.gen.client.ttypes import TSStatus
from harness.fake_database import Table, wait_until
from iotdb_client.errors import error_of
from iotdb_client.types import DataType

LONG = Table(["s"], ["INT64"], [(number * 2,) for number in range(25)], times=list(range(25)))


@pytest.fixture
def connection(port):
    with iotdb_client.connect(f"jdbc:iotdb://127.0.0.1:{port}/", fetch_size=10, zone="UTC") as made:
        yield made


def test_module_globals():
    assert (iotdb_client.apilevel, iotdb_client.paramstyle) == ("2.0", "qmark")
    assert iotdb_client.threadsafety == 2
    for name in iotdb_client.__all__:
        assert hasattr(iotdb_client, name)


def test_the_session_announces_itself(database, connection):
    (login,) = database.logins
    assert (login.username, login.password, login.zoneId) == ("root", "root", "UTC")
    assert login.client_protocol == 2
    assert login.configuration == {
        "version": "V_0_13",
        "result_layout": "columnar-1",
        "result_pages": "joined",
    }
    connection.close()
    connection.close()
    assert database.closed_sessions == 1
    assert connection.closed


def test_a_result_of_all_types(database, connection):
    types = ["BOOLEAN", "INT32", "INT64", "FLOAT", "DOUBLE", "TEXT"]
    row = (True, 1, 2**40, 1.5, 0.1, "hä")
    database.results["q"] = Table(list("bilfdt"), types, [row, (None,) * 6], times=[10, 20])
    cursor = connection.cursor().execute("q")
    assert cursor.fetchall() == [(10, *row), (20, *[None] * 6)]
    assert [(column[0], column[1]) for column in cursor.description] == [
        ("Time", "TIMESTAMP"),
        *zip("bilfdt", types, strict=True),
    ]
    kinds = [column.type_code for column in cursor.description]
    assert kinds[0] == iotdb_client.DATETIME
    assert kinds[6] == iotdb_client.STRING
    assert all(kind == iotdb_client.NUMBER for kind in kinds[1:6])
    assert kinds[6] != iotdb_client.NUMBER
    assert all(len(column) == 7 for column in cursor.description)


def test_pages_are_fetched_as_they_are_needed(database, connection):
    database.results["q"] = LONG
    cursor = connection.cursor()
    cursor.execute("q")
    assert [cursor.fetchone() for _ in range(10)] == [(n, n * 2) for n in range(10)]
    assert database.fetches == 0
    assert cursor.fetchmany(13) == [(n, n * 2) for n in range(10, 23)]
    assert database.fetches == 2
    assert cursor.fetchmany() == [(23, 46)]  # arraysize is 1
    assert cursor.fetchall() == [(24, 48)]
    assert cursor.fetchone() is None
    assert cursor.fetchmany(5) == []
    assert cursor.fetchall() == []
    assert database.fetches == 3
    cursor.close()
    assert database.closed_queries == []  # read to its end: nothing to release


def test_iteration(database, connection):
    database.results["q"] = LONG
    assert list(connection.cursor().execute("q")) == [(n, n * 2) for n in range(25)]


def test_an_unread_result_is_released(database, connection):
    database.results["q"] = LONG
    cursor = connection.cursor().execute("q")
    cursor.execute("q")
    assert len(database.closed_queries) == 1
    with cursor:
        pass
    assert len(database.closed_queries) == 2


def test_rows_without_time_and_duplicate_columns(database, connection):
    database.results["q"] = Table(["a", "b", "a"], ["TEXT", "INT32", "TEXT"], [("x", 1, "x")])
    cursor = connection.cursor().execute("q")
    assert cursor.fetchall() == [("x", 1, "x")]


def test_an_empty_result_has_a_description(database, connection):
    database.results["q"] = Table(["a"], ["TEXT"], [], times=[])
    cursor = connection.cursor().execute("q")
    assert cursor.description is not None
    assert cursor.fetchall() == []
    assert cursor.rowcount == -1


def test_statements_without_result(connection):
    cursor = connection.cursor().execute("insert")
    assert cursor.description is None
    with pytest.raises(iotdb_client.ProgrammingError, match="no result set"):
        cursor.fetchone()


def test_parameters(database, connection):
    connection.cursor().execute("insert into root.d(time,s) values(?,?)", (1, "o'clock"))
    assert database.statements == [r"insert into root.d(time,s) values(1,'o\'clock')"]
    connection.cursor().execute("select '?'")
    assert database.statements[-1] == "select '?'"


def test_executemany_sends_batches(database, connection):
    connection.cursor().executemany("insert ?", ((n,) for n in range(2500)))
    assert database.statements == [f"insert {n}" for n in range(2500)]


def test_executemany_bounds_the_bytes_of_a_request(database, connection, monkeypatch):
    sizes = []
    send = connection.session.execute_batch
    monkeypatch.setattr(
        connection.session,
        "execute_batch",
        lambda batch, **options: (sizes.append(len(batch)), send(batch)),
    )
    connection.cursor().executemany("insert ?", [("x" * 1_500_000,)] * 5)
    assert sizes == [2, 2, 1]
    assert len(database.statements) == 5


def test_executemany_names_the_first_failure(database, connection):
    database.results["insert 2"] = TSStatus(code=401, message="no such word")
    with pytest.raises(iotdb_client.ProgrammingError, match=r"^row 3: .*1 of the 3") as e:
        connection.cursor().executemany("insert ?", [(0,), (1,), (2,)])
    assert (e.value.status, e.value.definite) == (401, False)


@pytest.mark.parametrize(
    ("code", "kind", "definite"),
    [
        (401, iotdb_client.ProgrammingError, True),
        (602, iotdb_client.ProgrammingError, True),
        (318, iotdb_client.DataError, True),
        (701, iotdb_client.OperationalError, False),
        (702, iotdb_client.OperationalError, True),
        (500, iotdb_client.InternalError, False),
        (703, iotdb_client.NotSupportedError, True),
        (506, iotdb_client.DatabaseError, False),
        (9999, iotdb_client.DatabaseError, True),
    ],
)
def test_errors_by_status(database, connection, code, kind, definite):
    database.results["q"] = TSStatus(code=code, message="why")
    with pytest.raises(kind) as caught:
        connection.cursor().execute("q")
    error = caught.value
    assert (error.status, error.definite, str(error)) == (code, definite, f"{code}: why")
    assert connection.cursor().execute("other").description is None  # the connection lives on


def test_errors_can_be_pickled():
    error = error_of(701, "late")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), again.status, again.definite) == ("701: late", 701, False)


def test_a_refused_login(port):
    with pytest.raises(iotdb_client.OperationalError, match="Authentication failed") as caught:
        iotdb_client.connect(f"127.0.0.1:{port}", "root", "wrong")
    assert caught.value.status == 600


def test_hosts_are_tried_in_order(database, port):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refuses
        dead = taken.getsockname()[1]
        with iotdb_client.connect(f"127.0.0.1:{dead},127.0.0.1:{port}") as connection:
            assert connection.session.port == port
        with pytest.raises(iotdb_client.OperationalError, match=f":{dead}") as caught:
            iotdb_client.connect(f"127.0.0.1:{dead}")
        assert caught.value.definite


def test_compact_protocol(database, port):
    database.results["q"] = LONG
    with iotdb_client.connect(f"jdbc:iotdb://127.0.0.1:{port}/?rpc_compress=true") as connection:
        assert len(connection.cursor().execute("q").fetchall()) == 25


def test_use_after_close(database, connection):
    database.results["q"] = LONG
    cursor = connection.cursor().execute("q")
    half_read = connection.cursor().execute("q")
    half_read.fetchone()
    closed = connection.cursor()
    closed.close()
    with pytest.raises(iotdb_client.InterfaceError, match="cursor is closed"):
        closed.execute("q")
    connection.close()
    with pytest.raises(iotdb_client.InterfaceError, match="connection is closed"):
        cursor.fetchmany(20)
    with pytest.raises(iotdb_client.InterfaceError, match="connection is closed"):
        half_read.fetchone()  # though the rows are here
    with pytest.raises(iotdb_client.InterfaceError, match="connection is closed"):
        connection.cursor()
    cursor.close()


def test_settings_change_for_what_follows(database, connection):
    connection.set_time_zone("+08:00")
    assert connection.info.zone == "+08:00"
    assert database.zones == ["+08:00"]
    assert connection.zone.utcoffset(None) == dt.timedelta(hours=8)
    connection.set_fetch_size(1)
    assert connection.info.fetch_size == 1
    connection.session.abandon()  # the next login has the new zone
    connection.execute("one")
    assert [login.zoneId for login in database.logins][-1] == "+08:00"
    with pytest.raises(iotdb_client.ProgrammingError, match="time zone"):
        connection.set_time_zone("Mars")
    with pytest.raises(iotdb_client.ProgrammingError, match="positive"):
        connection.set_fetch_size(0)


def test_no_transactions(connection):
    connection.commit()
    with pytest.raises(connection.NotSupportedError):
        connection.rollback()


def test_no_answer_in_time_costs_the_connection(database, port, monkeypatch):
    monkeypatch.setattr("iotdb_client.transport._ANSWER_GRACE_S", 0.1)
    database.hang = threading.Event()
    connection = iotdb_client.connect(f"127.0.0.1:{port}", timeout_s=0.1)
    with pytest.raises(iotdb_client.OperationalError, match="no answer in time") as caught:
        connection.cursor().execute("hang")
    database.hang.set()
    assert not caught.value.definite
    assert not connection.closed
    connection.execute("set something")  # on a connection of its own: a late answer is nobody's
    assert len(database.logins) == 2
    connection.close()


def test_threads_share_a_connection(database, connection):
    database.results["q"] = LONG
    found = []

    def work():
        found.extend(len(connection.cursor().execute("q").fetchall()) for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [25] * 80


def test_tablets(database, connection):
    connection.session.insert_tablet(
        "root.d", ["a", "b"], [DataType.INT32, DataType.TEXT], [1, 2], [[1, None], ["x", "y"]]
    )
    (sent,) = database.tablets
    assert (sent.prefixPath, sent.measurements, sent.types) == ("root.d", ["a", "b"], [1, 5])
    assert (sent.size, sent.isAligned) == (2, False)
    with pytest.raises(iotdb_client.DataError):
        connection.session.insert_tablet("root.d", ["a"], [DataType.INT32], [1], [[1], [2]])


def test_statements_that_are_no_unicode_do_not_cost_the_connection(connection):
    with pytest.raises(iotdb_client.DataError):
        connection.cursor().execute("select \ud800")
    assert not connection.closed


def test_a_server_that_goes_away(database):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        peers = []

        def accept():
            peer, _ = listener.accept()
            peer.recv(100)
            peers.append(peer)
            peer.close()

        thread = threading.Thread(target=accept)
        thread.start()
        here = f"127.0.0.1:{port}"
        gone = f"no connection to {here}: (Connection reset|the server closed it)"
        with pytest.raises(iotdb_client.OperationalError, match=gone):
            iotdb_client.connect(here)
        thread.join()
        wait_until(lambda: peers)
