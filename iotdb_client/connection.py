"""PEP 249 connections."""

from __future__ import annotations

import datetime as dt
from types import TracebackType

from iotdb_client import errors
from iotdb_client.conninfo import ConnInfo, parse_conninfo, parse_zone
from iotdb_client.cursor import Cursor
from iotdb_client.errors import InterfaceError, NotSupportedError
from iotdb_client.session import Session


def connect(
    url_or_host: str = "jdbc:iotdb://127.0.0.1:6667/",
    user: str = "root",
    password: str = "root",
    *,
    fetch_size: int = 10_000,
    timeout_s: float | None = 60.0,
    zone: str | None = None,
) -> Connection:
    """Open a connection and log in.

    Args:
        url_or_host: `jdbc:iotdb://host:port/?key=value`, or just hosts: `h1:p1,h2:p2` are tried in
            order. What the URL names (user, password, fetch_size, timeout_s, time_zone,
            rpc_compress) wins over the other arguments.
        user: of the login.
        password: of the login.
        fetch_size: rows of a page.
        timeout_s: of one statement on the server; None: no limit.
        zone: time zone of date literals, e.g. `Asia/Shanghai` or `+08:00`; None: this machine's.

    Raises:
        ProgrammingError: the URL, zone or sizes can't be understood.
        OperationalError: no host can be reached, or the login is refused.
    """
    info = parse_conninfo(
        url_or_host,
        user=user,
        password=password,
        fetch_size=fetch_size,
        timeout_s=timeout_s,
        zone=zone,
    )
    connection = Connection(info)
    connection.session.open()
    return connection


class Connection:
    """A login at a server; may be shared by threads. Leaving its `with` block closes it.

    Every statement takes effect by itself: there are no transactions.
    """

    Warning = errors.Warning
    Error = errors.Error
    InterfaceError = errors.InterfaceError
    DatabaseError = errors.DatabaseError
    DataError = errors.DataError
    OperationalError = errors.OperationalError
    IntegrityError = errors.IntegrityError
    InternalError = errors.InternalError
    ProgrammingError = errors.ProgrammingError
    NotSupportedError = errors.NotSupportedError

    def __init__(self, info: ConnInfo) -> None:
        self.info = info
        self.session = Session(info)
        self.zone: dt.tzinfo = parse_zone(info.zone)

    @property
    def timestamp_precision(self) -> str:
        """Unit of the server's timestamps: "ms", "us" or "ns"."""
        return self.session.timestamp_precision

    @property
    def closed(self) -> bool:
        """Whether the connection was closed, or found broken by an operation."""
        return not self.session.is_open

    def cursor(self) -> Cursor:
        """Return a new cursor; raises InterfaceError on a closed connection."""
        if self.closed:
            raise InterfaceError("the connection is closed")
        return Cursor(self)

    def commit(self) -> None:
        """Do nothing: every statement has taken effect already."""
        if self.closed:
            raise InterfaceError("the connection is closed")

    def rollback(self) -> None:
        """Raise NotSupportedError: what has been written stays."""
        raise NotSupportedError("there are no transactions to roll back")

    def close(self) -> None:
        """Log out; cursors of the connection can't be used any more. May be called again."""
        self.session.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
