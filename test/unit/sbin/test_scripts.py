"""The scripts with real nodes: a node, then a cluster of three, from start to stop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.ports import free_ports

SBIN = Path(__file__).resolve().parents[3] / "sbin"

pytestmark = pytest.mark.integration


@pytest.fixture
def script(tmp_path):
    env = {**os.environ, "IOTDB_PYTHON": sys.executable, "HOME": ""}
    env.pop("IOTDB_PY_VENV", None)

    def run(name, *arguments, stdin=None):
        return subprocess.run(
            [SBIN / f"{name}.sh", *map(str, arguments)],
            cwd=tmp_path,
            env=env,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    return run


def test_one_node(script, tmp_path):
    rpc, meta, data = free_ports(3)
    options = ["-D", "data_dir=store", "-D", f"rpc_port={rpc}"]
    ports = ["-D", f"internal_meta_port={meta}", "-D", f"internal_data_port={data}"]
    started = script("start-node", *options, *ports, "-d")
    try:
        assert (started.returncode, started.stdout) == (0, f"ready: rpc 127.0.0.1:{rpc}\n")

        file = tmp_path / "machine.csv"
        file.write_text("timestamp,value\n2013-12-02 21:15:00,73.5\n2013-12-02 21:20:00,\n")
        connect = ["-h", "127.0.0.1", "-p", rpc, "-u", "root", "-pw", "root", "-tz", "UTC"]
        imported = script("start-cli", *connect, "import-csv", file, "--device", "root.f.m1")
        assert imported.returncode == 0, imported.stderr
        answer = script("start-cli", *connect, "-e", "select value from root.f.m1")
        assert "|2013-12-02T21:15:00.000Z|           73.5|" in answer.stdout
        assert "Total line number = 1" in answer.stdout
        piped = script("start-cli", *connect, stdin="show version\n")
        assert (piped.returncode, "version" in piped.stdout) == (0, True)
        wrong = script("start-cli", *connect, "-e", "selec")
        assert (wrong.returncode, wrong.stdout) == (1, "")
        assert wrong.stderr.startswith("Msg: 401: ")

        again = script("start-node", *options, *ports, "-d")
        assert again.returncode == 1
        assert "running already" in again.stderr
    finally:
        stopped = script("stop-node", "-D", "data_dir=store")
    assert stopped.returncode == 0, stopped.stderr
    assert script("start-cli", *connect, "-e", "show version").returncode == 1
    assert script("nodetool", "-p", meta, "status").returncode == 2


def test_a_node_that_cannot_start_says_why(script):
    failed = script("start-node", "-D", "rpc_port=0", "-D", "data_dri=x", "-d")
    assert failed.returncode == 1
    assert "data_dir" in failed.stderr


def test_three_nodes(script, tmp_path):
    started = script("start-cluster", 3, "c")
    try:
        assert started.returncode == 0, started.stderr
        nodes = json.loads((tmp_path / "c" / "cluster.json").read_text())["nodes"]
        answer = script("nodetool", "-p", nodes[1]["meta_port"], "--json", "status")
        assert answer.returncode == 0, answer.stderr
        report = json.loads(answer.stdout)
        assert [node["state"] for node in report["nodes"]] == ["on"] * 3
        assert [group["kind"] for group in report["groups"]] == ["meta", "data", "data", "data"]
        for group in report["groups"]:
            roles = sorted(member["role"] for member in group["members"])
            assert roles == ["FOLLOWER", "FOLLOWER", "LEADER"]
        ring = script("nodetool", "-p", nodes[0]["meta_port"], "ring", "--json")
        slots = [
            tuple(run) for group in json.loads(ring.stdout)["groups"] for run in group["slots"]
        ]
        assert sum(high - low for low, high in slots) == 10000
    finally:
        stopped = script("stop-cluster", "c")
    assert stopped.returncode == 0, stopped.stderr
    assert stopped.stdout.count("stopped") == 3
