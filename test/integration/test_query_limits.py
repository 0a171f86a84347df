"""Large queries hold little memory; whatever ends a query ends its work on every node, at once."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from cluster.rpc.gen.client import ttypes as t
from harness.joining import join_all
from harness.node_status import led_groups
from harness.process_cluster import Node, ProcessCluster, process_cluster
from harness.wire import StatusError, WireClient, check

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1800)]

ROWS = int(os.environ.get("TEST_QUERY_ROWS", "1000000"))
"""Of the series that is streamed; 50000000 is the long form."""

SCALE = float(os.environ.get("TEST_TIME_SCALE", "1"))
GROWTH_MB = 300
FETCH = 50_000
TABLET = 200_000
TEXTS = 80_000

# Work of seconds, in one request, for the node that is asked: functions of every row.
FUNCTIONS = ", ".join(f"sin(s0 * {number})" for number in range(1, 400))
AT_COORDINATOR = f"select {FUNCTIONS} from root.big.d limit 1 offset {ROWS - 1}"
# The same for the node that serves the rows, since filters are tested there.
TESTS = " and ".join(f"t regexp '(a|b)*c(a|b)*{number}d$'" for number in range(24))
AT_SERVER = f"select count(t) from root.text.d where {TESTS}"
SLOW = {"functions": AT_COORDINATOR, "filter": AT_SERVER}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessCluster]:
    """Nodes with the default budget of memory tables, which hold all of the rows at first."""
    folder = tmp_path_factory.mktemp("nodes")
    with process_cluster(folder, 3, own_interpreters=True) as started:  # memory is measured
        with WireClient(started.nodes[0].rpc_port, timeout_s=120) as client:
            for start in range(0, ROWS, TABLET):
                times = np.arange(start, min(start + TABLET, ROWS))
                client.insert_tablet("root.big.d", ["s0"], times.tolist(), [np.sqrt(times)])
            for start in range(0, TEXTS, 10_000):
                numbers = range(start, start + 10_000)
                text = "insert into root.text.d(time, t) values " + ", ".join(
                    f"({number}, '{'ab' * 60}{number}')" for number in numbers
                )
                client.execute(text)
        wait_idle(started, 60 * SCALE)
        yield started
        started.stop()


def memory_mb(node: Node, what: str = "VmRSS") -> float:
    assert node.process is not None
    status = Path(f"/proc/{node.process.pid}/status").read_text()
    return int(status.split(f"{what}:")[1].split()[0]) / 1024


def forget_peak(node: Node) -> None:
    assert node.process is not None
    Path(f"/proc/{node.process.pid}/clear_refs").write_text("5")


def cpu_s(cluster: ProcessCluster) -> float:
    total = 0.0
    for node in cluster.nodes:
        assert node.process is not None
        fields = Path(f"/proc/{node.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def open_query(client: WireClient, sql: str, timeout_ms: int = 0) -> t.TSExecuteStatementResp:
    response = client.raw.executeStatement(
        t.TSExecuteStatementReq(
            client.session_id, sql, client.statement_id, fetchSize=FETCH, timeout=timeout_ms
        )
    )
    check(response.status)
    return response


def next_page(client: WireClient, query_id: int) -> bytes:
    """The times of the next page; empty at the end."""
    answer = client.raw.fetchResults(
        t.TSFetchResultsReq(client.session_id, "", FETCH, query_id, True)
    )
    check(answer.status)
    return bytes(answer.queryDataSet.time) if answer.hasResultSet else b""


def running(node: Node) -> list[str]:
    """The texts of the queries that a node computes or keeps."""
    with WireClient(node.rpc_port, timeout_s=60) as client:
        listed = client.run("show query processlist")
    assert listed is not None
    texts = [str(row[-1]) for row in listed[1]]
    return [text for text in texts if text.startswith("select")]


def server_and_other(cluster: ProcessCluster) -> tuple[Node, Node]:
    """A node that leads what the queries read, and one that leads none of it."""
    leader = max(cluster.nodes, key=lambda node: len(led_groups(node.meta_port)))
    return leader, next(node for node in cluster.nodes if node is not leader)


@pytest.mark.parametrize(
    ("place", "order"),
    [("memory", "asc"), ("memory", "desc"), ("disk", "asc"), ("disk", "desc")],
)
def test_a_large_query_streams_in_little_memory(
    cluster: ProcessCluster, place: str, order: str
) -> None:
    """Wherever it is asked, so that serving nodes and coordinators are looked at alike."""
    if place == "disk":
        with WireClient(cluster.nodes[0].rpc_port, timeout_s=120) as client:
            client.run("flush")
        wait_idle(cluster, 120 * SCALE, in_a_row=10)  # flushes and merges
    for node in cluster.nodes[:2]:
        before = [memory_mb(one) for one in cluster.nodes]
        for one in cluster.nodes:
            forget_peak(one)
        began = time.monotonic()
        with WireClient(node.rpc_port, timeout_s=120) as client:
            response = open_query(client, f"select s0 from root.big.d order by time {order}")
            times = np.frombuffer(response.queryDataSet.time, ">i8")
            rows, last = len(times), int(times[-1])
            while page := next_page(client, response.queryId):
                times = np.frombuffer(page, ">i8")
                step = 1 if order == "asc" else -1
                assert (times == last + step * np.arange(1, len(times) + 1)).all()
                rows, last = rows + len(times), int(times[-1])
        assert (rows, last) == (ROWS, ROWS - 1 if order == "asc" else 0)
        peaks = [memory_mb(one, "VmHWM") for one in cluster.nodes]
        growth = [round(peak - start) for peak, start in zip(peaks, before, strict=True)]
        spent = time.monotonic() - began
        what = f"{rows} rows {order} from {place} in {spent:.1f} s"
        size = f"from {[round(start) for start in before]}"
        print(f"{what}, growth of each node in MB: {growth}, {size}")
        assert max(growth) < GROWTH_MB


def wait_idle(cluster: ProcessCluster, timeout_s: float, in_a_row: int = 1) -> None:
    """Return when the nodes together use little of a core, as often as that is looked at."""
    end = time.monotonic() + timeout_s
    calm = 0
    while True:
        before = cpu_s(cluster)
        time.sleep(0.3)
        calm = calm + 1 if cpu_s(cluster) - before < 0.1 else 0
        if calm >= in_a_row:
            return
        assert time.monotonic() < end, "some node is still busy"


def ends_soon(node: Node, cluster: ProcessCluster) -> float:
    """Seconds until a node lists no query; soon after that no node may work any more."""
    began = time.monotonic()
    while listed := running(node):
        assert time.monotonic() - began < 30, listed
        time.sleep(0.02)
    spent = time.monotonic() - began
    wait_idle(cluster, 1.0 * SCALE)
    return spent


class Request:
    """A slow query on a thread of its own."""

    def __init__(self, node: Node, sql: str, timeout_ms: int = 0) -> None:
        self.client = WireClient(node.rpc_port, timeout_s=120)
        self.error: Exception | None = None
        self.ended = 0.0
        self._sql = sql
        self._timeout_ms = timeout_ms
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            open_query(self.client, self._sql, self._timeout_ms)
        except Exception as error:  # noqa: BLE001 - looked at by the test
            self.error = error
        self.ended = time.monotonic()


@pytest.mark.quiet
@pytest.mark.parametrize("place", ["at the leader", "at another node"])
@pytest.mark.parametrize("what", SLOW)
def test_a_query_that_is_being_computed_ends_at_once(
    cluster: ProcessCluster, what: str, place: str
) -> None:
    leader, other = server_and_other(cluster)
    node = leader if place == "at the leader" else other
    limit = 1.0 * SCALE
    found = {}

    request = Request(node, SLOW[what])
    wait_until(lambda: bool(running(node)))
    time.sleep(0.5)
    assert request.thread.is_alive(), "the query is too quick for this test"
    began = time.monotonic()
    with WireClient(node.rpc_port, timeout_s=60) as killer:
        killer.execute("kill query")
    join_all(request.thread)
    found["kill"] = request.ended - began
    assert isinstance(request.error, StatusError)
    assert "killed" in request.error.message
    ends_soon(node, cluster)
    request.client.close()

    request = Request(node, SLOW[what], timeout_ms=700)
    began = time.monotonic() + 0.7
    join_all(request.thread)
    found["time-out"] = request.ended - began
    assert isinstance(request.error, StatusError)
    assert request.error.code == 701
    ends_soon(node, cluster)
    request.client.close()

    request = Request(node, SLOW[what])
    wait_until(lambda: bool(running(node)))
    time.sleep(0.5)
    request.client.cut()
    found["disconnect"] = ends_soon(node, cluster)
    join_all(request.thread)
    request.client.close()

    print(what, place, {name: f"{seconds:.2f} s" for name, seconds in found.items()})
    assert max(found.values()) < limit, found


@pytest.mark.parametrize("how", ["kill", "time-out", "disconnect"])
def test_a_query_that_waits_to_be_fetched_ends_at_once(cluster: ProcessCluster, how: str) -> None:
    node = cluster.nodes[1]
    client = WireClient(node.rpc_port, timeout_s=60)
    timeout_ms = 1000 if how == "time-out" else 0
    response = open_query(client, "select s0 from root.big.d", timeout_ms)
    opened = time.monotonic()
    assert next_page(client, response.queryId)
    assert running(node)
    began = time.monotonic()
    if how == "kill":
        with WireClient(node.rpc_port, timeout_s=60) as killer:
            killer.execute(f"kill query {response.queryId}")
    elif how == "disconnect":
        client.close()
    else:
        began = opened + 1.0
        time.sleep(1.3)
    if how != "disconnect":
        with pytest.raises(StatusError, match="killed" if how == "kill" else "time out"):
            next_page(client, response.queryId)
    assert ends_soon(node, cluster) + time.monotonic() - began < 3 * SCALE
    client.close()


def wait_until(condition: Callable[[], bool], timeout_s: float = 30) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
