"""The fault machinery in its short form, and single faults with a definite outcome.

The long form is `python test/integration/faults/run.py --minutes 60`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness import disks
from harness.disks import Disk
from harness.faults.serving import storage_groups
from harness.faults.workloads import SetCheck, Sets
from harness.history import longest_gap_s, now_ns
from harness.process_cluster import ROOT, ProcessCluster

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]

SECONDS = float(os.environ.get("TEST_FAULT_SECONDS", "30"))
_HANGS_S = 8.0

needs_disks = pytest.mark.skipif(bool(disks.unavailable()), reason=disks.unavailable() or "-")


@contextmanager
def on_disks(
    folder: Path, megabytes: int, **settings: str
) -> Iterator[tuple[ProcessCluster, dict[int, Disk]]]:
    """Three nodes, each with its data on a disk of its own; disks by the nodes' numbers."""
    cluster = ProcessCluster(folder, 3, **settings)
    mounted: dict[int, Disk] = {}
    try:
        for node in cluster.nodes:
            node.folder.mkdir(parents=True)
            mounted[node.number] = Disk(node.folder / "disk.img", node.data_folder, megabytes)
        cluster.start()
        yield cluster, mounted
        cluster.stop()
    finally:
        cluster.kill_all()
        for disk in mounted.values():
            disk.close()


def assert_all_kept(cluster: ProcessCluster, load: Sets) -> None:
    """Every node has what was acknowledged, and nothing that was never written."""
    found = SetCheck()
    for node in cluster.nodes:
        found.at(node, load)
    assert not found.lost
    assert not found.invented
    assert not load.stale


def test_short_run_of_all_nemeses(tmp_path: Path) -> None:
    """TEST_FAULT_SECONDS sets its length; what can't be done on this machine is skipped by name."""
    command = [sys.executable, str(ROOT / "test" / "integration" / "faults" / "run.py")]
    options = ["--minutes", str(SECONDS / 60), "--folder", str(tmp_path / "run")]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr[-3000:]
    tally = json.loads(done.stdout)
    assert tally["ok"], json.dumps(tally, indent=1)
    assert done.returncode == 0
    assert tally["faults"]
    assert tally["acknowledged"] > 1000
    assert tally["rows_checked"] > 5


def test_an_unknown_nemesis_is_named(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "test" / "integration" / "faults" / "run.py")]
    options = ["--nemesis", "earthquake", "--folder", str(tmp_path / "run")]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "earthquake" in done.stderr
    assert "kill-leader" in done.stderr


@needs_disks
def test_a_leader_with_a_full_disk_gives_way(tmp_path: Path) -> None:
    """It stops for good at once; the others elect a leader; nothing acknowledged is lost."""
    with on_disks(tmp_path, 300, raft_log_segment_bytes=str(4 << 20)) as (cluster, mounted):
        group_id, [name] = next(iter(storage_groups(cluster, per_group=1).items()))
        load = Sets(cluster.nodes, name, 1, seed=1, clients=6)
        load.start()
        time.sleep(1)
        victim = cluster.leader_of(group_id)
        filled = now_ns()
        mounted[victim.number].fill()
        # the room that is left in the log's files is used up first
        assert victim.process is not None
        assert victim.process.wait(60) == 1
        time.sleep(5)
        load.stop()
        assert longest_gap_s(load.acknowledged_ns, filled, now_ns()) < 5
        assert "No space left on device" in victim.log()
        mounted[victim.number].make_room()
        victim.process = None
        victim.start()
        victim.wait_ready()
        assert_all_kept(cluster, load)


@needs_disks
def test_a_leader_whose_disk_hangs_gives_way(tmp_path: Path) -> None:
    """Clients of the other nodes wait for a transfer, not for the disk; nothing is lost."""
    with on_disks(tmp_path, 600) as (cluster, mounted):
        group_id, [name] = next(iter(storage_groups(cluster, per_group=1).items()))
        victim = cluster.leader_of(group_id)
        others = [node for node in cluster.nodes if node is not victim]
        load = Sets(others, name, 1, seed=1, clients=6)
        load.start()
        time.sleep(1)
        hangs_from = now_ns()
        mounted[victim.number].slow_down(_HANGS_S)
        time.sleep(_HANGS_S)  # it is what is measured
        hangs_until = now_ns()
        assert cluster.leader_of(group_id) is not victim
        mounted[victim.number].normal_speed()
        load.stop()
        # an election time-out, the next look at the disk, and the transfer
        assert longest_gap_s(load.acknowledged_ns, hangs_from, hangs_until) < 4
        assert_all_kept(cluster, load)
