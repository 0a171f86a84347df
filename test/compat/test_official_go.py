"""The official Go clients of 0.13, 1.3 and 2.0, unmodified.

They need a Go toolchain, and are fetched when IOTDB_COMPAT_ALL=1 is set or they are there already.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.official_environments import client_folder
from harness.process_cluster import process_cluster

pytestmark = [pytest.mark.compat, pytest.mark.slow, pytest.mark.timeout(900)]

SOURCES = Path(__file__).with_name("go")
MODULE = "github.com/apache/iotdb-client-go"
RELEASES = {"0.13.0": MODULE, "1.3.7": MODULE, "2.0.10": f"{MODULE}/v2"}


def built(release: str) -> Path:
    """The program, linked with the client; skips when that can't be had."""
    if shutil.which("go") is None:
        pytest.skip("there is no Go toolchain on this machine")
    folder = client_folder(f"iotdb-go-{release}")
    if not folder.exists() and not os.environ.get("IOTDB_COMPAT_ALL"):
        pytest.skip(f"the Go client {release} is fetched with IOTDB_COMPAT_ALL=1 only")
    folder.mkdir(parents=True, exist_ok=True)
    module = RELEASES[release]
    line = "of_0.go" if release.startswith("0.") else "of_1.go"
    for source, target in (("life.go", "main.go"), (line, "line.go")):
        text = (SOURCES / source).read_text(encoding="utf-8")
        (folder / target).write_text(text.replace(f'"{MODULE}/', f'"{module}/'), encoding="utf-8")
    (folder / "go.mod").write_text(f"module compat\n\ngo 1.20\n\nrequire {module} v{release}\n")
    for command in (["go", "mod", "tidy"], ["go", "build", "-o", "life", "."]):
        result = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=400, check=False
        )
        if result.returncode and command[1] == "mod":
            pytest.skip(f"the Go client {release} can't be fetched: {result.stderr[-300:]}")
        assert result.returncode == 0, result.stderr
    return folder / "life"


@pytest.mark.parametrize("protocol", ["binary", "compact"])
@pytest.mark.parametrize("release", sorted(RELEASES))
def test_go_client_lives_its_whole_life(release: str, protocol: str, tmp_path: Path) -> None:
    program = built(release)
    with process_cluster(tmp_path, 1) as cluster:
        port = str(cluster.nodes[0].rpc_port)
        result = subprocess.run(
            [str(program), port, "root.go" + release.replace(".", "_"), protocol],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert result.returncode == 0, (
            result.stdout + result.stderr + cluster.nodes[0].log()[-2000:]
        )
        assert "life complete" in result.stdout
        cluster.stop()
