"""A node's client server with its loop, in this process: one node on a real log, without peers."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from cluster.embedded import EmbeddedNode
from cluster.member.stream import PeerStreams
from cluster.rpc.gen.client import IClientRPCService
from cluster.rpc.loop import FrameLoop
from cluster.rpc.server import LoopShare, ServerLimits, ThriftServer
from cluster.server.node_loop import NodeLoop
from cluster.server.quick_inserts import QuickInserts
from harness.wire import WireClient


def _nobody(peer: int) -> NoReturn:
    raise AssertionError(f"there is no node {peer}")


class LoopedServer:
    """Use as a context manager.

    Attributes:
        node: what it serves.
        share: the server's share of the loop; its service may be replaced before a client comes.
    """

    def __init__(self, folder: Path) -> None:
        self.node = EmbeddedNode(folder)
        self._loop = FrameLoop(lambda run: self.node.threads.spawn("loop-relief", run))
        loop = NodeLoop(self._loop, self.node._log, PeerStreams(self._loop, _nobody))
        quick = QuickInserts(self.node.handler)
        self.share: LoopShare = loop.share_of_clients(quick, self.node.handler.coordinator)
        self._server = ThriftServer(
            "looped",
            IClientRPCService.Processor(self.node.handler),
            "127.0.0.1",
            0,
            self.node.threads,
            ServerLimits(),
            on_disconnect=self.node.handler.sessions.end,
            quick=quick.answer,
            share=self.share,
        )

    def __enter__(self) -> LoopedServer:
        self.node.threads.spawn("loop", self._loop.run)
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()
        self._loop.stop()
        self._loop.wait_for_end(20)
        self.node.close()

    def client(self, user: str = "root") -> WireClient:
        """Log in; passwords are not looked at."""
        return WireClient(self._server.port, user=user, timeout_s=120)
