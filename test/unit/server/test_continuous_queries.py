from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from cluster.errors import OK, ClusterError, Status, StatusCode
from cluster.plan.plans import CreateContinuousQueryPlan
from cluster.rpc.deadline import Deadline
from cluster.schema.registry import ContinuousQuery
from cluster.server.continuous_queries import ContinuousQueries, target_of
from harness.local_database import LocalDatabase
from iotdb_engine.errors import Closed, Corruption


@pytest.fixture
def database() -> Iterator[LocalDatabase]:
    with LocalDatabase() as made:
        yield made


def runner(database: LocalDatabase) -> ContinuousQueries:
    return ContinuousQueries(database.coordinator, version="x", precision="ms", leads=lambda: True)


def query(**fields: object) -> ContinuousQuery:
    values: dict[str, object] = {
        "name": "cq",
        "every": 1000,
        "span": 1000,
        "boundary": 0,
        "query": "",
        "pattern": "root.ln.*.*",
        "target": "root.${1}.${2}.${3}.top",
        "zone": "Z",
        "next_run": 0,
    }
    return ContinuousQuery(**{**values, **fields})  # type: ignore[arg-type]


def register(database: LocalDatabase, made: ContinuousQuery) -> None:
    outcome = database.access.execute_meta(CreateContinuousQueryPlan(made), Deadline.after(5))
    assert outcome.ok


def rows(database: LocalDatabase, sql: str) -> list[list[object]]:
    answer = database.execute(sql)
    assert answer is not None
    return [list(row) for row in answer[1]]


def fill(database: LocalDatabase) -> None:
    for device, add in (("a.x", 0), ("a.y", 10), ("b.x", 100)):
        for time in range(0, 40_000, 5000):
            database.execute(
                f"INSERT INTO root.ln.{device}(time, t) VALUES ({time}, {add + time // 1000})"
            )


def test_each_window_is_run_once_and_written_below_its_device(database: LocalDatabase) -> None:
    fill(database)
    database.execute(
        "CREATE CQ cq1 RESAMPLE EVERY 10s FOR 10s BOUNDARY 0 BEGIN "
        "SELECT max_value(t) INTO top FROM root.ln.*.* GROUP BY time(10s) END"
    )
    registry = database.coordinator.meta_state.registry
    (made,) = registry.continuous_queries()
    # as if it had been made long ago: the run at 10 s is the first
    database.execute("DROP CQ cq1")
    register(database, replace(made, next_run=10_000))
    running = runner(database)
    assert running.run_due(9_999) == 0
    assert running.run_due(10_000) == 1
    assert running.run_due(10_000) == 0
    assert rows(database, "select top from root.ln.a.x") == [[0, 5.0]]
    # windows that were missed are made up for, one by one
    while running.run_due(40_000):
        pass
    assert rows(database, "select top from root.ln.a.x, root.ln.b.x") == [
        [time, time / 1000 + 5, time / 1000 + 105] for time in range(0, 40_000, 10_000)
    ]
    assert registry.continuous_queries()[0].next_run == 50_000


def test_a_window_whose_run_was_not_noted_is_run_again_with_the_same_effect(
    database: LocalDatabase,
) -> None:
    fill(database)
    due = query(
        query="select count(t) from root.ln.*.* group by ([now() - 10s, now()), 10s)",
        every=10_000,
        next_run=20_000,
    )
    register(database, due)
    first, second = runner(database), runner(database)
    # both leaders ran it; one note is taken
    assert first._run_and_note(due)
    assert not second._run_and_note(due)
    assert rows(database, "select count(top) from root.ln.a.x") == [[1]]
    (after,) = database.coordinator.meta_state.registry.continuous_queries()
    assert after.next_run == 30_000


def test_levels_fill_the_placeholders_with_nodes_of_the_from_clause(
    database: LocalDatabase,
) -> None:
    fill(database)
    due = query(
        query="select sum(t) from root.ln.*.* group by ([now() - 10s, now()), 10s), level = 2",
        target="root.${1}_sums.${2}.total",
        next_run=10_000,
    )
    register(database, due)
    assert runner(database).run_due(10_000) == 1
    assert rows(database, "select total from root.ln_sums.*") == [[0, 30.0, 205.0]]


def test_a_query_that_can_not_work_is_given_up_for_that_window(
    database: LocalDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    fill(database)
    due = query(
        query="select sum(t) from root.ln.*.* group by ([now() - 10s, now()), 10s)",
        target="root.all.total",
        next_run=10_000,
    )
    register(database, due)
    assert runner(database).run_due(10_000) == 1
    assert "duplicated" in caplog.text
    (after,) = database.coordinator.meta_state.registry.continuous_queries()
    assert after.next_run == 11_000
    assert rows(database, "show timeseries root.all.**") == []


@pytest.mark.parametrize(
    ("error", "is_over"),
    [
        (Corruption("data", b"", "a checksum", "another"), True),
        (Closed("the region is being replaced"), False),
        (ClusterError(StatusCode.NO_LEADER, "no leader"), False),
        (ZeroDivisionError("nobody thought of that"), True),
    ],
)
def test_one_that_fails_does_not_stop_the_others(
    database: LocalDatabase, monkeypatch: pytest.MonkeyPatch, error: Exception, is_over: bool
) -> None:
    for name in ("broken", "sound"):
        register(database, query(name=name, next_run=10_000))
    running = runner(database)

    def run(due: ContinuousQuery, _: Deadline) -> Status:
        if due.name == "broken":
            raise error
        return OK

    monkeypatch.setattr(running, "_run", run)
    assert running.run_due(10_000) == 1 + is_over
    found = database.coordinator.meta_state.registry.continuous_queries()
    assert [(made.name, made.next_run) for made in found] == [
        ("broken", 11_000 if is_over else 10_000),
        ("sound", 11_000),
    ]


def test_placeholders_without_a_node_are_an_error() -> None:
    assert target_of(query(), "avg(root.ln.a.x.t)") == "root.ln.a.x.top"
    assert target_of(query(target="root.t.${2}_avg.v"), "avg(root.*.a.*.t)") == "root.t.a_avg.v"
    with pytest.raises(ClusterError, match=r"\$\{3\}"):
        target_of(query(), "avg(root.*.a.*.t)")
