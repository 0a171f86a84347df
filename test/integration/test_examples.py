"""Every program in examples/ does what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import iotdb_client
from harness.official_environments import environment
from harness.process_cluster import ROOT, ProcessCluster, process_cluster

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(300)]


def example(name: str, *arguments: str, python: str = sys.executable) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [python, "-W", "ignore", str(ROOT / "examples" / name), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(process: subprocess.Popen[str]) -> str:
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, out + error
    return out


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessCluster]:
    with process_cluster(tmp_path_factory.mktemp("nodes"), 3) as started:
        yield started
        started.stop()


@pytest.fixture(scope="module")
def hosts(cluster: ProcessCluster) -> str:
    return ",".join(f"127.0.0.1:{node.rpc_port}" for node in cluster.nodes)


def test_host_metrics(hosts: str) -> None:
    out = output(example("host_metrics.py", "--to", hosts, "--every", "0.01", "--count", "5"))
    assert re.match(r"5 samples written to root\.hosts\.\w+; the last load is [\d.]+", out)


def test_pandas_round_trip(tmp_path: Path) -> None:
    out = output(example("pandas_round_trip.py", str(tmp_path / "db")))
    assert "86400 rows written" in out
    assert "86400 rows read, as many temperatures: True" in out
    assert "Arrow: 86300 rows" in out


def test_failover_demo(cluster: ProcessCluster, hosts: str) -> None:
    process = example("failover_demo.py", hosts, "--seconds", "6")
    assert process.stdout is not None
    first = process.stdout.readline()
    port = int(first.split()[-1])
    node = next(node for node in cluster.nodes if node.rpc_port == port)
    node.kill()
    out = output(process)
    node.start()
    node.wait_ready()
    assert "going on through port" in out
    assert re.search(r"(\d+) rows acknowledged, \1 found, 0 missing", out)


@pytest.mark.compat
def test_migrate(hosts: str, tmp_path: Path) -> None:
    python, reason = environment("2.0.11")
    if reason:
        pytest.skip(reason)
    rows = [
        (n, n % 2 == 0, n, n * 2**33, n / 8, n / 7, f"t{n}", None if n % 3 else "x")
        for n in range(500)
    ]
    names = "bilfdtn"
    kinds = ("BOOLEAN", "INT32", "INT64", "FLOAT", "DOUBLE", "TEXT", "TEXT")
    with process_cluster(tmp_path / "old", 1) as old:
        source = f"127.0.0.1:{old.nodes[0].rpc_port}"
        with iotdb_client.connect(source) as connection:
            for name, kind in zip(names, kinds, strict=True):
                connection.execute(f"create timeseries root.old.d1.{name} {kind}")
            connection.cursor().executemany(
                "insert into root.old.d1(time, b, i, l, f, d, t, n) "
                "values (?, ?, ?, ?, ?, ?, ?, ?)",
                rows,
            )
        command = ("--from", source, "--to", hosts, "--path", "root.old.**")
        out = output(example("migrate.py", *command, python=str(python)))
        old.stop()
    assert "root.old.d1: 7 series, 500 rows" in out
    with iotdb_client.connect(hosts) as connection:
        assert connection.execute("select b, i, l, f, d, t, n from root.old.d1").fetchall() == rows
