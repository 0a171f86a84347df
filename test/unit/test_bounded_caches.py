"""What is remembered of texts that clients send is bounded in bytes, not only in number.

A cache of a thousand texts, each as large as a request may be, would hold more than a machine has.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest

from cluster.rpc import convert
from cluster.scan.value_tests import (
    CompareTest,
    ContainsTest,
    InTest,
    LikeTest,
    Operator,
    compiled,
)
from cluster.schema.paths import PathPattern, split_path
from cluster.sql.fast_insert import fast_insert
from cluster.sql.timestamps import parse_zone
from iotdb_engine.types import DataType

LARGE = 1 << 15
REPEATS = 12
KEPT = 6 * LARGE
"""Half of what came."""


def zone(number: int) -> None:
    with pytest.raises(ValueError, match="not a time zone"):
        parse_zone(f"{'x' * LARGE}{number}")
    parse_zone(f"{' ' * LARGE}+08:{number:02}")


@pytest.mark.parametrize(
    "remember",
    [
        pytest.param(lambda n: split_path(f"root.{'a' * LARGE}{n}"), id="path"),
        pytest.param(lambda n: PathPattern.parse(f"root.{'a' * LARGE}{n}.*"), id="pattern"),
        pytest.param(zone, id="zone"),
        pytest.param(
            lambda n: fast_insert(f"insert into root.d(time, {'a' * LARGE}{n}) values (1, 1)"),
            id="insert",
        ),
        pytest.param(lambda n: compiled(ContainsTest(b"%d" % n + bytes(LARGE))), id="contains"),
        pytest.param(
            lambda n: compiled(InTest(DataType.TEXT, (b"%d" % n + bytes(LARGE),))), id="in"
        ),
        pytest.param(
            lambda n: compiled(CompareTest(DataType.TEXT, Operator.EQ, b"%d" % n + bytes(LARGE))),
            id="equal",
        ),
    ],
)
def test_large_texts_are_not_kept(remember: Callable[[int], object]) -> None:
    remember(REPEATS)  # what is made once
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(REPEATS):
            remember(number)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < KEPT


def test_a_test_is_compiled_once_for_the_batches_of_a_query() -> None:
    for test in (LikeTest("a%"), LikeTest("a" * LARGE)):
        assert compiled(test) is compiled(test)


def test_types_of_very_wide_tablets_are_not_kept() -> None:
    convert._kept_types.cache_clear()
    assert len(convert.tablet_types([1] * 20_000).widths) == 20_000
    assert convert._kept_types.cache_info().currsize == 0
    assert convert.tablet_types([1] * 20) is convert.tablet_types([1] * 20)
