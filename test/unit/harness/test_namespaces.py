"""Cut links lose packets in the one direction that was cut, and heal."""

from __future__ import annotations

import os

import pytest

from harness import namespaces
from harness.namespaces import Network

pytestmark = pytest.mark.skipif(
    bool(namespaces.unavailable()), reason=namespaces.unavailable() or "-"
)


def test_cuts_are_one_way_and_heal() -> None:
    before = os.stat("/proc/self/ns/net").st_ino
    with Network(3) as network:
        pairs = [(a, b) for a in (1, 2, 3) for b in (1, 2, 3) if a != b]
        for cut, expected in (
            (lambda: network.cut(1, 2), {(1, 2)}),
            (lambda: network.cut_off({3}), {(1, 3), (3, 1), (2, 3), (3, 2)}),
        ):
            assert network.lost(pairs, set()) == set()
            cut()
            assert network.lost(pairs, expected) == expected
            network.heal()
        assert network.lost(pairs, set()) == set()
    assert os.stat("/proc/self/ns/net").st_ino == before
