"""PEP 249 driver for the IoTDB family's protocol, for this server and for IoTDB itself.

`connect("jdbc:iotdb://127.0.0.1:6667/", "root", "root")` is the way in. This module holds the
names that PEP 249 asks for and nothing else; `iotdb_client.session` has tablets, `iotdb_client.cli`
the shell. The driver knows of the server's package only the generated Thrift code.
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
from iotdb_client.types import (
    BINARY,
    DATETIME,
    NUMBER,
    ROWID,
    STRING,
    Binary,
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

__all__ = [
    "BINARY",
    "DATETIME",
    "NUMBER",
    "ROWID",
    "STRING",
    "Binary",
    "Connection",
    "Cursor",
    "DataError",
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
