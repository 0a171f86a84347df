"""Proposals that come while the log writes are appended in one step; each has its own outcome."""

from __future__ import annotations

import sys
import threading

import pytest

from cluster.errors import ClusterError, NotLeader, Overloaded, Unavailable
from cluster.member import inbox as inbox_module
from cluster.member.inbox import Inbox
from cluster.member.proposals import Notice, Waiter
from cluster.plan.codec import encode_plan
from cluster.raft.events import Propose
from cluster.raft.types import GroupId
from cluster.rpc.deadline import Deadline
from harness.group_cluster import STEADY, WAIT_S, GroupCluster, insert, wait_until
from harness.joining import join_all


def test_what_gathers_is_taken_in_order():
    inbox = Inbox(GroupId(1), 100)
    added = [inbox.add(payload) for payload in (b"a", b"b", b"c")]
    assert [is_first for _, is_first in added] == [True, False, False]
    waiters = [waiter for waiter, _ in added]
    assert inbox.withdraw(waiters[1])
    assert not inbox.withdraw(waiters[1])
    assert inbox.take() == [(b"a", waiters[0], None), (b"c", waiters[2], None)]
    assert not inbox.withdraw(waiters[0])
    assert inbox.take() == []


def test_too_much_is_refused_but_never_a_single_one():
    inbox = Inbox(GroupId(1), 10)
    first, _ = inbox.add(b"x" * 50)
    with pytest.raises(Overloaded):
        inbox.add(b"y")
    inbox.withdraw(first)
    inbox.add(b"x" * 6)
    inbox.add(b"x" * 4)
    with pytest.raises(Overloaded):
        inbox.add(b"y")


def in_thread(work):
    done = threading.Event()

    def run():
        work()
        done.set()

    thread = threading.Thread(target=run)
    thread.start()
    return thread, done


def test_who_gathers_is_called_when_as_many_as_wanted_wait():
    inbox = Inbox(GroupId(1), 100)
    inbox.add(b"a")
    inbox.gather(1, WAIT_S)  # it is there
    thread, done = in_thread(lambda: inbox.gather(3, WAIT_S))
    wait_until(lambda: inbox._goal == 3)
    inbox.add(b"b")
    assert not done.is_set()
    inbox.add(b"c")
    assert done.wait(WAIT_S)
    thread.join()
    inbox.take()
    inbox.gather(3, WAIT_S)  # there is nothing to wait for


def test_who_gathers_is_called_when_all_is_taken_and_when_the_time_is_up():
    inbox = Inbox(GroupId(1), 100)
    inbox.add(b"a")
    thread, done = in_thread(lambda: inbox.gather(3, WAIT_S))
    wait_until(lambda: inbox._goal == 3)
    inbox.take()
    assert done.wait(WAIT_S)
    thread.join()
    inbox.add(b"b")
    inbox.gather(3, 0.001)
    assert len(inbox) == 1
    thread, done = in_thread(lambda: inbox.gather(2, WAIT_S))
    wait_until(lambda: inbox._goal == 2)
    inbox.add(b"c")
    assert done.wait(WAIT_S)
    thread.join()


def test_who_is_called_and_the_next_who_gathers_are_not_mixed_up():
    inbox = Inbox(GroupId(1), 1 << 20)
    problems = []

    def write():
        try:
            for _ in range(300):
                if inbox.add(b"x")[1]:
                    inbox.gather(2, 0.0005)
                inbox.take()
        except Exception as error:  # noqa: BLE001 it is what is looked for
            problems.append(error)

    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads change between any two steps
    try:
        threads = [threading.Thread(target=write, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        join_all(*threads)
    finally:
        sys.setswitchinterval(usual)

    assert not problems
    assert len(inbox) == 0


def test_in_a_replicated_group_plans_of_clients_that_write_at_once_go_together(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(inbox_module, "_GATHER_S", WAIT_S)
    monkeypatch.setattr(inbox_module, "_FORGET_S", WAIT_S)
    with GroupCluster(tmp_path, size=3, **STEADY) as cluster:
        node = cluster.leader()
        node.put(insert(1000, 1001))  # alone: it waits for nobody
        node.put(insert(1001, 1002))
        seen = proposals_seen(node.member, monkeypatch)
        node.member._appender._peak = 3.2
        clients = [
            in_thread(lambda number=number: node.put(insert(number, number + 1)))
            for number in range(3)
        ]
        for thread, done in clients:
            assert done.wait(WAIT_S)
            thread.join()
        assert seen == [3]


def test_a_plan_that_nobody_waits_for_in_a_thread_waits_for_others_all_the_same(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(inbox_module, "_FORGET_S", WAIT_S)
    with GroupCluster(tmp_path, size=3, **STEADY) as cluster:
        node = cluster.leader()
        member = node.member
        node.put(insert(1000, 1001))
        seen = proposals_seen(member, monkeypatch)
        told = threading.Semaphore(0)
        notices = [Notice(lambda _: told.release()) for _ in range(6)]
        payloads = [encode_plan(insert(number, number + 1)) for number in range(6)]

        def propose(number, now):
            return member.loop_side.propose(notices[number], payloads[number], None, now)

        append_soon = member.loop_side.append_soon
        assert propose(0, 100.0) == 0.0  # alone
        node.log.write_here()
        assert told.acquire(timeout=WAIT_S)
        member._appender._peak = 3.2
        asked = [propose(number, 101.0) for number in (1, 2, 3)]
        first_until = asked[0]
        assert first_until > 101.0
        assert asked[1:] == [None, 0.0]
        node.log.write_here()
        assert all(told.acquire(timeout=WAIT_S) for _ in range(3))
        # those that don't become as many are appended when the time is up, but their own
        member._appender._peak = 3.2
        until = propose(4, 101.001)
        assert until > first_until
        assert propose(5, 101.002) is None
        node.log.write_here()
        assert not append_soon(first_until)
        assert append_soon(until)
        node.log.write_here()
        assert all(told.acquire(timeout=WAIT_S) for _ in range(2))
        assert not append_soon(until)
        assert seen == [1, 3, 2]
        assert [notice.result().refused for notice in notices] == [()] * 6


def test_a_large_plan_waits_for_no_others_and_takes_those_that_wait_along(tmp_path, monkeypatch):
    monkeypatch.setattr(inbox_module, "_FORGET_S", WAIT_S)
    with GroupCluster(tmp_path, size=3, **STEADY) as cluster:
        appender = cluster.leader().member._appender
        small, large = b"", bytes(inbox_module._LARGE_BYTES)
        appender._peak, appender._gathered_at = 4.4, 100.0
        assert appender.put_for(Waiter(), small, None, 100.0) > 100.0
        assert appender.put_for(Waiter(), large, None, 100.0) == 0.0
        assert [item.payload for item in appender.inbox.take()] == [small, large]


def test_for_others_that_do_not_come_the_wait_is_short(tmp_path, monkeypatch):
    monkeypatch.setattr(inbox_module, "_FORGET_S", WAIT_S)
    with GroupCluster(tmp_path, size=3) as cluster:
        appender = cluster.leader().member._appender
        payload = encode_plan(insert(1, 2))

        def wait_of(count, now):
            """Let so many of at most four gather until their time is up; return how long it is."""
            appender._peak, appender._gathered_at = 4.4, now
            untils = [appender.put_for(Waiter(), payload, None, now) for _ in range(count)]
            assert untils[1:] == [None] * (count - 1)
            assert appender.append_soon(untils[0])
            appender.inbox.take()
            return untils[0] - now

        long_s, short_s = inbox_module._LONG_GATHER_S, inbox_module._GATHER_S
        doubt_s = inbox_module._DOUBT_S
        assert wait_of(3, 100.0) == pytest.approx(long_s)
        assert wait_of(2, 101.0) == pytest.approx(long_s)
        assert wait_of(3, 101.0 + long_s) == pytest.approx(short_s)
        assert wait_of(1, 101.0 + doubt_s / 2) == pytest.approx(short_s)
        assert wait_of(1, 101.1 + doubt_s) == pytest.approx(long_s)


class Proposers:
    """Threads that propose an insert each, and what became of them."""

    def __init__(self, member, count, deadline):
        self.outcomes = {}
        self.threads = []
        for number in range(count):
            payload = encode_plan(insert(10 * number, 10 * number + 1))
            thread = threading.Thread(
                target=self._propose, args=(member, number, payload, deadline)
            )
            thread.start()
            self.threads.append(thread)
            wait_until(lambda n=number: len(member._appender.inbox._waiting) == n + 1)

    def _propose(self, member, number, payload, deadline):
        try:
            self.outcomes[number] = member.propose(payload, deadline)
        except ClusterError as error:
            self.outcomes[number] = error

    def join(self):
        for thread in self.threads:
            thread.join(WAIT_S)
            assert not thread.is_alive()


@pytest.fixture
def alone(tmp_path):
    with GroupCluster(tmp_path, size=1, max_uncommitted_bytes=400) as cluster:
        node = cluster.leader()
        node.put(insert(1000, 1001))
        yield node


def proposals_seen(member, monkeypatch):
    seen = []
    step = member._core.step

    def noted(event):
        if isinstance(event, Propose):
            seen.append(len(event.payloads))
        return step(event)

    monkeypatch.setattr(member._core, "step", noted)
    return seen


def test_what_comes_during_a_write_is_appended_in_one_step(alone, monkeypatch):
    seen = proposals_seen(alone.member, monkeypatch)
    with alone.log._writer._role:
        clients = Proposers(alone.member, 5, Deadline.after(WAIT_S))
    clients.join()
    assert [outcome.refused for outcome in clients.outcomes.values()] == [()] * 5
    assert seen == [5]
    assert alone.count() == 6


def test_however_many_come_the_log_asks_once(alone, monkeypatch):
    fed = []
    feed = alone.log._writer.feed
    monkeypatch.setattr(alone.log._writer, "feed", lambda call: (fed.append(call), feed(call)))
    for round_ in (1, 2):
        with alone.log._writer._role:
            clients = Proposers(alone.member, 4, Deadline.after(WAIT_S))
        clients.join()
        assert [outcome.refused for outcome in clients.outcomes.values()] == [()] * 4
        assert len(fed) == round_


def test_what_comes_while_the_log_asks_is_asked_for_again(alone, monkeypatch):
    appender = alone.member._appender
    append = appender._append_locked
    late = []

    def appending(batch):
        if not late:
            late.append(appender.put(encode_plan(insert(500, 501))))
        return append(batch)

    monkeypatch.setattr(appender, "_append_locked", appending)
    alone.put(insert(400, 401))
    assert late[0].wait(WAIT_S)
    assert late[0].result().refused == ()


def test_of_a_batch_that_is_too_large_as_much_is_appended_as_there_is_room(alone, monkeypatch):
    seen = proposals_seen(alone.member, monkeypatch)
    alone.member._appender.inbox._max_bytes = 1 << 20
    size = len(encode_plan(insert(0, 1)))
    with alone.log._writer._role:
        # one entry that is not committed: together with it, not all of the others fit
        alone.member._appender.inbox.add(encode_plan(insert(500, 501)))
        alone.member._appender._append()
        clients = Proposers(alone.member, 400 // size + 2, Deadline.after(WAIT_S))
    clients.join()
    refused = [item for item in clients.outcomes.values() if isinstance(item, Overloaded)]
    assert 0 < len(refused) < len(clients.outcomes)
    assert seen[1] == len(clients.outcomes)
    assert set(seen[2:]) == {1}
    wait_until(lambda: alone.count() == 2 + len(clients.outcomes) - len(refused))


def test_what_the_log_did_not_take_in_time_is_definitely_not_done(alone):
    with alone.log._writer._role:
        clients = Proposers(alone.member, 2, Deadline.after(0.05))
        clients.join()
    assert [type(outcome) for outcome in clients.outcomes.values()] == [Unavailable] * 2
    assert all(outcome.definite for outcome in clients.outcomes.values())
    alone.put(insert(2000, 2001))
    assert alone.count() == 2


def test_a_stop_refuses_what_was_not_appended(alone):
    with alone.log._writer._role:
        clients = Proposers(alone.member, 2, Deadline.after(WAIT_S))
        alone.member.stop()
        clients.join()
    assert [type(outcome) for outcome in clients.outcomes.values()] == [NotLeader] * 2


def test_a_log_that_takes_nothing_more_refuses(alone, caplog):
    with alone.log._writer._role:
        clients = Proposers(alone.member, 2, Deadline.after(WAIT_S))
        alone.log._writer._failure = OSError("the disk is gone")
    clients.join()
    messages = {str(outcome) for outcome in clients.outcomes.values()}
    assert len(messages) == 1
    assert "the disk is gone" in messages.pop()
    assert any("nothing can be appended" in line for line in caplog.messages)
