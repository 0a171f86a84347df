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

ROUNDS = int(os.environ.get("TEST_QUERY_KILL_ROUNDS", "1"))
"""Times that each kind of query meets a kill; 15 make more than 200 in all."""

ROWS = 30_000
FETCH = 1000
MEASUREMENTS = ["s0", "s1", "s2"]
DEVICES = ["root.a.d", "root.b.d", "root.c.d"]
EXPLICIT = (StatusError, TTransportException, OSError, EOFError)


@dataclass(frozen=True)
class Kind:
    """A kind of query; `paged`: its answer comes in many pages."""

    name: str
    sql: str
    paged: bool = True


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
    Kind("aggregates", f"select count(s0), avg(s1), last_value(s2) from {FROM}", paged=False),
    Kind("last", f"select last s0, s1, s2 from {FROM}", paged=False),
    Kind("fill", f"select s0 from {FROM} where time = {ROWS + 5} fill(previous)", paged=False),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessCluster]:
    with process_cluster(tmp_path_factory.mktemp("nodes"), 3) as started:
        client = WireClient(started.nodes[0].rpc_port, timeout_s=60)
        for number, device in enumerate(DEVICES):
            for start in range(0, ROWS, 5000):
                times = list(range(start, start + 5000))
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


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_node_dies_during_a_fetch(kind: Kind, cluster: ProcessCluster) -> None:
    refused: list[str] = []
    for round_ in range(ROUNDS):
        node = cluster.nodes[round_ % 3]
        client = WireClient(node.rpc_port, timeout_s=60)
        expected = fetch_all(client, kind.sql, -1, None)
        assert (len(expected) > 5) == kind.paged
        victim = leader_besides(cluster, node)
        killers: list[threading.Thread] = []

        def kill(victim: Node = victim, killers: list[threading.Thread] = killers) -> None:
            killers.append(threading.Thread(target=victim.kill))
            killers[-1].start()

        try:
            found = fetch_all(client, kind.sql, 3 if kind.paged else 0, kill)
        except EXPLICIT as error:
            refused.append(f"{type(error).__name__} {error}")
        else:
            assert found == expected  # byte for byte, page for page
        finally:
            for killer in killers:
                killer.join()
            client.close()
            victim.start()
            victim.wait_ready()
    assert all(refused)  # an error has to say something
    print(f"{kind.name}: {ROUNDS - len(refused)} complete, {len(refused)} refused {refused[:1]}")
