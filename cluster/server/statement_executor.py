"""Runs one parsed statement: queries give a ResultSet, everything else a list of Status."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from cluster.auth.privileges import Privilege
from cluster.config.settings import Settings
from cluster.coordinator.coordinator import Coordinator
from cluster.coordinator.inserter import InsertItem, out_of_ttl
from cluster.errors import OK, ClusterError, Status, StatusCode
from cluster.plan.plans import MergeKind, SystemModePlan
from cluster.query import modern_into
from cluster.query.context import QueryContext
from cluster.query.executor import execute_query, execute_select
from cluster.query.functions.function import Bind
from cluster.query.into import check_columns, into_targets, source_of
from cluster.query.modern_by_device import matching_devices
from cluster.query.node_view import NodeView
from cluster.query.result import ResultSet
from cluster.query.udf.runtime import UdfRuntime
from cluster.rpc.deadline import Cancelled, Deadline
from cluster.rpc.status import Generation
from cluster.server.auth_statements import run_auth_statement
from cluster.server.authorizer import Authorizer
from cluster.server.literal_insert import LiteralRows, convert_rows
from cluster.server.running_queries import RunningQueries
from cluster.server.schema_statements import (
    run_registry_statement,
    run_schema_statement,
    run_template_statement,
)
from cluster.server.select_into import write_result, write_rows
from cluster.server.sessions import Session
from cluster.sql.parser import ParseContext, parse
from cluster.sql.statements.auth import AuthStatement
from cluster.sql.statements.data import DeleteData, Insert
from cluster.sql.statements.families import Statement
from cluster.sql.statements.literals import Literal
from cluster.sql.statements.registry import RegistryStatement
from cluster.sql.statements.schema import SchemaStatement
from cluster.sql.statements.select import Alignment, Select
from cluster.sql.statements.template import TemplateStatement
from cluster.sql.statements.utility import (
    ClearCache,
    Flush,
    KillQuery,
    LoadConfiguration,
    Merge,
    SetSystemMode,
    ShowQueryResource,
    Unsupported,
    UtilityStatement,
)
from cluster.sql.timestamps import parse_zone
from cluster.sql.values import InferenceSettings
from iotdb_engine import DataType

logger = logging.getLogger(__name__)

VERSION = "0.13.5"
"""What SHOW VERSION and getProperties say: the release whose behaviour this follows."""

_MAX_CONTEXTS = 64
_SCHEMA_PROBLEMS = (StatusCode.STORAGE_ENGINE_ERROR, StatusCode.ALIGNED_TIMESERIES_ERROR)


class StatementExecutor:
    """Thread-safe; one per node."""

    def __init__(
        self,
        settings: Settings,
        coordinator: Coordinator,
        node: Callable[[RunningQueries], NodeView] | None = None,
    ) -> None:
        self._settings = settings
        self._coordinator = coordinator
        self.authorizer = Authorizer(coordinator)
        self.running = RunningQueries()
        folder = Path(settings.node.udf_dir) if settings.node.udf_dir else None
        self.functions = UdfRuntime(folder, settings.node.udf_timeout_ms / 1000)
        self._node = node(self.running) if node is not None else None
        self._contexts: dict[tuple[Generation, str], QueryContext] = {}
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
                modern=session.generation is Generation.V1,
            ),
        )

    def query(
        self,
        statement: Statement,
        session: Session,
        deadline: Deadline,
        cancelled: Cancelled | None = None,
        *,
        early: bool = False,
    ) -> ResultSet:
        """Run a query; its rows are computed as they are fetched, until the deadline.

        Args:
            statement: a query.
            session: whose it is.
            deadline: after it the query fails.
            cancelled: set to make it fail at its next batch.
            early: it may read before it is known that it reads what it must see: `settle` of the
                result is then to be called before anything is told, errors included.

        Raises:
            ClusterError: also where the user may not read something.
            StaleReadError: it was read too early.
        """
        self.authorizer.check_statement(session.user, statement, deadline)
        if isinstance(statement, Select) and statement.into is not None:
            return self._select_into_rows(statement, session, deadline, cancelled)
        backend = self._coordinator.query_backend(
            deadline,
            self.authorizer.reader(session.user, deadline),
            stored=session.columnar,
            early=early,
        )
        context = self._query_context(session, deadline, cancelled)
        if not early:
            return execute_query(statement, backend, context)
        try:
            result = execute_query(statement, backend, context)
        except BaseException:
            backend.settle()  # or it tells of what was not there yet
            raise
        result.settle = backend.settle
        return result

    def _query_context(
        self, session: Session, deadline: Deadline, cancelled: Cancelled | None
    ) -> QueryContext:
        key = session.generation, session.zone
        kept = self._contexts.get(key)
        if kept is None:
            if len(self._contexts) >= _MAX_CONTEXTS:
                self._contexts = {}
            kept = self._contexts[key] = self._new_context(session, deadline)
        return kept.at(deadline, cancelled)

    def _new_context(self, session: Session, deadline: Deadline) -> QueryContext:
        cluster = self._settings.cluster
        return QueryContext(
            deadline=deadline,
            version=VERSION,
            prefix_dialect=session.prefix_dialect,
            zone=parse_zone(session.zone),
            precision=cluster.timestamp_precision,
            aligned_functions=session.generation is Generation.V1,
            modern=session.generation is Generation.V1,
            node=self._node,
            replica_count=cluster.default_replica_num,
            partition_interval=cluster.partition_interval * 1000,
            functions=self._function,
        )

    def _function(self, name: str) -> Bind | None:
        """Return what binds a registered function of users, None when there is none."""
        class_name = self._coordinator.meta_state.registry.function(name)
        return None if class_name is None else self.functions.bind(name, class_name)

    def update(self, statement: Statement, session: Session, deadline: Deadline) -> list[Status]:
        """Run a non-query; one status, or one for each of several parts."""
        self.authorizer.check_statement(session.user, statement, deadline)
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
        if isinstance(statement, SchemaStatement):
            return run_schema_statement(statement, coordinator, deadline, prefix=prefix)
        if isinstance(statement, TemplateStatement):
            return [run_template_statement(statement, coordinator, deadline, prefix=prefix)]
        if isinstance(statement, RegistryStatement):
            return [
                run_registry_statement(
                    statement,
                    coordinator,
                    deadline,
                    zone=session.zone,
                    context=self._query_context(session, deadline, None),
                    functions=self.functions,
                )
            ]
        if isinstance(statement, AuthStatement):
            return [run_auth_statement(statement, coordinator, deadline)]
        if isinstance(statement, UtilityStatement):
            return [self._run_utility(statement, deadline)]
        raise ClusterError(StatusCode.EXECUTE_STATEMENT_ERROR, "Statement is a query statement.")

    def _run_utility(self, statement: UtilityStatement, deadline: Deadline) -> Status:
        coordinator = self._coordinator
        match statement:
            case Flush():
                return coordinator.schema.flush(statement.paths, deadline)
            case Merge():
                kind = MergeKind.FULL if statement.full else MergeKind.PARTIAL
                return coordinator.schema.flush((), deadline, kind)
            case ClearCache():
                coordinator.forget_schema()
                return OK
            case SetSystemMode():
                return coordinator.change_meta(SystemModePlan(statement.read_only), deadline)
            case KillQuery():
                self.running.kill(statement.query_id)
                return OK
            case ShowQueryResource():
                for query in self.running.running():
                    logger.info("query %d, %.3f s: %s", query.query_id, query.elapsed_s, query.sql)
                return OK
            case LoadConfiguration():
                return Status(
                    StatusCode.UNSUPPORTED_OPERATION,
                    "settings are read when a node starts; restart it to change them",
                )
            case Unsupported():
                return Status(
                    StatusCode.UNSUPPORTED_OPERATION,
                    f"{statement.what} is not supported: {statement.instead}",
                )

    def _select_into(self, select: Select, session: Session, deadline: Deadline) -> Status:
        """Run a query and write its columns into the targets."""
        assert select.into is not None
        targets = into_targets(select)
        self.authorizer.check(session.user, Privilege.INSERT_TIMESERIES, targets, deadline)
        result = execute_select(
            source_of(select),
            self._coordinator.backend(deadline, self.authorizer.reader(session.user, deadline)),
            self._query_context(session, deadline, None),
        )
        check_columns(targets, len(result.columns))
        inserter = self._coordinator.inserter
        return write_result(
            result,
            targets,
            lambda items: inserter.insert(items, deadline),
            aligned=select.into.aligned,
        )

    def _select_into_rows(
        self, select: Select, session: Session, deadline: Deadline, cancelled: Cancelled | None
    ) -> ResultSet:
        """Run a SELECT INTO of 1.x; its rows tell how many points each series got."""
        assert select.into is not None
        modern_into.check_clauses(select)
        backend = self._coordinator.backend(
            deadline, self.authorizer.reader(session.user, deadline)
        )
        result = execute_select(
            source_of(select), backend, self._query_context(session, deadline, cancelled)
        )
        groups = select.into.groups
        devices = None
        if select.alignment is Alignment.DEVICE:
            devices = matching_devices(select.prefixes, backend)
            targets = modern_into.targets_by_device(groups, devices, result.columns[1:])
        else:
            targets = modern_into.targets_of_columns(groups, result.columns)
        paths = [target.path for target in targets]
        self.authorizer.check(session.user, Privilege.INSERT_TIMESERIES, paths, deadline)
        inserter = self._coordinator.inserter
        counts = write_rows(result, targets, lambda items: inserter.insert(items, deadline))
        return modern_into.written(targets, counts, by_device=devices is not None)

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
        first = self._coordinator.storage_groups.first_alive(device, now)
        alive = [number for number, t in enumerate(row_times) if t >= first]
        if len(alive) == len(row_times):
            return self._insert_rows(device, measurements, aligned, row_times, rows, deadline)
        statuses = [out_of_ttl(t, first) for t in row_times]
        if alive:
            written = self._insert_rows(
                device,
                measurements,
                aligned,
                [row_times[number] for number in alive],
                [rows[number] for number in alive],
                deadline,
            )
            for number, status in zip(alive, written, strict=True):
                statuses[number] = status
        return statuses

    def _insert_rows(
        self,
        device: str,
        measurements: Sequence[str],
        aligned: bool,
        times: Sequence[int],
        rows: Sequence[Sequence[Literal]],
        deadline: Deadline,
    ) -> list[Status]:
        inserter = self._coordinator.inserter

        def converted(*, fresh: bool) -> LiteralRows:
            return convert_rows(
                device=device,
                measurements=measurements,
                aligned=aligned,
                times=times,
                rows=rows,
                schema=inserter.device_schema(
                    device, measurements, deadline, aligned=aligned, fresh=fresh
                ),
                inference=self._inference,
            )

        # types follow the schema, and what is remembered of it may be out of date: a failure is
        # reported only if it stands with the schema as it is now, and nothing is written before
        made = [converted(fresh=False)]
        fresh = any(map(_of_schema, made[0].row_statuses))
        if fresh:
            made.append(converted(fresh=True))

        def again() -> InsertItem | None:
            if not fresh:
                made.append(converted(fresh=True))
            return made[-1].item

        status = OK
        if made[-1].item is not None:
            status = inserter.insert_made(made[-1].item, again, deadline)
        statuses = made[-1].row_statuses
        return statuses if status.ok else [status if row.ok else row for row in statuses]


def _of_schema(status: Status) -> bool:
    return status.code in _SCHEMA_PROBLEMS
