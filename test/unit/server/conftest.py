"""A server, and clients of root and of a user without privileges, for the tables of privileges."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.local_server import LocalServer
from harness.privilege_levels import PASSWORD, USER, prepare
from harness.wire import WireClient


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with LocalServer() as started:
        prepare(started, [f"CREATE USER {USER} '{PASSWORD}'"])
        yield started


@pytest.fixture(scope="module")
def root(server: LocalServer) -> Iterator[WireClient]:
    with server.client() as client:
        yield client


@pytest.fixture(scope="module")
def user(server: LocalServer) -> Iterator[WireClient]:
    with server.client(USER, PASSWORD) as client:
        yield client
