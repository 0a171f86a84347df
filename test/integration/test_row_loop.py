"""Single rows of a node's clients on the real way: served by the row loop, seen by who reads."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.main import ClusterMain
from cluster.rpc.gen.client import ttypes as t
from cluster.server.loop_rows import LoopRows
from harness.node_here import node_here
from harness.wire import StatusError, WireClient

pytestmark = pytest.mark.integration

NAMES = ["a", "b"]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[ClusterMain]:
    made = node_here(tmp_path / "data")
    made.start()
    try:
        yield made
    finally:
        made.stop()
        assert made.threads.names() == []


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Counter[bool]:
    """How many requests the loop took, and how many it left to threads."""
    counts: Counter[bool] = Counter()
    take = LoopRows.take

    def counted(self, lent, payload):
        begun = take(self, lent, payload)
        counts[begun] += 1
        return begun

    monkeypatch.setattr(LoopRows, "take", counted)
    return counts


def client_of(node: ClusterMain, **options: str) -> WireClient:
    return WireClient(node.address_book.own.rpc_port, timeout_s=60, **options)


def test_rows_of_many_clients_are_all_there(node: ClusterMain, taken: Counter[bool]) -> None:
    clients, rows = 6, 60

    def write(number: int) -> None:
        with client_of(node) as client:
            for time in range(rows):
                client.insert_row(f"root.sg{number}.d", NAMES, time, [time, 2.0 * time])

    threads = [threading.Thread(target=write, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert taken[True] > clients * rows // 2
    with client_of(node) as client:
        for number in range(clients):
            assert client.query(f"select a, b from root.sg{number}.d") == [
                [time, float(time), 2.0 * time] for time in range(rows)
            ]


def test_what_is_special_about_a_row_is_seen_to(node: ClusterMain, taken: Counter[bool]) -> None:
    with client_of(node) as client, client_of(node) as other:

        def insert(time: int) -> None:
            client.insert_row("root.sg.d", NAMES, time, [1.0, 2.0])

        def insert_until_taken(time: int) -> None:
            before = taken[True]
            while taken[True] == before:
                insert(time)

        insert_until_taken(0)
        # of another type: refused, and the next one is written
        values = b"\x01\x00\x00\x00\x07" * 2
        wrong = t.TSInsertRecordReq(client.session_id, "root.sg.d", NAMES, values, 1, False)
        assert client.raw.insertRecord(wrong).code != 200
        insert_until_taken(2)
        # new columns: their series are made
        client.insert_row("root.sg.d", ["a", "c"], 3, [5.0, 6.0])
        insert_until_taken(4)
        # series that are dropped between two rows come back with the next one
        other.execute("delete timeseries root.sg.d.b")
        insert(5)
        assert client.query("select b from root.sg.d") == [[5, 2.0]]
        # a time to live
        other.execute("set ttl to root.sg 1000")
        with pytest.raises(StatusError):
            insert(6)
        other.execute("unset ttl to root.sg")
        insert_until_taken(7)
        assert [row[0] for row in client.query("select a from root.sg.d")][-1] == 7


def test_a_user_without_the_privilege_is_refused_in_the_loop_as_elsewhere(
    node: ClusterMain, taken: Counter[bool]
) -> None:
    with client_of(node) as root:
        root.execute("create user reader 'secret1'")
        root.execute("create storage group root.sg")
        root.execute("grant user reader privileges INSERT_TIMESERIES on root.sg")
        root.execute("grant user reader privileges CREATE_TIMESERIES on root.sg")
        with client_of(node, user="reader", password="secret1") as client:
            while not taken[True]:
                client.insert_row("root.sg.d", NAMES, 1, [1.0, 2.0])
            root.execute("revoke user reader privileges INSERT_TIMESERIES on root.sg")
            with pytest.raises(StatusError):
                client.insert_row("root.sg.d", NAMES, 10, [1.0, 2.0])
            assert taken[False]


def test_a_node_that_stops_answers_or_refuses_every_row(node: ClusterMain) -> None:
    acknowledged: list[int] = []
    client = client_of(node)

    def write() -> None:
        for time in range(1 << 30):
            try:
                client.insert_row("root.sg.d", NAMES, time, [1.0, 2.0])
            except Exception:  # noqa: BLE001 - of any kind: the node is gone
                return
            acknowledged.append(time)

    thread = threading.Thread(target=write)
    thread.start()
    while len(acknowledged) < 50 and thread.is_alive():
        thread.join(0.01)
    assert thread.is_alive()
    node.stop()
    thread.join(60)
    assert not thread.is_alive()
    client.close()
    again = ClusterMain(node.settings)
    again.start()
    try:
        with client_of(again) as reader:
            found = {row[0] for row in reader.query("select a from root.sg.d")}
    finally:
        again.stop()
    assert set(acknowledged) <= found
