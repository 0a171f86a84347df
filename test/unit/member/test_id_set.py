"""Ids that were dropped, at a bit each."""

from __future__ import annotations

import random

import pytest

from cluster.member.id_set import IdSet


def test_it_answers_like_a_set() -> None:
    rng = random.Random(1)
    ids, plain = IdSet(), set()
    for _ in range(5000):
        number = rng.choice([rng.randrange(300), rng.randrange(20_000), rng.getrandbits(64)])
        ids.add(number)
        plain.add(number)
    for number in [*plain, *range(20_500), *(rng.getrandbits(64) for _ in range(2000))]:
        assert (number in ids) == (number in plain)
    ids.discard_range(8192, 1 << 32)
    plain = {n for n in plain if not 8192 <= n < 1 << 32}
    assert all((n in ids) == (n in plain) for n in [*plain, *range(20_500)])
    with pytest.raises(AssertionError):
        ids.discard_range(1, 8192)


def test_numbers_in_a_row_take_a_bit_each() -> None:
    ids = IdSet()
    for number in range(5 << 32, (5 << 32) + 100_000):
        ids.add(number)
    assert sum(len(chunk) for chunk in ids._chunks.values()) < 2 * 100_000 / 8
