"""Heartbeats do not wait for votes, whose answers wait for the other side's disk."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from cluster.member.peer_link import PeerLinks
from cluster.raft.messages import VoteRequest
from cluster.raft.types import LogIndex, NodeId, Term
from harness.group_cluster import GroupCluster, wait_until


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
