"""docs/threads.md tells every thread that a node runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.node_here import node_here
from harness.process_cluster import ROOT

pytestmark = pytest.mark.integration


def documented_patterns() -> list[str]:
    text = (ROOT / "docs" / "threads.md").read_text()
    cells = re.findall(r"^\| ([^|]+) \| ", text, re.MULTILINE)
    names = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
    return [
        re.sub(
            r"<\w+>", r"[\\w.:-]+", re.escape(name).replace("\\<", "<").replace("\\>", ">")
        ).replace("…", ".*")
        for name in names
    ]


def test_every_thread_is_documented_and_ends(tmp_path: Path) -> None:
    node = node_here(tmp_path / "data")
    node.start()
    try:
        names = node.threads.names()
    finally:
        node.stop()
    patterns = documented_patterns()
    unknown = [
        name for name in names if not any(re.fullmatch(pattern, name) for pattern in patterns)
    ]
    assert names
    assert not unknown
    assert node.threads.names() == []
