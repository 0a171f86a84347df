"""Many idle groups on three nodes cost next to nothing (acceptance test 15 of the design).

`TEST_IDLE_GROUPS=1000` is the long form. Heartbeats and elections are as the default settings say.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from harness.ports import free_ports
from harness.process_cluster import ROOT

pytestmark = [
    pytest.mark.integration,
    pytest.mark.quiet,
    pytest.mark.slow,
    pytest.mark.timeout(400),
]

GROUPS = int(os.environ.get("TEST_IDLE_GROUPS", "100"))
IDLE_S = 5.0
SETTLE_S = 6.0


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    ports = [str(port) for port in free_ports(3)]
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'test'}"}
    with ExitStack() as files:
        started = []
        for number in (1, 2, 3):
            command = [str(tmp_path / str(number)), str(number), str(GROUPS), *ports]
            process = subprocess.Popen(
                [sys.executable, "-m", "harness.idle_groups_node", *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=files.enter_context((tmp_path / f"{number}.log").open("w")),
                text=True,
                env=env,
            )
            files.enter_context(process)
            files.callback(process.kill)
            started.append(process)
        yield started


def ask(node: subprocess.Popen[str], question: str = "") -> str:
    assert node.stdin is not None
    assert node.stdout is not None
    if question:
        node.stdin.write(question + "\n")
        node.stdin.flush()
    return node.stdout.readline().strip()


def test_15_idle_groups_on_three_nodes_cost_next_to_nothing(
    nodes: list[subprocess.Popen[str]],
) -> None:
    for node in nodes:
        assert ask(node) == "listening"
    began = time.monotonic()
    for node in nodes:
        assert node.stdin is not None
        node.stdin.write("go\n")
        node.stdin.flush()
    for node in nodes:
        assert ask(node) == "asleep"
    slept_after_s = time.monotonic() - began
    time.sleep(SETTLE_S)  # idle threads end after five seconds
    threads = [int(ask(node, "threads")) for node in nodes]
    processes = [psutil.Process(node.pid) for node in nodes]
    before = [sum(process.cpu_times()[:2]) for process in processes]
    time.sleep(IDLE_S)
    after = [sum(process.cpu_times()[:2]) for process in processes]
    shares = [(late - early) / IDLE_S for early, late in zip(before, after, strict=True)]
    memory = [process.memory_info().rss >> 20 for process in processes]
    print(
        f"{GROUPS} groups asleep after {slept_after_s:.1f} s; threads {threads}; "
        f"CPU {[f'{share:.1%}' for share in shares]}; {memory} MiB"
    )
    assert [ask(node, "awake") for node in nodes] == ["0", "0", "0"]
    # one HeartbeatThread a group; the rest does not grow with groups
    assert max(threads) <= GROUPS + 60
    assert max(shares) < 0.05
    lost = nodes.pop()
    lost.kill()
    lost.wait()
    began = time.monotonic()
    while any(ask(node, "led by 3") != "0" for node in nodes):
        assert time.monotonic() - began < 120
        time.sleep(0.2)
    elected_after_s = time.monotonic() - began
    while any(ask(node, "awake") != "0" for node in nodes):
        assert time.monotonic() - began < 120
        time.sleep(0.2)
    asleep_after_s = time.monotonic() - began
    time.sleep(SETTLE_S)
    before = [sum(process.cpu_times()[:2]) for process in processes[:2]]
    time.sleep(IDLE_S)
    after = [sum(process.cpu_times()[:2]) for process in processes[:2]]
    shares = [(late - early) / IDLE_S for early, late in zip(before, after, strict=True)]
    print(
        f"one node lost: every group has another leader after {elected_after_s:.1f} s, and sleeps "
        f"without it after {asleep_after_s:.1f} s; CPU {[f'{share:.1%}' for share in shares]}"
    )
    assert max(shares) < 0.05
    for node in nodes:
        assert node.stdin is not None
        node.stdin.close()
        assert ask(node) == "well"
        assert node.wait(60) == 0
