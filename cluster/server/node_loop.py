"""The parts of a node that share its loop."""

from __future__ import annotations

from collections.abc import Callable

from cluster.closers import Closers
from cluster.coordinator.coordinator import Coordinator
from cluster.heap_ahead import heap_ahead
from cluster.log.node_log import NodeLog
from cluster.member.raft_member import RaftMember
from cluster.member.stream import PeerStreams
from cluster.raft.types import GroupId
from cluster.rpc.loop import FrameLoop
from cluster.rpc.server import LoopShare
from cluster.server.loop_raft import LoopRaft
from cluster.server.loop_rows import LoopRows
from cluster.server.loop_turn import LogTurn
from cluster.server.quick_inserts import QuickInserts
from cluster.threads import ThreadRegistry

_LOOP_END_S = 5.0


class NodeLoop:
    """Made before the servers.

    Attributes:
        streams: as given; they send what its thread has for other nodes.

    Args:
        loop: whose thread runs until after the servers have stopped.
        log: of the node.
        streams: of the node.
    """

    def __init__(self, loop: FrameLoop, log: NodeLog, streams: PeerStreams) -> None:
        self._loop = loop
        self._turn = LogTurn(loop, log, streams)
        self.streams = streams

    def share_of_nodes(
        self, find_member: Callable[[GroupId], RaftMember | None], answer_timeout_s: float
    ) -> LoopShare:
        """Return the data server's share."""
        return LoopShare(
            self._loop, LoopRaft(self._loop, self._turn, find_member, answer_timeout_s)
        )

    def share_of_clients(self, quick: QuickInserts, coordinator: Coordinator) -> LoopShare:
        """Return the client server's share."""
        writer = coordinator.row_writer(self._loop, self.streams, self._turn.propose)
        return LoopShare(self._loop, LoopRows(quick, writer))


def start_loop(
    make_streams: Callable[[FrameLoop], PeerStreams],
    log: NodeLog,
    threads: ThreadRegistry,
    closers: Closers,
) -> NodeLoop | None:
    """Start the thread that serves rows; None: this system has no such thing.

    Args:
        make_streams: to the other nodes.
        log: of the node.
        threads: run the loop, and what watches over it.
        closers: takes the loop's end.
    """
    if not FrameLoop.is_possible():
        return None
    loop = FrameLoop(lambda run: threads.spawn("row-loop", run))
    made = NodeLoop(loop, log, make_streams(loop))
    ahead = heap_ahead()
    if ahead is not None:
        loop.each_turn(ahead.look)
        loop.before_end(ahead.close)
    threads.spawn("row-loop", loop.run)
    threads.spawn("row-loop-watch", loop.watch_over)

    def stop() -> None:
        loop.stop()
        loop.wait_for_end(_LOOP_END_S)

    closers.add(stop)
    return made
