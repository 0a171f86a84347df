"""No request leaves a plan in the log that replicas can't apply: it would stop all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cluster.embedded import EmbeddedNode
from cluster.rpc.gen.client import ttypes as t
from cluster.rpc.server import Connection


class Client:
    def __init__(self, node: EmbeddedNode, connection: Connection) -> None:
        self._node = node
        self._connection = connection
        answer = self.call("openSession", t.TSOpenSessionReq(2, "Z", "root", "root"))
        self.session_id = answer.sessionId

    def call(self, method: str, request: Any) -> Any:
        return self._node.call(self._connection, method, request)

    def execute(self, sql: str) -> Any:
        request = t.TSExecuteStatementReq(self.session_id, sql, 1, 100, 5000)
        return self.call("executeStatement", request).status


@pytest.fixture
def node() -> Iterator[EmbeddedNode]:
    made = EmbeddedNode(":memory:")
    yield made
    made.close()


def create(encoding: Any, compressor: Any) -> Callable[[Client], Any]:
    return lambda client: client.call(
        "createTimeseries",
        t.TSCreateTimeseriesReq(client.session_id, "root.x.d.q", 1, encoding, compressor),
    )


def aligned(client: Client) -> Any:
    return client.call(
        "createAlignedTimeseries",
        t.TSCreateAlignedTimeseriesReq(client.session_id, "root.x.e", ["q"], [1], [300], [1]),
    )


def template(client: Client) -> Any:
    return client.call(
        "createSchemaTemplate",
        t.TSCreateSchemaTemplateReq(
            sessionId=client.session_id,
            name="t1",
            measurements=[["s"]],
            dataTypes=[[1]],
            encodings=[[1000]],
            compressors=[1],
        ),
    )


def delete(start: Any, end: Any) -> Callable[[Client], Any]:
    return lambda client: client.call(
        "deleteData", t.TSDeleteDataReq(client.session_id, ["root.x.d.s"], start, end)
    )


def sql(text: str) -> Callable[[Client], Any]:
    return lambda client: client.execute(text)


@pytest.mark.parametrize(
    "attempt",
    [
        pytest.param(create(1000, 1), id="encoding"),
        pytest.param(create(-1, 1), id="negative encoding"),
        pytest.param(create(None, 1), id="no encoding"),
        pytest.param(create(0, 1000), id="compressor"),
        pytest.param(aligned, id="aligned encoding"),
        pytest.param(template, id="template"),
        pytest.param(delete(None, None), id="delete nothing"),
        pytest.param(sql("insert into root.x.d(time, s, other) values (1, 1, 2)"), id="alias"),
        pytest.param(sql("insert into root.x.d(time, other, s) values (1, 1, 2)"), id="alias 2"),
        pytest.param(sql("set ttl to root.x 99999999999999999999999"), id="ttl"),
        pytest.param(
            sql(
                "create cq c resample every 1s boundary 99999999999999999999999 begin "
                "select count(s) into n from root.a.* group by time(1s) end"
            ),
            id="boundary",
        ),
        pytest.param(
            sql(
                "create cq c resample every 9999999999999999s begin "
                "select count(s) into n from root.a.* group by time(1s) end"
            ),
            id="every",
        ),
    ],
)
def test_it_is_refused_and_the_groups_go_on(
    node: EmbeddedNode, attempt: Callable[[Client], Any]
) -> None:
    client = Client(node, node.connect())
    made = client.execute("create timeseries root.x.d.s(other) with datatype=INT32, encoding=RLE")
    assert made.code == 200
    refused = attempt(client)
    assert refused.code not in (200, 500), refused
    assert node._failure is None
    assert client.execute("insert into root.x.d(time, s) values (1, 1)").code == 200
    assert client.execute("create user abcd 'abcd'").code == 200
