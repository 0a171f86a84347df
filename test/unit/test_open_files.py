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
from cluster.open_files import allow_connections
soft, hard, count = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(allow_connections(count), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def after(soft: int, hard: int, count: int) -> tuple[list[int], str]:
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(soft), str(hard), str(count)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return list(map(int, result.stdout.split())), result.stderr


@pytest.mark.skipif(HARD < 8000, reason="the hard limit of this process is too low")
def test_the_soft_limit_is_raised_as_far_as_needed() -> None:
    assert after(1024, 8000, 2000) == ([6096, 6096, 8000], "")


def test_the_hard_limit_is_told_when_it_is_too_low() -> None:
    limits, said = after(256, 1024, 2000)
    assert limits == [1024, 1024, 1024]
    assert "6096 would be needed" in said


@pytest.mark.skipif(HARD < 8000, reason="the hard limit of this process is too low")
def test_a_limit_that_is_enough_is_left_alone() -> None:
    assert after(7000, 8000, 100) == ([7000, 7000, 8000], "")
