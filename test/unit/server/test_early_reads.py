"""A query that read too early begins again, and nothing of what it read is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cluster.coordinator import cluster_backend
from cluster.coordinator.early_reads import EarlyRound
from cluster.raft.types import GroupId
from cluster.sql.parser import warm_up
from harness.local_server import LocalServer
from harness.wire import StatusError, WireClient

GROUP = GroupId(5)


@pytest.fixture
def server() -> Iterator[LocalServer]:
    warm_up()
    with LocalServer() as started:
        with started.client() as client:
            client.execute("insert into root.sg.d(time, s) values (1, 10), (2, 20), (3, 30)")
        yield started


@pytest.fixture
def client(server: LocalServer) -> Iterator[WireClient]:
    with server.client() as opened:
        yield opened


class Rounds:
    """Stands for the leaders: each early question is answered by what `answers` says."""

    def __init__(self, server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[bool] = []
        self.behind: list[GroupId] = []
        self.finish: Callable[[], dict[GroupId, int]] = lambda: {GROUP: 7}
        monkeypatch.setattr(type(server.database.coordinator.router), "is_one_group", False)
        monkeypatch.setattr(server.database.access, "confirm", self._confirm)

    def _confirm(self, *, early: bool) -> EarlyRound | None:
        self.asked.append(early)
        return EarlyRound({GROUP: 7}, lambda: self.finish(), self.behind.append) if early else None


@pytest.fixture
def rounds(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> Rounds:
    return Rounds(server, monkeypatch)


STATEMENTS = [
    "select s from root.sg.d",
    "select last s from root.sg.d",
    "select count(s) from root.sg.d",
    "select s from root.sg.d where s > 15 order by time desc",
]


@pytest.mark.parametrize("sql", STATEMENTS)
@pytest.mark.parametrize("found", [{GROUP: 7}, {GROUP: 8}, {}])
def test_the_answer_is_the_same(
    server: LocalServer, client: WireClient, rounds: Rounds, sql: str, found: dict[GroupId, int]
) -> None:
    rounds.finish = lambda: found
    rows = list(client.query(sql))
    assert rows
    stale = found != {GROUP: 7}
    assert rounds.asked == ([True, False] if stale else [True])
    assert rounds.behind == ([GROUP] if stale else [])
    assert not server.handler.executor.running.running()


def test_a_long_query_looks_for_its_leaders_before_its_end(
    server: LocalServer, client: WireClient, rounds: Rounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not computed twice, nor do its leaders wait for their answers to be taken."""
    monkeypatch.setattr(cluster_backend, "_EARLY_S", 0.0)
    asked: list[str] = []
    real = cluster_backend.aggregates

    def aggregates(*arguments: Any) -> Any:
        asked.append("computed")
        arguments[-1]()  # as it does before each batch
        asked.append("to its end")
        return real(*arguments)

    monkeypatch.setattr(cluster_backend, "aggregates", aggregates)
    rounds.finish = dict
    assert list(client.query("select count(s) from root.sg.d")) == [[3]]
    assert asked == ["computed", "computed", "to its end"]
    rounds.finish = lambda: {GROUP: 7}
    assert list(client.query("select count(s) from root.sg.d")) == [[3]]
    assert asked[3:] == ["computed", "to its end"]


def test_an_error_that_comes_of_reading_too_early_is_not_told(
    server: LocalServer, client: WireClient, rounds: Rounds
) -> None:
    """The series is created while the leader is asked: the query has to see it."""

    def created() -> dict[GroupId, int]:
        with server.client() as other:
            other.execute("insert into root.sg.late(time, s) values (1, 'x')")
        return {GROUP: 8}

    rounds.finish = created
    sql = "select avg(s) from root.sg.late"
    with pytest.raises(StatusError, match="only support numeric"):
        list(client.query(sql))
    assert rounds.asked == [True, False]


def test_a_true_error_is_told_once_the_leaders_have_answered(
    server: LocalServer, client: WireClient, rounds: Rounds
) -> None:
    client.execute("insert into root.sg.d(time, t) values (1, 'x')")
    with pytest.raises(StatusError, match="only support numeric"):
        list(client.query("select avg(t) from root.sg.d"))
    assert rounds.asked == [True]
    assert not server.handler.executor.running.running()


def test_a_query_that_begins_again_is_still_listed(
    server: LocalServer, client: WireClient, rounds: Rounds
) -> None:
    """So that it can be killed."""
    listed: list[int] = []
    real = rounds._confirm

    def confirm(*, early: bool) -> EarlyRound | None:
        listed.append(len(server.handler.executor.running.running()))
        return real(early=early)

    server.database.access.confirm = confirm
    rounds.finish = dict
    assert list(client.query("select s from root.sg.d"))
    assert listed == [1, 1]


def test_the_questions_of_a_query_that_is_ended_before_its_first_page_are_still_taken_up(
    server: LocalServer, client: WireClient, rounds: Rounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They hold connections to other nodes, and places on the list of calls under way."""
    taken_up: list[str] = []
    rounds.finish = lambda: taken_up.append("once") or {GROUP: 7}  # type: ignore[func-returns-value]
    executor = server.handler.executor
    planned = executor.query

    def planned_and_killed(*arguments: Any, **options: Any) -> Any:
        result = planned(*arguments, **options)
        executor.running.kill(None)
        return result

    monkeypatch.setattr(executor, "query", planned_and_killed)
    with pytest.raises(StatusError, match="was killed"):
        list(client.query("select s from root.sg.d"))
    assert taken_up == ["once"]
    assert not executor.running.running()
