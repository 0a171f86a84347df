"""DataClusterServer: the Thrift server on `internal_data_port`, for all data groups of the node."""

from __future__ import annotations

from cluster.member.address_book import AddressBook
from cluster.member.data_groups import DataGroups
from cluster.member.node_watch import NodeWatch
from cluster.member.raft_member import RaftMember
from cluster.raft.types import GroupId
from cluster.rpc.gen.cluster import DataGroupService
from cluster.rpc.server import LoopShare, ServerLimits, ThriftServer
from cluster.server.quick_indexes import QuickIndexes
from cluster.server.raft_handler import RaftHandler, Relay
from cluster.threads import ThreadRegistry


class DataClusterServer:
    """Demultiplexes requests to the node's DataMembers by group id."""

    def __init__(
        self,
        *,
        groups: DataGroups,
        address_book: AddressBook,
        answer_timeout_s: float,
        host: str,
        port: int,
        threads: ThreadRegistry,
        limits: ServerLimits,
        watch: NodeWatch,
        relay: Relay | None = None,
        meta_member: RaftMember | None = None,
        share: LoopShare | None = None,
    ) -> None:
        handler = RaftHandler(
            find_member=groups.get,
            address_book=address_book,
            answer_timeout_s=answer_timeout_s,
            process=watch.process,
            on_heard=watch.heard,
        )
        handler.relay = relay
        handler.beside = meta_member

        def find_member(group_id: GroupId) -> RaftMember | None:
            if meta_member is not None and group_id == meta_member.group_id:
                return meta_member
            return groups.get(group_id)

        self._server = ThriftServer(
            "data",
            DataGroupService.Processor(handler),
            host,
            port,
            threads,
            limits,
            quick=QuickIndexes(find_member).answer,
            share=share,
        )

    def start(self) -> int:
        """Listen; return the port."""
        self._server.start()
        return self._server.port

    def stop(self) -> None:
        """Close every connection and stop."""
        self._server.stop()
