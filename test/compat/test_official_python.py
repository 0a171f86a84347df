"""The official Python clients of four generations, unmodified, against one node and three.

What they do is in `official_client_life.py`. `python test/harness/rewrite_clients_table.py` writes
the table of docs/clients.md. COMPAT_PAGED_ROWS sets how many rows are paged.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.official_lives import live, marks_of_page
from harness.process_cluster import ProcessCluster

pytestmark = [pytest.mark.compat, pytest.mark.slow, pytest.mark.timeout(900)]

PAGED_ROWS = int(os.environ.get("COMPAT_PAGED_ROWS", "12000"))


@pytest.mark.parametrize("size", [1, 3])
def test_official_client_lives_its_whole_life(
    official_client: tuple[str, Path],
    size: int,
    cluster_of: Callable[[int], ProcessCluster],
) -> None:
    release, python = official_client
    nodes = cluster_of(size).nodes
    node = nodes[sum(map(ord, release)) % size]
    lived = live(python, release, node.rpc_port, PAGED_ROWS)
    failures = lived.failures()
    assert not failures, f"{failures}\n{lived.errors}\n{node.log()[-3000:]}"
    # what the page says of this release is what has just happened
    assert lived.marks() == marks_of_page(release)
