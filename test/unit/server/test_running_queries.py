"""The watch over running queries ends those that nobody waits for, whatever becomes of one."""

from __future__ import annotations

import pytest

from cluster.errors import ClusterError, StatusCode
from cluster.rpc.deadline import Deadline
from cluster.server.running_queries import QueryOwner, QueryTicket, RunningQueries


def begin(queries: RunningQueries, number: int, *, seconds: float, gone: bool) -> QueryTicket:
    owner = QueryOwner(1, "root")
    return queries.begin(number, "select", 0, Deadline.after(seconds), lambda: gone, owner)


@pytest.mark.parametrize(
    ("seconds", "gone", "code"),
    [
        (0.0, False, StatusCode.TIME_OUT),
        (3600.0, True, StatusCode.QUERY_PROCESS_ERROR),
        (3600.0, False, None),
    ],
)
def test_a_query_that_nobody_waits_for_is_ended_and_what_it_holds_freed(
    seconds: float, gone: bool, code: StatusCode | None
) -> None:
    queries = RunningQueries()
    ticket = begin(queries, 1, seconds=seconds, gone=gone)
    freed: list[int] = []
    ticket.release = lambda: freed.append(1)
    queries.sweep()
    assert freed == ([] if code is None else [1])
    if code is not None:
        with pytest.raises(ClusterError) as caught:
            ticket.check()
        assert caught.value.status is code


def test_one_that_can_not_be_freed_does_not_keep_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The thread would have ended, and no query been ended by its time on this node any more."""
    queries = RunningQueries()
    tickets = [begin(queries, number, seconds=0.0, gone=False) for number in (1, 2)]

    def broken() -> None:
        raise ValueError("generator already executing")

    tickets[0].release = broken
    queries.sweep()
    assert [ticket.cancelled.is_set() for ticket in tickets] == [True, True]
    assert "query 1" in caplog.text
