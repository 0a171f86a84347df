"""Rows that the loop begins: whatever goes wrong, a thread carries on and they are applied once."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cluster.coordinator.forwarder import Forwarder
from cluster.coordinator.row_writer import RowWriter
from cluster.errors import OutcomeUnknown, StatusCode
from cluster.member.proposals import Notice
from cluster.raft.types import NodeId
from cluster.rpc.client_pool import RpcError
from cluster.rpc.deadline import Deadline
from cluster.rpc.loop import FrameLoop
from harness.forwarders import create, forwarder, write
from harness.group_cluster import GROUP, GroupCluster, wait_until

WAIT_S = 20.0


class Streams:
    """The streams of a node over the harness' network; a call that `hangs` gets no answer."""

    def __init__(self, group: GroupCluster, frm: NodeId) -> None:
        self._group = group
        self._frm = frm
        self._to = NodeId(0)
        self.is_open = True
        self.hangs = False
        self.lost = False
        self.under_way: dict[int, Notice] = {}

    def to(self, peer: NodeId) -> Streams:
        self._to = peer
        return self

    def execute(self, request: Any, notice: Notice) -> int:
        if not self.is_open:
            return 0
        number = len(self.under_way) + 1
        self.under_way[number] = notice
        to = self._to
        if not self.hangs:
            threading.Thread(target=lambda: self._call(to, request, notice)).start()
        return number

    def _call(self, to: NodeId, request: Any, notice: Notice) -> None:
        try:
            answer = self._group.network.call(self._frm, to, "executeNonQueryPlan", (request,))
            if self.lost:
                raise RpcError("the answer was lost", definitely_not_sent=False)
        except RpcError as error:
            notice.fail(error)
        else:
            notice.deliver(answer)

    def drop(self, number: int) -> bool:
        return self.under_way.pop(number, None) is not None


class Rows:
    """A loop that writes rows at one node."""

    def __init__(self, group: GroupCluster, at: NodeId, loop: FrameLoop) -> None:
        self.group = group
        self.node = group.nodes[at]
        self.loop = loop
        self.streams = Streams(group, at)
        self.forwarder: Forwarder = forwarder(group, at)
        self.writer = RowWriter(loop, self.forwarder, self.streams, self._propose)  # type: ignore[arg-type]
        self.ends: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def _propose(self, member: Any, notice: Notice, payload: bytes, plan: object) -> None:
        until = member.loop_side.propose(notice, payload, plan, self.loop.now)
        if until:
            member.loop_side.append_soon(until)

    def begin(self, name: str, seconds: float = WAIT_S) -> bool:
        begun: queue.SimpleQueue[bool] = queue.SimpleQueue()

        def work() -> None:
            begun.put(
                self.writer.begin(
                    GROUP,
                    create(name),  # type: ignore[arg-type]
                    Deadline.after(seconds),
                    lambda outcome, _: self.ends.put(("ended", outcome)),
                    lambda rest: self.ends.put(("left", rest)),
                )
            )
            self.node.log.write_here()

        assert self.loop.call(work)
        return begun.get(timeout=WAIT_S)

    def end(self) -> tuple[str, Any]:
        kind, what = self.ends.get(timeout=WAIT_S)
        return kind, what if kind == "left" else what[0].status

    def carried_on(self) -> Any:
        """What becomes of a row that the loop has left."""
        kind, rest = self.end()
        assert kind == "left"
        return rest()[0].status

    def assert_applied_once(self, name: str) -> None:
        assert write(self.forwarder, name) is StatusCode.PATH_ALREADY_EXISTS
        numbers = self.forwarder.numbers(GROUP)
        request = numbers.begin()
        assert request.first_open == request.number  # nothing is open any more
        numbers.end(request)


@contextmanager
def rows_at(
    tmp_path: Path, choose: Callable[[GroupCluster], NodeId]
) -> Iterator[tuple[GroupCluster, Rows]]:
    with GroupCluster(tmp_path) as group:
        group.leader()
        loop = FrameLoop()
        rows = Rows(group, choose(group), loop)
        thread = threading.Thread(target=loop.run)
        thread.start()
        watch = threading.Thread(target=rows.forwarder.watch.run)
        watch.start()
        try:
            yield group, rows
        finally:
            loop.stop()
            thread.join(WAIT_S)
            rows.forwarder.watch.stop()
            watch.join(WAIT_S)
            assert not thread.is_alive()
            assert not watch.is_alive()


def at_leader(group: GroupCluster) -> NodeId:
    return group.leader().node_id


def at_follower(group: GroupCluster) -> NodeId:
    leader = group.leader().node_id
    follower = next(n for n in group.ids if n != leader)
    wait_until(lambda: group.nodes[follower].member.leader == leader)
    return follower


@pytest.mark.parametrize("choose", [at_leader, at_follower])
def test_a_row_is_written_without_a_thread_that_waits(
    tmp_path: Path, choose: Callable[[GroupCluster], NodeId]
) -> None:
    with rows_at(tmp_path, choose) as (_, rows):
        assert rows.begin("a")
        assert rows.end() == ("ended", StatusCode.SUCCESS)
        rows.assert_applied_once("a")


def test_a_row_whose_client_is_in_trouble_costs_the_others_nothing(tmp_path: Path) -> None:
    with rows_at(tmp_path, at_leader) as (_, rows):

        def fail(*_: object) -> None:
            raise RuntimeError("a bug")

        def work() -> None:
            assert rows.writer.begin(GROUP, create("a"), Deadline.after(WAIT_S), fail, fail)  # type: ignore[arg-type]

        with rows.node.log._writer._role:  # so that both are written, and told of, together
            assert rows.loop.call(work)
            assert rows.begin("b")
        rows.node.log.write_here()
        assert rows.end() == ("ended", StatusCode.SUCCESS)
        rows.assert_applied_once("b")


def test_a_row_whose_answer_is_lost_is_applied_once(tmp_path: Path) -> None:
    with rows_at(tmp_path, at_follower) as (_, rows):
        rows.streams.lost = True
        assert rows.begin("a")
        assert rows.carried_on() is StatusCode.SUCCESS
        rows.assert_applied_once("a")


def test_a_row_that_its_leader_does_not_take_is_brought_to_the_next_one(tmp_path: Path) -> None:
    with rows_at(tmp_path, at_follower) as (group, rows):
        leader = group.leader()
        others = [n for n in group.ids if n != leader.node_id]
        group.network.isolate(leader.node_id, others)
        assert rows.begin("a")
        assert rows.carried_on() is StatusCode.SUCCESS
        rows.assert_applied_once("a")


def test_a_leader_that_loses_its_place_carries_on_elsewhere(tmp_path: Path) -> None:
    with rows_at(tmp_path, at_leader) as (group, rows):
        others = [n for n in group.ids if n != rows.node.node_id]
        group.network.isolate(rows.node.node_id, others)
        assert rows.begin("a")
        kind, rest = rows.end()
        assert kind == "left"
        outcomes: queue.SimpleQueue[Any] = queue.SimpleQueue()
        thread = threading.Thread(target=lambda: outcomes.put(rest()[0].status))
        thread.start()
        wait_until(lambda: any(group.nodes[n].member.is_leader for n in others))
        group.network.heal()
        assert outcomes.get(timeout=WAIT_S) is StatusCode.SUCCESS
        thread.join(WAIT_S)
        rows.assert_applied_once("a")


def test_an_answer_that_takes_long_is_waited_for_by_a_thread(tmp_path: Path) -> None:
    with rows_at(tmp_path, at_follower) as (_, rows):
        rows.streams.hangs = True
        assert rows.begin("a")
        kind, rest = rows.end()
        assert kind == "left"
        (notice,) = rows.streams.under_way.values()
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        thread = threading.Thread(target=lambda: answers.put(rest()[0].status))
        thread.start()
        rows.streams.hangs = False
        notice.fail(RpcError("the connection was closed", definitely_not_sent=False))
        assert answers.get(timeout=WAIT_S) is StatusCode.SUCCESS
        thread.join(WAIT_S)
        rows.assert_applied_once("a")


def test_a_call_to_a_former_leader_is_cut(tmp_path: Path) -> None:
    with rows_at(tmp_path, at_follower) as (_, rows):
        rows.streams.hangs = True
        assert rows.begin("a")
        kind, rest = rows.end()
        assert kind == "left"
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        thread = threading.Thread(target=lambda: answers.put(rest()[0].status))
        thread.start()
        wait_until(lambda: rows.forwarder.watch._calls.get(GROUP))
        rows.forwarder.watch.leader_is(GROUP, NodeId(77))
        assert answers.get(timeout=WAIT_S) is StatusCode.SUCCESS  # asked again
        thread.join(WAIT_S)
        rows.assert_applied_once("a")


def test_a_deadline_that_passes_leaves_the_outcome_unknown(tmp_path: Path) -> None:
    with rows_at(tmp_path, at_leader) as (group, rows):
        others = [n for n in group.ids if n != rows.node.node_id]
        group.network.isolate(rows.node.node_id, others)
        assert rows.begin("a", 0.5)
        kind, rest = rows.end()
        assert kind == "left"
        with pytest.raises(OutcomeUnknown):
            rest()


def test_nothing_is_begun_where_no_stream_is_open(tmp_path: Path) -> None:
    with rows_at(tmp_path, at_follower) as (_, rows):
        rows.streams.is_open = False
        assert not rows.begin("a")
        assert write(rows.forwarder, "a") is StatusCode.SUCCESS
        rows.assert_applied_once("a")
