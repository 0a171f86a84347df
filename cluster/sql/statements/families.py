"""All statements: the families joined, and which of them answer with rows."""

from __future__ import annotations

from typing import get_args

from cluster.sql.statements.auth import AuthStatement
from cluster.sql.statements.data import DataStatement
from cluster.sql.statements.explain import Explain
from cluster.sql.statements.registry import RegistryStatement
from cluster.sql.statements.schema import SchemaStatement
from cluster.sql.statements.select import Select
from cluster.sql.statements.show import ShowStatement
from cluster.sql.statements.template import TemplateStatement
from cluster.sql.statements.utility import UtilityStatement

Query = Select | Explain | ShowStatement
Command = (
    SchemaStatement
    | TemplateStatement
    | RegistryStatement
    | AuthStatement
    | DataStatement
    | UtilityStatement
)
Statement = Query | Command

_QUERIES = get_args(Query)


def is_query(statement: Statement) -> bool:
    """Return whether the statement answers with rows: SELECT INTO does in 1.x only."""
    if isinstance(statement, Select):
        return statement.into is None or bool(statement.into.groups)
    return isinstance(statement, _QUERIES)
