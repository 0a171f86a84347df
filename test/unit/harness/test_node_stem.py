"""Nodes that branch off the stem: processes like others, as far as who started them can tell."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from harness import node_stem, ports
from harness.process_cluster import ProcessCluster

pytestmark = pytest.mark.skipif(not node_stem.is_on(), reason="no descriptors of processes here")


def branch(folder, *options, **more):
    with (folder / "output").open("wb") as output:
        return node_stem.branch(
            options,
            output=output.fileno(),
            cwd=folder,
            env={**os.environ, **more},
            keep=(ports.lock(),),
        )


def test_its_exit_code_and_its_output_are_its_own(tmp_path):
    first = branch(tmp_path, "--no-such-option")
    assert first.wait(60) == 2
    assert "No such option" in (tmp_path / "output").read_text()
    second = branch(tmp_path, "--help")
    assert second.wait(60) == 0
    assert (first.poll(), second.poll()) == (2, 0)
    assert second.pid != first.pid
    second.kill()  # nobody


def test_it_is_a_process_of_its_own_and_ends_by_a_signal(tmp_path):
    node = ProcessCluster(tmp_path, 1).nodes[0]
    node.start()
    process = node.process
    assert isinstance(process, node_stem.Branch)
    try:
        node.wait_ready()
        pid = process.pid
        assert os.getsid(pid) == os.getpgid(pid) == pid != os.getpid()
        assert Path(f"/proc/{pid}/cwd").resolve() == node.folder.resolve()
        assert int((node.data_folder / "node.pid").read_text().split()[0]) == pid
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
    finally:
        node.kill()
    assert process.returncode == -signal.SIGKILL
    assert not Path(f"/proc/{pid}").exists()


def test_a_node_starts_again_and_stops_in_order(tmp_path):
    node = ProcessCluster(tmp_path, 1).nodes[0]
    for _ in range(2):
        node.start()
        node.wait_ready()
        assert node.stop() == 0
    assert len(node.startup_lines()) == 15
