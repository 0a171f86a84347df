"""A cluster of several node processes on this machine, for trying out and for tests.

Everything lives below one folder: `cluster.json` (port plan and settings, so that a later start
means the same cluster) and a folder `nodeN` for each node with its data and its log.
"""

from __future__ import annotations

import json
import os
import random
import socket
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from cluster.config.settings import ConfigError, Settings
from cluster.server import node_control
from cluster.server.node_control import AlreadyRunning, Launch

PLAN_FILE = "cluster.json"
_HOST = "127.0.0.1"
_MAX_NODES = 100
_PORT_KINDS = 3
_FIRST_FREE_PORT = 10_000


class PlanError(Exception):
    """The cluster can't be started or stopped as asked."""


@dataclass(frozen=True)
class NodePlan:
    """One node: its number from 1, and its ports on the loopback address."""

    number: int
    rpc_port: int
    meta_port: int
    data_port: int


@dataclass(frozen=True)
class ClusterPlan:
    """What `cluster.json` holds: the nodes, and the settings that they all get."""

    nodes: tuple[NodePlan, ...]
    overrides: Mapping[str, str]

    def arguments(self, folder: Path, node: NodePlan) -> list[str]:
        """Return the arguments of cluster.node_command for a node."""
        settings = {
            "seed_nodes": ",".join(f"{_HOST}:{other.meta_port}" for other in self.nodes),
            **self.overrides,
            "data_dir": str(data_dir(folder, node)),
            "rpc_address": _HOST,
            "rpc_port": str(node.rpc_port),
            "internal_ip": _HOST,
            "internal_meta_port": str(node.meta_port),
            "internal_data_port": str(node.data_port),
        }
        return [word for key, value in settings.items() for word in ("-D", f"{key}={value}")]


def data_dir(folder: Path, node: NodePlan) -> Path:
    """Return a node's data folder."""
    return folder / f"node{node.number}"


# ---- the plan ----


def load_plan(folder: Path) -> ClusterPlan | None:
    """Return the plan of a folder or None; raises PlanError when it can't be read."""
    path = folder / PLAN_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return ClusterPlan(
            tuple(NodePlan(**node) for node in found["nodes"]), dict(found["overrides"])
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise PlanError(f"{path} can't be read: {error}") from error


def save_plan(folder: Path, plan: ClusterPlan) -> None:
    """Store a plan, replacing an older one as a whole."""
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / f"{PLAN_FILE}.{os.getpid()}"
    text = {"nodes": [asdict(node) for node in plan.nodes], "overrides": dict(plan.overrides)}
    made.write_text(json.dumps(text, indent=2) + "\n", encoding="utf-8")
    made.replace(folder / PLAN_FILE)


def planned_nodes(count: int, base_port: int | None) -> tuple[NodePlan, ...]:
    """Lay out ports: from a base (rpc, 100 higher meta, 200 higher data), or free ones."""
    if base_port is not None:
        if base_port + 2 * _MAX_NODES + count > 65536:
            raise PlanError(f"--base-port {base_port} leaves no room below 65536")
        return tuple(
            NodePlan(
                n + 1, base_port + n, base_port + _MAX_NODES + n, base_port + 2 * _MAX_NODES + n
            )
            for n in range(count)
        )
    ports = _free_ports(_PORT_KINDS * count)
    return tuple(
        NodePlan(n + 1, *ports[_PORT_KINDS * n : _PORT_KINDS * (n + 1)]) for n in range(count)
    )


def _free_ports(count: int) -> list[int]:
    """Free ports, none of those that the system gives to outgoing connections.

    They are remembered: a node that starts again is to find its own free.
    """
    found: list[int] = []
    candidates = range(_FIRST_FREE_PORT, _first_outgoing_port())
    for port in random.sample(candidates, len(candidates)):
        with socket.socket() as sock:
            try:
                sock.bind((_HOST, port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise PlanError(
        f"fewer than {count} ports from {candidates.start} to {candidates.stop - 1} are free: "
        "name others with --base-port"
    )


def _first_outgoing_port() -> int:
    try:
        text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii")
    except FileNotFoundError:
        return 32_768  # where Linux begins; other systems later
    return max(int(text.split()[0]), _FIRST_FREE_PORT + 1000)


def _plan_for(
    folder: Path, count: int, base_port: int | None, overrides: Mapping[str, str]
) -> ClusterPlan:
    old = load_plan(folder)
    if old is None:
        return ClusterPlan(planned_nodes(count, base_port), overrides)
    if len(old.nodes) != count:
        raise PlanError(f"{folder} holds a cluster of {len(old.nodes)} nodes, not {count}")
    nodes = old.nodes if base_port is None else planned_nodes(count, base_port)
    return ClusterPlan(nodes, {**old.overrides, **overrides})


# ---- start and stop ----


def start_cluster(
    folder: Path,
    count: int,
    *,
    base_port: int | None,
    overrides: Mapping[str, str],
    timeout_s: float,
    command: Sequence[str] | None = None,
) -> list[str]:
    """Start the nodes that are not running yet, all at once, and wait until they are ready.

    Args:
        folder: of the cluster; made when missing.
        count: number of nodes; as before where the folder has a cluster already.
        base_port: first port, or None: as before, or free ones.
        overrides: properties for all nodes; remembered.
        timeout_s: for all of them.
        command: what runs a node, default cluster.node_command.

    Returns:
        Lines of a table of the nodes.

    Raises:
        PlanError: a node did not get ready; those that this call started are stopped again.
        ConfigError: a property is wrong.
    """
    folder = folder.absolute()
    plan = _plan_for(folder, count, base_port, overrides)
    for node in plan.nodes:
        pairs = plan.arguments(folder, node)[1::2]
        Settings.load(None, node_control.parse_overrides(pairs))
    save_plan(folder, plan)
    started: dict[int, Launch] = {}
    try:
        for node in plan.nodes:
            if node_control.running_pid(data_dir(folder, node)) is None:
                arguments = plan.arguments(folder, node)
                where = data_dir(folder, node)
                started[node.number] = (
                    node_control.launch(arguments, where)
                    if command is None
                    else node_control.launch(arguments, where, command)
                )
        waiting = dict(started)
        while waiting:
            number, launched = waiting.popitem()
            report = node_control.wait_ready(launched, timeout_s)
            if not report.ready:
                del started[number]
                raise PlanError(f"node{number}: {report.text}")
    except BaseException as error:
        for launched in started.values():
            node_control.abandon(launched)
        if isinstance(error, (AlreadyRunning, OSError)):
            raise PlanError(str(error)) from error
        raise
    return _table(folder, plan.nodes)


def _table(folder: Path, nodes: Iterable[NodePlan]) -> list[str]:
    rows = [("node", "pid", "rpc", "meta", "data", "folder")]
    for node in nodes:
        where = data_dir(folder, node)
        rows.append(
            (
                f"node{node.number}",
                str(node_control.running_pid(where) or "-"),
                f"{_HOST}:{node.rpc_port}",
                f"{_HOST}:{node.meta_port}",
                f"{_HOST}:{node.data_port}",
                str(where),
            )
        )
    widths = [max(len(row[number]) for row in rows) for number in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def stop_cluster(folder: Path, timeout_s: float) -> list[str]:
    """Stop every node of a folder, all at once.

    Returns:
        A line for each node.

    Raises:
        PlanError: the folder has no cluster, or a node is still running after the time.
    """
    plan = load_plan(folder)
    if plan is None:
        raise PlanError(f"{folder} has no {PLAN_FILE}: no cluster was started there")
    asked = [(node, node_control.request_stop(data_dir(folder, node))) for node in plan.nodes]
    lines = []
    left = []
    for node, stopping in asked:
        if stopping is None:
            lines.append(f"node{node.number} was not running")
        elif stopping.wait(timeout_s):
            lines.append(f"node{node.number} stopped (pid {stopping.pid})")
        else:
            left.append(f"node{node.number} (pid {stopping.pid})")
    if left:
        raise PlanError(f"still running after {timeout_s:g} s, not killed: {', '.join(left)}")
    return lines


# ---- commands ----


@click.group(context_settings={"help_option_names": ["--help"]})
def main() -> None:
    """Start or stop a cluster of node processes on this machine."""


@main.command()
@click.argument("count", type=click.IntRange(1, _MAX_NODES))
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--base-port", type=click.IntRange(1, 65535), help="Default: free ports.")
@click.option("-D", "pairs", multiple=True, metavar="key=value", help="Property of all nodes.")
@click.option("--timeout", default=120.0, show_default=True, help="Seconds until all are ready.")
def start(
    count: int, folder: Path, base_port: int | None, pairs: tuple[str, ...], timeout: float
) -> None:
    """Start COUNT nodes with everything below FOLDER, and wait until they are ready."""
    try:
        lines = start_cluster(
            folder,
            count,
            base_port=base_port,
            overrides=node_control.parse_overrides(pairs),
            timeout_s=timeout,
        )
    except (PlanError, ConfigError, OSError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    click.echo("\n".join(lines))


@main.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--timeout", default=node_control.STOP_TIMEOUT_S, show_default=True)
def stop(folder: Path, timeout: float) -> None:
    """Stop the nodes below FOLDER."""
    try:
        lines = stop_cluster(folder, timeout)
    except (PlanError, OSError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    click.echo("\n".join(lines))


if __name__ == "__main__":
    wanted = main.commands.get("".join(sys.argv[1:2]))
    if wanted is not None:  # as the scripts call it, whose usage this is
        wanted.main(sys.argv[2:], prog_name=f"{wanted.name}-cluster.sh")
    main()
