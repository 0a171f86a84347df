"""The official Node.js client of 2.0, unmodified.

It needs Node.js and npm, and is fetched when IOTDB_COMPAT_ALL=1 is set or it is there already.
Where the registry has no such package, one that was built from its public source and installed into
`iotdb-node-2.0.11`, below the folder that IOTDB_COMPAT_ENVS names, is used just as well.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.official_environments import client_folder
from harness.process_cluster import process_cluster

pytestmark = [pytest.mark.compat, pytest.mark.slow, pytest.mark.timeout(600)]

PROGRAM = Path(__file__).with_name("node") / "life.js"
RELEASE = "2.0.11"
PACKAGE = "@iotdb/client"
ROWS = "5000"
STEPS = ["wrong password", "schema", "tablet with nulls", "SQL", "pages", "deletion", "end"]


def installed() -> Path:
    """The folder below which the client is; skips when it can't be had."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("there is no Node.js, or no npm, on this machine")
    folder = client_folder(f"iotdb-node-{RELEASE}")
    if not (folder / "node_modules" / PACKAGE).exists():
        if not os.environ.get("IOTDB_COMPAT_ALL"):
            pytest.skip(f"the Node.js client {RELEASE} is fetched with IOTDB_COMPAT_ALL=1 only")
        folder.mkdir(parents=True, exist_ok=True)
        result = subprocess.run(
            ["npm", "install", "--prefix", str(folder), "--no-audit", f"{PACKAGE}@{RELEASE}"],
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        if result.returncode:
            pytest.skip(f"{PACKAGE} {RELEASE} can't be fetched: {result.stderr[:300]}")
    return folder


def test_node_client_lives_its_whole_life(tmp_path: Path) -> None:
    """Login, series, tablets with nulls, queries, pages, deletion, refusals."""
    folder = installed()
    program = shutil.copy(PROGRAM, folder)
    with process_cluster(tmp_path, 1) as cluster:
        result = subprocess.run(
            ["node", program, str(cluster.nodes[0].rpc_port), ROWS],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        cluster.stop()
    for step in STEPS:
        assert f"STEP {step}: ok" in result.stdout, result.stdout[-3000:] + result.stderr[-3000:]
