"""Before anything is sent to a node, it must be the one that is known by that id."""

# ruff: noqa: N802 - methods have the names of the IDL

from __future__ import annotations

import logging

import pytest

from cluster.config.settings import Settings
from cluster.member.address_book import AddressBook
from cluster.member.services import MemberServices
from cluster.partition.node_info import NodeInfo
from cluster.raft.types import NodeId
from cluster.rpc import convert_raft
from cluster.rpc.client_pool import RpcError
from cluster.rpc.deadline import Deadline
from cluster.rpc.gen.cluster import MetaGroupService
from cluster.rpc.gen.cluster import ttypes as c
from cluster.rpc.server import ServerLimits, ThriftServer
from cluster.threads import ThreadRegistry

VOTE = c.VoteRequest(1, 2, 3, 4, 5, 6, False, False)
PEER = NodeId(2)


class Peer:
    """Says who it is, and notes which calls came."""

    def __init__(self):
        self.info = NodeInfo(PEER, "127.0.0.1", 1, 1, "", 1, "first")
        self.votes = 0

    def sendHeartbeat(self, batch):
        assert not batch.heartbeats
        return c.HeartbeatBatchResponse(convert_raft.node_info_to_wire(self.info), [], 1)

    def startElection(self, request):
        self.votes += 1
        return c.VoteResponse(request.term, True, False, True)


@pytest.fixture
def peer():
    handler = Peer()
    threads = ThreadRegistry()
    server = ThriftServer(
        "test", MetaGroupService.Processor(handler), "127.0.0.1", 0, threads, ServerLimits()
    )
    server.start()
    handler.port = server.port
    yield handler
    server.stop()
    assert threads.join_all(5) == []


@pytest.fixture(params=["members", "coordinator"])
def ask(peer, request):
    """Asks the peer for a vote over a new connection."""
    book = AddressBook(NodeInfo(NodeId(1), "127.0.0.1", 1, 1, "", 1, "own"))
    book.add_seed(PEER, "127.0.0.1", peer.port)
    services = MemberServices(
        settings=Settings.load(None, {}),
        node_id=NodeId(1),
        process=1,
        address_book=book,
        threads=ThreadRegistry(),
    )

    def ask():
        channel, pool = services._channel("meta", PEER), services.pool("meta")
        try:
            if request.param == "members":
                channel.call("startElection", VOTE, timeout_s=10)
            else:
                pool.call(PEER, "startElection", VOTE, deadline=Deadline.after(10))
        finally:
            channel.close()
            pool.close()

    ask.book = book
    return ask


def test_a_node_that_was_never_met_is_sent_to(ask, peer):
    ask()
    assert peer.votes == 1


def test_the_node_that_is_known_is_sent_to(ask, peer):
    ask.book.recall(peer.info._replace(meta_port=peer.port))
    ask()
    assert peer.votes == 1


@pytest.mark.parametrize("change", [{"incarnation": "second"}, {"node_id": NodeId(3)}])
def test_nothing_is_sent_to_another_node_at_its_address(ask, peer, change, caplog):
    ask.book.recall(peer.info._replace(meta_port=peer.port))
    peer.info = peer.info._replace(**change)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            with pytest.raises(RpcError, match=r"another data folder .* in place of node 2"):
                ask()
    assert peer.votes == 0
    assert len(caplog.records) == 1
