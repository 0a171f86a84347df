from __future__ import annotations

import os
import threading

import pytest

import iotdb_client
from harness.fake_database import wait_until
from harness.joining import join_all


@pytest.fixture
def pool(port):
    with iotdb_client.ConnectionPool(
        f"127.0.0.1:{port}", max_size=2, wait_s=0.2, zone="UTC"
    ) as made:
        yield made


def test_connections_are_used_again(database, pool):
    with pool.connection() as one:
        one.execute("x")
    with pool.connection() as other:
        assert other is one
    assert (pool.size, len(database.logins)) == (1, 1)


def test_who_wants_one_too_many_waits(pool):
    with pool.connection() as one, pool.connection() as two:
        assert one is not two
        with pytest.raises(iotdb_client.OperationalError, match="all 2 are in use"):
            pool.take()
    assert pool.size == 2


def test_a_waiting_thread_gets_what_is_given_back(pool):
    pool._wait_s = 10
    taken = [pool.take(), pool.take()]
    got = []
    worker = threading.Thread(target=lambda: got.append(pool.take()))
    worker.start()
    pool.give_back(taken[0])
    join_all(worker)
    assert got == [taken[0]]
    pool.give_back(taken[1])
    pool.give_back(got[0])


def test_closed_connections_make_room(database, pool):
    with pool.connection() as one:
        one.close()
    assert pool.size == 0
    with pool.connection() as other:
        assert other is not one


def test_stale_connections_are_not_used_again(database, pool):
    with pool.connection() as one:
        pass
    pool._max_idle_s = -1
    with pool.connection() as other:
        assert other is not one
    assert one.closed
    wait_until(lambda: database.closed_sessions == 1)


def test_a_closed_pool(pool):
    taken = pool.take()
    pool.close()
    with pytest.raises(iotdb_client.InterfaceError, match="closed"):
        pool.take()
    pool.give_back(taken)
    assert taken.closed
    assert pool.size == 0


def test_a_failed_connect_frees_its_place():
    with iotdb_client.ConnectionPool("127.0.0.1:1", max_size=1, timeout_s=1) as pool:
        for _ in range(2):
            with pytest.raises(iotdb_client.OperationalError, match="no connection"):
                pool.take()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of later Pythons
def test_a_forked_process_makes_connections_of_its_own(database, pool):
    with pool.connection() as one:
        one.execute("x")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with pytest.raises(iotdb_client.InterfaceError, match="its parent's"):
                one.execute("x")
            one.close()
            with pool.connection() as other:
                other.execute("x")
            os.write(writer, f"{other is not one} {pool.size}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as said:
        assert said.read() == "True 1"
    os.waitpid(child, 0)
    one.execute("x")  # the parent's goes on
    assert len(database.logins) == 2
