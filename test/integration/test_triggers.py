"""Triggers on a cluster: registered everywhere, fired once for each insert, by whoever takes it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.process_cluster import Node, ProcessCluster, process_cluster
from harness.wire import StatusError, WireClient

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(300)]

MODULES = Path(__file__).parents[1] / "unit" / "query" / "udf_modules"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(MODULES, tmp_path / "udf"))


@pytest.fixture
def cluster(tmp_path: Path, folder: Path) -> Iterator[ProcessCluster]:
    with process_cluster(
        tmp_path / "nodes", 3, udf_dir=str(folder), default_replica_num="3"
    ) as started:
        yield started


def insert(node: Node, time: int, value: float) -> None:
    with WireClient(node.rpc_port, timeout_s=60) as client:
        client.execute(f"INSERT INTO root.sg.d(time, s) VALUES ({time}, {value})")


def test_every_insert_fires_once_wherever_it_arrives(
    cluster: ProcessCluster, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    first, *others = cluster.nodes
    client = WireClient(first.rpc_port, timeout_s=60)
    client.execute("CREATE TIMESERIES root.sg.d.s WITH DATATYPE=DOUBLE")
    client.execute(
        f"CREATE TRIGGER t AFTER INSERT ON root.sg.d AS 'sample:Records' WITH ('file'='{told}')"
    )
    client.execute(
        "CREATE TRIGGER g BEFORE INSERT ON root.sg.d.s AS 'sample:Guards' WITH ('limit'='100')"
    )
    client.close()
    time = 0
    for node in cluster.nodes * 2:
        time += 1
        insert(node, time, time)
        with pytest.raises(StatusError, match="trigger g failed: ValueError: s is above"):
            insert(node, 1000, 1000)
    leader = cluster.leader_of(1)
    leader.kill()
    left = [node for node in cluster.nodes if node is not leader]
    for node in left * 2:
        time += 1
        insert(node, time, time)
    lines = [json.loads(line) for line in told.read_text().splitlines()]
    assert [line[3] for line in lines] == [[n] for n in range(1, time + 1)]
    leader.start()
    leader.wait_ready()
    insert(leader, time + 1, 1)
    assert json.loads(told.read_text().splitlines()[-1])[1:4] == [1, "root.sg.d", [time + 1]]
    with WireClient(first.rpc_port, timeout_s=60) as client:
        client.execute("STOP TRIGGER g")
    insert(others[0], 1000, 1000)
    insert(leader, 1001, 1000)
