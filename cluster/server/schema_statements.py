"""Runs statements that change the schema, templates, or what is registered by name."""

from __future__ import annotations

from typing import Any

from cluster.coordinator.coordinator import Coordinator
from cluster.errors import OK, ClusterError, Status, StatusCode
from cluster.plan.plans import (
    ContinuousQueryPlan,
    CreateContinuousQueryPlan,
    FunctionPlan,
    RegistryAction,
    TriggerPlan,
)
from cluster.query.context import QueryContext
from cluster.query.function_names import BUILT_IN, NATIVE
from cluster.query.udf.process import UdfError
from cluster.query.udf.runtime import UdfRuntime
from cluster.query.udf.triggers import MAX_TRIGGERS
from cluster.rpc.deadline import Deadline
from cluster.schema.encodings import DEFAULT_COMPRESSOR, default_encoding
from cluster.schema.paths import PathPattern, join_path, split_path
from cluster.schema.registry import ContinuousQuery, Trigger
from cluster.schema.series import AlterAction, SeriesSpec
from cluster.schema.templates import TemplateSeries
from cluster.server.continuous_queries import check_targets
from cluster.sql.statements import registry, schema, template


def run_schema_statement(
    statement: schema.SchemaStatement, coordinator: Coordinator, deadline: Deadline, *, prefix: bool
) -> list[Status]:
    """Run one; a status for each of its parts."""
    operations = coordinator.schema
    match statement:
        case schema.SetStorageGroup():
            return [operations.set_storage_group(statement.path, deadline, ttl_ms=statement.ttl_ms)]
        case schema.DeleteStorageGroup():
            return [operations.delete_storage_groups(statement.patterns, deadline, prefix=prefix)]
        case schema.CreateTimeseries():
            nodes = split_path(statement.path)
            if len(nodes) < 2:
                raise ClusterError(
                    StatusCode.PATH_ILLEGAL,
                    f"{statement.path} is not a legal path, because a series is below root",
                )
            return operations.create_series(
                join_path(nodes[:-1]), [_spec(statement, nodes[-1])], deadline
            )
        case schema.CreateAlignedTimeseries():
            statuses = operations.create_series(
                statement.device, statement.columns, deadline, aligned=True
            )
            return [first_failure(statuses)]
        case schema.AlterTimeseries():
            return [
                operations.alter_series(
                    statement.path,
                    AlterAction[statement.action],
                    deadline,
                    pairs=statement.pairs,
                    attributes=statement.attributes,
                    alias=statement.alias,
                )
            ]
        case schema.SetTtl():
            return [
                operations.set_ttl(statement.pattern, statement.ttl_ms, deadline, prefix=prefix)
            ]
        case schema.DeletePartition():
            return [operations.delete_partitions(statement.path, statement.partitions, deadline)]
        case schema.DeleteTimeseries():
            return operations.delete_series(statement.patterns, deadline, prefix=prefix)


def first_failure(statuses: list[Status]) -> Status:
    """Return the first that is not a success, or success."""
    return next((status for status in statuses if not status.ok), OK)


def _spec(statement: schema.CreateTimeseries, measurement: str) -> SeriesSpec:
    data_type, compressor = statement.data_type, statement.compressor
    return SeriesSpec(
        measurement=measurement,
        data_type=data_type,
        encoding=default_encoding(data_type) if statement.encoding is None else statement.encoding,
        compressor=int(DEFAULT_COMPRESSOR) if compressor is None else compressor,
        alias=statement.alias,
        props=statement.props,
        tags=statement.tags,
        attributes=statement.attributes,
    )


def run_template_statement(
    statement: template.TemplateStatement,
    coordinator: Coordinator,
    deadline: Deadline,
    *,
    prefix: bool,
) -> Status:
    """Run one."""
    operations = coordinator.templates
    match statement:
        case template.CreateTemplate():
            series = template_series(statement.columns, aligned=statement.aligned)
            return operations.create(statement.name, statement.aligned, series, deadline)
        case template.AlterTemplate():
            known = operations.known(statement.name, deadline)
            added = template_series(statement.columns, aligned=known.aligned)
            return operations.append(statement.name, added, deadline)
        case template.DropTemplate():
            return operations.drop(statement.name, deadline)
        case template.SetTemplate():
            return operations.set(statement.name, statement.path, deadline)
        case template.UnsetTemplate():
            return operations.unset(statement.name, statement.path, deadline)
        case template.ActivateTemplate():
            return operations.activate(statement.path, deadline)
        case template.DeactivateTemplate():
            return operations.deactivate(
                statement.name, statement.patterns, deadline, prefix=prefix
            )


def template_series(columns: Any, *, aligned: bool) -> list[TemplateSeries]:  # noqa: ANN401
    """Return specs as measurements of a template; dots in a name make its prefix."""
    found = []
    for spec in columns:
        *prefix, _ = split_path(f"root.{spec.measurement}")[1:]
        found.append(TemplateSeries(join_path(prefix), aligned, spec))
    return found


def run_registry_statement(
    statement: registry.RegistryStatement,
    coordinator: Coordinator,
    deadline: Deadline,
    *,
    zone: str,
    context: QueryContext,
    functions: UdfRuntime,
) -> Status:
    """Run one; `zone`, `context` are the session's, `functions` runs users' on this node."""
    match statement:
        case registry.CreateFunction():
            _check_new_function(statement, functions)
            plan: Any = FunctionPlan(RegistryAction.CREATE, statement.name, statement.class_name)
        case registry.DropFunction():
            if statement.name.upper() in BUILT_IN:
                raise ClusterError(
                    StatusCode.QUERY_PROCESS_ERROR,
                    f"Built-in function {statement.name.upper()} can not be deregistered.",
                )
            plan = FunctionPlan(RegistryAction.DROP, statement.name)
        case registry.CreateTrigger():
            plan = _new_trigger(statement, coordinator, deadline)
        case registry.DropTrigger():
            plan = TriggerPlan(RegistryAction.DROP, statement.name)
        case registry.SwitchTrigger():
            action = RegistryAction.START if statement.start else RegistryAction.STOP
            plan = TriggerPlan(action, statement.name)
        case registry.CreateContinuousQuery():
            query = _new_query(statement, coordinator.now(), zone)
            check_targets(query, coordinator, context, deadline)
            plan = CreateContinuousQueryPlan(query)
        case registry.DropContinuousQuery():
            plan = ContinuousQueryPlan(RegistryAction.DROP, statement.name)
    if isinstance(plan, TriggerPlan):
        return coordinator.change_triggers(plan, deadline)
    return coordinator.change_meta(plan, deadline)


def _new_query(statement: registry.CreateContinuousQuery, now: int, zone: str) -> ContinuousQuery:
    """Return what is registered; it first runs when a whole span has passed after a boundary."""
    first = statement.boundary + statement.span
    missed = max(0, -((first - now) // statement.every))
    return ContinuousQuery(
        name=statement.name,
        every=statement.every,
        span=statement.span,
        boundary=statement.boundary,
        query=statement.query,
        pattern=statement.pattern,
        target=statement.target,
        zone=zone,
        next_run=first + missed * statement.every,
    )


def _check_new_function(statement: registry.CreateFunction, functions: UdfRuntime) -> None:
    name, class_name = statement.name.upper(), statement.class_name
    if name in BUILT_IN or name in NATIVE:
        why = (
            "is the same as a built-in UDF function name."
            if name in BUILT_IN
            else "conflicts with the built-in function name."
        )
        raise ClusterError(
            StatusCode.QUERY_PROCESS_ERROR,
            f"Failed to register UDF {name}({class_name}), because the given function name {why}",
        )
    if not functions.enabled:
        raise ClusterError(
            StatusCode.QUERY_PROCESS_ERROR,
            f"Failed to register UDF {name}({class_name}), because user-defined functions are "
            "switched off on this server (udf_dir is not set).",
        )
    try:
        functions.check(class_name)
    except UdfError as error:
        raise ClusterError(
            StatusCode.QUERY_PROCESS_ERROR,
            f"Failed to register UDF {name}({class_name}), because {error}",
        ) from error


def _new_trigger(
    statement: registry.CreateTrigger, coordinator: Coordinator, deadline: Deadline
) -> TriggerPlan:
    found = coordinator.backend(deadline).node_types(PathPattern.parse(statement.path))
    if not found:
        raise ClusterError(
            StatusCode.STORAGE_ENGINE_ERROR,
            f"Failed to register trigger {statement.name}, because the path {statement.path} does "
            "not exist.",
        )
    refused = f"Failed to register trigger {statement.name}({statement.class_name}), because "
    runtime, registered = coordinator.triggers, coordinator.meta_state.registry
    if not runtime.enabled:
        raise ClusterError(
            StatusCode.STORAGE_ENGINE_ERROR,
            f"{refused}triggers are switched off on this server (udf_dir is not set).",
        )
    if len(registered.triggers()) >= MAX_TRIGGERS:
        raise ClusterError(
            StatusCode.STORAGE_ENGINE_ERROR,
            f"{refused}{MAX_TRIGGERS} triggers are registered already, which is the limit.",
        )
    if registered.trigger(statement.name) is None:  # else the registry refuses it
        try:
            runtime.check(
                Trigger(
                    statement.name,
                    statement.event,
                    statement.path,
                    statement.class_name,
                    statement.attributes,
                )
            )
        except UdfError as error:
            raise ClusterError(StatusCode.STORAGE_ENGINE_ERROR, f"{refused}{error}") from error
    return TriggerPlan(
        RegistryAction.CREATE,
        statement.name,
        statement.event,
        statement.path,
        statement.class_name,
        statement.attributes,
    )
