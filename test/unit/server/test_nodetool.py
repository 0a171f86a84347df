from __future__ import annotations

import json
import socket

import pytest

from cluster.errors import StatusCode
from cluster.partition.slot_partition_table import SlotPartitionTable
from cluster.plan.codec import encode_result
from cluster.raft.types import NodeId
from cluster.rpc.gen.cluster import MetaGroupService
from cluster.rpc.gen.cluster.ttypes import (
    DigestAnswer,
    ExecuteResponse,
    MemberStatus,
    NodeInfo,
    NodeStatus,
)
from cluster.rpc.server import ServerLimits, ThriftServer
from cluster.server import nodetool
from cluster.server.meta_cluster_server import MetaHandler
from cluster.threads import ThreadRegistry
from iotdb_engine import DataType, Engine, Fragment, Layout
from iotdb_engine.errors import EngineError
from iotdb_engine.key_format import Kind
from iotdb_engine.store import Batch


def member(group, role, **changes):
    values = {
        "groupId": group,
        "role": role,
        "term": 3,
        "leader": 1,
        "commitIndex": 10,
        "appliedIndex": 9,
        "lastIndex": 11,
        "voters": [1, 2, 3],
        "durableIndex": 8,
    }
    return MemberStatus(**{**values, **changes})


class FakeNode:
    """Answers queryNodeStatus with what it is given."""

    def __init__(self):
        self.status = None
        self.verify = None

    def queryNodeStatus(self):  # noqa: N802 - named by the protocol
        return self.status

    def verifyData(self):  # noqa: N802 - named by the protocol
        return self.verify.verifyData()


@pytest.fixture
def cluster():
    """Nodes 1 and 2 answer, node 3 does not."""
    threads = ThreadRegistry()
    nodes = [FakeNode(), FakeNode()]
    servers = [
        ThriftServer("fake", MetaGroupService.Processor(n), "127.0.0.1", 0, threads, ServerLimits())
        for n in nodes
    ]
    for server in servers:
        server.start()
    with socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))
        ports = [servers[0].port, servers[1].port, dead.getsockname()[1]]
        infos = [
            NodeInfo(number + 1, "127.0.0.1", port, 40 + number, "127.0.0.1", 60 + number, "x")
            for number, port in enumerate(ports)
        ]
        table = SlotPartitionTable.founding([NodeId(n) for n in (1, 2, 3)], 2)
        for number, node in enumerate(nodes):
            role = "FOLLOWER" if number else "LEADER"
            node.status = NodeStatus(
                node=infos[number],
                members=[member(0, role), member(number + 1, "LEADER", leader=number + 1)],
                knownNodes=infos,
                partitionTable=table.encode(),
                stats={"startup_step": "15"},
            )
        yield nodes, ports
    for server in servers:
        server.stop()
    assert not threads.join_all(5)


def run(capsys, *arguments):
    """Run the command as the script does; return exit code, stdout, stderr."""
    code = 0
    try:
        nodetool.command.main(list(arguments), standalone_mode=False)
    except SystemExit as ended:
        code = ended.code
    output = capsys.readouterr()
    return code, output.out, output.err


def test_status_as_json_comes_from_every_node(cluster, capsys):
    _, ports = cluster
    code, out, _ = run(capsys, "-p", str(ports[0]), "--json", "status")
    assert code == 0
    report = json.loads(out)
    assert {node["node"]: node["state"] for node in report["nodes"]} == {1: "on", 2: "on", 3: "off"}
    assert report["partition_table_version"] == 1
    meta = report["groups"][0]
    assert (meta["group"], meta["kind"]) == (0, "meta")
    assert [(m["node"], m["role"]) for m in meta["members"]] in (
        [(1, "LEADER"), (2, "FOLLOWER"), (3, "off")],
        [(2, "FOLLOWER"), (1, "LEADER"), (3, "off")],
    )
    first = next(m for m in meta["members"] if m["node"] == 1)
    assert [first[key] for key in ("term", "commit", "applied", "last", "durable")] == [
        3,
        10,
        9,
        11,
        8,
    ]
    # group 3's members are nodes 3 and 1; neither reports it, it is shown all the same
    assert [m["role"] for m in report["groups"][3]["members"]] == ["off", "off"]


def test_status_as_a_table(cluster, capsys):
    _, ports = cluster
    code, out, _ = run(capsys, "-p", str(ports[1]), "status")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split() == ["node", "state", "meta", "data", "rpc"]
    assert "2 of 3 nodes on; partition table: version 1" in lines
    leader = next(line for line in lines if line.split()[:1] == ["meta"] or " LEADER " in line)
    assert f"127.0.0.1:{ports[0]}" in leader
    assert any(line.split()[-6:] == ["off", "-", "-", "-", "-", "-"] for line in lines)


def test_ring(cluster, capsys):
    _, ports = cluster
    code, out, _ = run(capsys, "-p", str(ports[0]), "ring", "--json")
    assert code == 0
    report = json.loads(out)
    assert [node["node"] for node in report["ring"]] == [1, 2, 3]
    assert [group["header"] for group in report["groups"]] == [1, 2, 3]
    assert [group["members"] for group in report["groups"]] == [[1, 2], [2, 3], [3, 1]]
    assert report["groups"][2]["slots"] == [[6666, 10000]]
    code, out, _ = run(capsys, "-p", str(ports[0]), "ring")
    assert "[6666,10000)" in out
    assert "3334" in out


def test_no_table_yet(cluster, capsys):
    nodes, ports = cluster
    for node in nodes:
        node.status.partitionTable = None
    code, _, err = run(capsys, "-p", str(ports[0]), "ring")
    assert (code, "no node that answers has a partition table yet" in err) == (1, True)
    code, out, _ = run(capsys, "-p", str(ports[0]), "status")
    assert "partition table: none yet" in out


def test_another_node_behind_a_known_address_does_not_count(cluster, capsys):
    nodes, ports = cluster
    nodes[1].status.node = NodeInfo(99, "127.0.0.1", ports[1], 1, "127.0.0.1", 2, "y")
    _, out, _ = run(capsys, "-p", str(ports[0]), "--json", "status")
    states = {node["node"]: node["state"] for node in json.loads(out)["nodes"]}
    assert states == {1: "on", 2: "off", 3: "off"}


def test_unreachable(cluster, capsys):
    _, ports = cluster
    code, _, err = run(capsys, "-p", str(ports[2]), "status")
    assert code == 2
    assert f"no connection to 127.0.0.1:{ports[2]}: Connection refused. Is a node running" in err
    assert "internal_meta_port" in err


def test_digest_does_not_wait_for_nodes_that_gave_no_status(cluster, capsys, monkeypatch):
    """A node that hangs takes connections: it was waited for a minute and a half a group."""
    _, ports = cluster
    asked = []

    class Channel:
        def __init__(self, address, _client, _timeout_s):
            self.port = address()[1]

        def call(self, method, *_, **__):
            asked.append(self.port)
            if method == "queryDigest":
                return DigestAnswer(known=True, applied=7, root=b"\x01", leafCount=1)
            return ExecuteResponse(StatusCode.SUCCESS, result=encode_result(7))

        def close(self):
            pass

    monkeypatch.setattr("cluster.server.digest_report.RpcChannel", Channel)
    _, out, _ = run(capsys, "-p", str(ports[0]), "digest", "--group", "0")
    assert set(asked) == set(ports[:2])
    [silent] = [line for line in out.splitlines() if f"127.0.0.1:{ports[2]}" in line]
    assert "does not answer" in silent
    assert "incomplete" in silent


def test_wrong_usage_is_not_unreachable(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["nodetool", "-p", "x", "status"])
    with pytest.raises(SystemExit) as ended:
        nodetool.main()
    assert ended.value.code == 1
    assert "Usage" in capsys.readouterr().err


def meta_handler(verify):
    return MetaHandler(
        settings=None, address_book=None, answer_timeout_s=1, node_status=None, verify=verify
    )


def test_verify_of_a_running_node(cluster, capsys):
    nodes, ports = cluster
    layout = Layout((1,), (DataType.INT64,))
    with Engine(":memory:") as engine:
        nodes[0].verify = meta_handler(engine.verify)
        region = engine.region(1)
        times = bytes(8) + (1).to_bytes(8, "big")
        region.write([Fragment(0, layout, 2, times, times)], 1)
        region.flush()
        code, out, _ = run(capsys, "-p", str(ports[0]), "verify")
        assert code == 0
        assert out.startswith("intact: ")
        assert "2 points" in out
        key = next(k for k, _ in region.store.view().scan(b"", b"\xff" * 40) if k[2] == Kind.CHUNK)
        batch = Batch()
        batch.put(key, b"damaged")
        region.store.write(batch)
        code, out, _ = run(capsys, "-p", str(ports[0]), "--json", "verify")
        assert code == 1
        report = json.loads(out)
        assert not report["intact"]
        assert [fault["series"] for fault in report["faults"][:1]] == [1]


def test_a_node_verifies_once_at_a_time(cluster, capsys):
    nodes, ports = cluster
    seen = []

    def verify():
        seen.append(nodes[0].verify.verifyData().refusal)
        raise EngineError("the disk is gone")

    nodes[0].verify = meta_handler(verify)
    code, _, err = run(capsys, "-p", str(ports[0]), "verify")
    assert (code, seen) == (1, ["this node is verifying already"])
    assert "the disk is gone" in err


def test_verify_of_a_node_that_is_out_of_reach(capsys):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    code, _, err = run(capsys, "-p", str(port), "verify")
    assert code == 2
    assert str(port) in err
