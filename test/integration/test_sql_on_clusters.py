"""The SQL case files, which also run in memory: identical answers on one node and on three.

TEST_SQL_FILES=all runs all of them, else those that a cluster can answer differently most easily.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.process_cluster import ROOT, ProcessCluster, process_cluster
from harness.sql_cases import Answer, StatementFailedError, run_case_file, version_of
from harness.wire import StatusError, WireClient

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]

_FOLDER = ROOT / "test" / "cases" / "sql"
_QUICK = {
    *("auth", "continuous", "delete", "encodings", "insert", "registry", "select_align"),
    *("select_into", "select_last", "select_levels", "select_raw", "templates", "timeseries"),
    *("v1_select", "worked_examples"),
}
"""What differs most between one process and several: everything that writes or asks many groups."""

FILES = sorted(
    path
    for path in _FOLDER.glob("*.txt")
    if path.stem in _QUICK or os.environ.get("TEST_SQL_FILES") == "all"
)

CLUSTERS = {
    "one-node": (1, {}),
    "three-nodes-replica-3": (3, {}),
    "three-nodes-replica-1-partitioned": (
        3,
        {"default_replica_num": "1", "enable_partition": "true", "partition_interval": "1"},
    ),
}


@pytest.fixture(scope="module", params=CLUSTERS)
def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProcessCluster]:
    size, overrides = CLUSTERS[request.param]
    with process_cluster(tmp_path_factory.mktemp("nodes"), size, **overrides) as started:
        yield started
        started.stop()


# Longer than a node works on a statement (query_timeout_threshold): that it gives up is an answer.
ANSWER_S = 120


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_case_file(path: Path, cluster: ProcessCluster) -> None:
    """Statements go to the nodes in turn, so that each sees what was done through the others."""
    clients = [
        WireClient(node.rpc_port, zone="+08:00", timeout_s=ANSWER_S, version=version_of(path))
        for node in cluster.nodes
    ]
    turn = 0

    def execute(sql: str) -> Answer:
        nonlocal turn
        turn += 1
        try:
            return clients[turn % len(clients)].run(sql, fetch=3)
        except StatusError as error:
            raise StatementFailedError(error.code, error.message) from error

    try:
        shown = clients[0].run("show storage group")
        assert shown is not None
        for storage_group, *_ in shown[1]:  # later releases have more columns
            clients[0].run(f"delete storage group {storage_group}")
        shown = clients[0].run("show schema templates")
        assert shown is not None
        for (name,) in shown[1]:
            clients[0].run(f"drop schema template {name}")
        assert run_case_file(path, execute) > 5
    finally:
        for client in clients:
            client.close()
