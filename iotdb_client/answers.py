"""What calls of a session bring: results, page by page, in whichever layout the server chose."""

from __future__ import annotations

from typing import NamedTuple

from cluster.rpc.gen.client.ttypes import (
    TSExecuteStatementResp,
    TSFetchResultsResp,
    TSQueryNonAlignDataSet,
)
from iotdb_client.blocks import Blocks
from iotdb_client.columns import Page, UnalignedPage
from iotdb_client.rows import ResultShape


class Answer(NamedTuple):
    """What an execute call brought.

    Attributes:
        query: for fetch and close.
        shape: of the result; None when the statement has no result set.
        page: the first page; None: no rows.
        more: False when the server said that no page follows.
        unaligned: the first page of a result whose columns have times of their own (DISABLE
            ALIGN), in place of `page`.
    """

    query: QueryHandle
    shape: ResultShape | None
    page: Page | Blocks | None
    more: bool
    unaligned: UnalignedPage | None = None


class Fetched(NamedTuple):
    """A further page, None at the end, and False when the server said that none follows."""

    page: Page | Blocks | None
    more: bool


class QueryHandle(NamedTuple):
    """A result that a server holds for this session.

    Attributes:
        query_id: of the server.
        login: of the session; the server has forgotten the queries of earlier ones.
    """

    query_id: int
    login: int


def fetched(answer: TSExecuteStatementResp | TSFetchResultsResp) -> Fetched:
    """Return the page of an answer, in whichever layout the server has chosen."""
    page: Page | Blocks | None = None
    dataset = answer.queryDataSet
    if answer.queryResult:
        page = Blocks(answer.queryResult)
    elif dataset is not None and dataset.time:
        page = Page(dataset.time, dataset.valueList, dataset.bitmapList)
    return Fetched(page, page is not None and answer.moreData is not False)


def unaligned(dataset: TSQueryNonAlignDataSet) -> UnalignedPage:
    """Return the page of a result whose columns have times of their own."""
    return UnalignedPage(dataset.timeList or [], dataset.valueList or [])
