from __future__ import annotations

import pytest

from cluster.config.agreement import Mismatch, Verdict, compare, describe_mismatch, verdict

NO = [Mismatch("cluster_name", "a", "b")]


@pytest.mark.parametrize(
    ("total", "answers", "expected"),
    [
        (1, [], Verdict.GO_ON),
        (2, [None], Verdict.WAIT),
        (2, [[]], Verdict.GO_ON),
        (2, [NO], Verdict.REFUSE),
        (3, [None, None], Verdict.WAIT),
        (3, [[], None], Verdict.GO_ON),
        (3, [[], NO], Verdict.GO_ON),
        (3, [NO, None], Verdict.WAIT),
        (3, [NO, NO], Verdict.REFUSE),
        (5, [[], None, None, None], Verdict.WAIT),
        (5, [[], [], NO, NO], Verdict.GO_ON),
        (5, [NO, NO, None, None], Verdict.WAIT),
        (5, [NO, NO, NO, []], Verdict.REFUSE),
    ],
)
def test_a_majority_decides(
    total: int, answers: list[list[Mismatch] | None], expected: Verdict
) -> None:
    assert verdict(total, dict(enumerate(answers))) is expected


def test_compare_names_key_and_both_values() -> None:
    found = compare({"a": "1", "b": "2"}, {"a": "1", "b": "3"}, compare_seeds=True)
    assert found == [Mismatch("b", "2", "3")]
    assert describe_mismatch(found[0]) == "b is 2 here and 3 there"


def test_a_key_that_one_side_lacks_differs() -> None:
    assert compare({"a": "1"}, {}, compare_seeds=True) == [Mismatch("a", "1", "(not set)")]


def test_seeds_are_left_out_when_asked() -> None:
    assert compare({"seed_nodes": "x"}, {"seed_nodes": "y"}, compare_seeds=False) == []
    assert compare({"seed_nodes": "x"}, {"seed_nodes": "y"}, compare_seeds=True) != []
