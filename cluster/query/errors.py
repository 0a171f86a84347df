"""Errors of queries that parse but can't be planned or run."""

from __future__ import annotations

from cluster.errors import ClusterError, StatusCode


def query_error(text: str) -> ClusterError:
    """Return the error of a query that parses but can't be planned (0.13's planner errors)."""
    return ClusterError(StatusCode.QUERY_PROCESS_ERROR, f"Error occurred in query process: {text}")


def metadata_error(text: str) -> ClusterError:
    """Return the error of a query whose clauses do not fit each other or the schema."""
    return ClusterError(StatusCode.METADATA_ERROR, f"Check metadata error: {text}")
