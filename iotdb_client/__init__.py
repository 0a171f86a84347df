"""PEP 249 driver for the IoTDB family's protocol, for this server and for IoTDB itself.

`connect("jdbc:iotdb://127.0.0.1:6667/", "root", "root")` is the way in, `connect("./folder")` the
one to a database in this process. This module holds the names that PEP 249 asks for, the pool and
the types of series; `iotdb_client.session` is below them, `iotdb_client.cli` the shell,
`iotdb_client.dialect` for SQLAlchemy. The driver knows of the server's package only the generated
Thrift code, and `iotdb_client.embedded` what opens a folder.
"""

from __future__ import annotations

from iotdb_client.connection import Connection, connect
from iotdb_client.cursor import Cursor
from iotdb_client.errors import (
    DatabaseError,
    DataError,
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    Warning,  # noqa: A004 - the name is PEP 249's
)
from iotdb_client.pool import ConnectionPool
from iotdb_client.types import (
    BINARY,
    DATETIME,
    NUMBER,
    ROWID,
    STRING,
    Binary,
    DataType,
    Date,
    DateFromTicks,
    Time,
    TimeFromTicks,
    Timestamp,
    TimestampFromTicks,
)

apilevel = "2.0"
threadsafety = 2
"""Threads may share connections; a cursor belongs to one thread at a time."""
paramstyle = "qmark"
"""`?` for a sequence of parameters; `:name` for a mapping."""

__all__ = [
    "BINARY",
    "DATETIME",
    "NUMBER",
    "ROWID",
    "STRING",
    "Binary",
    "Connection",
    "ConnectionPool",
    "Cursor",
    "DataError",
    "DataType",
    "DatabaseError",
    "Date",
    "DateFromTicks",
    "Error",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "NotSupportedError",
    "OperationalError",
    "ProgrammingError",
    "Time",
    "TimeFromTicks",
    "Timestamp",
    "TimestampFromTicks",
    "Warning",
    "apilevel",
    "connect",
    "paramstyle",
    "threadsafety",
]
