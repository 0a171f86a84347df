from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.config.settings import ConfigError, Settings
from cluster.server import local_cluster, node_control
from cluster.server.local_cluster import ClusterPlan, PlanError, planned_nodes
from harness.modules import run_module

ROOT = Path(__file__).resolve().parents[3]

FAKE_NODE = """
import os, signal, sys
from pathlib import Path
fd = int(sys.argv[sys.argv.index("--ready-fd") + 1])
data_dir = next(Path(a.partition("=")[2]) for a in sys.argv if a.startswith("data_dir="))
(data_dir / "argv").write_text(" ".join(sys.argv[1:]))
if data_dir.name == os.environ.get("FAIL"):
    os.write(fd, b"failed: bad luck\\n")
    sys.exit(1)
os.write(fd, b"ready: rpc x:1\\n")
os.close(fd)
signal.pause()
"""

START = """
import sys
from pathlib import Path
from cluster.server.local_cluster import PlanError, start_cluster
try:
    lines = start_cluster(Path({folder!r}), {count}, base_port=None, overrides={overrides!r},
                          timeout_s=30, command=[sys.executable, {script!r}])
except PlanError as error:
    sys.exit(str(error))
print("\\n".join(lines))
"""


@pytest.fixture
def cluster(tmp_path):
    folder = tmp_path / "cluster"
    script = tmp_path / "fake_node.py"
    script.write_text(FAKE_NODE)

    def start(count, overrides=None, fail=""):
        code = START.format(
            folder=str(folder), count=count, overrides=overrides or {}, script=str(script)
        )
        return subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": str(ROOT), "FAIL": fail},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    yield folder, start
    if local_cluster.load_plan(folder) is not None:
        local_cluster.stop_cluster(folder, 10)


def pids(folder, count):
    return [node_control.running_pid(folder / f"node{n + 1}") for n in range(count)]


def test_start_stop_start(cluster):
    folder, start = cluster
    first = start(3, {"cluster_name": "x"})
    assert first.returncode == 0, first.stderr
    assert len(first.stdout.splitlines()) == 4
    running = pids(folder, 3)
    assert None not in running
    arguments = (folder / "node2/argv").read_text()
    plan = local_cluster.load_plan(folder)
    seeds = ",".join(f"127.0.0.1:{node.meta_port}" for node in plan.nodes)
    assert f"-D seed_nodes={seeds} -D cluster_name=x" in arguments

    assert start(3).returncode == 0  # what runs stays
    assert pids(folder, 3) == running

    lines = local_cluster.stop_cluster(folder, 10)
    assert lines == [f"node{n + 1} stopped (pid {running[n]})" for n in range(3)]
    assert pids(folder, 3) == [None] * 3
    assert local_cluster.stop_cluster(folder, 1)[0] == "node1 was not running"

    assert start(3).returncode == 0
    assert (folder / "node2/argv").read_text().split(" --ready")[0] == arguments.split(" --ready")[
        0
    ]

    wrong = start(2)
    assert wrong.returncode == 1
    assert "holds a cluster of 3 nodes, not 2" in wrong.stderr


def test_when_one_node_fails_the_others_are_stopped(cluster):
    folder, start = cluster
    result = start(3, fail="node2")
    assert result.returncode == 1
    assert "node2: bad luck" in result.stderr
    assert pids(folder, 3) == [None] * 3


def test_wrong_settings_start_nothing(tmp_path):
    with pytest.raises(ConfigError, match="cluster_nme"):
        local_cluster.start_cluster(
            tmp_path, 1, base_port=None, overrides={"cluster_nme": "x"}, timeout_s=1
        )
    assert list(tmp_path.iterdir()) == []


def test_ports_from_a_base(tmp_path):
    nodes = planned_nodes(2, 6667)
    assert [(n.rpc_port, n.meta_port, n.data_port) for n in nodes] == [
        (6667, 6767, 6867),
        (6668, 6768, 6868),
    ]
    with pytest.raises(PlanError, match="65536"):
        planned_nodes(3, 65500)
    plan = ClusterPlan(nodes, {"default_replica_num": "2"})
    local_cluster.save_plan(tmp_path, plan)
    assert local_cluster.load_plan(tmp_path) == plan
    pairs = plan.arguments(tmp_path, nodes[1])[1::2]
    settings = Settings.load(None, node_control.parse_overrides(pairs))
    assert settings.node.rpc_port == 6668
    assert len(settings.cluster.seed_nodes) == settings.cluster.default_replica_num == 2


def test_free_ports_differ_and_are_none_of_outgoing_connections():
    """A node that was down for a while could find its own taken by such a connection."""
    nodes = planned_nodes(3, None)
    ports = {port for n in nodes for port in (n.rpc_port, n.meta_port, n.data_port)}
    assert len(ports) == 9
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as outgoing:
        outgoing.connect(server.getsockname())
        assert outgoing.getsockname()[1] not in range(10_000, local_cluster._first_outgoing_port())
    assert ports < set(range(10_000, local_cluster._first_outgoing_port()))


def test_a_port_that_is_taken_is_not_planned(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        monkeypatch.setattr(local_cluster, "_FIRST_FREE_PORT", taken)
        monkeypatch.setattr(local_cluster, "_first_outgoing_port", lambda: taken + 1)
        with pytest.raises(PlanError, match="name others with --base-port"):
            planned_nodes(1, None)


def test_folders_without_a_cluster(tmp_path):
    with pytest.raises(PlanError, match="no cluster was started"):
        local_cluster.stop_cluster(tmp_path, 1)
    (tmp_path / "cluster.json").write_text("{}")
    with pytest.raises(PlanError, match="can't be read"):
        local_cluster.stop_cluster(tmp_path, 1)
    (tmp_path / "cluster.json").unlink()


@pytest.mark.parametrize(
    ("arguments", "usage"),
    [
        (["start", "0", "x"], "Usage: start-cluster.sh [OPTIONS] COUNT FOLDER\n"),
        (["stop"], "Usage: stop-cluster.sh [OPTIONS] FOLDER\n"),
    ],
)
def test_usage_names_the_script(arguments, usage):
    answer = run_module("cluster.server.local_cluster", *arguments)
    assert answer.returncode == 2
    assert answer.stderr.startswith(usage)
