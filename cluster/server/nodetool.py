"""nodetool: what the cluster is doing, asked of its members themselves.

The node at the given meta port names the nodes it knows; then each of these is asked directly, in
parallel, with a time-out. Exit codes: 0 ok, 1 refused or wrong usage, 2 unreachable.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import click
from thrift.Thrift import TApplicationException

from cluster.errors import ClusterError
from cluster.partition.slot_partition_table import SlotPartitionTable
from cluster.raft.types import GroupId
from cluster.rpc.client_pool import RpcChannel, RpcError
from cluster.rpc.gen.cluster import MetaGroupService
from cluster.rpc.gen.cluster.ttypes import MemberStatus, NodeInfo, NodeStatus, VerifyAnswer
from cluster.server.digest_report import DigestAsker, digest_lines, digest_values
from cluster.server.log_report import (
    entry_lines,
    log_lines,
    log_report,
    offline_log,
    verify,
)
from cluster.threads import ThreadRegistry
from iotdb_engine import repair as engine_repair
from iotdb_engine import verify as engine_verify
from iotdb_engine.errors import EngineError, Locked

REFUSED = 1
UNREACHABLE = 2
_META_GROUP_ID = 0
_META_PORT_HINT = " -p is a node's meta port (internal_meta_port, 9003 by default)"
_VERIFY_S = 24 * 3600.0
"""Long: a node reads all that it has stored."""


class View(NamedTuple):
    """The cluster as it answered.

    Attributes:
        nodes: every known node by id.
        answers: what the reachable ones said, by id.
    """

    nodes: dict[int, NodeInfo]
    answers: dict[int, NodeStatus]

    def label(self, node_id: int) -> str:
        """Return a node's meta address, or its id where that is unknown."""
        info = self.nodes.get(node_id)
        return _address(info.internalIp, info.metaPort) if info is not None else str(node_id)

    def table(self) -> SlotPartitionTable | None:
        """Return the newest partition table that a node has."""
        tables = [
            SlotPartitionTable.decode(answer.partitionTable)
            for answer in self.answers.values()
            if answer.partitionTable
        ]
        return max(tables, key=lambda table: table.version, default=None)


# ---- asking ----


def ask_node(host: str, port: int, timeout_s: float) -> NodeStatus:
    """Return what one node says of itself; raises RpcError."""
    channel = RpcChannel(lambda: (host, port), MetaGroupService.Client, timeout_s)
    try:
        status: NodeStatus = channel.call("queryNodeStatus", timeout_s=timeout_s)
        return status
    finally:
        channel.close()


def verify_node(host: str, port: int) -> dict[str, Any]:
    """Have a node check what it has stored; return the report as plain values, and as `text`.

    Raises:
        RpcError: it does not answer.
        EngineError: it can't check now.
    """
    channel = RpcChannel(lambda: (host, port), MetaGroupService.Client, _VERIFY_S)
    try:
        answer: VerifyAnswer = channel.call("verifyData", timeout_s=_VERIFY_S)
    finally:
        channel.close()
    if answer.report is None:
        raise EngineError(f"{_address(host, port)}: {answer.refusal}")
    found: dict[str, Any] = json.loads(answer.report)
    return found


def ask_cluster(host: str, port: int, timeout_s: float) -> View:
    """Ask a node, then all nodes that it knows; raises RpcError when the first does not answer."""
    first = ask_node(host, port, timeout_s)
    nodes: dict[int, NodeInfo] = {info.nodeId: info for info in first.knownNodes}
    nodes[first.node.nodeId] = first.node
    answers: dict[int, NodeStatus] = {first.node.nodeId: first}
    threads = ThreadRegistry()

    def ask(info: NodeInfo) -> None:
        try:
            answer = ask_node(info.internalIp, info.metaPort, timeout_s)
        except RpcError:
            return  # shown as off
        # an address that another node has taken over does not make the one we look for alive
        if answer.node.nodeId == info.nodeId:
            answers[info.nodeId] = answer

    for info in nodes.values():
        if info.nodeId not in answers and info.metaPort:
            threads.spawn(f"ask-{info.nodeId}", partial(ask, info))
    threads.join_all(timeout_s * 2)
    answered = dict(answers)
    # what a node says of its own addresses is newer than what others remember
    nodes |= {node_id: answer.node for node_id, answer in answered.items()}
    return View(nodes, answered)


# ---- what is shown ----


def status_report(view: View) -> dict[str, Any]:
    """Return nodes and groups as plain values; the JSON form of `status`."""
    table = view.table()
    return {
        "partition_table_version": table.version if table is not None else None,
        "nodes": [_node_report(view, info) for info in _in_order(view.nodes.values())],
        "groups": [
            {
                "group": group_id,
                "kind": "meta" if group_id == _META_GROUP_ID else "data",
                "members": members,
            }
            for group_id, members in sorted(_members_by_group(view).items())
        ],
    }


def _in_order(infos: Iterable[NodeInfo]) -> list[NodeInfo]:
    return sorted(infos, key=lambda info: (info.internalIp, info.metaPort, info.nodeId))


def _node_report(view: View, info: NodeInfo) -> dict[str, Any]:
    answer = view.answers.get(info.nodeId)
    return {
        "node": info.nodeId,
        "state": "off" if answer is None else "on",
        "meta": _address(info.internalIp, info.metaPort),
        "data": _address(info.internalIp, info.dataPort),
        "rpc": _address(info.rpcAddress, info.rpcPort),
        "stats": dict(answer.stats) if answer is not None else {},
    }


def _members_by_group(view: View) -> dict[int, list[dict[str, Any]]]:
    """Each group's members: first those that answered, then voters that did not."""
    groups: dict[int, list[dict[str, Any]]] = {}
    voters: dict[int, set[int]] = {}
    for info in _in_order(view.nodes.values()):
        answer = view.answers.get(info.nodeId)
        for member in answer.members if answer is not None else ():
            groups.setdefault(member.groupId, []).append(_member_report(view, info.nodeId, member))
            voters.setdefault(member.groupId, set()).update(member.voters)
    table = view.table()
    for group in table.groups if table is not None else ():
        # a group none of whose members answered is shown all the same
        groups.setdefault(group.group_id, [])
        voters.setdefault(group.group_id, set()).update(group.members)
    for group_id, members in groups.items():
        silent = voters[group_id] - {member["node"] for member in members}
        members.extend(
            {"node": node_id, "address": view.label(node_id), "role": "off"}
            for node_id in sorted(silent)
        )
    return groups


def _member_report(view: View, node_id: int, member: MemberStatus) -> dict[str, Any]:
    return {
        "node": node_id,
        "address": view.label(node_id),
        "role": member.role,
        "term": member.term,
        "leader": member.leader,
        "commit": member.commitIndex,
        "applied": member.appliedIndex,
        "last": member.lastIndex,
        "durable": member.durableIndex,
        "voters": list(member.voters),
    }


def ring_report(view: View, table: SlotPartitionTable) -> dict[str, Any]:
    """Return the ring and its groups as plain values; the JSON form of `ring`."""
    return {
        "version": table.version,
        "replica_num": table.replica_num,
        "ring": [
            {
                "place": place,
                "node": node_id,
                "address": view.label(node_id),
                "state": "on" if node_id in view.answers else "off",
            }
            for place, node_id in enumerate(table.ring)
        ],
        "groups": [
            {
                "group": group.group_id,
                "header": group.header,
                "members": list(group.members),
                "slots": [list(run) for run in table.slots_of_group(GroupId(group.group_id))],
            }
            for group in table.groups
        ],
    }


def status_lines(view: View) -> list[str]:
    """Return `status` as text tables."""
    report = status_report(view)
    version = report["partition_table_version"]
    lines = _table(
        ("node", "state", "meta", "data", "rpc"),
        [
            [node[key] for key in ("node", "state", "meta", "data", "rpc")]
            for node in report["nodes"]
        ],
    )
    on = len(view.answers)
    lines.append(
        f"{on} of {len(view.nodes)} nodes on; partition table: "
        + (f"version {version}" if version is not None else "none yet")
    )
    rows = []
    for group in report["groups"]:
        name = f"{group['kind']} {group['group']}" if group["group"] else "meta"
        for member in group["members"]:
            leader = member.get("leader")
            rows.append(
                [
                    name,
                    member["address"],
                    member["role"],
                    member.get("term", "-"),
                    view.label(leader) if leader else "-",
                    member.get("commit", "-"),
                    member.get("applied", "-"),
                    member.get("last", "-"),
                ]
            )
            name = ""
    lines.append("")
    head = ("group", "member", "role", "term", "leader", "commit", "applied", "last")
    return lines + _table(head, rows)


def ring_lines(view: View, table: SlotPartitionTable) -> list[str]:
    """Return `ring` as text tables."""
    report = ring_report(view, table)
    lines = [f"partition table version {table.version}, {table.replica_num} replicas", ""]
    lines += _table(
        ("place", "node", "meta", "state"),
        [[node[key] for key in ("place", "node", "address", "state")] for node in report["ring"]],
    )
    lines.append("")
    return lines + _table(
        ("group", "header", "members", "slots", "count"),
        [
            [
                group["group"],
                view.label(group["header"]),
                ", ".join(map(view.label, group["members"])),
                " ".join(f"[{low},{high})" for low, high in group["slots"]),
                sum(high - low for low, high in group["slots"]),
            ]
            for group in report["groups"]
        ],
    )


def _address(host: str, port: int) -> str:
    if not port:
        return "-"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    cells = [list(head), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[number]) for row in cells) for number in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


# ---- commands ----


class _Asked(NamedTuple):
    host: str
    port: int
    timeout_s: float
    as_json: bool


@click.group(context_settings={"help_option_names": ["--help"]})
@click.option("-h", "--host", default="127.0.0.1", show_default=True)
@click.option("-p", "--port", default=9003, show_default=True, help="Meta port of any node.")
@click.option("--timeout", default=3.0, show_default=True, help="Seconds for each node.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@click.pass_context
def command(
    context: click.Context, /, host: str, port: int, timeout: float, *, as_json: bool
) -> None:
    """Show what a cluster is doing."""
    context.obj = _Asked(host, port, timeout, as_json)


@command.command()
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@click.pass_obj
def status(asked: _Asked, /, *, as_json: bool) -> None:
    """Nodes, and every member's role, term and indices."""
    view = _ask(asked)
    _print(asked.as_json or as_json, status_report(view), status_lines(view))


@command.command()
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@click.pass_obj
def ring(asked: _Asked, /, *, as_json: bool) -> None:
    """Ring order, groups and their slots."""
    view = _ask(asked)
    table = view.table()
    if table is None:
        click.echo("error: no node that answers has a partition table yet", err=True)
        sys.exit(REFUSED)
    _print(asked.as_json or as_json, ring_report(view, table), ring_lines(view, table))


@command.command()
@click.option("--group", "groups", type=int, multiple=True, help="Only these groups (meta: 0).")
@click.option("--wait", default=60.0, show_default=True, help="Seconds for each replica.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@click.pass_obj
def digest(asked: _Asked, /, *, groups: tuple[int, ...], wait: float, as_json: bool) -> None:
    """Compare the replicas of each group, and name the first difference.

    Exit code 1: replicas differ, or could not be compared.
    """
    view = _ask(asked)
    asker = DigestAsker(view.nodes, wait, view.nodes.keys() - view.answers.keys())
    found = []
    for group in status_report(view)["groups"]:
        if groups and group["group"] not in groups:
            continue
        members = [member["node"] for member in group["members"]]
        leaders = [m["node"] for m in group["members"] if m["role"] == "LEADER"]
        found.append(asker.compare(group["group"], members, leaders[0] if leaders else 0))
    _print(
        asked.as_json or as_json,
        {"groups": digest_values(found)},
        digest_lines(found, view.label, _table),
    )
    if any(item.verdict in ("DIFFERENT", "failed") for item in found):
        sys.exit(REFUSED)


@command.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--group", type=int, help="List this group's entries, one line each.")
@click.option("--from", "lo", type=int, help="First entry to list.")
@click.option("--to", "hi", type=int, help="Stop before this entry.")
@click.option("--verify", "check", is_flag=True, help="Read and decode every entry.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@click.pass_obj
def log(
    asked: _Asked,
    /,
    *,
    folder: Path,
    group: int | None,
    lo: int | None,
    hi: int | None,
    check: bool,
    as_json: bool,
) -> None:
    """Show the Raft log in a stopped node's data FOLDER, without changing anything.

    Exit code 1: it is damaged; the message says where.
    """
    try:
        with offline_log(folder) as (directory, contents):
            if group is not None:
                for line in entry_lines(directory, contents, GroupId(group), lo, hi):
                    click.echo(line)
                return
            report = log_report(contents)
            lines = log_lines(contents, _table)
            if check:
                report["verified"] = verify(directory, contents)
                lines += [
                    "",
                    "sound: {entries} entries, {bytes} bytes".format(**report["verified"]),
                ]
            _print(asked.as_json or as_json, report, lines)
    except (ClusterError, OSError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(REFUSED)


@command.command("verify")
@click.argument(
    "folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@click.pass_obj
def verify_data(asked: _Asked, /, *, folder: Path | None, as_json: bool) -> None:
    """Check everything that a node stored, without changing anything.

    With FOLDER, a stopped node's data; without, what the node that is asked (-h, -p) has stored
    when it is asked, while it works. Checksums of files and records, order, statistics against the
    data; of a stopped node also the log and the list of files. Exit code 1: there are faults, one
    line each.
    """
    try:
        if folder is None:
            plain = verify_node(asked.host, asked.port)
            text = plain.pop("text")
        else:
            report = engine_verify.verify(_engine_folder(folder))
            plain, text = report.to_json(), report.lines()
    except RpcError as error:
        _end_without_answer(error)
    except Locked as error:
        click.echo(f"error: {error}. A node that runs is asked by its meta port (-h, -p)", err=True)
        sys.exit(REFUSED)
    except EngineError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(REFUSED)
    _print(asked.as_json or as_json, plain, text)
    if not plain["intact"]:
        sys.exit(REFUSED)


@command.command("repair")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@click.pass_obj
def repair_data(asked: _Asked, /, *, folder: Path, as_json: bool) -> None:
    """Take out what is broken in a stopped node's data FOLDER, and say what is lost.

    What is taken out is kept beside; a damaged file takes a copy of the whole store. A replica
    that lost something differs from the others until it is replaced: compare with `digest`. Exit
    code 1: refused, or faults are left.
    """
    try:
        done = engine_repair.repair(_engine_folder(folder))
    except Locked as error:
        click.echo(f"error: {error}. Stop the node first", err=True)
        sys.exit(REFUSED)
    except EngineError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(REFUSED)
    _print(asked.as_json or as_json, done.to_json(), done.lines())
    if done.left:
        sys.exit(REFUSED)


def _engine_folder(folder: Path) -> Path:
    return folder / "engine" if (folder / "engine").is_dir() else folder


def _ask(asked: _Asked) -> View:
    try:
        return ask_cluster(asked.host, asked.port, asked.timeout_s)
    except RpcError as error:
        _end_without_answer(error)


def _end_without_answer(error: RpcError) -> NoReturn:
    """Say why a node gave no answer, and leave: it is out of reach, or it refused."""
    cause = error.__cause__
    if isinstance(cause, ConnectionRefusedError):
        click.echo(f"error: {error}. Is a node running there?{_META_PORT_HINT}", err=True)
        sys.exit(UNREACHABLE)
    if not isinstance(cause, TApplicationException):
        click.echo(f"error: {error}", err=True)
        sys.exit(UNREACHABLE)
    hint = ""
    if cause.type == TApplicationException.UNKNOWN_METHOD:
        hint = f";{_META_PORT_HINT}"
    click.echo(f"error: {error}{hint}", err=True)
    sys.exit(REFUSED)


def _print(as_json: bool, report: dict[str, Any], lines: list[str]) -> None:
    click.echo(json.dumps(report, indent=2) if as_json else "\n".join(lines))


def _program() -> str:
    """Return the name that the user has called it by."""
    name = Path(sys.argv[0]).name
    return "nodetool.sh" if name == "nodetool.py" else name


def main() -> None:
    """Run nodetool; wrong usage exits with 1, since 2 means unreachable."""
    try:
        command.main(prog_name=_program(), standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(REFUSED)
    except click.Abort:
        sys.exit(130)


if __name__ == "__main__":
    main()
