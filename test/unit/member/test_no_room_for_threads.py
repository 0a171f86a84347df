"""A machine that is out of threads for a while costs a group messages, and nothing for good."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.member.peer_link import PeerLinks
from cluster.raft.types import NodeId
from harness.group_cluster import WAIT_S, GroupCluster, GroupNode, insert, wait_until


class Room:
    """Refuses threads of a node while it is closed, but those that tick members."""

    def __init__(self, node: GroupNode, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_closed = False
        self.refused: Counter[str] = Counter()
        self._spawn = node.threads.spawn
        monkeypatch.setattr(node.threads, "spawn", self._spawn_or_refuse)

    def _spawn_or_refuse(self, name: str, run: Callable[[], None]) -> threading.Thread:
        job = name.split("-")[0]
        if self.is_closed and job not in ("heartbeat", "node"):
            self.refused[job] += 1
            raise RuntimeError("can't start new thread")
        return self._spawn(name, run)


def test_a_group_is_led_when_there_is_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = GroupCluster(tmp_path)
    rooms = [Room(node, monkeypatch) for node in group.nodes.values()]
    for room in rooms:
        room.is_closed = True
    with group:
        # each tries again, which it could not if its own thread had ended
        wait_until(lambda: all(room.refused["link"] > 2 for room in rooms))
        for room in rooms:
            room.is_closed = False
        group.leader().put(insert(0, 10))
        assert not any(node.failures for node in group.nodes.values())


def test_what_a_leader_could_not_send_is_sent_when_there_is_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with GroupCluster(tmp_path, election_ticks=200) as group:
        leader = group.leader()
        leader.put(insert(0, 10))
        # what sends entries ends, as when the group goes to sleep
        room = Room(leader, monkeypatch)
        with leader.member._stepper.lock:
            leader.member._dispatchers.stop()
            room.is_closed = True
        outcomes: list[object] = []
        client = threading.Thread(target=lambda: outcomes.append(leader.put(insert(10, 20))))
        client.start()
        wait_until(lambda: room.refused["dispatcher"])
        assert not outcomes
        room.is_closed = False
        client.join(WAIT_S)
        assert len(outcomes) == 1
        assert leader.count() == 20
        assert not leader.failures


def test_a_link_is_made_when_there_is_room_again() -> None:
    started: list[str] = []
    is_closed = True

    class Link:
        pings = 0

        def run(self) -> None: ...

        def ping(self) -> None:
            self.pings += 1

    def spawn(name: str, _run: object) -> None:
        if is_closed:
            raise RuntimeError("can't start new thread")
        started.append(name)

    link = Link()
    links = PeerLinks(lambda _peer: link, spawn)  # type: ignore[arg-type, return-value]
    links.ping(NodeId(2))
    assert not link.pings
    is_closed = False
    links.ping(NodeId(2))
    assert (started, link.pings) == (["2"], 1)
