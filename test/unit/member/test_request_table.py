"""What became of requests: outcomes while they are waited for, refusals below."""

from __future__ import annotations

import pytest

from cluster.errors import OutcomeUnknown
from cluster.member.request_table import (
    KEY_PREFIX,
    MAX_COORDINATORS,
    MAX_OUTCOMES,
    RequestTable,
)
from cluster.plan.request_id import RequestId


def request(number: int, first_open: int = 1, coordinator: int = 7) -> RequestId:
    return RequestId(coordinator, number, first_open)


def stored(table: RequestTable, before: dict[bytes, bytes] | None = None) -> dict[bytes, bytes]:
    """What is stored after the table's changes."""
    kept = dict(before or {})
    for key, value in table.late_puts().items():
        if value is None:
            kept.pop(key, None)
        else:
            kept[key] = value
    return kept


def test_an_outcome_is_kept_while_its_coordinator_waits() -> None:
    table = RequestTable()
    assert table.find(request(1)) is None
    table.note(request(1), 10, 1)
    table.note(request(3), 30, 2)
    known = table.find(request(1))
    assert known is not None
    assert known.outcome == 10
    assert table.find(request(2)) is None
    # the third says that nobody waits for the first two any more
    table.note(request(4, first_open=3), 40, 3)
    kept = table.find(request(3))
    assert kept is not None
    assert kept.outcome == 30
    for late in (1, 2):
        straggler = table.find(request(late))
        assert straggler is not None
        assert isinstance(straggler.outcome, OutcomeUnknown)


def test_each_straggler_gets_an_error_of_its_own() -> None:
    """An exception that is raised again and again keeps all its frames, and what they hold."""
    table = RequestTable()
    table.note(request(5, first_open=5), 50, 1)
    outcomes = [table.find(request(number)).outcome for number in (1, 1, 2)]  # type: ignore[union-attr]
    assert len({id(outcome) for outcome in outcomes}) == 3
    for outcome in outcomes:
        with pytest.raises(OutcomeUnknown, match="had given it up"):
            raise outcome


def test_the_stored_table_answers_alike() -> None:
    table = RequestTable()
    for number in range(1, 8):
        table.note(request(number, first_open=max(1, number - 2)), [number, "x"], number)
    kept = stored(table)
    again = RequestTable(kept.items())
    assert again.digest() == table.digest()
    assert stored(table) == {}
    for number in range(1, 10):
        mine, theirs = table.find(request(number)), again.find(request(number))
        assert (mine is None) == (theirs is None)
        if mine is not None and theirs is not None:
            assert str(mine.outcome) == str(theirs.outcome)


def test_more_outcomes_than_anybody_waits_for_are_not_kept() -> None:
    table = RequestTable()
    for number in range(1, MAX_OUTCOMES + 2):
        table.note(request(number), number, number)
    count, _ = table.digest()
    assert count <= MAX_OUTCOMES
    newest = table.find(request(MAX_OUTCOMES + 1))
    assert newest is not None
    assert newest.outcome == MAX_OUTCOMES + 1
    oldest = table.find(request(1))
    assert oldest is not None
    assert isinstance(oldest.outcome, OutcomeUnknown)


def test_the_coordinator_not_heard_of_for_longest_is_forgotten() -> None:
    table = RequestTable()
    for coordinator in range(MAX_COORDINATORS):
        table.note(request(1, coordinator=coordinator), 1, coordinator + 1)
    table.note(request(2, coordinator=0), 2, MAX_COORDINATORS + 1)
    kept = stored(table)
    table.note(request(1, coordinator=9999), 1, MAX_COORDINATORS + 2)
    assert table.find(request(1, coordinator=0)) is not None
    assert table.find(request(1, coordinator=1)) is None
    kept = stored(table, kept)
    assert len(kept) == MAX_COORDINATORS
    assert KEY_PREFIX + (1).to_bytes(8, "big") not in kept


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b + b"x", lambda b: b[:10]])
def test_a_damaged_record_is_refused(damage) -> None:  # type: ignore[no-untyped-def]
    table = RequestTable()
    table.note(request(1), 10, 1)
    ((key, value),) = stored(table).items()
    with pytest.raises(ValueError, match=r"damaged|too many|cut off|malformed"):
        RequestTable([(key, damage(value))])
