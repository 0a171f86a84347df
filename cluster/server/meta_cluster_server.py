"""MetaClusterServer: the Thrift server on `internal_meta_port`."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from typing import Any

from cluster.config.agreement import compare
from cluster.config.settings import Settings
from cluster.member.address_book import AddressBook
from cluster.member.meta_member import META_GROUP_ID, MetaMember
from cluster.member.raft_member import RaftMember
from cluster.partition.node_info import NodeInfo
from cluster.raft.types import GroupId
from cluster.rpc import convert_raft
from cluster.rpc.gen.cluster import MetaGroupService
from cluster.rpc.gen.cluster.ttypes import (
    CheckStatusResponse,
    ConfigMismatch,
    MemberStatus,
    NodeStatus,
    StartUpStatus,
    VerifyAnswer,
)
from cluster.rpc.server import ServerLimits, ThriftServer
from cluster.server.quick_indexes import QuickIndexes
from cluster.server.raft_handler import RaftHandler
from cluster.threads import ThreadRegistry
from iotdb_engine.errors import EngineError
from iotdb_engine.verify_report import Report

logger = logging.getLogger(__name__)

PROTOCOL_VERSION = 1
_MOST_FAULTS = 1000
"""In one answer; what is counted is counted whole."""


class MetaHandler(RaftHandler):
    """MetaGroupService. Answers start-up checks before there is a member (steps 2 to 5)."""

    def __init__(
        self,
        *,
        settings: Settings,
        address_book: AddressBook,
        answer_timeout_s: float,
        node_status: Callable[[], tuple[list[RaftMember], dict[str, str]]],
        verify: Callable[[], Report],
    ) -> None:
        super().__init__(
            find_member=self.find_member,
            address_book=address_book,
            answer_timeout_s=answer_timeout_s,
        )
        self._settings = settings
        self._node_status = node_status
        self._verify = verify
        self._verifying = threading.Lock()
        self.member: MetaMember | None = None

    def find_member(self, group_id: GroupId) -> RaftMember | None:
        """Return the meta group's member, of that group."""
        return self.member if group_id == META_GROUP_ID else None

    def heartbeat_extra(self, member: RaftMember, wire: Any) -> int | None:  # noqa: ANN401
        """Take the partition table that a heartbeat ships; answer with the version held."""
        return self.member.heartbeat_received(wire) if self.member is not None else None

    def checkStatus(self, status: StartUpStatus) -> CheckStatusResponse:  # noqa: N802
        """Compare the asker's settings with this node's (start-up step 3 of the asker)."""
        if status.protocolVersion not in (None, PROTOCOL_VERSION):
            return self._refused(
                f"protocol version {status.protocolVersion} of the starting node differs from "
                f"{PROTOCOL_VERSION} here: run the same release on all nodes"
            )
        try:
            asker = _asker(status)
        except ValueError as error:
            return self._refused(f"the start-up check of the starting node makes no sense: {error}")
        mismatches = compare(
            self._settings.cluster.as_map(),
            status.settings,
            # whoever holds the table has met the others; seeds may name new addresses since
            compare_seeds=not status.hasPartitionTable,
        )
        refusal = None
        known = self._address_book.get(asker.node_id)
        if known is not None and known.incarnation and known.incarnation != asker.incarnation:
            refusal = (
                f"node {asker.node_id} ({asker.internal_ip}:{asker.meta_port}) is known with "
                "another data folder: it has lost its data or runs from the wrong data_dir. "
                "Start it with its original data_dir"
            )
        if refusal is None and not mismatches:
            self._address_book.learn(asker)
        return CheckStatusResponse(
            responder=convert_raft.node_info_to_wire(self._address_book.own),
            mismatches=[
                ConfigMismatch(key=item.key, askerValue=item.theirs, responderValue=item.mine)
                for item in mismatches
            ],
            refusal=refusal,
            knownNodes=[
                convert_raft.node_info_to_wire(info)
                for info in self._address_book.all()
                if info.incarnation
            ],
        )

    def _refused(self, why: str) -> CheckStatusResponse:
        """Answer a start-up check of which nothing else is to be said."""
        return CheckStatusResponse(
            responder=convert_raft.node_info_to_wire(self._address_book.own),
            mismatches=[],
            refusal=why,
            knownNodes=[],
        )

    def verifyData(self) -> VerifyAnswer:  # noqa: N802
        """Check what this node has stored, for nodetool; one at a time, since it reads it all."""
        if not self._verifying.acquire(blocking=False):
            return VerifyAnswer(refusal="this node is verifying already")
        try:
            report = self._verify()
            plain = {**report.to_json(), "text": report.lines()[: _MOST_FAULTS + 1]}
            plain["faults"] = plain["faults"][:_MOST_FAULTS]
            return VerifyAnswer(report=json.dumps(plain))
        except EngineError as error:
            return VerifyAnswer(refusal=str(error))
        finally:
            self._verifying.release()

    def queryNodeStatus(self) -> NodeStatus:  # noqa: N802
        """Report this node's members, for nodetool."""
        members, stats = self._node_status()
        table = self.member.state.partition_table if self.member is not None else b""
        return NodeStatus(
            node=convert_raft.node_info_to_wire(self._address_book.own),
            members=[_member_status(member) for member in members],
            knownNodes=[convert_raft.node_info_to_wire(info) for info in self._address_book.all()],
            partitionTable=table or None,
            stats=stats,
        )


def _asker(status: StartUpStatus) -> NodeInfo:
    """Return who asks for a start-up check.

    Raises:
        ValueError: a field is missing, which the generated code lets pass, or is out of range.
    """
    if status.protocolVersion is None:
        raise ValueError("the protocol version is missing")
    if status.settings is None:
        raise ValueError("the settings are missing")
    if status.hasPartitionTable is None:
        raise ValueError("whether it has a partition table is missing")
    return convert_raft.node_info_from_wire(status.node, NodeInfo)


def _member_status(member: RaftMember) -> MemberStatus:
    status = member.status()
    return MemberStatus(
        groupId=member.group_id,
        role=member.role.name,
        term=status["term"],
        leader=status["leader"],
        commitIndex=status["commit"],
        appliedIndex=member.applied_index,
        lastIndex=status["last"],
        voters=list(member.membership.voters),
        durableIndex=member.durable_index,
        firstIndex=status["first"],
    )


class MetaClusterServer:
    """Owns the meta port: opened first, closed last."""

    def __init__(
        self,
        handler: MetaHandler,
        host: str,
        port: int,
        threads: ThreadRegistry,
        limit: ServerLimits,
    ) -> None:
        self.handler = handler
        self._server = ThriftServer(
            "meta",
            MetaGroupService.Processor(handler),
            host,
            port,
            threads,
            limit,
            quick=QuickIndexes(handler.find_member).answer,
        )

    def start(self) -> int:
        """Listen; return the port."""
        self._server.start()
        return self._server.port

    def stop(self) -> None:
        """Close every connection and stop."""
        self._server.stop()
