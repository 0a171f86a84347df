"""What a node tells of itself: its threads (docs/threads.md), its counters (docs/operating.md)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import iotdb_client
from harness.node_here import node_here
from harness.node_status import node_status
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


def test_nodetool_shows_clients_and_what_they_do(tmp_path: Path) -> None:
    node = node_here(tmp_path / "data")
    node.start()
    try:
        own = node.address_book.own
        url = f"127.0.0.1:{own.rpc_port}"
        with iotdb_client.connect(url), iotdb_client.connect(url, fetch_size=10) as connection:
            rows = [(n, n) for n in range(100)]
            cursor = connection.cursor()
            cursor.executemany("insert into root.a.d(time, s) values (?, ?)", rows)
            cursor.execute("select s from root.a.d")
            cursor.fetchone()
            stats = node_status(own.meta_port).stats
            assert (stats["client_connections"], stats["client_queries"]) == ("2", "1")
            assert stats["startup_step"] == "15"
            assert int(stats["threads"]) > 10
            assert int(stats["uptime_s"]) >= 0
            assert int(stats["log_syncs"]) > 0
            page = (ROOT / "docs" / "operating.md").read_text()
            assert [
                name for name in stats if f"`{name}`" not in page and "engine" not in name
            ] == []
    finally:
        node.stop()
