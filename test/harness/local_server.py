"""The client's side of one node, on a real socket: handlers and coordinator over a LocalDatabase.

For tests of what a request does for its session and user, without Raft and without processes. The
database is not thread-safe: one client at a time may have a request under way.
"""

from __future__ import annotations

from functools import lru_cache

from cluster.auth.users import hash_password
from cluster.plan.plans import RegisterNodePlan
from cluster.rpc.deadline import Deadline
from cluster.rpc.gen.client import IClientRPCService
from cluster.rpc.server import Connection, ServerLimits, ThriftServer
from cluster.server.client_server import ClientHandler
from cluster.server.quick_answers import QuickAnswers
from cluster.threads import ThreadRegistry
from harness.local_database import LocalDatabase
from harness.wire import WireClient


@lru_cache
def cheap_hash(password: str) -> str:
    """Return a hash of a password, the same for every server of a test run: it takes 50 ms."""
    return hash_password(password)


class LocalServer:
    """Use as a context manager; `overrides` are properties."""

    def __init__(self, **overrides: str) -> None:
        self.database = LocalDatabase(root_hash=cheap_hash("root"), **overrides)
        node = RegisterNodePlan(1, "one", "127.0.0.1", 1, 2, "127.0.0.1", 3)
        self.database.coordinator.change_meta(node, Deadline.after(10))
        self._threads = ThreadRegistry()
        settings, coordinator = self.database.settings, self.database.coordinator
        self.handler = ClientHandler(
            settings,
            coordinator,
            self.database.node_report,
        )
        quick = QuickAnswers(self.handler)
        self.quick = quick.inserts
        self._server = ThriftServer(
            "local",
            IClientRPCService.Processor(self.handler),
            "127.0.0.1",
            0,
            self._threads,
            ServerLimits(),
            on_disconnect=self.handler.sessions.end,
            quick=quick.answer,
        )

    def __enter__(self) -> LocalServer:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()
        self.database.close()

    def connections(self) -> list[Connection]:
        """The connections being served."""
        return self._server.connections()

    def client(self, user: str = "root", password: str = "root", **options: str) -> WireClient:
        """Log in."""
        return WireClient(self._server.port, user=user, password=password, timeout_s=120, **options)
