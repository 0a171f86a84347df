"""Statement methods of the client protocol: execute, fetch, close (client-protocol 5 and 6)."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

from cluster.coordinator.early_reads import StaleReadError
from cluster.errors import OK, ClusterError, Status, StatusCode
from cluster.query.result import ResultSet
from cluster.rpc.columnar import encode_blocks
from cluster.rpc.convert import encode_non_aligned, encode_query_dataset, encode_tsblock
from cluster.rpc.framing import PIECES, Buffer
from cluster.rpc.gen.client.ttypes import (
    TSAggregationQueryReq,
    TSCancelOperationReq,
    TSCloseOperationReq,
    TSExecuteBatchStatementReq,
    TSExecuteStatementReq,
    TSExecuteStatementResp,
    TSFastLastDataQueryForOneDeviceReq,
    TSFastLastDataQueryForOnePrefixPathReq,
    TSFetchResultsReq,
    TSFetchResultsResp,
    TSGroupByQueryIntervalReq,
    TSLastDataQueryReq,
    TSQueryDataSet,
    TSQueryNonAlignDataSet,
    TSRawDataQueryReq,
    TSStatus,
)
from cluster.rpc.status import Generation
from cluster.server.data_queries import (
    aggregation_query,
    interval_query,
    last_below,
    last_data_query,
    last_of_device,
    raw_data_query,
    text_of,
)
from cluster.server.handler_base import HandlerBase, answers_status, explained
from cluster.server.running_queries import QueryOwner, QueryTicket
from cluster.server.sessions import OpenQuery, Session
from cluster.server.tracing import PARSED, PLANNED, Tracing
from cluster.sql.statements.families import Statement, is_query
from cluster.sql.statements.schema import DeleteTimeseries
from cluster.sql.statements.select import Select
from iotdb_engine import DataType

logger = logging.getLogger(__name__)

_TYPE_NAMES = [data_type.name for data_type in DataType]
_ALL_QUERIES = -1

_DataQueryReq = (
    TSRawDataQueryReq
    | TSLastDataQueryReq
    | TSAggregationQueryReq
    | TSFastLastDataQueryForOneDeviceReq
    | TSFastLastDataQueryForOnePrefixPathReq
    | TSGroupByQueryIntervalReq
)


def _v2(method: Callable[..., Any]) -> Callable[..., Any]:
    """A call of a V2 method tells that the client is of 1.0 or later."""

    @functools.wraps(method)
    def noted(self: HandlerBase, req: Any) -> Any:  # noqa: ANN401
        session = self.session_or_none()
        if session is not None:
            session.generation = Generation.V1
        return method(self, req)

    return noted


class StatementMethods(HandlerBase):
    """executeStatement and its siblings, in both result encodings."""

    def executeStatement(self, req: TSExecuteStatementReq) -> TSExecuteStatementResp:  # noqa: N802
        """Run any statement; the first page comes with the answer."""
        return self._execute(req, v2=False)

    def executeQueryStatement(self, req: TSExecuteStatementReq) -> TSExecuteStatementResp:  # noqa: N802
        """Run a query; a non-query is refused for clients up to 0.13."""
        return self._execute(req, v2=False, only="query")

    def executeUpdateStatement(self, req: TSExecuteStatementReq) -> TSExecuteStatementResp:  # noqa: N802
        """Run a non-query; a query is refused for clients up to 0.13."""
        return self._execute(req, v2=False, only="update")

    @_v2
    def executeStatementV2(self, req: TSExecuteStatementReq) -> TSExecuteStatementResp:  # noqa: N802
        """Run any statement; results as TsBlocks."""
        return self._execute(req, v2=True)

    @_v2
    def executeQueryStatementV2(self, req: TSExecuteStatementReq) -> TSExecuteStatementResp:  # noqa: N802
        """Run a query; results as TsBlocks."""
        return self._execute(req, v2=True)

    @_v2
    def executeUpdateStatementV2(self, req: TSExecuteStatementReq) -> TSExecuteStatementResp:  # noqa: N802
        """Run a non-query."""
        return self._execute(req, v2=True)

    @answers_status
    def executeBatchStatement(self, req: TSExecuteBatchStatementReq) -> TSStatus:  # noqa: N802
        """Run non-queries one after another; each on its own."""
        session = self.session()
        statuses = []
        for sql in req.statements:
            try:
                statement = self.executor.parse(sql, session)
                if is_query(statement):
                    statuses.append(
                        Status(StatusCode.QUERY_NOT_ALLOWED, f"statement is a query: {sql}")
                    )
                    continue
                parts = self.executor.update(statement, session, self.write_deadline())
                failed = [part for part in parts if not part.ok]
                statuses.append(failed[0] if failed else OK)
            except ClusterError as error:
                statuses.append(Status(error.status, error.message))
        return self.wire_all(statuses)

    def executeRawDataQuery(self, req: TSRawDataQueryReq) -> TSExecuteStatementResp:  # noqa: N802
        """Read whole series in [startTime, endTime)."""
        return self._raw(req, v2=False)

    @_v2
    def executeRawDataQueryV2(self, req: TSRawDataQueryReq) -> TSExecuteStatementResp:  # noqa: N802
        """Read whole series in [startTime, endTime); results as TsBlocks."""
        return self._raw(req, v2=True)

    def executeLastDataQuery(self, req: TSLastDataQueryReq) -> TSExecuteStatementResp:  # noqa: N802
        """Return the last points of series that are not older than a time."""
        return self._structured(req, lambda: last_data_query(req.paths, req.time), v2=False)

    @_v2
    def executeLastDataQueryV2(self, req: TSLastDataQueryReq) -> TSExecuteStatementResp:  # noqa: N802
        """Return the last points of series that are not older than a time; as TsBlocks."""
        return self._structured(req, lambda: last_data_query(req.paths, req.time), v2=True)

    def executeAggregationQuery(self, req: TSAggregationQueryReq) -> TSExecuteStatementResp:  # noqa: N802
        """Aggregate series, over windows where the request has them."""
        return self._structured(req, lambda: aggregation_query(req), v2=False)

    @_v2
    def executeAggregationQueryV2(self, req: TSAggregationQueryReq) -> TSExecuteStatementResp:  # noqa: N802
        """Aggregate series, over windows where the request has them; as TsBlocks."""
        return self._structured(req, lambda: aggregation_query(req), v2=True)

    @_v2
    def executeFastLastDataQueryForOneDeviceV2(  # noqa: N802
        self, req: TSFastLastDataQueryForOneDeviceReq
    ) -> TSExecuteStatementResp:
        """Return the last points of measurements of one device; as a TsBlock."""
        return self._structured(req, lambda: last_of_device(req.deviceId, req.sensors), v2=True)

    @_v2
    def executeFastLastDataQueryForOnePrefixPath(  # noqa: N802
        self, req: TSFastLastDataQueryForOnePrefixPathReq
    ) -> TSExecuteStatementResp:
        """Return the last points of all series below a node; as a TsBlock."""
        return self._structured(req, lambda: last_below(req.prefixes), v2=True)

    @_v2
    def executeGroupByQueryIntervalQuery(  # noqa: N802
        self, req: TSGroupByQueryIntervalReq
    ) -> TSExecuteStatementResp:
        """Aggregate one series over windows; as TsBlocks."""
        return self._structured(req, lambda: interval_query(req), v2=True)

    def _raw(self, req: TSRawDataQueryReq, *, v2: bool) -> TSExecuteStatementResp:
        return self._structured(
            req, lambda: raw_data_query(req.paths, req.startTime, req.endTime), v2=v2
        )

    def fetchResults(self, req: TSFetchResultsReq) -> TSFetchResultsResp:  # noqa: N802
        """Return the next page, or hasResultSet=false at the end and for unknown queries."""
        return self._fetch(req, v2=False)

    @_v2
    def fetchResultsV2(self, req: TSFetchResultsReq) -> TSFetchResultsResp:  # noqa: N802
        """Return the next page as a TsBlock."""
        return self._fetch(req, v2=True)

    @answers_status
    def closeOperation(self, req: TSCloseOperationReq) -> TSStatus:  # noqa: N802
        """Release a query, or all queries of a statement; finished ones are fine too."""
        session = self.session()
        if req.queryId is not None:
            session.close_query(req.queryId)
        elif req.statementId is not None:
            session.close_statement(req.statementId)
        elif getattr(req, "preparedStatementName", None) is None:
            raise ClusterError(
                StatusCode.CLOSE_OPERATION_ERROR, "closeOperation names no query and no statement"
            )
        return self.wire(OK)

    @answers_status
    def cancelOperation(self, req: TSCancelOperationReq) -> TSStatus:  # noqa: N802
        """Stop a query of this session; or all that another session of its user is running.

        The second (query id -1) is how a client ends a statement for whose answer it still waits:
        through a second connection, naming the first one's session.
        """
        session = self.session()
        if req.queryId == _ALL_QUERIES:
            self.executor.running.cancel_all(QueryOwner(req.sessionId, session.user))
        else:
            session.close_query(req.queryId)
        return self.wire(OK)

    # ---- inside ----

    def _execute(
        self, req: TSExecuteStatementReq, *, v2: bool, only: str = ""
    ) -> TSExecuteStatementResp:
        query_id = self.ids.next("query")
        tracing = Tracing()
        try:
            session = self.session()
            statement = self.executor.parse(req.statement, session)
            tracing.reached(PARSED)
            query = is_query(statement)
            if session.generation is not Generation.V1:
                _check_kind(query=query, only=only)
            if query:
                response = self._open(req, statement, session, query_id, req.statement, v2=v2)
                if isinstance(statement, Select) and statement.tracing:
                    tracing.reached(PLANNED)
                    response.tracingInfo = tracing.info(len(response.columns))
                return response
            statuses = self.executor.update(statement, session, self.write_deadline())
            # 0.13 reports deleted series path by path, even when there is one only
            single = not isinstance(statement, DeleteTimeseries)
            return TSExecuteStatementResp(
                status=self.wire_all(statuses, single=single), queryId=query_id
            )
        except Exception as error:  # noqa: BLE001 - the request border
            status = self.wire_error(explained(error, [req]))
            return TSExecuteStatementResp(status=status, queryId=query_id)

    def _structured(
        self,
        req: Any,  # noqa: ANN401 - one of several request structs
        make: Callable[[], Select],
        *,
        v2: bool,
    ) -> TSExecuteStatementResp:
        """Run a query that came as paths."""
        query_id = self.ids.next("query")
        try:
            session = self.session()
            select = make()
            return self._open(req, select, session, query_id, text_of(select), v2=v2)
        except Exception as error:  # noqa: BLE001 - the request border
            status = self.wire_error(explained(error, [req]))
            return TSExecuteStatementResp(status=status, queryId=query_id)

    def _open(
        self,
        req: TSExecuteStatementReq | _DataQueryReq,
        statement: Statement,
        session: Session,
        query_id: int,
        sql: str,
        *,
        v2: bool,
    ) -> TSExecuteStatementResp:
        running = self.executor.running
        ticket = running.begin(
            query_id,
            sql,
            self.executor.now(),
            self.query_deadline(req.timeout),
            self.client_gone(),
            QueryOwner(session.session_id, session.user),
        )
        try:
            try:
                query, response, more = self._begin(req, statement, session, ticket, v2=v2)
            except StaleReadError:
                query, response, more = self._begin(
                    req, statement, session, ticket, v2=v2, early=False
                )
        except BaseException:
            running.end(query_id)
            raise
        if more:
            session.open_query(query)
        else:
            query.close()
        return response

    def _begin(
        self,
        req: TSExecuteStatementReq | _DataQueryReq,
        statement: Statement,
        session: Session,
        ticket: QueryTicket,
        *,
        v2: bool,
        early: bool = True,
    ) -> tuple[OpenQuery, TSExecuteStatementResp, bool]:
        """Return a query, the answer with its first page, and whether more follows.

        Raises:
            StaleReadError: it was `early`, and that does not do.
        """
        with ticket.explained():
            result = self.executor.query(
                statement, session, ticket.deadline, ticket.cancelled, early=early
            )
        columnar = session.columnar and not v2
        ended = self.executor.running.end
        query = OpenQuery(
            req.statementId or 0,
            result,
            ticket,
            ended,
            columnar=columnar,
            joins_pages=session.joins_pages,
        )
        try:
            try:
                with query.in_use():
                    response, more = self._first_page(req, query, v2=v2)
            finally:  # also where it was ended meanwhile: questions under way hold connections
                if result.settle is not None:
                    result.settle()
        except StaleReadError:
            query.free()
            raise
        except BaseException:
            query.close()
            raise
        return query, response, more

    def _first_page(
        self, req: TSExecuteStatementReq | _DataQueryReq, query: OpenQuery, *, v2: bool
    ) -> tuple[TSExecuteStatementResp, bool]:
        """Return the answer with the first page, and whether more follows."""
        result = query.result
        response = _header(result)
        response.status = self.wire(OK)
        response.queryId = query.query_id
        rows = self.fetch_rows(req.fetchSize)
        if query.column_pager is not None:
            response.nonAlignQueryDataSet = _column_page(query, rows)
            return response, query.has_more()
        if query.columnar:
            setattr(response, PIECES, _blocks(query, query.pager.first_rows(rows)))
            response.moreData = query.has_more()
            return response, response.moreData
        page = query.pager.next_page(rows)
        more = query.has_more()
        if v2:
            response.queryResult = [encode_tsblock(page)] if page is not None else []
            response.moreData = more
        else:
            response.queryDataSet = (
                encode_query_dataset(page) if page is not None else _empty_dataset(result)
            )
        return response, more

    def _next_page(
        self, req: TSFetchResultsReq, query: OpenQuery, *, align: bool, v2: bool
    ) -> tuple[TSFetchResultsResp, bool]:
        """Return the answer with the next page, and whether more follows."""
        rows = self.fetch_rows(req.fetchSize)
        if query.column_pager is not None:
            present = query.has_more()
            response = TSFetchResultsResp(status=self.wire(OK), hasResultSet=present, isAlign=False)
            if present:
                response.nonAlignQueryDataSet = _column_page(query, rows)
            return response, query.has_more()
        if query.columnar:
            blocks = _blocks(query, rows)
            more = query.has_more()
            response = TSFetchResultsResp(
                status=self.wire(OK), hasResultSet=bool(blocks), isAlign=align
            )
            setattr(response, PIECES, blocks)
            response.moreData = more
            return response, more
        page = query.pager.next_page(rows)
        response = TSFetchResultsResp(
            status=self.wire(OK), hasResultSet=page is not None, isAlign=align
        )
        more = page is not None and query.pager.has_more()
        if v2:
            response.queryResult = [encode_tsblock(page)] if page is not None else []
            response.moreData = more
        elif page is not None:
            response.queryDataSet = encode_query_dataset(page)
        return response, more

    def _fetch(self, req: TSFetchResultsReq, *, v2: bool) -> TSFetchResultsResp:
        align = req.isAlign if req.isAlign is not None else True
        try:
            session = self.session()
            query = session.query(req.queryId)
            if query is None:
                response = TSFetchResultsResp(
                    status=self.wire(OK), hasResultSet=False, isAlign=align
                )
                if v2:
                    response.queryResult, response.moreData = [], False
                return response
            try:
                with query.in_use():
                    response, more = self._next_page(req, query, align=align, v2=v2)
            except BaseException:
                session.close_query(req.queryId)
                raise
            if not more:
                session.close_query(req.queryId)
            return response
        except Exception as error:  # noqa: BLE001 - the request border
            return TSFetchResultsResp(
                status=self.wire_error(error), hasResultSet=False, isAlign=align
            )


def _blocks(query: OpenQuery, rows: int) -> list[list[Buffer]]:
    """Return the next page as blocks, none at the end."""
    batches = query.pager.next_batches(rows)
    return encode_blocks(batches, ignore_time=query.result.ignore_time, join=query.joins_pages)


def _column_page(query: OpenQuery, rows: int) -> TSQueryNonAlignDataSet:
    """Return the next page of a result that is not aligned, an empty one at the end."""
    assert query.column_pager is not None
    streams = query.result.column_streams or []
    page = query.column_pager.next_page(rows)
    encoded: TSQueryNonAlignDataSet = encode_non_aligned(page or [None] * len(streams))
    return encoded


def _check_kind(*, query: bool, only: str) -> None:
    if only == "query" and not query:
        raise ClusterError(
            StatusCode.EXECUTE_STATEMENT_ERROR, "Statement is not a query statement."
        )
    if only == "update" and query:
        raise ClusterError(StatusCode.EXECUTE_STATEMENT_ERROR, "Statement is a query statement.")


def _header(result: ResultSet) -> TSExecuteStatementResp:
    """Columns and types as asked for; the data holds each distinct column once."""
    return TSExecuteStatementResp(
        columns=list(result.columns),
        dataTypeList=[_TYPE_NAMES[data_type] for data_type in result.types],
        columnNameIndexMap=dict(zip(result.columns, result.column_index, strict=True)),
        columnIndex2TsBlockColumnIndexList=list(result.column_index),
        ignoreTimeStamp=result.ignore_time,
        operationType=result.kind,
        sgColumns=[],
        aliasColumns=[],
    )


def _empty_dataset(result: ResultSet) -> TSQueryDataSet:
    distinct = max(result.column_index, default=-1) + 1
    return TSQueryDataSet(time=b"", valueList=[b""] * distinct, bitmapList=[b""] * distinct)
