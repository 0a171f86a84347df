"""ClientServer: the Thrift server on `rpc_port` that speaks the family's client protocol."""

from __future__ import annotations

import ipaddress
import logging
import time
from collections.abc import Callable, Mapping

from cluster.auth.privileges import ADMINISTRATOR
from cluster.auth.users import verify_password
from cluster.config.settings import Settings
from cluster.coordinator.coordinator import Coordinator
from cluster.rpc.gen.client import IClientRPCService
from cluster.rpc.server import ServerLimits, ThriftServer
from cluster.server.continuous_queries import ContinuousQueries
from cluster.server.insert_methods import InsertMethods
from cluster.server.node_loop import NodeLoop
from cluster.server.node_methods import NodeMethods
from cluster.server.node_report import NodeReport
from cluster.server.quick_answers import QuickAnswers
from cluster.server.running_queries import RunningQueries
from cluster.server.schema_methods import SchemaMethods
from cluster.server.session_methods import SessionMethods
from cluster.server.statement_executor import VERSION
from cluster.server.statement_methods import StatementMethods
from cluster.server.template_methods import TemplateMethods
from cluster.sql.parser import warm_up
from cluster.threads import ThreadRegistry

logger = logging.getLogger(__name__)

DEFAULT_PASSWORD = "root"
"""Of the user root, unless `initial_root_password` says otherwise or it was changed."""


def prepare() -> None:
    """Build the grammars, or the first statement would wait for them: 0.2 s, once in a process."""
    warm_up()


class ClientHandler(
    SessionMethods, StatementMethods, InsertMethods, SchemaMethods, TemplateMethods, NodeMethods
):
    """Every method of the IDL; what is not in it is answered UNKNOWN_METHOD."""


class ClientServer:
    """Opened last (start-up step 15), closed first."""

    def __init__(
        self,
        *,
        settings: Settings,
        coordinator: Coordinator,
        threads: ThreadRegistry,
        node_id: int,
        engine_stats: Callable[[], Mapping[str, int]],
        loop: NodeLoop | None = None,
    ) -> None:
        node = settings.node

        def report(running: RunningQueries) -> NodeReport:
            return NodeReport(
                settings=settings,
                coordinator=coordinator,
                running=running,
                node_id=node_id,
                engine_stats=engine_stats,
            )

        self._address = node.rpc_address
        self._coordinator = coordinator
        handler = self._handler = ClientHandler(settings, coordinator, report)
        self._running = handler.executor.running
        self._threads = threads
        self._continuous = ContinuousQueries(
            coordinator,
            version=VERSION,
            precision=settings.cluster.timestamp_precision,
            leads=lambda: coordinator.leads_meta,
        )
        quick = QuickAnswers(handler)
        self._server = ThriftServer(
            "client",
            IClientRPCService.Processor(handler),
            node.rpc_address,
            node.rpc_port,
            threads,
            ServerLimits(
                max_frame_bytes=node.thrift_max_frame_size,
                max_connections=node.rpc_max_concurrent_client_num,
            ),
            on_disconnect=handler.sessions.end,
            on_idle=lambda connection: handler.sessions.expire(
                connection, time.monotonic() - connection.idle_since
            ),
            quick=quick.answer,
            share=None if loop is None else loop.share_of_clients(quick.inserts, coordinator),
        )

    def start(self) -> int:
        """Listen; return the port."""
        prepare()
        self._server.start()
        self._warn_of_default_password()
        self._continuous.start(self._threads)
        self._threads.spawn("query-watch", self._running.watch)
        return self._server.port

    def _warn_of_default_password(self) -> None:
        if is_loopback(self._address):
            return
        stored = self._coordinator.meta_state.password_hash(ADMINISTRATOR)
        if stored is not None and verify_password(DEFAULT_PASSWORD, stored):
            logger.warning(
                "the user root still has its default password, and clients on other machines can "
                "reach %s: run ALTER USER root SET PASSWORD '…'",
                self._address,
            )

    def stats(self) -> dict[str, int]:
        """Return how many clients are connected, and how many queries are open."""
        return {
            "connections": self._server.connection_count(),
            "queries": len(self._running.running()),
        }

    def stop(self) -> None:
        """Close every connection and stop."""
        self._continuous.stop()
        self._running.stop()
        self._server.stop()
        self._handler.executor.functions.close()


def is_loopback(address: str) -> bool:
    """Return whether only programs of this machine can connect to an address."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
