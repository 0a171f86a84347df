"""Mute is who leaves several pings unanswered for a while; fresh answers count."""

from __future__ import annotations

from cluster.coordinator.reach import FRESH_S, MUTE_S, Reach
from cluster.raft.types import NodeId

A, B = NodeId(1), NodeId(2)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def rounds(
    reach: Reach, clock: Clock, seconds: float, *, answering: tuple[NodeId, ...] = ()
) -> None:
    for _ in range(int(seconds / 0.25)):
        reach.probe([A, B])
        for node_id in answering:
            reach.answered(node_id)
        clock.now += 0.25


def test_only_pinged_nodes_that_stay_silent_are_mute() -> None:
    clock = Clock()
    pinged: list[NodeId] = []
    reach = Reach(pinged.append, clock)
    assert not reach.is_mute(A)
    assert not reach.answers(A)
    rounds(reach, clock, MUTE_S + 0.3, answering=(B,))
    assert pinged[:2] == [A, B]
    assert (reach.is_mute(A), reach.is_mute(B)) == (True, False)
    assert (reach.answers(A), reach.answers(B)) == (False, True)
    reach.answered(A)
    assert not reach.is_mute(A)
    assert reach.answers(A)
    clock.now += FRESH_S + 0.1
    assert not reach.answers(A)


def test_a_process_that_did_not_run_holds_silence_against_nobody() -> None:
    clock = Clock()
    reach = Reach(lambda _node: None, clock)
    reach.probe([A, B])
    clock.now += 2.0  # stopped, or starved
    assert not reach.is_mute(A)
    reach.probe([A, B])
    assert not reach.is_mute(A)


def test_what_was_known_is_forgotten_when_nobody_pings_any_more() -> None:
    clock = Clock()
    reach = Reach(lambda _node: None, clock)
    rounds(reach, clock, 2.0)
    assert reach.is_mute(A)
    clock.now += 60
    assert not reach.is_mute(A)
    reach.probe([A, B])
    clock.now += 1
    assert not reach.is_mute(A)
