"""Inserts that look like earlier ones do what they would do if they were decoded."""

from __future__ import annotations

import random
import struct

import pytest
from thrift.protocol.TBinaryProtocol import TBinaryProtocolAccelerated
from thrift.transport.TSocket import TSocket
from thrift.transport.TTransport import TFramedTransport, TMemoryBuffer

from cluster.rpc.convert import PHYSICAL_TYPES
from cluster.rpc.gen.client import IClientRPCService
from cluster.rpc.gen.client import ttypes as t
from cluster.server import insert_shapes
from cluster.server.insert_shapes import METHOD_BYTES, InsertShapes
from harness.local_server import LocalServer
from harness.privilege_levels import PASSWORD, USER
from harness.wire import WireClient, check, tablet

BOOLEAN, INT32, INT64, FLOAT, DOUBLE, TEXT = range(6)


def message(method, request, sequence=0):
    buffer = TMemoryBuffer()
    client = IClientRPCService.Client(TBinaryProtocolAccelerated(buffer))
    client._seqid = sequence
    getattr(client, f"send_{method}")(request)
    return buffer.getvalue()


def decoded(payload, kind):
    protocol = TBinaryProtocolAccelerated(TMemoryBuffer(payload))
    protocol.readMessageBegin()
    arguments = kind()
    arguments.read(protocol)
    return arguments.req


def some_tablet(rows=3, columns=4, device="root.sg.d", aligned=False, first=0):
    request = tablet(
        7,
        device,
        [f"s{number}" for number in range(columns)],
        list(range(first, first + rows)),
        [[float(number * row) for row in range(rows)] for number in range(columns)],
    )
    request.isAligned = aligned
    return request


def record(values, time=5, names=("a", "b"), device="root.sg.d", aligned=None):
    return t.TSInsertRecordReq(7, device, list(names), values, time, aligned)


def doubles(*values):
    return b"".join(b"\x04" + struct.pack(">d", value) for value in values)


def learned(method, *requests):
    """Shapes that have seen the requests; the last one's parts."""
    shapes = InsertShapes()
    parts = None
    for request in requests:
        payload = message(method, request)
        parts = (shapes.tablet if method == "insertTablet" else shapes.record)(payload)
    return shapes, parts


@pytest.mark.parametrize("aligned", [False, True, None])
def test_a_tablet_is_known_from_the_third_time_on(aligned):
    requests = [some_tablet(first=3 * number, aligned=aligned) for number in range(3)]
    shapes, parts = learned("insertTablet", *requests[:2])
    assert parts is None
    parts = shapes.tablet(message("insertTablet", requests[2], sequence=9))
    assert parts.size == 3
    assert parts.times == requests[2].timestamps
    assert bytes(parts.values) == requests[2].values
    assert parts.shape.prepared.key[:2] == ("root.sg.d", ("s0", "s1", "s2", "s3"))
    assert parts.shape.prepared.key.aligned == bool(aligned)


def test_the_number_of_rows_may_differ():
    shapes, _ = learned("insertTablet", some_tablet(), some_tablet())
    request = some_tablet(rows=50)
    parts = shapes.tablet(message("insertTablet", request))
    assert (parts.size, bytes(parts.values)) == (50, request.values)


@pytest.mark.parametrize("attribute", ["writeToTable", "isCompressed"])
def test_what_is_refused_is_not_remembered(attribute):
    request = some_tablet()
    setattr(request, attribute, True)
    assert learned("insertTablet", request, request, request)[1] is None


def test_other_columns_are_learned_anew():
    shapes, _ = learned("insertTablet", some_tablet(), some_tablet())
    other = message("insertTablet", some_tablet(columns=5))
    assert shapes.tablet(other) is None
    assert len(shapes.tablet(other).shape.prepared.key.measurements) == 5


def test_a_record_keeps_its_types_until_they_change():
    shapes, _ = learned("insertRecord", record(doubles(1, 2)), record(doubles(1, 2)))
    parts = shapes.record(message("insertRecord", record(doubles(3, 4), time=-9)))
    assert parts.time == struct.pack(">q", -9)
    shape = parts.shape
    assert shape.cells(parts.values) is None
    shape.learn((insert_shapes.DataType.DOUBLE,) * 2, parts.values)
    assert shape.cells(parts.values) == struct.pack(">2d", 3, 4)
    assert shape.cells(b"\x02" + parts.values[1:]) is None
    assert shape.cells(parts.values[:-1]) is None
    assert shape.cells(b"\xfe" + b"\xfe" * 17) is None


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(insert_shapes, "_MOST_KNOWN_BYTES", 5000)
    monkeypatch.setattr(insert_shapes, "_MOST_KNOWN", 50)
    shapes = InsertShapes()
    for round_ in range(3):
        for number in range(200):
            shapes.tablet(message("insertTablet", some_tablet(device=f"root.sg.d{number}")))
            assert len(shapes._known) <= 50, round_
            kept = [shape for shape in shapes._known.values() if shape is not None]
            assert sum(len(shape.head) for shape in kept) <= 5000


@pytest.mark.parametrize("seed", range(4))
def test_whatever_the_bytes_say_is_what_the_decoder_reads(seed):
    rng = random.Random(seed)
    cases = [
        ("insertTablet", some_tablet(), IClientRPCService.insertTablet_args),
        ("insertRecord", record(doubles(1, 2), aligned=True), IClientRPCService.insertRecord_args),
    ]
    understood = 0
    for method, request, kind in cases:
        good = message(method, request)
        for _ in range(4000):
            shapes, _ = learned(method, request, request)
            take = shapes.tablet if method == "insertTablet" else shapes.record
            bad = bytearray(good)
            for _ in range(rng.choice((0, 1, 1, 2))):
                at = rng.randrange(METHOD_BYTES, len(bad))
                change = rng.randrange(4)
                if change == 0:
                    bad[at] = rng.randrange(256)
                elif change == 1:
                    bad[at] ^= 1 << rng.randrange(8)
                elif change == 2:
                    del bad[at : at + rng.randrange(1, 9)]
                else:
                    bad[at:at] = rng.randbytes(rng.randrange(1, 9))
            for _ in range(2):  # the second time, it may have been learned
                parts = take(bytes(bad))
                if parts is None:
                    continue
                understood += 1
                read = decoded(bytes(bad), kind)
                assert read.values == bytes(parts.values)
                if method == "insertTablet":
                    key = parts.shape.prepared.key
                    assert (read.size, read.timestamps) == (parts.size, parts.times)
                    assert list(key.types) == [PHYSICAL_TYPES[number] for number in read.types]
                    found = (key.device, list(key.measurements), key.aligned)
                    assert not read.writeToTable
                    assert not read.isCompressed
                else:
                    shape = parts.shape
                    assert struct.pack(">q", read.timestamp) == parts.time
                    found = (shape.device, list(shape.names), shape.aligned)
                assert found == (read.prefixPath, read.measurements, bool(read.isAligned))
    assert understood > 1000


# ---- through a server ----


@pytest.fixture
def counted(server, monkeypatch):
    """How many requests were answered without being decoded."""
    carry_out = server.quick._status
    answered = []

    def counting(parts):
        answered.append(parts)
        return carry_out(parts)

    monkeypatch.setattr(server.quick, "_status", counting)
    return answered


def rows_of(client, device):
    return client.query(f"SELECT * FROM {device}")


def test_tablets_of_all_types_with_nulls(root: WireClient, counted):
    names = ["b", "i", "l", "f", "d", "x"]
    for number in range(6):
        texts = [b"", b"text", "ü".encode() * number]
        values = b"".join(
            (
                struct.pack(">3?", True, False, True),
                struct.pack(">3i", number, -1, 2),
                struct.pack(">3q", number, -1, 1 << 40),
                struct.pack(">3f", number, 0.5, 2),
                struct.pack(">3d", number, 0.25, -2),
                b"".join(struct.pack(">i", len(text)) + text for text in texts),
            )
        )
        if number % 2:
            values += b"\x01\x02" + b"\x00" * 5  # the second row's BOOLEAN is null
        request = t.TSInsertTabletReq(
            root.session_id,
            "root.quick.t",
            names,
            values,
            struct.pack(">3q", *range(3 * number, 3 * number + 3)),
            [BOOLEAN, INT32, INT64, FLOAT, DOUBLE, TEXT],
            3,
            False,
        )
        check(root.raw.insertTablet(request))
    assert len(counted) == 4
    found = rows_of(root, "root.quick.t")
    assert len(found) == 18
    assert [row[1 + sorted(names).index("b")] for row in found[3:6]] == [True, None, True]
    assert found[15][1 + sorted(names).index("i")] == 5
    assert found[17][1 + sorted(names).index("x")] == "ü" * 5


def test_records_whose_types_and_nulls_change(root: WireClient, counted):
    for time in range(4):
        root.insert_row("root.quick.r", ["a", "b"], time, [time, 0.5])
    null_first = b"\xfe" + doubles(9)
    text = b"\x05" + struct.pack(">i", 2) + b"no" + doubles(1)
    for time, values in ((4, null_first), (5, b"\xfe\xfe"), (6, doubles(6, 7))):
        check(
            root.raw.insertRecord(
                t.TSInsertRecordReq(
                    root.session_id, "root.quick.r", ["a", "b"], values, time, False
                )
            )
        )
    refused = root.raw.insertRecord(
        t.TSInsertRecordReq(root.session_id, "root.quick.r", ["a", "b"], text, 7, False)
    )
    assert refused.code != 200
    assert "type" in refused.message
    cut = root.raw.insertRecord(
        t.TSInsertRecordReq(root.session_id, "root.quick.r", ["a", "b"], doubles(1), 8, False)
    )
    assert cut.code != 200
    assert len(counted) == 7
    assert rows_of(root, "root.quick.r") == [
        [0, 0.0, 0.5],
        [1, 1.0, 0.5],
        [2, 2.0, 0.5],
        [3, 3.0, 0.5],
        [4, None, 9.0],
        [6, 6.0, 7.0],
        [7, None, 1.0],
    ]


def test_series_that_are_deleted_meanwhile_are_made_anew(root: WireClient, counted):
    for time in range(3):
        root.insert_row("root.quick.deleted", ["a"], time, [1])
    root.execute("DELETE TIMESERIES root.quick.deleted.a")
    root.insert_row("root.quick.deleted", ["a"], 9, [2])
    assert len(counted) == 2
    assert rows_of(root, "root.quick.deleted") == [[9, 2.0]]


def test_rows_past_their_time_to_live_are_refused(root: WireClient, counted):
    for time in range(3):
        root.insert_row("root.old.d", ["a"], time, [1])
    root.execute("SET TTL TO root.old 1000")
    answer = root.raw.insertRecord(
        t.TSInsertRecordReq(root.session_id, "root.old.d", ["a"], doubles(1), 3, False)
    )
    assert answer.code == 305
    assert len(counted) == 2


def test_privileges_are_looked_at_each_time(server: LocalServer, root: WireClient, counted):
    with server.client(USER, PASSWORD) as user:
        request = t.TSInsertRecordReq(user.session_id, "root.quick.p", ["a"], doubles(1), 1, False)
        root.execute(
            f"GRANT USER {USER} PRIVILEGES INSERT_TIMESERIES, CREATE_TIMESERIES ON root.quick"
        )
        for _ in range(3):
            check(user.raw.insertRecord(request))
        root.execute(f"REVOKE USER {USER} PRIVILEGES INSERT_TIMESERIES ON root.quick")
        assert user.raw.insertRecord(request).code == 602
        assert len(counted) == 2
        user.raw.closeSession(t.TSCloseSessionReq(user.session_id))
        assert user.raw.insertRecord(request).code == 601


def test_a_read_only_system_takes_nothing(root: WireClient, counted):
    for time in range(3):
        root.insert_row("root.quick.ro", ["a"], time, [1])
    root.execute("SET SYSTEM TO READONLY")
    try:
        answer = root.raw.insertRecord(
            t.TSInsertRecordReq(root.session_id, "root.quick.ro", ["a"], doubles(1), 3, False)
        )
    finally:
        root.execute("SET SYSTEM TO WRITABLE")
    assert answer.code == 502
    assert len(counted) == 2


def test_nothing_is_remembered_for_who_has_not_logged_in(server: LocalServer):
    transport = TFramedTransport(TSocket("127.0.0.1", server._server.port))
    transport.open()
    try:
        client = IClientRPCService.Client(TBinaryProtocolAccelerated(transport))
        for _ in range(3):
            assert client.insertTablet(some_tablet()).code == 601
        assert all("insert_shapes" not in item.state for item in server.connections()[-1:])
    finally:
        transport.close()


def test_the_answer_has_the_number_of_its_request(root: WireClient, monkeypatch):
    answered = []
    read_begin = root.raw._iprot.readMessageBegin

    def noted():
        begin = read_begin()
        answered.append(begin[2])
        return begin

    monkeypatch.setattr(root.raw._iprot, "readMessageBegin", noted)
    numbers = [0, 5, -3, 1 << 30]
    for number in numbers:
        root.raw._seqid = number
        root.insert_row("root.quick.seq", ["a"], number, [1])
    root.raw._seqid = 0
    assert answered == numbers
