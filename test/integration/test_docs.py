"""Runs every code block of the pages for users, page by page, against a node of its own.

In `sh` blocks the scripts stand for their modules with the node's port; installing and starting are
left out, since both have happened. 6667 is the node's port.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.process_cluster import ROOT, process_cluster

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(300)]

PAGES = ["quick-start", "driver", "embedded", "cli", "migration"]
LEFT_OUT = re.compile(
    r"^(?:sbin/(?:start|stop)-node\.sh|\.venv/bin/python (?:-m pip install|examples/)).*$",
    re.MULTILINE,
)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with process_cluster(tmp_path_factory.mktemp("node"), 1) as cluster:
        yield cluster.nodes[0].rpc_port
        cluster.stop()


def blocks(page: str) -> list[tuple[str, str]]:
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    return [(kind, code) for kind, code in BLOCK.findall(text) if kind in ("sh", "python")]


def as_command(kind: str, code: str, port: int) -> list[str]:
    code = code.replace("127.0.0.1:6667", f"127.0.0.1:{port}")
    if kind == "python":
        return [sys.executable, "-W", "error", "-c", code]
    shell = f"{sys.executable} -m iotdb_client.cli.main"
    code = re.sub(r"sbin/start-cli\.sh(?! --url)", f"{shell} -p {port}", code)
    code = code.replace("sbin/start-cli.sh", shell)
    code = LEFT_OUT.sub("true", code)
    return ["bash", "-eu", "-o", "pipefail", "-c", code]


@pytest.mark.parametrize("page", PAGES)
def test_code_blocks_of_a_page(page: str, port: int, tmp_path: Path) -> None:
    found = blocks(page)
    assert found, f"{page} has no code"
    for number, (kind, code) in enumerate(found, start=1):
        result = subprocess.run(
            as_command(kind, code, port),
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert result.returncode == 0, f"{page}, block {number}:\n{code}\n{result.stderr}"
        silent = kind == "sh" and "start-cli" not in code
        assert silent or result.stdout.strip(), f"{page}, block {number} shows nothing:\n{code}"
