from __future__ import annotations

import logging
import time

import pytest

from cluster.server.client_server import ClientServer, is_loopback
from cluster.threads import ThreadRegistry
from harness.local_database import LocalDatabase
from harness.local_server import LocalServer, cheap_hash
from harness.wire import StatusError


def wrong_login(server):
    with pytest.raises(StatusError) as caught:
        server.client("root", "wrong")
    return caught.value


def test_wrong_logins_are_slowed_and_right_ones_end_it():
    with LocalServer() as server:
        started = time.monotonic()
        errors = [wrong_login(server) for _ in range(5)]
        taken = time.monotonic() - started
        assert {error.code for error in errors} == {600}
        assert taken >= 0.75  # 0.25 and 0.5 s before the last two
        server.client().close()
        assert server.handler._throttle.wait_s("127.0.0.1", "root") == 0


def test_a_user_that_does_not_exist_is_slowed_like_others():
    with LocalServer() as server:
        for _ in range(3):
            with pytest.raises(StatusError):
                server.client("nobody", "wrong")
        assert server.handler._throttle.wait_s("127.0.0.1", "nobody") > 0


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("192.168.1.2", False),
        ("db.example.org", False),
    ],
)
def test_loopback(address, loopback):
    assert is_loopback(address) is loopback


@pytest.mark.parametrize(
    ("address", "password", "warned"),
    [("0.0.0.0", "root", True), ("127.0.0.1", "root", False), ("0.0.0.0", "changed", False)],
)
def test_the_default_password_is_warned_of(address, password, warned, caplog):
    threads = ThreadRegistry()
    database = LocalDatabase(root_hash=cheap_hash(password), rpc_address=address, rpc_port="0")
    with database, caplog.at_level(logging.WARNING):
        server = ClientServer(
            settings=database.settings,
            coordinator=database.coordinator,
            threads=threads,
            node_id=1,
            engine_stats=database.engine_stats,
        )
        server.start()
        server.stop()
    assert ("default password" in caplog.text) is warned
