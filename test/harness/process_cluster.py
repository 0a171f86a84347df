"""Real node processes on free ports, for integration tests."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from harness import node_stem, ports
from harness.namespaces import Network
from harness.node_status import led_groups

ROOT = Path(__file__).resolve().parents[2]
READY_TIMEOUT_S = 60 * float(os.environ.get("TEST_TIME_SCALE", "1"))

_COMMAND = ["-m", "cluster.node_command"]


@dataclass
class Node:
    """One node process; its folder, address and ports survive restarts.

    Attributes:
        prefix: goes before the command, for instance to run it in a network namespace.
        runner: what Python runs.
        own_interpreter: whether it is started by its command in any case (see `node_stem`).
    """

    number: int
    folder: Path
    meta_port: int
    data_port: int
    rpc_port: int
    host: str = "127.0.0.1"
    overrides: dict[str, str] = field(default_factory=dict)
    prefix: list[str] = field(default_factory=list)
    runner: list[str] = field(default_factory=lambda: list(_COMMAND))
    own_interpreter: bool = field(default_factory=lambda: not node_stem.is_on())
    process: subprocess.Popen[bytes] | node_stem.Branch | None = None
    starts: int = 0

    @property
    def log_path(self) -> Path:
        return self.folder / f"node.{self.starts}.log"

    @property
    def data_folder(self) -> Path:
        return self.folder / "data"

    def options(self, extra: dict[str, str]) -> list[str]:
        settings = {
            "data_dir": str(self.data_folder),
            "rpc_address": self.host,
            "internal_ip": self.host,
            "internal_meta_port": str(self.meta_port),
            "internal_data_port": str(self.data_port),
            "rpc_port": str(self.rpc_port),
            **self.overrides,
            **extra,
        }
        options: list[str] = []
        for key, value in settings.items():
            options += ["-D", f"{key}={value}"]
        return options

    def command(self, extra: dict[str, str]) -> list[str]:
        return [*self.prefix, sys.executable, *self.runner, *self.options(extra)]

    def start(self, extra: dict[str, str] | None = None) -> None:
        assert self.process is None, f"node {self.number} runs already"
        self.starts += 1
        self.folder.mkdir(parents=True, exist_ok=True)
        # with byte code, as sbin/start-node.sh runs it
        env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""}
        with self.log_path.open("wb") as log:
            if self._may_branch():
                self.process = node_stem.branch(
                    self.options(extra or {}),
                    output=log.fileno(),
                    cwd=self.folder,
                    env=env,
                    keep=(ports.lock(),),
                )
                return
            self.process = subprocess.Popen(
                self.command(extra or {}),
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=env,
                start_new_session=True,
                pass_fds=(ports.lock(),),
            )

    def _may_branch(self) -> bool:
        return not (self.own_interpreter or self.prefix or self.runner != _COMMAND)

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def startup_lines(self) -> list[str]:
        return re.findall(r"startup\[\d+/15\] [^\n]*", self.log())

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        end = time.monotonic() + timeout_s
        while "ready: rpc" not in self.log():
            assert self.process is not None
            if self.process.poll() is not None:
                code = self.process.returncode
                raise AssertionError(f"node {self.number} ended with {code}:\n{self.log()[-4000:]}")
            if time.monotonic() > end:
                raise AssertionError(f"node {self.number} is not ready:\n{self.log()[-4000:]}")
            time.sleep(0.02)

    def wait_exit(self, timeout_s: float = READY_TIMEOUT_S) -> int:
        assert self.process is not None
        code = self.process.wait(timeout_s)
        self.process = None
        return code

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def pause(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def stop(self, timeout_s: float = 30) -> int:
        """SIGTERM, and wait; a node that does not end in time is killed and the test fails."""
        assert self.process is not None
        self.process.terminate()
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(
                f"node {self.number} did not stop:\n{self.log()[-4000:]}"
            ) from None
        self.process = None
        return code


class ProcessCluster:
    """N nodes that know each other as seeds, each in its own namespace if there is a network.

    Args:
        own_interpreters: whether each is started by its command, also where it could branch off.
    """

    def __init__(
        self,
        folder: Path,
        size: int,
        network: Network | None = None,
        *,
        own_interpreters: bool = False,
        **overrides: str,
    ) -> None:
        self.network = network
        free = ports.free_ports(3 * size)
        self.nodes = [
            Node(
                number=number + 1,
                folder=folder / f"node{number + 1}",
                meta_port=free[3 * number],
                data_port=free[3 * number + 1],
                rpc_port=free[3 * number + 2],
            )
            for number in range(size)
        ]
        if network is not None:
            for node in self.nodes:
                node.host = network.address(node.number)
                node.prefix = network.prefix(node.number)
        seeds = ",".join(f"{node.host}:{node.meta_port}" for node in self.nodes)
        for node in self.nodes:
            node.own_interpreter |= own_interpreters
            node.overrides = {"seed_nodes": seeds, **overrides}

    def start(self) -> None:
        for node in self.nodes:
            node.start()
        for node in self.nodes:
            node.wait_ready()

    def kill_all(self) -> None:
        for node in self.nodes:
            if node.process is not None:
                node.process.kill()
        for node in self.nodes:
            node.kill()

    def stop(self) -> None:
        running = [node for node in self.nodes if node.process is not None]
        for node in running:
            assert node.process is not None
            node.process.terminate()
        for node in running:
            node.stop()

    def leader_of(self, group_id: int, timeout_s: float = 15) -> Node:
        """The running node that leads a group by its own account, once there is one."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            for node in self.nodes:
                if node.process is not None and group_id in led_groups(node.meta_port, node.host):
                    return node
            time.sleep(0.05)
        raise AssertionError(f"group {group_id} has no leader")

    def status(self, node: Node) -> dict[str, object]:
        """What nodetool says when asked at a node."""
        answer = subprocess.run(
            [
                sys.executable,
                "-m",
                "cluster.server.nodetool",
                "-h",
                node.host,
                "-p",
                str(node.meta_port),
                "--json",
                "status",
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert answer.returncode == 0, answer.stderr
        parsed: dict[str, object] = json.loads(answer.stdout)
        return parsed


@contextmanager
def process_cluster(
    folder: Path,
    size: int,
    network: Network | None = None,
    *,
    own_interpreters: bool = False,
    **overrides: str,
) -> Iterator[ProcessCluster]:
    """A started cluster; every process is gone at the end, whatever happened."""
    cluster = ProcessCluster(folder, size, network, own_interpreters=own_interpreters, **overrides)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill_all()
