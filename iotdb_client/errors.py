"""The error tree of PEP 249, with the server's status code and what is known of the outcome.

Every error has `status` (the server's code in 0.13 numbers, None when the driver found the problem
itself) and `definite`: True when the operation has certainly had no effect, False when it may have,
or may yet (read before you write again).
"""

from __future__ import annotations

from collections.abc import Callable


class Warning(Exception):  # noqa: A001 - the name is PEP 249's
    """Important warnings; the driver raises none at present."""


class Error(Exception):
    """Base of the driver's errors; can be pickled.

    Args:
        message: what went wrong, as shown to users.
        status: the server's status code, or None.
        definite: whether the operation has certainly had no effect.
    """

    def __init__(
        self, message: str = "", *, status: int | None = None, definite: bool = True
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.definite = definite

    def __reduce__(self) -> tuple[Callable[..., Error], tuple[object, ...]]:
        return _rebuild, (type(self), self.message, self.status, self.definite)


class InterfaceError(Error):
    """The driver was used in a way that it does not allow, e.g. after close."""


class DatabaseError(Error):
    """The server refused or failed; base of the more precise ones."""


class DataError(DatabaseError):
    """A value does not fit: out of range, wrong type, not representable."""


class OperationalError(DatabaseError):
    """Not the program's fault: connection, login, time-out, no leader, overload."""


class IntegrityError(DatabaseError):
    """Of PEP 249; a time-series database has no constraints that would raise it."""


class InternalError(DatabaseError):
    """The server failed inside, or sent what can't be decoded."""


class ProgrammingError(DatabaseError):
    """The statement is wrong: syntax, unknown path, wrong number of parameters, no privilege."""


class NotSupportedError(DatabaseError):
    """The server or driver can't do this."""


def _rebuild(kind: type[Error], message: str, status: int | None, definite: bool) -> Error:
    return kind(message, status=status, definite=definite)


MULTIPLE_ERROR = 506

_KIND_BY_STATUS: dict[int, type[DatabaseError]] = {
    **dict.fromkeys((305, 318), DataError),
    **dict.fromkeys((299, 300, 301, 303, 304, 315, 319, 320, 321, 322), ProgrammingError),
    **dict.fromkeys((401, 403, 404, 406, 407, 410, 602), ProgrammingError),
    **dict.fromkeys((203, 205, 302, 405, 409, 703), NotSupportedError),
    **dict.fromkeys((313, 500), InternalError),
    **dict.fromkeys((411, 412, 413, 414, 415, 501, 502, 503), OperationalError),
    **dict.fromkeys((600, 601, 603, 700, 701, 702, 704, 705, 706), OperationalError),
}
"""0.13 status codes (client-protocol 3.8) by what a program can do about them."""

_STORAGE_ENGINE = 313
_NOT_INSERTED = "failed to insert measurements"
"""What 0.13 says, under the code of its storage engine, of values that do not fit their series; the
other columns of the row or tablet are written."""

_UNKNOWN_OUTCOME = frozenset({500, 701, MULTIPLE_ERROR})
"""Time-outs and inner failures may leave an effect; a multiple error has done a part."""


def error_of(status: int, message: str) -> DatabaseError:
    """Return the error for a status code that is not a success."""
    kind = _KIND_BY_STATUS.get(status, DatabaseError)
    partly = status == _STORAGE_ENGINE and _NOT_INSERTED in message
    if partly:
        kind = DataError
    return kind(
        f"{status}: {message}" if message else f"server answered status {status}",
        status=status,
        definite=not partly and status not in _UNKNOWN_OUTCOME,
    )
