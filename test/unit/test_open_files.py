"""The limit of open files, in processes of their own: it can't be raised again once lowered."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HARD = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 1 << 20)

SCRIPT = """
import resource, sys
from cluster.open_files import room_for_connections
soft, hard, clients, nodes = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(*room_for_connections(clients, nodes), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def after(soft: int, hard: int, clients: int, nodes: int) -> tuple[list[int], str]:
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, (soft, hard, clients, nodes))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return list(map(int, result.stdout.split())), result.stderr


@pytest.mark.skipif(HARD < 8000, reason="the hard limit of this process is too low")
def test_the_soft_limit_is_raised_as_far_as_needed() -> None:
    assert after(1024, 8000, 1800, 100) == ([1800, 100, 6096, 8000], "")


@pytest.mark.parametrize("hard", [64, 300, 1024])
def test_where_the_hard_limit_is_low_connections_leave_half_of_it_to_files(hard: int) -> None:
    (clients, nodes, *limits), said = after(min(256, hard), hard, 2000, 1024)
    assert limits == [hard, hard]
    assert clients >= 16
    assert nodes >= 16
    assert hard < 128 or clients + 2 * nodes <= hard // 2
    assert "8144 would be needed" in said
    assert f"{clients} connections of clients are served, not 2000" in said


@pytest.mark.skipif(HARD < 8000, reason="the hard limit of this process is too low")
def test_a_limit_that_is_enough_is_left_alone() -> None:
    assert after(7000, 8000, 80, 10) == ([80, 10, 7000, 8000], "")
