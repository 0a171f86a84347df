"""Whether nodes agree on what must be the same on all of them: pure functions.

0.13 compares a fixed list of fields and needs every node's answer; here every cluster-wide setting
is compared, and a majority decides.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from enum import Enum
from typing import NamedTuple, TypeVar

K = TypeVar("K", bound=Hashable)


class Mismatch(NamedTuple):
    """A setting that differs."""

    key: str
    mine: str
    theirs: str


class Verdict(Enum):
    """What a starting node does after a round of answers."""

    GO_ON = "go on"
    WAIT = "wait"
    REFUSE = "refuse"


def compare(
    mine: Mapping[str, str], theirs: Mapping[str, str], *, compare_seeds: bool
) -> list[Mismatch]:
    """Return the settings that differ, by key; one that only one side has counts as differing.

    Args:
        mine: this side's settings.
        theirs: the other side's.
        compare_seeds: leave out `seed_nodes` when false: seeds matter for first contact only.
    """
    return [
        Mismatch(key, mine.get(key, "(not set)"), theirs.get(key, "(not set)"))
        for key in sorted(mine.keys() | theirs.keys())
        if mine.get(key) != theirs.get(key) and (compare_seeds or key != "seed_nodes")
    ]


def verdict(total: int, answers: Mapping[K, list[Mismatch] | None]) -> Verdict:
    """Decide from one round of answers.

    Args:
        total: number of nodes, this one included.
        answers: what each other node said: its mismatches (none: it agrees), or None when it
            did not answer.

    Returns:
        GO_ON when more than half (this node included) agree; REFUSE when so many disagree that
        more than half can no longer agree; else WAIT.
    """
    agreeing = 1 + sum(answer == [] for answer in answers.values())
    disagreeing = sum(bool(answer) for answer in answers.values())
    if 2 * agreeing > total:
        return Verdict.GO_ON
    if 2 * (total - disagreeing) <= total:
        return Verdict.REFUSE
    return Verdict.WAIT


def describe_mismatch(mismatch: Mismatch) -> str:
    """Return the mismatch as text: key and both values."""
    return f"{mismatch.key} is {mismatch.mine} here and {mismatch.theirs} there"
