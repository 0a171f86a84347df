"""A node dies while a query is being fetched: a complete right answer, or an error, never less."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from thrift.transport.TTransport import TTransportException

from cluster.rpc.gen.client import ttypes as t
from harness.node_status import led_groups
from harness.process_cluster import Node, ProcessCluster, process_cluster
from harness.wire import StatusError, WireClient, check

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]

ROUNDS = int(os.environ.get("TEST_QUERY_KILL_ROUNDS", "4"))
"""Kills; each meets a quarter of the kinds of queries, so 4 let every kind meet one."""

TOGETHER = 4

NODES = 4
"""One more than there are replicas: each node reads some groups from itself, others from afar."""

ROWS = 150_000
"""More than twice what a coordinator asks a group for at once: it asks again after a kill."""

FETCH = 5000
MEASUREMENTS = ["s0", "s1", "s2"]
DEVICES = ["root.a.d", "root.b.d", "root.c.d"]
EXPLICIT = (StatusError, TTransportException, OSError, EOFError)


@dataclass(frozen=True)
class Kind:
    """A kind of query; `paged`: its answer comes in many pages."""

    name: str
    sql: str
    paged: bool = True


A = DEVICES[0]
FROM = ", ".join(DEVICES)
KINDS = [
    Kind("rows", f"select s0, s1 from {FROM}"),
    Kind("rows-descending", f"select s0 from {FROM} order by time desc"),
    Kind("value-filter", "select s1 from root.a.d where s0 > 5000"),
    Kind("value-filter-elsewhere", "select s1 from root.a.d where root.b.d.s0 > 5000"),
    Kind("functions", "select s0 + s1, difference(s2) from root.a.d"),
    Kind("delayed-functions", "select top_k(s0, 'k'='1000'), s1 from root.b.d"),
    Kind("by-device", f"select s0, s2 from {FROM} align by device"),
    Kind("not-aligned", f"select s0, s2 from {FROM} disable align"),
    Kind("windows", f"select count(s0), sum(s1) from {FROM} group by ([0, {ROWS}), 2ms)"),
    Kind(
        "windows-filtered", f"select avg(s0) from root.c.d where s1 > 9 group by ([0,{ROWS}),3ms)"
    ),
    Kind("levels", f"select sum(s0) from root.** group by ([0, {ROWS}), 5ms), level = 1"),
    Kind(
        "windows-filled", f"select avg(s0) from root.a.d group by ([0,{ROWS}),2ms) fill(previous)"
    ),
    Kind("without-null", f"select s0, s1 from {FROM} without null any"),
    Kind("limited", f"select s0, s2 from {FROM} limit {ROWS // 2} offset 100"),
    Kind("aggregates", f"select count(s0), avg(s1), last_value(s2) from {FROM}", paged=False),
    Kind("last", f"select last s0, s1, s2 from {FROM}", paged=False),
    Kind("fill", f"select s0 from {FROM} where time = {ROWS + 5} fill(previous)", paged=False),
    Kind("exact-time", f"select * from root.** where time = {ROWS // 2}", paged=False),
    Kind("show-timeseries", "show timeseries root.**", paged=False),
    Kind("count-timeseries", "count timeseries root.** group by level = 1", paged=False),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessCluster]:
    with process_cluster(tmp_path_factory.mktemp("nodes"), NODES) as started:
        client = WireClient(started.nodes[0].rpc_port, timeout_s=60)
        for number, device in enumerate(DEVICES):
            for start in range(0, ROWS, 10_000):
                times = list(range(start, start + 10_000))
                columns = [
                    [float((time * 7 + number + column) % 9973) for time in times]
                    for column in range(len(MEASUREMENTS))
                ]
                client.insert_tablet(device, MEASUREMENTS, times, columns)
        client.close()
        yield started
        started.stop()


def fetch_all(client: WireClient, sql: str, at_page: int, hook: Any) -> list[tuple[bytes, ...]]:
    """Return every page's bytes; calls `hook` before page `at_page` is asked for."""
    if at_page == 0:
        hook()
    response = client.raw.executeStatement(
        t.TSExecuteStatementReq(client.session_id, sql, client.statement_id, fetchSize=FETCH)
    )
    check(response.status)
    aligned = response.nonAlignQueryDataSet is None
    pages: list[Any] = [response.queryDataSet if aligned else response.nonAlignQueryDataSet]
    while True:
        if len(pages) == at_page:
            hook()
        answer = client.raw.fetchResults(
            t.TSFetchResultsReq(client.session_id, sql, FETCH, response.queryId, aligned)
        )
        check(answer.status)
        if not answer.hasResultSet:
            break
        pages.append(answer.queryDataSet if aligned else answer.nonAlignQueryDataSet)
    if aligned:
        return [(page.time, *page.valueList, *page.bitmapList) for page in pages]
    return [(*page.timeList, *page.valueList) for page in pages]


def leader_besides(cluster: ProcessCluster, node: Node) -> Node:
    """Return another node, one that leads data groups if there is one."""
    others = [other for other in cluster.nodes if other is not node]
    return max(others, key=lambda other: len(led_groups(other.meta_port)))


class Fetch:
    """One query on a thread of its own, which waits for the others in the middle of its fetch."""

    def __init__(self, kind: Kind, node: Node) -> None:
        self.kind = kind
        self._client = WireClient(node.rpc_port, timeout_s=60)
        self._expected = fetch_all(self._client, kind.sql, -1, None)
        assert (len(self._expected) > 5) == kind.paged
        self.problem: str | None = None
        self.refusal: str | None = None

    def run(self, middle: threading.Barrier) -> None:
        try:
            found = fetch_all(self._client, self.kind.sql, 3 if self.kind.paged else 0, middle.wait)
            if found != self._expected:  # byte for byte, page for page
                self.problem = f"{len(found)} pages, not the {len(self._expected)} of before"
        except EXPLICIT as error:
            self.refusal = f"{type(error).__name__} {error}"
        except Exception as error:  # noqa: BLE001 - told by the test, which runs on another thread
            self.problem = f"{type(error).__name__} {error}"
            middle.abort()
        finally:
            self._client.close()


def test_a_node_dies_during_fetches(cluster: ProcessCluster) -> None:
    """The node that dies leads groups that the queries read; the one that is asked stays."""
    complete = 0
    refused: list[str] = []
    for round_ in range(ROUNDS):
        node = cluster.nodes[round_ % NODES]
        fetches = [
            Fetch(kind, node) for kind in KINDS[(round_ + round_ // NODES) % TOGETHER :: TOGETHER]
        ]
        victim = leader_besides(cluster, node)
        middle = threading.Barrier(len(fetches) + 1)
        threads = [threading.Thread(target=fetch.run, args=(middle,)) for fetch in fetches]
        for thread in threads:
            thread.start()
        try:
            middle.wait(60)
        finally:
            victim.kill()
            for thread in threads:
                thread.join()
        victim.start()
        victim.wait_ready()
        for fetch in fetches:
            assert fetch.problem is None, (round_, fetch.kind.name, fetch.problem)
            if fetch.refusal is None:
                complete += 1
            else:
                refused.append(f"{fetch.kind.name}: {fetch.refusal}")
    print(f"{ROUNDS} kills: {complete} answers complete, {len(refused)} refused {refused[:3]}")
