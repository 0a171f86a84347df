"""The official Python clients of two generations, unmodified, against one node and three."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.process_cluster import process_cluster

pytestmark = [pytest.mark.compat, pytest.mark.slow, pytest.mark.timeout(900)]

LIFE = Path(__file__).with_name("official_client_life.py")


@pytest.mark.parametrize("size", [1, 3])
def test_official_client_lives_its_whole_life(
    official_client: tuple[str, Path], size: int, tmp_path: Path
) -> None:
    release, python = official_client
    with process_cluster(tmp_path, size) as cluster:
        for node in cluster.nodes:
            result = subprocess.run(
                [str(python), str(LIFE), release, str(node.rpc_port)],
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert result.returncode == 0, result.stdout + result.stderr + node.log()[-3000:]
            assert "life complete" in result.stdout
        cluster.stop()
