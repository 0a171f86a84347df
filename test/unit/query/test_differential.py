"""Random SELECTs over random small databases, against an evaluator of one point at a time.

DIFFERENTIAL_EXAMPLES=20000 runs it long.
"""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cluster.errors import ClusterError, StatusCode
from cluster.rpc.status import Generation
from harness.local_database import LocalDatabase
from harness.memory_database import MemoryDatabase
from harness.naive.answers import evaluate, same
from harness.naive.data import Data, RefusedError, UndefinedError
from harness.naive.query import Query
from harness.random_queries import Maker, ModernMaker, Settle, setup_of, sql_of

EXAMPLES = int(os.environ.get("DIFFERENTIAL_EXAMPLES", "25"))
# as slow as the examples are on a machine that has little time for them
pytestmark = pytest.mark.timeout(300 + 4 * EXAMPLES)

ROUNDS, CHANGES, QUERIES = 3, 6, 4
"""Of each database: so often so many changes, and queries after them."""

PARTITIONS = {"enable_partition": "true", "partition_interval": "1"}

_EXPECTED = {
    StatusCode.QUERY_PROCESS_ERROR,
    StatusCode.METADATA_ERROR,
    StatusCode.SQL_PARSE_ERROR,
}


def check(database: MemoryDatabase | LocalDatabase, data: Data, query: Query) -> None:
    """Compare one answer."""
    sql = sql_of(query)
    try:
        expected = evaluate(data, query)
    except UndefinedError:
        return
    except RefusedError as refused:
        try:
            found = database.execute(sql)
        except ClusterError as error:
            if error.status in _EXPECTED:
                return
            found = error
        raise AssertionError(f"{sql}\nnot refused ({refused!r}): {found}") from refused
    try:
        found = database.execute(sql)
    except ClusterError as error:
        raise AssertionError(f"{sql}\nrefused: {error}\nexpected {expected}") from error
    assert found is not None
    header, rows = found
    assert header == expected[0], f"{sql}\n{header}\n{expected[0]}"
    alike = len(rows) == len(expected[1]) and all(
        len(row) == len(wanted) and all(map(same, wanted, row))
        for row, wanted in zip(rows, expected[1], strict=True)
    )
    assert alike, f"{sql}\nfound    {rows}\nexpected {expected[1]}"


def executed(database: MemoryDatabase | LocalDatabase, change: str | Settle) -> None:
    """Make a change."""
    if isinstance(change, str):
        database.execute(change)
    elif isinstance(database, LocalDatabase):
        database.settle(merged=change.merged)


def run(database: MemoryDatabase | LocalDatabase, maker: Maker) -> None:
    """Make a database, change it and ask it, some times in turn."""
    data = maker.data()
    for sql in setup_of(data):
        database.execute(sql)
    for _ in range(ROUNDS):
        for change in maker.changes(data, CHANGES):
            executed(database, change)
        for _ in range(QUERIES):
            check(database, data, maker.query())


SEEDS = st.integers(0, 2**32)
"""Of databases and queries: drawn choice by choice, these take twenty times as long."""

# A smaller seed is another database and no smaller one: the first failure is told, at once.
examples = settings(
    max_examples=EXAMPLES,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    database=None,
)


@examples
@given(SEEDS, st.sampled_from([1, 3, 1000]))
def test_queries_over_points_in_dictionaries(seed, batch_rows):
    run(MemoryDatabase(batch_rows), Maker(random.Random(seed)))


@examples
@given(SEEDS, st.sampled_from([1, 3, 1000]))
def test_queries_over_the_engine(seed, batch_rows):
    with LocalDatabase(batch_rows, **PARTITIONS) as database:
        run(database, Maker(random.Random(seed), unit=150))


@examples
@given(SEEDS, st.sampled_from([1, 3, 1000]))
def test_queries_of_1_x(seed, batch_rows):
    with LocalDatabase(batch_rows, generation=Generation.V1, **PARTITIONS) as database:
        run(database, ModernMaker(random.Random(seed), unit=150))
