"""A transfer leaves the node's other work the part of a core that it uses."""

from __future__ import annotations

import pytest

from cluster.member.pace import Pace

PIECE_S = 0.004
PIECE = 1 << 20


class Clocks:
    def __init__(self) -> None:
        self.now = self.all_cpu = self.own_cpu = 0.0

    def pace(self, rate: int = 0) -> Pace:
        return Pace(rate, lambda: self.now, lambda: self.all_cpu, lambda: self.own_cpu)

    def work(self, own: float, others: float, took: float = PIECE_S) -> None:
        self.now += took
        self.own_cpu += own
        self.all_cpu += own + others


@pytest.mark.parametrize(
    ("others", "share"),
    [(0.0, 1.0), (0.1, 0.9), (0.5, 0.5), (0.85, 0.15), (1.0, 0.15), (1.8, 0.15)],
)
def test_the_busier_the_others_the_longer_the_rest(others: float, share: float) -> None:
    clocks = Clocks()
    pace = clocks.pace()
    own = 0.0
    for _ in range(10):
        clocks.work(PIECE_S, others * PIECE_S)
        own += PIECE_S
        clocks.now += pace.rest_s(PIECE)
        pace.rested()
    assert own / clocks.now == pytest.approx(share)


def test_waiting_for_the_network_is_rest_enough() -> None:
    clocks = Clocks()
    pace = clocks.pace()
    clocks.work(0.001, 0.005, took=0.01)
    assert pace.rest_s(PIECE) == 0
    pace.rested()
    clocks.work(0.008, 0.005, took=0.01)
    assert pace.rest_s(PIECE) == pytest.approx(0.006)


def test_a_rate_is_an_upper_bound() -> None:
    clocks = Clocks()
    pace = clocks.pace(rate=100 * PIECE)
    for number in range(1, 11):
        clocks.work(PIECE_S, 0)
        clocks.now += pace.rest_s(PIECE)
        pace.rested()
        assert clocks.now == pytest.approx(number / 100)
    clocks.work(0.5, 0.5, took=0.5)  # too late for the rate; the rest is for the others
    assert pace.rest_s(PIECE) == pytest.approx(0.5 / 0.15 - 0.5)
