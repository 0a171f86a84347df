"""The checker itself: known good and bad histories, a brute-force twin, and its time bound."""

from __future__ import annotations

import itertools
import random
import time
from pathlib import Path

import pytest

from harness.history import History, Operation, Outcome, longest_gap_s
from harness.linearizable import Register, Verdict, check, relevant

OK, FAIL, UNKNOWN = Outcome.OK, Outcome.FAIL, Outcome.UNKNOWN


def op(action: str, value: object, called: int, answered: int, outcome: Outcome = OK) -> Operation:
    return Operation(0, "x", action, value, called, answered, outcome)


GOOD = {
    "nothing": [],
    "write then read": [op("write", 1, 0, 1), op("read", 1, 2, 3)],
    "read before the first write": [op("read", None, 0, 1), op("write", 1, 2, 3)],
    "read during a write sees the old value": [
        op("write", 1, 0, 1),
        op("write", 2, 2, 9),
        op("read", 1, 3, 4),
    ],
    "read during a write sees the new value": [op("write", 1, 0, 9), op("read", 1, 3, 4)],
    "two writes side by side in either order": [
        op("write", 1, 0, 9),
        op("write", 2, 0, 9),
        op("read", 2, 10, 11),
        op("read", 2, 12, 13),
    ],
    "an unknown write takes effect long after its call": [
        op("write", 1, 0, 1),
        op("write", 2, 2, 3, UNKNOWN),
        op("read", 1, 4, 5),
        op("read", 2, 6, 7),
    ],
    "an unknown write never takes effect": [
        op("write", 1, 0, 1),
        op("write", 2, 2, 3, UNKNOWN),
        op("read", 1, 10, 11),
    ],
    "a failed write is not seen": [op("write", 1, 0, 1, FAIL), op("read", None, 2, 3)],
    "answers at the same instant as calls are side by side": [
        op("write", 1, 0, 5),
        op("read", None, 5, 6),
    ],
}

BAD = {
    "stale read after an acknowledged write": [
        op("write", 1, 0, 1),
        op("write", 2, 2, 3),
        op("read", 1, 4, 5),
    ],
    "acknowledged write lost": [op("write", 1, 0, 1), op("read", None, 2, 3)],
    "value that nobody wrote": [op("write", 1, 0, 1), op("read", 7, 2, 3)],
    "value of a failed write": [op("write", 1, 0, 1, FAIL), op("read", 1, 2, 3)],
    "the new value, then the old one again": [
        op("write", 1, 0, 1),
        op("write", 2, 2, 20),
        op("read", 2, 3, 4),
        op("read", 1, 5, 6),
    ],
    "two readers disagree about the order of two writes": [
        op("write", 1, 0, 20),
        op("write", 2, 0, 20),
        op("read", 1, 1, 2),
        op("read", 2, 3, 4),
        op("read", 1, 5, 6),
    ],
    "read from the future": [op("read", 1, 0, 1), op("write", 1, 2, 3)],
    "an unknown write appears, vanishes, appears": [
        op("write", 1, 0, 1),
        op("write", 2, 2, 3, UNKNOWN),
        op("read", 2, 4, 5),
        op("read", 1, 6, 7),
    ],
    "unknown write seen before its call": [op("read", 2, 0, 1), op("write", 2, 2, 3, UNKNOWN)],
}


@pytest.mark.parametrize("name", GOOD)
def test_known_good(name: str) -> None:
    assert check(GOOD[name]).verdict is Verdict.LINEARIZABLE


@pytest.mark.parametrize("name", BAD)
def test_known_bad(name: str) -> None:
    result = check(BAD[name])
    assert result.verdict is Verdict.VIOLATION
    assert "Operation(" in result.explanation


def brute_force(operations: list[Operation]) -> bool:
    """Try every order of every choice of unknown writes."""
    certain = [o for o in operations if o.outcome is OK]
    unsure = [o for o in operations if o.outcome is UNKNOWN and o.action == "write"]
    for count in range(len(unsure) + 1):
        for chosen in itertools.combinations(unsure, count):
            for order in itertools.permutations([*certain, *chosen]):
                if _respects_time(order) and _runs(order):
                    return True
    return False


def _respects_time(order: tuple[Operation, ...]) -> bool:
    return not any(
        later.outcome is OK and later.answered_ns < earlier.called_ns
        for i, earlier in enumerate(order)
        for later in order[i + 1 :]
    )


def _runs(order: tuple[Operation, ...]) -> bool:
    state = None
    for operation in order:
        if operation.action == "write":
            state = operation.value
        elif operation.value != state:
            return False
    return True


def test_agrees_with_brute_force() -> None:
    rng = random.Random(5)
    verdicts = set()
    for _ in range(1500):
        operations = []
        for number in range(rng.randint(1, 6)):
            called = rng.randrange(12)
            answered = called + rng.randint(1, 6)
            outcome = rng.choice([OK, OK, OK, UNKNOWN, FAIL])
            if rng.random() < 0.5:
                operations.append(op("write", number, called, answered, outcome))
            else:
                operations.append(
                    op("read", rng.choice([None, *range(6)]), called, answered, outcome)
                )
        expected = brute_force(operations)
        verdicts.add(expected)
        found = check(operations).verdict
        assert (found is Verdict.LINEARIZABLE) == expected, operations
    assert verdicts == {True, False}


def simulated(rng: random.Random, clients: int, count: int) -> list[Operation]:
    """A history that a real register produced: each operation takes effect inside its interval."""
    operations = []
    free_at = [0] * clients
    pending: list[tuple[int, int, int, int, str, int]] = []
    for number in range(count):
        client = number % clients
        called = free_at[client] + rng.randint(1, 5)
        effect = called + rng.randint(1, 20)
        answered = effect + rng.randint(1, 20)
        free_at[client] = answered
        kind = rng.choice(["read", "write"])
        pending.append((effect, number, called, answered, kind, client))
    state = None
    for _, number, called, answered, kind, client in sorted(pending):
        if kind == "write":
            state = number
        outcome = UNKNOWN if kind == "write" and rng.random() < 0.1 else OK
        operations.append(Operation(client, "x", kind, state, called, answered, outcome))
    return operations


def test_long_histories_of_a_real_register_pass_quickly() -> None:
    rng = random.Random(11)
    began = time.thread_time()
    for _ in range(20):
        assert check(simulated(rng, 6, 400)).verdict is Verdict.LINEARIZABLE
    assert time.thread_time() - began < 20


def test_one_stale_read_in_a_long_history_is_found() -> None:
    rng = random.Random(12)
    for _ in range(20):
        operations = simulated(rng, 5, 300)
        writes = sorted(
            (o for o in operations if o.action == "write" and o.outcome is OK),
            key=lambda o: o.called_ns,
        )
        overwritten, later = writes[3], writes[40]
        end = max(o.answered_ns for o in operations)
        assert overwritten.answered_ns < later.called_ns
        operations.append(op("read", overwritten.value, end + 1, end + 2))
        assert check(operations).verdict is Verdict.VIOLATION


def test_gives_up_in_time() -> None:
    # many writes side by side whose order a single late reader contradicts
    operations = [op("write", number, 0, 1000) for number in range(40)]
    operations += [op("read", number % 40, 10 + number, 500) for number in range(80)]
    operations += [op("read", 0, 2000, 2001), op("read", 1, 2002, 2003)]
    began = time.thread_time()
    assert check(operations, budget_s=0.5).verdict is Verdict.UNDECIDED
    assert time.thread_time() - began < 5


def test_unknown_writes_that_nobody_saw_cost_nothing() -> None:
    operations = [op("write", number, number, number + 1, UNKNOWN) for number in range(5000)]
    operations += [op("write", -1, 0, 1), op("read", -1, 6000, 6001)]
    assert len(relevant(operations)) == 2
    assert check(operations, budget_s=2).verdict is Verdict.LINEARIZABLE


def test_another_initial_value() -> None:
    assert check([op("read", 3, 0, 1)], Register(3)).verdict is Verdict.LINEARIZABLE
    assert check([op("read", None, 0, 1)], Register(3)).verdict is Verdict.VIOLATION


def test_history_survives_its_file(tmp_path: Path) -> None:
    history = History()
    for name in BAD:
        for operation in BAD[name]:
            history.add(operation)
    history.save(tmp_path / "history.jsonl")
    assert History.load(tmp_path / "history.jsonl").operations() == history.operations()
    assert history.tally()["unknown"] == 2


def test_longest_gap_counts_both_ends() -> None:
    second = 1_000_000_000
    assert longest_gap_s([second], 0, 3 * second) == 2
    assert longest_gap_s([], 0, 3 * second) == 3
    assert longest_gap_s([9 * second], 0, 3 * second) == 3
