"""Fixtures of the log's tests: logs that are closed at the end, copies of their files."""

from __future__ import annotations

import shutil

import pytest

from cluster.log.node_log import LogOptions, NodeLog
from cluster.threads import ThreadRegistry
from harness.raft_log import WAIT_S


@pytest.fixture
def open_log(tmp_path):
    """Return a function that opens a log; what is left open is closed at the end."""
    opened = []
    registry = ThreadRegistry()

    def open_(name="log", *, files=None, on_failure=None, **options):
        log = NodeLog(
            tmp_path / name, registry, LogOptions(**options), on_failure=on_failure, files=files
        )
        opened.append(log)
        return log

    yield open_
    for log in opened:
        log.close()
    assert registry.join_all(WAIT_S) == []


@pytest.fixture
def copy_of(tmp_path):
    """Return a function that copies a directory: what a kill at this moment leaves."""

    def copy(name, to):
        shutil.rmtree(tmp_path / to, ignore_errors=True)
        shutil.copytree(tmp_path / name, tmp_path / to)
        return tmp_path / to

    return copy
