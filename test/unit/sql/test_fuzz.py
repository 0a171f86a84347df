"""A short form of `harness/sql_fuzz.py`: statements made from the grammar, and real ones broken."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.errors import ClusterError
from cluster.rpc.status import Generation
from cluster.sql.context import ParseContext
from cluster.sql.parser import parse
from harness.sql_fuzz import (
    DANGEROUS,
    Grammar,
    check,
    mutated,
    parse_all,
    prepared,
    real_statements,
)

GRAMMARS = [Grammar("v0"), Grammar("v1")]
REAL = real_statements()


@pytest.fixture(scope="module", params=[Generation.V0_13, Generation.V1], ids=["0.13", "1.x"])
def database(request):
    with prepared(request.param) as made:
        yield made


def tried(sql, database):
    check(sql, parse_all)
    if not DANGEROUS.search(sql):
        check(sql, database.execute)


@given(st.data())
@settings(max_examples=100, suppress_health_check=list(HealthCheck))
def test_what_the_grammar_allows(database, data):
    grammar = GRAMMARS[database.session.generation is Generation.V1]
    tried(grammar.text(lambda n: data.draw(st.integers(0, n - 1))), database)


@given(st.randoms(use_true_random=False))
@settings(max_examples=200, suppress_health_check=list(HealthCheck))
def test_real_statements_broken(database, source):
    tried(mutated(REAL[source.randrange(len(REAL))], REAL, source.randrange), database)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT " + "(" * 100_000 + "s1" + ")" * 100_000 + " FROM root.sg.d1",
        "SELECT " + "-" * 20_000 + "s1 FROM root.sg.d1",
        "SELECT " + "sin(" * 5000 + "s1" + ")" * 5000 + " FROM root.sg.d1",
        "SELECT s1 FROM root.sg.d1 WHERE " + "not(" * 100_000 + "s1 > 1" + ")" * 100_000,
        "SELECT s1 FROM root.sg.d1 WHERE " + "(" * 5000,
        "SELECT s1" + ", s1" * 60_000 + " FROM root.sg.d1",
        "SELECT s1" + " + s1" * 20_000 + " FROM root.sg.d1",
    ],
    ids=lambda sql: sql[:40],
)
def test_depth_bombs_are_refused(sql):
    with pytest.raises(ClusterError) as caught:
        parse(sql, ParseContext())
    assert caught.value.status in (401, 303)
    assert check(sql, parse_all).startswith("refused")


@pytest.mark.parametrize("generation", [Generation.V0_13, Generation.V1], ids=["0.13", "1.x"])
def test_long_statements_are_no_problem(generation):
    # not the module's database: a random statement may have set a TTL there, or another type
    with prepared(generation) as database:
        where = " OR ".join(f"time = {n}" for n in range(5000))
        assert check(f"SELECT s1 FROM root.sg.d1 WHERE {where}", database.execute) == "fine"
        rows = ", ".join(f"({n}, {n})" for n in range(20_000))
        assert check(f"INSERT INTO root.sg.d1(time, s1) VALUES {rows}", database.execute) == "fine"
        name = "x" * 100_000
        assert check(f"SELECT {name} FROM root.sg.d1", database.execute) == "fine"


def test_the_check_sees_what_it_must():
    def internal(_):
        raise ClusterError(500, "boom")

    def telling(_):
        raise ClusterError(411, "'NoneType' object has no attribute 'x'")

    for run in (internal, telling):
        with pytest.raises(AssertionError):
            check("SELECT", run)
