"""SQLAlchemy dialect: `create_engine("iotdb://root:root@host:6667/")`.

What the model allows: a device is a table, its measurements are columns, `Time` is the primary
key; the schema of a table is its storage group. There are no joins, no transactions, no UPDATE;
what SQLAlchemy renders beyond the database's SQL fails there with the database's message.

    iotdb://user:password@h1:6667/            a server; ?hosts=h2:6667,h3:6667 for more of them
    iotdb:////absolute/folder  iotdb:///:memory:    a database in this process
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import ModuleType
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import pool, types
from sqlalchemy.engine import default, reflection
from sqlalchemy.engine.url import URL
from sqlalchemy.exc import CompileError, NoSuchTableError
from sqlalchemy.sql import compiler

import iotdb_client
from iotdb_client.literals import split_statements
from iotdb_client.paths import quote_path
from iotdb_client.types import TIME_COLUMN

_TYPES: dict[str, type[types.TypeEngine[Any]]] = {
    "BOOLEAN": types.BOOLEAN,
    "INT32": types.INTEGER,
    "INT64": types.BIGINT,
    "FLOAT": types.FLOAT,
    "DOUBLE": types.DOUBLE,
    "TEXT": types.TEXT,
}
_PLAIN = re.compile(r"(?:[A-Za-z_]\w*)(?:\.(?:[A-Za-z_]\w*))*")


class IotdbTypeCompiler(compiler.GenericTypeCompiler):
    """SQL types by the database's names."""

    def visit_BOOLEAN(self, type_: Any, **kw: Any) -> str:  # noqa: N802
        """Render a boolean."""
        return "BOOLEAN"

    def visit_boolean(self, type_: Any, **kw: Any) -> str:
        """Render a boolean."""
        return "BOOLEAN"

    def visit_INTEGER(self, type_: Any, **kw: Any) -> str:  # noqa: N802
        """Render a 32-bit integer."""
        return "INT32"

    def visit_SMALLINT(self, type_: Any, **kw: Any) -> str:  # noqa: N802
        """Render a small integer."""
        return "INT32"

    def visit_BIGINT(self, type_: Any, **kw: Any) -> str:  # noqa: N802
        """Render a 64-bit integer."""
        return "INT64"

    def visit_FLOAT(self, type_: Any, **kw: Any) -> str:  # noqa: N802
        """Render a float: SQLAlchemy's is of either width, so the wider one."""
        return "FLOAT" if type_.precision is not None and type_.precision <= 24 else "DOUBLE"

    def visit_DOUBLE(self, type_: Any, **kw: Any) -> str:  # noqa: N802
        """Render a 64-bit float."""
        return "DOUBLE"

    def visit_REAL(self, type_: Any, **kw: Any) -> str:  # noqa: N802
        """Render a 32-bit float."""
        return "FLOAT"

    def visit_NUMERIC(self, type_: Any, **kw: Any) -> str:  # noqa: N802
        """Render a decimal as the nearest there is."""
        return "DOUBLE"

    def visit_VARCHAR(self, type_: Any, **kw: Any) -> str:  # noqa: N802
        """Render a text of any kind."""
        return "TEXT"

    visit_TEXT = visit_CHAR = visit_NVARCHAR = visit_CLOB = visit_VARCHAR  # noqa: N815

    def visit_DATETIME(self, type_: Any, **kw: Any) -> str:  # noqa: N802
        """Render a moment as a count of the server's precision units."""
        return "INT64"

    visit_TIMESTAMP = visit_DATE = visit_DATETIME  # noqa: N815


class IotdbIdentifierPreparer(compiler.IdentifierPreparer):
    """Names: paths of plain nodes as they are, others in backticks."""

    def __init__(self, dialect: default.DefaultDialect, **options: Any) -> None:
        super().__init__(dialect, initial_quote="`", final_quote="`", **options)

    def quote(self, ident: str, force: Any = None) -> str:
        """Quote a name, or the nodes of a path, unless they are plain."""
        if _PLAIN.fullmatch(ident):
            return ident
        return quote_path(ident) if ident.startswith("root.") else self.quote_identifier(ident)

    def format_table(
        self,
        table: Any,
        use_schema: bool = True,
        name: str | None = None,
    ) -> str:
        """Render a device as its full path."""
        schema = self.schema_for_object(table) if use_schema else None
        path = _path(name or table.name, schema)
        if not _is_device(path):
            raise CompileError(
                f"{path!r} is no table here: a table is a device, named by its full path, such as "
                "'root.sg.d1', or by the rest of it with the storage group as schema: "
                "'d1', schema='root.sg'"
            )
        return self.quote(path)


class IotdbCompiler(compiler.SQLCompiler):
    """SELECT, INSERT and DELETE as the database spells them."""

    def visit_column(
        self,
        column: Any,
        add_to_result_map: Any = None,
        include_table: bool = True,
        result_map_targets: tuple[Any, ...] = (),
        ambiguous_table_name_map: Any = None,
        **kw: Any,
    ) -> str:
        """Render a column by its name alone: the device stands in FROM."""
        found = super().visit_column(
            column,
            add_to_result_map=add_to_result_map,
            include_table=False,
            result_map_targets=result_map_targets,
            ambiguous_table_name_map=ambiguous_table_name_map,
            **kw,
        )
        return "time" if column.name.lower() == "time" else found

    def _compose_select_body(
        self,
        text: str,
        select: Any,
        compile_state: Any,
        inner_columns: Any,
        *arguments: Any,
        **kw: Any,
    ) -> Any:
        """Leave Time out of what is selected: it comes with every row (see SelectCursor)."""
        others = [column for column in inner_columns if column.split(" ")[0] != "time"]
        if not others:
            raise CompileError("select a measurement as well: Time comes only with values")
        return super()._compose_select_body(text, select, compile_state, others, *arguments, **kw)

    def visit_between_op_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        """Render BETWEEN as two comparisons, as the database has no such word."""
        left = self.process(binary.left, **kw)
        low, high = (self.process(limit, **kw) for limit in binary.right.clauses)
        return f"({left} >= {low} AND {left} <= {high})"

    def visit_not_between_op_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        """Render NOT BETWEEN likewise."""
        left = self.process(binary.left, **kw)
        low, high = (self.process(limit, **kw) for limit in binary.right.clauses)
        return f"({left} < {low} OR {left} > {high})"

    def visit_is_true_unary_operator(self, element: Any, operator: Any, **kw: Any) -> str:
        """Compare a boolean column: it is no condition by itself."""
        return f"{self.process(element.element, **kw)} = true"

    def visit_is_false_unary_operator(self, element: Any, operator: Any, **kw: Any) -> str:
        """Compare a boolean column: it is no condition by itself."""
        return f"{self.process(element.element, **kw)} = false"

    def get_select_hint_text(self, byfroms: Any) -> str | None:
        """There are no hints."""
        return None

    def delete_table_clause(
        self, delete_stmt: Any, from_table: Any, extra_froms: Any, **kw: Any
    ) -> str:
        """Render the series of a device: DELETE takes series, not devices."""
        return f"{super().delete_table_clause(delete_stmt, from_table, extra_froms, **kw)}.*"

    def limit_clause(self, select: Any, **kw: Any) -> str:
        """Render LIMIT and OFFSET as numbers."""
        text = ""
        if select._limit_clause is not None:
            text += (
                f" LIMIT {self.process(select._limit_clause, **{**kw, 'literal_execute': True})}"
            )
        if select._offset_clause is not None:
            text += (
                f" OFFSET {self.process(select._offset_clause, **{**kw, 'literal_execute': True})}"
            )
        return text


class SelectCursor:
    """A driver's cursor whose rows have Time where the SELECT that was compiled has it, if at all.

    Args:
        cursor: of the driver.
        names: of the columns that SQLAlchemy expects.
    """

    def __init__(self, cursor: iotdb_client.Cursor, names: Sequence[str]) -> None:
        self._cursor = cursor
        self._names = names
        self._order: list[int] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def execute(self, operation: str, parameters: Any = None) -> None:
        """Run the statement."""
        self._cursor.execute(operation, parameters)
        found = self._cursor.description
        if found is None:
            return
        timed = bool(found) and found[0].name == TIME_COLUMN
        others = iter(range(int(timed), len(found)))
        order = [0 if timed and _is_time(name) else next(others, -1) for name in self._names]
        self._order = None if -1 in order else order

    @property
    def description(self) -> Any:
        """Columns, named as SQLAlchemy has them."""
        found = self._cursor.description
        if found is None or self._order is None:
            return found
        return [
            (name, *found[number][1:])
            for name, number in zip(self._names, self._order, strict=True)
        ]

    def fetchone(self) -> Any:
        """Return the next row."""
        row = self._cursor.fetchone()
        return None if row is None else self._ordered([row])[0]

    def fetchmany(self, size: int | None = None) -> list[tuple[Any, ...]]:
        """Return further rows."""
        return self._ordered(self._cursor.fetchmany(size))

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return all further rows."""
        return self._ordered(self._cursor.fetchall())

    def _ordered(self, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        order = self._order
        if order is None or order == list(range(len(rows[0]) if rows else 0)):
            return rows
        return [tuple(row[number] for number in order) for row in rows]


class IotdbExecutionContext(default.DefaultExecutionContext):
    """Reads compiled SELECTs through a SelectCursor."""

    def create_cursor(self) -> Any:
        """Return the cursor of one execution."""
        cursor = super().create_cursor()
        compiled = self.compiled
        if isinstance(compiled, IotdbCompiler) and compiled._result_columns:
            return SelectCursor(cursor, [column.keyname for column in compiled._result_columns])
        return cursor

    @property
    def rowcount(self) -> int:
        """Rows that an INSERT wrote: those that it has, where the driver does not count them."""
        counted: int = super().rowcount
        compiled = self.compiled
        if counted < 0 and self.isinsert and isinstance(compiled, IotdbCompiler):
            several = getattr(compiled.statement, "_multi_values", ())
            return sum(map(len, several)) or 1
        return counted


def _is_time(name: str) -> bool:
    return name.lower() == "time"


class IotdbDdlCompiler(compiler.DDLCompiler):
    """CREATE and DROP of a table: of the series of a device."""

    def visit_create_table(self, create: Any, **kw: Any) -> str:
        """Render the series of a device, one statement each (see IotdbDialect.do_execute)."""
        table = create.element
        device = self.preparer.format_table(table)
        return "; ".join(
            f"CREATE TIMESERIES {device}.{self.preparer.quote(column.name)} "
            f"WITH DATATYPE={self.dialect.type_compiler_instance.process(column.type)}"
            for column in table.columns
            if not _is_time(column.name)
        )

    def visit_drop_table(self, drop: Any, **kw: Any) -> str:
        """Render the removal of all series of a device."""
        return f"DELETE TIMESERIES {self.preparer.format_table(drop.element)}.*"

    def visit_create_index(self, create: Any, **kw: Any) -> str:  # type: ignore[override]
        """Times are the only index; a harmless statement in place of another."""
        return "SHOW VERSION"


class IotdbDialect(default.DefaultDialect):
    """See the module."""

    name = "iotdb"
    driver = "iotdb_client"
    supports_statement_cache = True
    supports_alter = False
    supports_sane_rowcount = False
    supports_sane_multi_rowcount = False
    supports_multivalues_insert = True
    supports_default_values = False
    supports_native_boolean = True
    postfetch_lastrowid = False
    insert_returning = False
    default_paramstyle = "qmark"
    execution_ctx_cls = IotdbExecutionContext
    statement_compiler = IotdbCompiler
    ddl_compiler = IotdbDdlCompiler
    type_compiler_cls = IotdbTypeCompiler
    preparer = IotdbIdentifierPreparer

    @classmethod
    def import_dbapi(cls) -> ModuleType:
        """Return the driver."""
        return iotdb_client

    @classmethod
    def get_pool_class(cls, url: URL) -> type[pool.Pool]:
        """A database in memory is one connection, shared."""
        chosen: type[pool.Pool] = pool.QueuePool
        if url.database == ":memory:":
            chosen = pool.StaticPool
        return chosen

    def create_connect_args(self, url: URL) -> tuple[list[Any], dict[str, Any]]:
        """Say how to connect."""
        query = dict(url.query)
        hosts = query.pop("hosts", "")
        if url.host is None and url.database:
            return [url.database if "/" in url.database else _folder(url.database)], {}
        host = url.host or "127.0.0.1"
        first = f"{f'[{host}]' if ':' in host else host}:{url.port or 6667}"
        more = hosts if isinstance(hosts, str) else ",".join(hosts)
        text = "jdbc:iotdb://" + ",".join(filter(None, (first, more))) + "/"
        if query:
            text += "?" + urlencode(query)
        return [text, url.username or "root", url.password or "root"], {}

    def do_execute(self, cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        """Run a statement; a table is several of them."""
        if context is not None and context.isddl:
            for part in split_statements(statement):
                cursor.execute(part)
        else:
            cursor.execute(statement, parameters)

    # ---- what the database does not have ----

    def do_rollback(self, dbapi_connection: Any) -> None:
        """There is nothing to undo: every statement has taken effect."""

    def _get_server_version_info(self, connection: Any) -> tuple[int, ...]:
        text = connection.exec_driver_sql("show version").scalar() or "0"
        return tuple(int(part) for part in re.findall(r"\d+", str(text))[:3])

    def _get_default_schema_name(self, connection: Any) -> str | None:
        return None

    def _check_max_identifier_length(self, connection: Any) -> None:
        return None

    def get_isolation_level_values(self, dbapi_conn: Any) -> Sequence[Any]:
        """Every statement stands for itself."""
        return ["AUTOCOMMIT"]

    def get_default_isolation_level(self, dbapi_conn: Any) -> Any:
        """Every statement stands for itself."""
        return "AUTOCOMMIT"

    # ---- reflection ----

    @reflection.cache  # type: ignore[untyped-decorator]
    def get_schema_names(self, connection: Any, **kw: Any) -> list[str]:
        """Return the storage groups."""
        return [str(row[0]) for row in connection.exec_driver_sql("show storage group")]

    @reflection.cache  # type: ignore[untyped-decorator]
    def get_table_names(self, connection: Any, schema: str | None = None, **kw: Any) -> list[str]:
        """Return all devices as full paths, or those of a storage group by the rest of theirs."""
        if schema is None:
            return [str(row[0]) for row in connection.exec_driver_sql("show devices")]
        rows = connection.exec_driver_sql(f"show devices {quote_path(schema)}.**")
        return [str(row[0]).removeprefix(f"{schema}.") for row in rows]

    def get_view_names(self, connection: Any, schema: str | None = None, **kw: Any) -> list[str]:
        """There are no views."""
        return []

    def has_table(
        self,
        connection: Any,
        table_name: str,
        schema: str | None = None,
        **kw: Any,
    ) -> bool:
        """Whether a device has series."""
        return bool(self._series(connection, _path(table_name, schema)))

    @reflection.cache  # type: ignore[untyped-decorator]
    def get_columns(
        self,
        connection: Any,
        table_name: str,
        schema: str | None = None,
        **kw: Any,
    ) -> list[dict[str, Any]]:
        """Return Time and the measurements of a device."""
        found = self._series(connection, _path(table_name, schema))
        if not found:
            raise NoSuchTableError(table_name)
        time = {"name": TIME_COLUMN, "type": types.BIGINT(), "nullable": False, "default": None}
        return [
            time,
            *(
                {"name": name, "type": _TYPES[kind](), "nullable": True, "default": None}
                for name, kind in found
            ),
        ]

    def get_pk_constraint(
        self,
        connection: Any,
        table_name: str,
        schema: str | None = None,
        **kw: Any,
    ) -> dict[str, Any]:
        """A row of a device is told by its time."""
        return {"constrained_columns": [TIME_COLUMN], "name": None}

    def get_foreign_keys(
        self,
        connection: Any,
        table_name: str,
        schema: str | None = None,
        **kw: Any,
    ) -> list[Any]:
        """There are none."""
        return []

    get_indexes = get_unique_constraints = get_check_constraints = get_foreign_keys

    def _series(self, connection: Any, device: str) -> list[tuple[str, str]]:
        if not _is_device(device):
            return []
        rows = connection.exec_driver_sql(f"show timeseries {quote_path(device)}.*").mappings()
        return [(row["timeseries"].rpartition(".")[2], row["dataType"]) for row in rows]


def _path(table: str, schema: str | None) -> str:
    return table if schema is None or table.startswith(f"{schema}.") else f"{schema}.{table}"


def _is_device(path: str) -> bool:
    return path.startswith("root.")


def _folder(name: str) -> str:
    return name if name == ":memory:" else f"./{name}"
