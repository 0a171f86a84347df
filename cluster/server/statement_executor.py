"""Runs one parsed statement: queries give a ResultSet, everything else a list of Status."""

from __future__ import annotations

from collections.abc import Sequence

from cluster.config.settings import Settings
from cluster.coordinator.coordinator import Coordinator
from cluster.errors import OK, ClusterError, Status, StatusCode
from cluster.query.context import QueryContext
from cluster.query.executor import execute_query, execute_select
from cluster.query.into import check_columns, into_targets, source_of
from cluster.query.result import ResultSet
from cluster.rpc.deadline import Deadline
from cluster.rpc.status import Generation
from cluster.schema.encodings import default_encoding
from cluster.schema.paths import join_path, split_path
from cluster.schema.series import SeriesSpec
from cluster.server.literal_insert import convert_rows
from cluster.server.select_into import write_result
from cluster.server.sessions import Session
from cluster.sql.parser import ParseContext, parse
from cluster.sql.statements.data import DeleteData, Insert
from cluster.sql.statements.families import Statement, is_query
from cluster.sql.statements.literals import Literal
from cluster.sql.statements.schema import (
    CreateAlignedTimeseries,
    CreateTimeseries,
    DeleteStorageGroup,
    DeleteTimeseries,
    SetStorageGroup,
)
from cluster.sql.statements.select import Select
from cluster.sql.statements.utility import Flush
from cluster.sql.timestamps import parse_zone
from cluster.sql.values import InferenceSettings
from iotdb_engine import DataType

VERSION = "0.13.5"
"""What SHOW VERSION and getProperties say: the release whose behaviour this follows."""

_SNAPPY = 1
_SCHEMA_PROBLEMS = (StatusCode.STORAGE_ENGINE_ERROR, StatusCode.ALIGNED_TIMESERIES_ERROR)


class StatementExecutor:
    """Thread-safe; one per node."""

    def __init__(self, settings: Settings, coordinator: Coordinator) -> None:
        self._settings = settings
        self._coordinator = coordinator
        self._inference = InferenceSettings(
            boolean=DataType[settings.node.boolean_string_infer_type],
            integer=DataType[settings.node.integer_string_infer_type],
            long=DataType[settings.node.long_string_infer_type],
            floating=DataType[settings.node.floating_string_infer_type],
            nan=DataType[settings.node.nan_string_infer_type],
        )

    def now(self) -> int:
        """Return the wall clock in units of the timestamp precision."""
        return self._coordinator.now()

    def parse(self, sql: str, session: Session) -> Statement:
        """Parse in the session's dialect and time zone."""
        return parse(
            sql,
            ParseContext(
                zone=session.zone,
                now=self.now(),
                precision=self._settings.cluster.timestamp_precision,
                prefix_dialect=session.prefix_dialect,
            ),
        )

    def query(self, statement: Statement, session: Session, deadline: Deadline) -> ResultSet:
        """Run a query; its rows are computed as they are fetched, until the deadline."""
        return execute_query(
            statement,
            self._coordinator.backend(deadline),
            self._query_context(session, deadline),
        )

    def _query_context(self, session: Session, deadline: Deadline) -> QueryContext:
        return QueryContext(
            deadline=deadline,
            version=VERSION,
            prefix_dialect=session.prefix_dialect,
            zone=parse_zone(session.zone),
            precision=self._settings.cluster.timestamp_precision,
            aligned_functions=session.generation is Generation.V1,
        )

    def update(self, statement: Statement, session: Session, deadline: Deadline) -> list[Status]:
        """Run a non-query; one status, or one for each of several parts."""
        coordinator = self._coordinator
        prefix = session.prefix_dialect
        match statement:
            case Insert():
                return self.insert(
                    statement.device,
                    statement.measurements,
                    statement.aligned,
                    statement.times,
                    statement.rows,
                    deadline,
                )
            case SetStorageGroup():
                return [coordinator.schema.set_storage_group(statement.path, deadline)]
            case DeleteStorageGroup():
                return [
                    coordinator.schema.delete_storage_groups(
                        statement.patterns, deadline, prefix=prefix
                    )
                ]
            case CreateTimeseries():
                nodes = split_path(statement.path)
                return coordinator.schema.create_series(
                    join_path(nodes[:-1]), [_spec(statement, nodes[-1])], deadline
                )
            case CreateAlignedTimeseries():
                statuses = coordinator.schema.create_series(
                    statement.device, statement.columns, deadline, aligned=True
                )
                return [first_failure(statuses)]
            case DeleteTimeseries():
                return coordinator.schema.delete_series(statement.patterns, deadline, prefix=prefix)
            case DeleteData():
                return [
                    coordinator.schema.delete_data(
                        statement.patterns,
                        statement.t_min,
                        statement.t_max,
                        deadline,
                        prefix=prefix,
                    )
                ]
            case Select() if statement.into is not None:
                return [self._select_into(statement, session, deadline)]
            case Flush():
                return [coordinator.schema.flush(statement.paths, deadline)]
            case _ if is_query(statement):
                raise ClusterError(
                    StatusCode.EXECUTE_STATEMENT_ERROR, "Statement is a query statement."
                )
            case _:
                raise ClusterError(
                    StatusCode.UNSUPPORTED_OPERATION,
                    f"{type(statement).__name__} is not supported yet",
                )

    def _select_into(self, select: Select, session: Session, deadline: Deadline) -> Status:
        """Run a query and write its columns into the targets."""
        assert select.into is not None
        targets = into_targets(select)
        result = execute_select(
            source_of(select),
            self._coordinator.backend(deadline),
            self._query_context(session, deadline),
        )
        check_columns(targets, len(result.columns))
        inserter = self._coordinator.inserter
        return write_result(
            result,
            targets,
            lambda items: inserter.insert(items, deadline),
            aligned=select.into.aligned,
        )

    def insert(
        self,
        device: str,
        measurements: Sequence[str],
        aligned: bool,
        times: Sequence[int | None],
        rows: Sequence[Sequence[Literal]],
        deadline: Deadline,
    ) -> list[Status]:
        """Insert rows of literals; a status for each row."""
        if len(set(measurements)) != len(measurements):
            twice = next(name for name in measurements if list(measurements).count(name) > 1)
            raise ClusterError(
                StatusCode.QUERY_PROCESS_ERROR,
                f"Insertion contains duplicated measurement: {twice}",
            )
        now = self.now()
        row_times = [now if t is None else t for t in times]
        statuses: list[Status] = []
        for fresh in (False, True):
            # types follow the schema, and what is remembered of it may be out of date: a failure is
            # reported only if it stands with the schema as it is now
            statuses = self._insert_once(
                device, measurements, aligned, row_times, rows, deadline, fresh=fresh
            )
            if not any(status.code in _SCHEMA_PROBLEMS for status in statuses):
                break
        return statuses

    def _insert_once(
        self,
        device: str,
        measurements: Sequence[str],
        aligned: bool,
        times: Sequence[int],
        rows: Sequence[Sequence[Literal]],
        deadline: Deadline,
        *,
        fresh: bool,
    ) -> list[Status]:
        inserter = self._coordinator.inserter
        converted = convert_rows(
            device=device,
            measurements=measurements,
            aligned=aligned,
            times=times,
            rows=rows,
            schema=inserter.device_schema(device, measurements, deadline, fresh=fresh),
            inference=self._inference,
        )
        if converted.item is None:
            return converted.row_statuses
        (status,) = inserter.insert([converted.item], deadline)
        if status.ok:
            return converted.row_statuses
        return [status if row.ok else row for row in converted.row_statuses]


def first_failure(statuses: Sequence[Status]) -> Status:
    """Return the first that is not a success, or success."""
    return next((status for status in statuses if not status.ok), OK)


def _spec(statement: CreateTimeseries, measurement: str) -> SeriesSpec:
    return SeriesSpec(
        measurement=measurement,
        data_type=statement.data_type,
        encoding=(
            default_encoding(statement.data_type)
            if statement.encoding is None
            else statement.encoding
        ),
        compressor=_SNAPPY if statement.compressor is None else statement.compressor,
        alias=statement.alias,
        props=statement.props,
        tags=statement.tags,
        attributes=statement.attributes,
    )
