"""A node that can't go on leaves its groups at once; only the first reason counts."""

from __future__ import annotations

import threading

import pytest

from cluster.fail_stop import FailStop
from cluster.threads import ThreadRegistry


class Node:
    def __init__(self) -> None:
        self.threads = ThreadRegistry()
        self.stopping = threading.Event()
        self.told = 0
        self.left: list[str] = []
        self.fail_stop = FailStop(self.threads, self.stopping, self.tell)
        self.fail_stop.at_once(lambda: self.left.append("data"))
        self.fail_stop.at_once(lambda: self.left.append("meta"))

    def tell(self) -> None:
        assert self.stopping.is_set()
        self.told += 1

    def wait(self) -> None:
        assert self.threads.join_all(30) == []


def test_groups_are_left_once_and_elsewhere() -> None:
    node = Node()
    own = threading.Lock()
    node.fail_stop.at_once(lambda: own.acquire() and own.release())
    with own:  # callers hold a member's lock, which leaving takes
        node.fail_stop.fail("group 1: no space left")
        node.fail_stop.fail("group 2: no space left")
    node.wait()
    assert node.left == ["data", "meta"]
    assert node.fail_stop.reason == "group 1: no space left"
    assert node.told == 2


def test_a_node_that_is_refused_leaves_its_groups_in_good_order() -> None:
    node = Node()
    node.fail_stop.refuse("its id belongs to another node")
    node.fail_stop.fail("group 1: too late")
    node.wait()
    assert node.left == []
    assert node.stopping.is_set()
    assert node.fail_stop.reason == "its id belongs to another node"


def test_without_room_for_a_thread_the_node_stops_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = Node()

    def no_more(_name: str, _run: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(node.threads, "spawn", no_more)
    node.fail_stop.fail("group 1: no space left")
    assert node.stopping.is_set()
    assert node.fail_stop.reason == "group 1: no space left"
