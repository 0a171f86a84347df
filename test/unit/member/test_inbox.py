"""Proposals that come while the log writes are appended in one step; each has its own outcome."""

from __future__ import annotations

import threading

import pytest

from cluster.errors import ClusterError, NotLeader, Overloaded, Unavailable
from cluster.member.inbox import Inbox
from cluster.plan.codec import encode_plan
from cluster.raft.events import Propose
from cluster.raft.types import GroupId
from cluster.rpc.deadline import Deadline
from harness.group_cluster import WAIT_S, GroupCluster, insert, wait_until


def test_what_gathers_is_taken_in_order():
    inbox = Inbox(GroupId(1), 100)
    waiters = [inbox.add(payload) for payload in (b"a", b"b", b"c")]
    assert inbox.withdraw(waiters[1])
    assert not inbox.withdraw(waiters[1])
    assert inbox.take() == [(b"a", waiters[0]), (b"c", waiters[2])]
    assert not inbox.withdraw(waiters[0])
    assert inbox.take() == []


def test_too_much_is_refused_but_never_a_single_one():
    inbox = Inbox(GroupId(1), 10)
    first = inbox.add(b"x" * 50)
    with pytest.raises(Overloaded):
        inbox.add(b"y")
    inbox.withdraw(first)
    inbox.add(b"x" * 6)
    inbox.add(b"x" * 4)
    with pytest.raises(Overloaded):
        inbox.add(b"y")


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
