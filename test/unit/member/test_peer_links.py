"""Links: heartbeats wait for no votes, and nothing that a node answers ends a link."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from cluster.member.address_book import AddressBook
from cluster.member.peer_link import PeerLink, PeerLinks
from cluster.partition.node_info import NodeInfo
from cluster.raft.messages import Heartbeat, HeartbeatResponse, Message, VoteRequest
from cluster.raft.types import GroupId, LogIndex, NodeId, Term
from cluster.rpc.convert_raft import heartbeat_response_to_wire, node_info_to_wire
from cluster.rpc.gen.cluster.ttypes import HeartbeatBatchResponse
from harness.group_cluster import GroupCluster, wait_until
from harness.joining import join_all


def test_a_vote_that_waits_for_a_disk_keeps_no_heartbeat_back(tmp_path: Path) -> None:
    # so long that nobody campaigns by itself while the machine is busy
    with GroupCluster(tmp_path, election_ticks=200) as group:
        leader = group.leader()
        voter = next(n for n in group.ids if n != leader.node_id)
        asked, release = threading.Event(), threading.Event()
        beats: list[int] = []

        def hang(_frm: int, to: int, method: str, request: Any) -> Any:
            if to == voter and method.startswith("startElection"):
                asked.set()
                assert release.wait(30)
            elif to == voter and method == "sendHeartbeat":
                beats.append(1)
            return request

        group.network.tap = hang
        term = Term(leader.member.term)
        request = VoteRequest(leader.node_id, voter, term, LogIndex(0), Term(0))
        leader.links.post(leader.member, request)
        assert asked.wait(30)
        seen = len(beats)
        wait_until(lambda: len(beats) > seen + 3)
        assert not release.is_set()
        release.set()
        names = {thread.name for thread in threading.enumerate()}
        assert {f"link-data-{voter}", f"link-data-{voter}-votes"} <= names


def test_no_link_for_votes_is_made_before_there_is_one_to_ask_for() -> None:
    spawned: list[str] = []

    class Link:
        def run(self) -> None: ...

        def ping(self) -> None: ...

    links = PeerLinks(lambda _peer: Link(), lambda name, _run: spawned.append(name))  # type: ignore[arg-type,return-value]
    links.ping(NodeId(2))
    assert spawned == ["2"]


class Member:
    """A member with heartbeats to send, which notes what comes of them."""

    group_id = GroupId(1)
    heartbeat_cargo = None

    def __init__(self) -> None:
        self.news: list[str] = []

    def receive(self, _message: Message) -> None:
        self.news.append("answered")

    def unreachable(self, _peer: NodeId) -> None:
        self.news.append("unreachable")


def test_an_answer_without_its_fields_does_not_end_the_link() -> None:
    """The other node may be of any release: its heartbeats would have stopped for good."""
    own, other = (NodeInfo(NodeId(n), "127.0.0.1", n, n, "127.0.0.1", n, "x") for n in (1, 2))
    receiver = node_info_to_wire(other)
    sound = heartbeat_response_to_wire(
        GroupId(1), HeartbeatResponse(NodeId(2), NodeId(1), Term(1), 1, LogIndex(0))
    )
    answers = [
        HeartbeatBatchResponse(receiver=receiver),
        HeartbeatBatchResponse(responses=[sound]),
        HeartbeatBatchResponse(receiver=receiver, responses=[sound]),
    ]
    member = Member()

    class Channel:
        def call(self, _method: str, *_: Any, timeout_s: float) -> Any:
            return answers.pop(0)

        def close(self) -> None: ...

    link = PeerLink(
        peer=NodeId(2),
        channel=Channel(),  # type: ignore[arg-type]
        call_timeout_s=1.0,
        address_book=AddressBook(own),
    )
    thread = threading.Thread(target=link.run)
    thread.start()
    try:
        for left, news in ((2, "unreachable"), (1, "unreachable"), (0, "answered")):
            link.post(member, Heartbeat(NodeId(1), NodeId(2), Term(1), LogIndex(0), 1))
            wait_until(lambda left=left: len(answers) == left and len(member.news) == 3 - left)  # type: ignore[misc]
            assert member.news[-1] == news
    finally:
        link.stop()
        join_all(thread)
