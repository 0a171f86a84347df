"""What the template methods of the client protocol answer, on a socket (client-protocol 3.6)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from cluster.rpc.gen.client import ttypes as t
from cluster.sql.parser import warm_up
from harness.local_server import LocalServer
from harness.wire import StatusError, WireClient, check

COUNT, IS_MEASUREMENT, PATH_EXIST, SHOW, TEMPLATES, SET_ON, USED_ON = range(7)

BOOLEAN, INT32, TEXT = 0, 1, 5
PLAIN, RLE = 0, 2
UNCOMPRESSED, SNAPPY, LZ4 = 0, 1, 7


@pytest.fixture
def client() -> Iterator[WireClient]:
    warm_up()
    with LocalServer() as server, server.client() as opened:
        yield opened


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack(">i", len(data)) + data


def serialized(name: str, *, aligned: bool, series: list[tuple[str, str, int, int, int]]) -> bytes:
    """(prefix, measurement, type, encoding, compressor); the client sends the last one first."""
    parts = [text(name), bytes([aligned])]
    for prefix, measurement, data_type, encoding, compressor in reversed(series):
        parts += [text(prefix), bytes([aligned]), text(measurement)]
        parts.append(bytes([data_type, encoding, compressor]))
    return b"".join(parts)


def create(client: WireClient, name: str = "t1") -> None:
    data = serialized(
        name,
        aligned=False,
        series=[("", "s1", INT32, RLE, SNAPPY), ("", "s2", TEXT, PLAIN, LZ4)],
    )
    check(
        client.raw.createSchemaTemplate(
            t.TSCreateSchemaTemplateReq(client.session_id, name, serializedTemplate=data)
        )
    )


def asked(client: WireClient, question: int, name: str = "t1", measurement: str = "") -> object:
    answer = client.raw.querySchemaTemplate(
        t.TSQueryTemplateReq(client.session_id, name, question, measurement)
    )
    check(answer.status)
    assert answer.queryType == question
    given = [answer.count, answer.result, answer.measurements]
    (only,) = [value for value in given if value is not None]
    return only


def test_a_serialized_template_is_read_back(client: WireClient) -> None:
    create(client)
    assert client.query("SHOW NODES IN SCHEMA TEMPLATE t1") == [
        ["s1", "INT32", "RLE", "SNAPPY"],
        ["s2", "TEXT", "PLAIN", "LZ4"],
    ]
    assert asked(client, COUNT) == 2
    assert asked(client, SHOW) == ["s1", "s2"]
    assert asked(client, TEMPLATES, "") == ["t1"]


def test_questions_about_measurements(client: WireClient) -> None:
    data = serialized(
        "t1",
        aligned=True,
        series=[("a", "x", INT32, RLE, SNAPPY), ("a", "y", BOOLEAN, RLE, UNCOMPRESSED)],
    )
    check(
        client.raw.createSchemaTemplate(
            t.TSCreateSchemaTemplateReq(client.session_id, "t1", serializedTemplate=data)
        )
    )
    assert asked(client, SHOW) == ["a.x", "a.y"]
    assert asked(client, SHOW, "t1", "a") == ["a.x", "a.y"]
    assert asked(client, SHOW, "t1", "b") == []
    assert asked(client, IS_MEASUREMENT, "t1", "a.x") is True
    assert asked(client, IS_MEASUREMENT, "t1", "a") is False
    assert asked(client, PATH_EXIST, "t1", "a") is True
    assert asked(client, PATH_EXIST, "t1", "a.y") is True
    assert asked(client, PATH_EXIST, "t1", "b") is False


def test_measurements_are_added_and_taken_out(client: WireClient) -> None:
    create(client)
    check(
        client.raw.appendSchemaTemplate(
            t.TSAppendSchemaTemplateReq(
                client.session_id, "t1", False, ["s3"], [BOOLEAN], [PLAIN], [SNAPPY]
            )
        )
    )
    check(  # Java 0.13 sends the place of LZ4 in its enum
        client.raw.appendSchemaTemplate(
            t.TSAppendSchemaTemplateReq(
                client.session_id, "t1", False, ["s4"], [INT32], [PLAIN], [3]
            )
        )
    )
    assert client.query("SHOW NODES IN SCHEMA TEMPLATE t1")[3] == ["s4", "INT32", "PLAIN", "LZ4"]
    assert asked(client, SHOW) == ["s1", "s2", "s3", "s4"]
    check(client.raw.pruneSchemaTemplate(t.TSPruneSchemaTemplateReq(client.session_id, "t1", "s2")))
    assert asked(client, SHOW) == ["s1", "s3", "s4"]


def test_the_life_of_a_template(client: WireClient) -> None:
    create(client)
    create(client, "t2")
    client.execute("SET STORAGE GROUP TO root.sg")
    session = client.session_id
    check(client.raw.setSchemaTemplate(t.TSSetSchemaTemplateReq(session, "t1", "root.sg")))
    assert asked(client, SET_ON) == ["root.sg"]
    assert asked(client, SET_ON, "t2") == []
    assert asked(client, SET_ON, "*") == ["root.sg"]
    assert asked(client, USED_ON) == []
    check(client.raw.setUsingTemplate(t.TSSetUsingTemplateReq(session, "root.sg.d1")))
    check(
        client.raw.createTimeseriesUsingSchemaTemplate(
            t.TCreateTimeseriesUsingSchemaTemplateReq(session, ["root.sg.d2", "root.sg.d3"])
        )
    )
    assert asked(client, USED_ON) == ["root.sg.d1", "root.sg.d2", "root.sg.d3"]
    assert asked(client, USED_ON, "*") == ["root.sg.d1", "root.sg.d2", "root.sg.d3"]
    check(client.raw.unsetUsingTemplate(session, "t1", "root.sg.d1"))
    check(client.raw.unsetUsingTemplate(session, "t1", "root.sg.*"))
    assert asked(client, USED_ON) == []
    check(client.raw.unsetSchemaTemplate(t.TSUnsetSchemaTemplateReq(session, "root.sg", "t1")))
    check(client.raw.dropSchemaTemplate(t.TSDropSchemaTemplateReq(session, "t1")))
    assert asked(client, TEMPLATES, "") == ["t2"]


def refused(status: t.TSStatus) -> int:
    with pytest.raises(StatusError) as caught:
        check(status)
    return caught.value.code


def test_refusals_have_the_codes_of_the_statements(client: WireClient) -> None:
    create(client)
    client.execute("SET STORAGE GROUP TO root.sg")
    session, raw = client.session_id, client.raw
    again = serialized("t1", aligned=False, series=[("", "s", INT32, RLE, SNAPPY)])
    request = t.TSCreateSchemaTemplateReq(session, "t1", serializedTemplate=again)
    assert refused(raw.createSchemaTemplate(request)) == 303
    for cut in (b"", again[:-1], again[:3]):
        request = t.TSCreateSchemaTemplateReq(session, "t9", serializedTemplate=cut)
        assert refused(raw.createSchemaTemplate(request)) == 318
    for question in (COUNT, IS_MEASUREMENT, PATH_EXIST, SHOW, SET_ON, USED_ON):
        answer = raw.querySchemaTemplate(t.TSQueryTemplateReq(session, "no", question, "s1"))
        assert refused(answer.status) == 321, question
    answer = raw.querySchemaTemplate(t.TSQueryTemplateReq(session, "t1", 9))
    assert refused(answer.status) == 318
    assert refused(raw.setSchemaTemplate(t.TSSetSchemaTemplateReq(session, "no", "root.sg"))) == 321
    assert refused(raw.setUsingTemplate(t.TSSetUsingTemplateReq(session, "root.sg.d"))) == 303
    check(raw.setSchemaTemplate(t.TSSetSchemaTemplateReq(session, "t1", "root.sg")))
    assert refused(raw.dropSchemaTemplate(t.TSDropSchemaTemplateReq(session, "t1"))) == 303
    unset = t.TSUnsetSchemaTemplateReq(session, "root.sg", "no")
    assert refused(raw.unsetSchemaTemplate(unset)) in (321, 325)
    check(raw.setUsingTemplate(t.TSSetUsingTemplateReq(session, "root.sg.d")))
    unset = t.TSUnsetSchemaTemplateReq(session, "root.sg", "t1")
    assert refused(raw.unsetSchemaTemplate(unset)) == 326
    short = t.TSAppendSchemaTemplateReq(session, "t1", False, ["a", "b"], [INT32], [RLE], [SNAPPY])
    assert refused(raw.appendSchemaTemplate(short)) == 318
