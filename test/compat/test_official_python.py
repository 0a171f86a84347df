"""The official Python clients of four generations, unmodified, against one node and three."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.process_cluster import Node, ProcessCluster, process_cluster

pytestmark = [pytest.mark.compat, pytest.mark.slow, pytest.mark.timeout(900)]

LIFE = Path(__file__).with_name("official_client_life.py")


@pytest.fixture(scope="module", params=[1, 3], ids=["one-node", "three-nodes"])
def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProcessCluster]:
    with process_cluster(tmp_path_factory.mktemp("nodes"), request.param) as started:
        yield started
        started.stop()


def test_official_client_lives_its_whole_life(
    official_client: tuple[str, Path], cluster: ProcessCluster
) -> None:
    """Each release through another node; the operations are printed as they succeed."""
    release, python = official_client
    node: Node = cluster.nodes[sum(map(ord, release)) % len(cluster.nodes)]
    result = subprocess.run(
        [str(python), "-W", "ignore", str(LIFE), release, str(node.rpc_port)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    print(result.stdout)
    assert result.returncode == 0, result.stdout + result.stderr + node.log()[-3000:]
    assert "life complete" in result.stdout
