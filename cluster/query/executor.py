"""Runs queries over a QueryBackend: plan, then column batches."""

from __future__ import annotations

from dataclasses import replace

from cluster.errors import ClusterError, StatusCode
from cluster.query.backend import QueryBackend
from cluster.query.binding import ItemKind, from_prefixes
from cluster.query.by_device import DeviceSelection
from cluster.query.checks import has_nested_aggregates, select_kind
from cluster.query.context import QueryContext
from cluster.query.explain import explain
from cluster.query.group_by import WindowSeries
from cluster.query.last import select_last
from cluster.query.level_having import having_over_levels
from cluster.query.modern_by_device import ModernDeviceSelection
from cluster.query.modern_selection import ModernSelection, is_modern
from cluster.query.point_fill import select_filled
from cluster.query.result import ResultSet
from cluster.query.selection import Selection
from cluster.query.show import show
from cluster.query.tags import TagSelection
from cluster.sql.statements.explain import Explain
from cluster.sql.statements.families import Statement, is_query
from cluster.sql.statements.select import Alignment, Select


def execute_query(statement: Statement, backend: QueryBackend, context: QueryContext) -> ResultSet:
    """Plan a query now; its rows are computed as they are taken.

    Raises:
        ClusterError: the query can't be planned (sql.md 2.8). The result's batches may raise
            ClusterError as well: a time-out, or what the backend raises.
    """
    context.check()
    if isinstance(statement, Select):
        return execute_select(statement, backend, context)
    if isinstance(statement, Explain):
        return explain(statement, backend, context, execute_select)
    if is_query(statement):
        return show(statement, backend, context)
    raise ClusterError(StatusCode.EXECUTE_STATEMENT_ERROR, "Statement is not a query statement.")


def _by_device_of_functions(select: Select, kind: ItemKind) -> bool:
    return select.alignment is Alignment.DEVICE and (
        kind is ItemKind.FUNCTION or has_nested_aggregates(select)
    )


def execute_select(select: Select, backend: QueryBackend, context: QueryContext) -> ResultSet:
    """Plan a SELECT, whatever its INTO says; see `execute_query`."""
    kind = select_kind(select)
    if context.prefix_dialect:
        prefixes = from_prefixes(select.prefixes, prefix_dialect=True)
        select = replace(select, prefixes=prefixes)
    if select.windows is not None:
        WindowSeries(select.windows, context).check_order(descending=select.order_descending)
    if select.last:
        return select_last(select, backend, context)
    if select.tags:
        return TagSelection(select, kind, backend, context).result()
    if select.levels and select.having is not None and kind is ItemKind.AGGREGATE:
        return having_over_levels(
            select, lambda base: execute_select(base, backend, context), backend, context
        )
    if is_modern(select) or (select.modern and _by_device_of_functions(select, kind)):
        if select.alignment is Alignment.DEVICE:
            return ModernDeviceSelection(select, kind, backend, context).result()
        return ModernSelection(select, kind, backend, context).result()
    if select.alignment is Alignment.DEVICE:
        return DeviceSelection(select, kind, backend, context).result()
    if select.fill is not None and select.windows is None:
        return select_filled(select, backend, context)
    return Selection(select, kind, backend, context).result()
