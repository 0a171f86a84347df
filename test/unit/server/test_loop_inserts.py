"""Inserts that the loop takes: rows and tablets of a node that is alone."""

from __future__ import annotations

import socket
import struct
import threading

import numpy as np
import pytest

from cluster.rpc import lent
from cluster.rpc.gen.client import ttypes as t
from cluster.server.loop_rows import LoopRows
from harness.looped_server import LoopedServer
from harness.wire import StatusError, check, tablet

LARGE, SMALL = 100, 3
"""Columns of 100 rows: a frame of 82 KB is received behind its head, one of 4 KB with it."""


class Taken:
    """A LoopRows that notes which frames the loop took."""

    in_order = True
    most_bytes = LoopRows.most_bytes

    def __init__(self, service):
        self._service = service
        self.sizes = []

    def wants(self, payload):
        return self._service.wants(payload)

    def take(self, lent, payload):
        taken = self._service.take(lent, payload)
        if taken:
            self.sizes.append(len(payload))
        return taken


@pytest.fixture
def server(tmp_path):
    with LoopedServer(tmp_path) as made:
        made.share.service = Taken(made.share.service)
        yield made


def names(columns):
    return [f"s{number}" for number in range(columns)]


def block(columns, number):
    """Times and columns of the `number`-th tablet."""
    times = np.arange(number * 100, (number + 1) * 100)
    return times, np.outer(np.arange(1, columns + 1), times) * 0.5


@pytest.mark.parametrize("columns", [SMALL, LARGE])
def test_tablets_of_several_clients_are_written_as_they_are(server, columns):
    count = 25

    def write(number):
        with server.client() as client:
            for turn in range(count):
                client.insert_tablet(f"root.sg.d{number}", names(columns), *block(columns, turn))
                client.insert_row(f"root.sg.r{number}", ["a", "b"], turn, [turn, -turn])

    writers = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    # how many depends on how the machine is: who is silent for a second goes back to its thread
    assert {size > 1000 for size in server.share.service.sizes} == {True, False}
    last = columns - 1
    with server.client() as client:
        for number in range(3):
            rows = client.query(f"SELECT s0, s{last} FROM root.sg.d{number}")
            times = np.arange(count * 100)
            assert [row[0] for row in rows] == times.tolist()
            assert [row[1] for row in rows] == (times * 0.5).tolist()
            assert [row[2] for row in rows] == (times * 0.5 * columns).tolist()
            rows = client.query(f"SELECT a, b FROM root.sg.r{number}")
            assert rows == [[turn, turn, -turn] for turn in range(count)]


def lend(server, client, columns=LARGE):
    """Write tablets until the loop takes them; return how many there are."""
    taken = server.share.service.sizes
    count = 0
    while not taken:
        client.insert_tablet("root.sg.d", names(columns), *block(columns, count))
        count += 1
    return count


def test_a_large_frame_may_come_in_pieces(server):
    with server.client() as client:
        count = lend(server, client)
        sock = client._socket.handle
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        send = sock.sendall
        for size in (1, 3, 4, 5, 20_000, 81_000):
            client._transport._TFramedTransport__wbuf.truncate(0)
            pieces = size

            def in_pieces(data, pieces=pieces):
                send(data[:pieces])
                server.node.threads.names()  # anything that takes its time
                send(data[pieces : pieces + 7])
                send(data[pieces + 7 :])

            client._socket.write = in_pieces
            client.insert_tablet("root.sg.d", names(LARGE), *block(LARGE, count))
            count += 1
        assert client.query("SELECT count(s7) FROM root.sg.d") == [[count * 100]]


def test_small_and_large_frames_may_alternate(server, monkeypatch):
    monkeypatch.setattr(lent, "_IDLE_S", 60)
    with server.client() as client:
        count = lend(server, client)
        client.insert_row("root.sg.r", ["a"], 0, [0.0])
        for turn in range(4):  # until its shape is known, and the connection is lent anew
            client.insert_row("root.sg.r", ["a"], turn, [0.0])
            client.insert_tablet("root.sg.d", names(LARGE), *block(LARGE, count))
        before = len(server.share.service.sizes)
        for turn in range(10):
            client.insert_row("root.sg.r", ["a"], turn, [1.0])
            client.insert_tablet("root.sg.d", names(LARGE), *block(LARGE, count + turn))
        assert len(server.share.service.sizes) == before + 20
        assert client.query("SELECT count(s7) FROM root.sg.d") == [[(count + 10) * 100]]
        assert client.query("SELECT count(a), sum(a) FROM root.sg.r") == [[10, 10]]


def test_half_a_frame_is_waited_for_by_the_thread(server):
    with server.client() as client:
        count = lend(server, client)
        request = tablet(client.session_id, "root.sg.d", names(LARGE), *block(LARGE, count))
        sent = []
        client._socket.write = sent.append
        client.raw.send_insertTablet(request)
        data = b"".join(sent)
        sock = client._socket.handle
        sock.sendall(data[:30_000])
        while server.share._lent:
            server.node._stopping.wait(0.01)
        sock.sendall(data[30_000:])
        check(client.raw.recv_insertTablet())
        del client._socket.write
        assert client.query("SELECT count(s7) FROM root.sg.d") == [[(count + 1) * 100]]


def test_requests_sent_at_once_are_answered_in_order(server):
    with server.client() as client:
        count = lend(server, client)
        sent = []
        client._socket.write = sent.append
        for number in range(6):
            request = tablet(
                client.session_id, "root.sg.d", names(LARGE), *block(LARGE, count + number)
            )
            client.raw._seqid = number
            client.raw.send_insertTablet(request)
        client._socket.handle.sendall(b"".join(sent))
        for _ in range(6):
            check(client.raw.recv_insertTablet())
        del client._socket.write
        assert client.query("SELECT count(s7) FROM root.sg.d") == [[(count + 6) * 100]]


def test_series_that_were_deleted_meanwhile_are_made_anew(server):
    with server.client() as client, server.client() as other:
        lend(server, client)
        other.execute("DELETE TIMESERIES root.sg.d.*")
        client.insert_tablet("root.sg.d", names(LARGE), *block(LARGE, 1000))
        assert client.query("SELECT count(s7) FROM root.sg.d") == [[100]]


def test_errors_are_the_threads(server):
    with server.client() as client, server.client() as other:
        count = lend(server, client)
        request = tablet(client.session_id, "root.sg.d", names(LARGE), *block(LARGE, count))
        request.types = [1] * LARGE
        request.values = b"".join(struct.pack(">100i", *range(100)) for _ in range(LARGE))
        with pytest.raises(StatusError, match="DataType mismatch"):
            check(client.raw.insertTablet(request))
        other.execute("SET SYSTEM TO READONLY")
        for _ in range(12):
            with pytest.raises(StatusError, match="read-only"):
                client.insert_tablet("root.sg.d", names(LARGE), *block(LARGE, count))
        other.execute("SET SYSTEM TO WRITABLE")
        client.insert_tablet("root.sg.d", names(LARGE), *block(LARGE, count))
        assert client.query("SELECT count(s7) FROM root.sg.d") == [[(count + 1) * 100]]


def test_privileges_are_looked_at_each_time(server):
    with server.client() as root:
        root.execute("CREATE USER anna 'secret'")
        with server.client("anna") as client:
            with pytest.raises(StatusError, match="permission"):
                client.insert_tablet("root.sg.d", names(LARGE), *block(LARGE, 0))
            root.execute("GRANT USER anna PRIVILEGES INSERT_TIMESERIES ON root.sg")
            count = lend(server, client)
            root.execute("REVOKE USER anna PRIVILEGES INSERT_TIMESERIES ON root.sg")
            with pytest.raises(StatusError, match="permission"):
                client.insert_tablet("root.sg.d", names(LARGE), *block(LARGE, count))
        assert root.query("SELECT count(s7) FROM root.sg.d") == [[count * 100]]


def test_a_tablet_across_time_partitions_is_cut_by_the_thread(server):
    week = 7 * 86_400_000
    with server.client() as client:
        count = lend(server, client)
        times, columns = block(LARGE, count)
        client.insert_tablet("root.sg.d", names(LARGE), times + week - 50 - times[0], columns)
        assert client.query("SELECT count(s7) FROM root.sg.d") == [[(count + 1) * 100]]


def test_a_session_that_is_closed_writes_nothing(server):
    with server.client() as client:
        lend(server, client)
        client.raw.closeSession(t.TSCloseSessionReq(client.session_id))
        with pytest.raises(StatusError, match="open a session"):
            client.insert_tablet("root.sg.d", names(LARGE), *block(LARGE, 50))
