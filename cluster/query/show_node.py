"""SHOW of what concerns nodes: version, queries, flushes, the cluster (sql.md 2.7, 7.2)."""

from __future__ import annotations

import numpy as np

from cluster.errors import ClusterError, StatusCode
from cluster.query.backend import QueryBackend
from cluster.query.context import QueryContext
from cluster.query.node_view import NodeView
from cluster.query.result import Cell, ResultSet, cells_column, table
from cluster.schema.paths import PathPattern
from cluster.sql.statements.families import Statement
from cluster.sql.statements.show import (
    ShowArchiving,
    ShowCluster,
    ShowClusterId,
    ShowCurrentTimestamp,
    ShowDataNodes,
    ShowFlushInfo,
    ShowLockInfo,
    ShowMerge,
    ShowQueries,
    ShowVariables,
    ShowVersion,
)
from iotdb_engine.types import ColumnBatch, DataType

_TEXT = DataType.TEXT
_INT32 = DataType.INT32
_INT64 = DataType.INT64
_BUILD = "in Python"


def show_node(statement: Statement, backend: QueryBackend, context: QueryContext) -> ResultSet:
    """Answer a statement about nodes."""
    match statement:
        case ShowVersion():
            if context.modern:
                header = [("Version", _TEXT), ("BuildInfo", _TEXT)]
                return table(header, [[context.version, _BUILD]])
            return table([("        version", _TEXT)], [[context.version]])
        case ShowFlushInfo():
            return _flush_info(_node(context))
        case ShowLockInfo():
            pattern = PathPattern.parse(statement.pattern, prefix=context.prefix_dialect)
            header = [("storage group", _TEXT), ("lock holder", _TEXT)]
            # writers of a storage group do not exclude one another: nobody ever holds a lock
            return table(header, [[path, ""] for path in backend.storage_groups(pattern)])
        case ShowQueries():
            return _queries(statement, _node(context), modern=statement.modern or context.modern)
        case ShowMerge():
            header = [
                (name, _TEXT)
                for name in (
                    "storage group",
                    "task name",
                    "created time",
                    "progress",
                    "cancelled",
                    "done",
                )
            ]
            return table(header, [])
        case ShowArchiving():
            return table(
                [
                    ("task id", _INT64),
                    ("submit time", _TEXT),
                    ("storage group", _TEXT),
                    ("status", _TEXT),
                    ("start time", _TEXT),
                    ("expire time(ms)", _INT64),
                    ("target directory", _TEXT),
                ],
                [],
            )
        case ShowCurrentTimestamp():
            return table([("CurrentTimestamp", _INT64)], [[statement.now]])
        case _:
            return _cluster(statement, context)


def _cluster(statement: Statement, context: QueryContext) -> ResultSet:
    node = _node(context)
    match statement:
        case ShowCluster():
            header = [
                ("NodeID", _INT32),
                ("NodeType", _TEXT),
                ("Status", _TEXT),
                ("InternalAddress", _TEXT),
                ("InternalPort", _INT32),
                ("Version", _TEXT),
                ("BuildInfo", _TEXT),
            ]
            rows: list[list[Cell]] = [
                [
                    number,
                    "DataNode",
                    _status(known.running),
                    known.internal_ip,
                    known.internal_port,
                    context.version,
                    _BUILD,
                ]
                for number, known in enumerate(node.nodes(), 1)
            ]
            return table(header, rows)
        case ShowDataNodes():
            header = [
                ("NodeID", _INT32),
                ("Status", _TEXT),
                ("RpcAddress", _TEXT),
                ("RpcPort", _INT32),
                ("DataRegionNum", _INT32),
                ("SchemaRegionNum", _INT32),
            ]
            rows = [
                [number, _status(known.running), known.rpc_address, known.rpc_port, None, None]
                for number, known in enumerate(node.nodes(), 1)
            ]
            return table(header, rows)
        case ShowClusterId():
            header = [("ClusterId", _TEXT)]
            return table(
                header,
                [[str(min([known.node_id for known in node.nodes()], default=node.node_id))]],
            )
        case ShowVariables():
            header = [("Variable", _TEXT), ("Value", _TEXT)]
            return table(header, [[key, value] for key, value in node.variables()])
    raise ClusterError(
        StatusCode.UNSUPPORTED_OPERATION, f"{type(statement).__name__} is not supported yet"
    )


def _status(running: bool) -> str:
    return "Running" if running else "Unknown"


def _node(context: QueryContext) -> NodeView:
    if context.node is None:
        raise ClusterError(
            StatusCode.UNSUPPORTED_OPERATION, "there is no server here that could be asked"
        )
    return context.node


def _flush_info(node: NodeView) -> ResultSet:
    working, waiting = node.flush_tasks()
    return table(
        [("                             item", _TEXT), ("value", _TEXT)],
        [
            ["total number of flush tasks", str(working + waiting)],
            ["number of working flush tasks", str(working)],
            ["number of waiting flush tasks", str(waiting)],
        ],
    )


def _queries(statement: ShowQueries, node: NodeView, *, modern: bool) -> ResultSet:
    """Return the node's queries with a Time column: when each began."""
    found = list(node.running_queries())
    end = None if statement.limit is None else statement.offset + statement.limit
    found = found[statement.offset : end]
    columns: list[tuple[str, DataType, list[Cell]]]
    if modern:
        columns = [
            ("QueryId", _TEXT, [str(query.query_id) for query in found]),
            ("DataNodeId", _INT32, [node.node_id & 0x7FFFFFFF for _ in found]),
            ("ElapsedTime", DataType.FLOAT, [query.elapsed_s for query in found]),
            ("Statement", _TEXT, [query.sql for query in found]),
        ]
    else:
        columns = [
            ("queryId", _INT64, [query.query_id for query in found]),
            ("statement", _TEXT, [query.sql for query in found]),
        ]
    batch = ColumnBatch(
        np.array([query.started for query in found], dtype=np.int64),
        tuple(cells_column(data_type, cells) for _, data_type, cells in columns),
    )
    return ResultSet(
        columns=[name for name, _, _ in columns],
        types=[data_type for _, data_type, _ in columns],
        column_index=list(range(len(columns))),
        batches=iter([batch] if found else []),
        kind="SHOW",
    )
