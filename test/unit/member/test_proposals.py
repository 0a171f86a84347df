from __future__ import annotations

import threading

import pytest

from cluster.errors import NotLeader, OutcomeUnknown
from cluster.member.proposals import Notice, Proposals, Waiter
from cluster.raft.types import GroupId, LogIndex, Term


def add(proposals: Proposals, index: int, term: int) -> Waiter:
    waiter = Waiter()
    proposals.add(LogIndex(index), Term(term), waiter)
    return waiter


def test_waiters_leave_in_log_order() -> None:
    proposals = Proposals(GroupId(1))
    waiters = [add(proposals, index, 1) for index in (4, 5, 6)]
    taken = proposals.take_until(LogIndex(5))
    assert [(index, term) for index, term, _ in taken] == [(4, 1), (5, 1)]
    assert [waiter for _, _, waiter in taken] == waiters[:2]
    assert len(proposals) == 1


def test_an_entry_that_replaces_another_fails_it_definitely() -> None:
    proposals = Proposals(GroupId(1))
    old = [add(proposals, index, 1) for index in (4, 5)]
    add(proposals, 4, 3)
    for waiter in old:
        assert waiter.wait(0)
        with pytest.raises(NotLeader) as caught:
            waiter.result()
        assert caught.value.definite
    assert len(proposals) == 1


def test_a_stop_leaves_the_outcome_unknown() -> None:
    proposals = Proposals(GroupId(1))
    waiter = add(proposals, 1, 1)
    proposals.fail_all("stopping")
    assert waiter.wait(0)
    with pytest.raises(OutcomeUnknown) as caught:
        waiter.result()
    assert not caught.value.definite


def test_a_waiter_that_hears_nothing_times_out() -> None:
    assert not Waiter().wait(0.01)


def test_who_waits_for_a_notice_is_let_go_before_or_after_it_is_told() -> None:
    told: list[Notice] = []
    early, late, failed = (Notice(told.append) for _ in range(3))
    assert not early.wait(0.01), "nothing has come"
    teller = threading.Timer(0.05, early.deliver, ["first"])
    teller.start()
    assert early.wait(20)
    teller.join()
    late.deliver("second")
    failed.fail(NotLeader(GroupId(1), 0))
    assert late.wait(0)
    assert late.wait(0), "whoever asks again"
    assert failed.wait(0)
    assert (early.result(), late.result()) == ("first", "second")
    with pytest.raises(NotLeader):
        failed.result()
    assert told == [early, late, failed]
