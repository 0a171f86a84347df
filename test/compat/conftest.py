"""Official clients: where a release can't be installed its tests are skipped with the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.official_environments import CLIENT_PACKAGES, environments
from harness.process_cluster import ProcessCluster, process_cluster


@pytest.fixture(scope="session", params=list(CLIENT_PACKAGES))
def official_client(request: pytest.FixtureRequest) -> tuple[str, Path]:
    python, reason = environments()[request.param]
    if reason:
        pytest.skip(reason)
    return request.param, python


@pytest.fixture(scope="session")
def cluster_of(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[int], ProcessCluster]]:
    """Starts clusters, one of each size, for all tests of this folder."""
    running = {}

    def start(size: int) -> ProcessCluster:
        if size not in running:
            context = process_cluster(tmp_path_factory.mktemp(f"nodes{size}"), size)
            running[size] = (context, context.__enter__())
        return running[size][1]

    yield start
    for context, cluster in running.values():
        cluster.stop()
        context.__exit__(None, None, None)
