"""Queries through the handler's methods, over the in-memory database."""

from __future__ import annotations

import numpy as np
import pytest

from cluster.rpc.gen.client.ttypes import (
    TAggregationType,
    TSAggregationQueryReq,
    TSExecuteStatementReq,
    TSFetchResultsReq,
    TSLastDataQueryReq,
    TSRawDataQueryReq,
)
from cluster.server.client_server import ClientHandler
from harness.local_database import LocalDatabase


@pytest.fixture
def handler():
    with LocalDatabase() as database:
        database.execute(
            "insert into root.a.d(time, x, y) values (1, 1, 10), (2, 2, null), (9, 3, 30)"
        )
        database.execute("insert into root.b.d(time, x) values (2, 5)")
        made = ClientHandler(database.executor._settings, database.coordinator)
        made.executor = database.executor
        made.session_or_none = lambda: database.session
        made.client_gone = lambda: lambda: False
        yield made


def rows(response):
    assert response.status.code == 200, response.status
    times = np.frombuffer(response.queryDataSet.time, ">i8").tolist()
    columns = []
    for values, bitmap in zip(
        response.queryDataSet.valueList, response.queryDataSet.bitmapList, strict=True
    ):
        present = np.unpackbits(np.frombuffer(bitmap, np.uint8), count=len(times))
        columns.append((values, present.tolist()))
    return times, columns


def test_raw_data_of_several_devices(handler):
    request = TSRawDataQueryReq(1, ["root.a.d.x", "root.b.d.x", "root.a.d.nothing"], 100, 1, 9, 1)
    response = handler.executeRawDataQuery(request)
    assert response.columns == ["root.a.d.x", "root.b.d.x"]
    times, columns = rows(response)
    assert times == [1, 2]
    assert [present for _, present in columns] == [[1, 1], [0, 1]]


def test_last_data(handler):
    request = TSLastDataQueryReq(1, ["root.a.d.x", "root.b.d.x"], 100, 5, 1)
    response = handler.executeLastDataQuery(request)
    assert response.columns == ["timeseries", "value", "dataType"]
    assert rows(response)[0] == [9]


def test_aggregations(handler):
    request = TSAggregationQueryReq(
        1,
        1,
        ["root.a.d.x", "root.a.d.y"],
        [TAggregationType.COUNT, TAggregationType.MAX_VALUE],
    )
    response = handler.executeAggregationQuery(request)
    assert response.columns == ["count(root.a.d.x)", "max_value(root.a.d.y)"]
    assert response.ignoreTimeStamp
    request.startTime, request.endTime, request.interval = 0, 10, 5
    times, columns = rows(handler.executeAggregationQuery(request))
    assert times == [0, 5]
    assert np.frombuffer(columns[0][0], ">i8").tolist() == [2, 1]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"aggregations": [0]}, 303),
        ({"aggregations": [0, TAggregationType.UDAF]}, 703),
        ({"interval": 5}, 303),
        ({"startTime": 5, "endTime": 1, "interval": 5}, 303),
        ({"startTime": 0, "endTime": 9, "interval": 5, "slidingStep": 2}, 303),
        ({"paths": ["root", "root.a.d.x"]}, 315),
        ({"paths": ["a.b", "root.a.d.x"]}, 315),
    ],
)
def test_bad_aggregation_requests(handler, changes, code):
    request = TSAggregationQueryReq(1, 1, ["root.a.d.x", "root.a.d.y"], [0, 1])
    for name, value in changes.items():
        setattr(request, name, value)
    assert handler.executeAggregationQuery(request).status.code == code


def test_tracing(handler):
    request = TSExecuteStatementReq(1, "tracing select x, y from root.a.d", 1)
    info = handler.executeQueryStatement(request).tracingInfo
    assert info.activityList == [
        "Start to execute statement",
        "Parse SQL to physical plan",
        "Create and cache dataset",
        "Request complete",
    ]
    assert len(info.elapsedTimeList) == 4
    assert info.seriesPathNum == 2
    plain = TSExecuteStatementReq(1, "select x, y from root.a.d", 1)
    assert handler.executeQueryStatement(plain).tracingInfo is None


def test_columns_that_are_not_aligned_come_in_pages(handler):
    sql = "select x, y from root.a.d disable align"
    response = handler.executeStatement(TSExecuteStatementReq(1, sql, 1, fetchSize=2))
    assert response.queryDataSet is None
    times = [np.frombuffer(part, ">i8").tolist() for part in response.nonAlignQueryDataSet.timeList]
    assert times == [[1, 2], [1, 9]]
    fetch = TSFetchResultsReq(1, sql, 2, response.queryId, False)
    more = handler.fetchResults(fetch)
    assert more.hasResultSet
    times = [np.frombuffer(part, ">i8").tolist() for part in more.nonAlignQueryDataSet.timeList]
    assert times == [[9], []]
    assert not handler.fetchResults(fetch).hasResultSet
