"""Ports of tests: none twice, none of another process, none that is taken."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from harness.ports import free_ports
from harness.process_cluster import ROOT


def ports_of_another_process(count):
    code = f"from harness.ports import free_ports; print(*free_ports({count}))"
    return set(started_by_another_process(code))


def started_by_another_process(code):
    """The numbers that it prints."""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "test")}
    answer = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    return [int(word) for word in answer.stdout.split()]


def test_ports_differ_from_those_of_others_and_of_outgoing_connections():
    own = free_ports(100) + free_ports(100)
    assert len(set(own)) == 200
    assert not ports_of_another_process(500) & set(own)
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert not set(own) & set(range(first, last + 1))


def test_ports_of_a_process_that_ended_are_its_nodes_as_long_as_these_run():
    """A node that outlives its test must not find another test's nodes where its own were."""
    code = (
        "import subprocess; from harness.ports import free_ports, lock; print(*free_ports(500)); "
        "quiet = {'stdout': subprocess.DEVNULL, 'stderr': subprocess.DEVNULL}; "
        "print(subprocess.Popen(['sleep', '600'], pass_fds=[lock()], **quiet).pid)"
    )
    *ports, pid = started_by_another_process(code)
    try:
        seen = ports_of_another_process(500)
    finally:
        os.kill(pid, signal.SIGKILL)
    assert not seen & set(ports)


def test_a_port_that_is_taken_is_passed_over():
    [port] = free_ports(1)
    with socket.create_server(("127.0.0.1", port + 1)):
        assert free_ports(1)[0] != port + 1
