"""Ctrl-C while a script is still being loaded: quiet, exit code 130, and nothing was begun."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from cluster.server import node_control
from harness.ports import free_ports

SBIN = Path(__file__).resolve().parents[3] / "sbin"

_HOLD = ["env", f"--block-signal={signal.SIGINT.name[3:]}", "true"]
needs_hold = pytest.mark.skipif(
    subprocess.run(_HOLD, capture_output=True, check=False).returncode != 0,
    reason="this system's env can't hold a signal back while an interpreter starts",
)

# sbin/environment.py is the first of two Pythons that import; what it has no need of comes once.
FIRST, SECOND = 1, 2


def interrupted(
    tmp_path: Path, command: Sequence[str | Path], module: str, process: int
) -> tuple[int, str, str]:
    """Run a command; the terminal tells all its processes when a module was imported.

    Returns:
        Exit code, stdout, and what stderr has beside the imports.
    """
    env = {**os.environ, "IOTDB_PYTHON": sys.executable, "PYTHONVERBOSE": "1"}
    env.pop("IOTDB_PY_VENV", None)
    seen: Counter[str] = Counter()
    said = []
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as starting:
        assert starting.stdout is not None
        assert starting.stderr is not None
        for line in starting.stderr:
            what, _, rest = line.partition(" ")
            name = rest.split(" ")[0].strip("'\n")
            if what != "import":
                if what != "#":  # which modules come from where, and how they end
                    said.append(line)
                continue
            seen[name] += 1
            if name == module and seen[name] == process:
                os.killpg(starting.pid, signal.SIGINT)
        printed = starting.stdout.read()
    text = "".join(said)
    assert seen[module] >= process, text
    return starting.returncode, printed, text


@pytest.mark.parametrize(
    ("module", "process"),
    [
        pytest.param("os", FIRST, marks=needs_hold),
        ("configparser", FIRST),
        pytest.param("os", SECOND, marks=needs_hold),
        pytest.param("runpy", FIRST, marks=needs_hold),
        ("logging", FIRST),
        ("click", FIRST),
        ("cluster.server.node_control", FIRST),
    ],
)
def test_an_interrupted_start_ends_quietly(tmp_path: Path, module: str, process: int) -> None:
    rpc, meta, data = free_ports(3)
    ports = {"rpc_port": rpc, "internal_meta_port": meta, "internal_data_port": data}
    pairs = [f"{key}={port}" for key, port in ports.items()]
    options = [word for pair in [*pairs, "data_dir=store"] for word in ("-D", pair)]
    command = [SBIN / "start-node.sh", *options, "-d"]
    code, printed, text = interrupted(tmp_path, command, module, process)
    assert (code, printed) == (node_control.INTERRUPTED, ""), text
    assert "Traceback" not in text
    assert "Fatal" not in text
    assert node_control.running_pid(tmp_path / "store") is None
    assert not (tmp_path / "store" / "node.pid").exists()


@pytest.mark.parametrize(
    ("module", "process"),
    [
        ("configparser", FIRST),
        pytest.param("os", SECOND, marks=needs_hold),
        pytest.param("numpy", FIRST, marks=needs_hold),
        pytest.param("iotdb_client", FIRST, marks=needs_hold),
        ("click", FIRST),
        ("prompt_toolkit", FIRST),
        ("iotdb_client.cli.shell", FIRST),
    ],
)
def test_an_interrupted_shell_ends_quietly(tmp_path: Path, module: str, process: int) -> None:
    command = [SBIN / "start-cli.sh", "--url", "./store", "-e", "show version"]
    code, printed, text = interrupted(tmp_path, command, module, process)
    assert (code, printed) == (130, ""), text
    assert "Traceback" not in text
    assert not (tmp_path / "store").exists()
