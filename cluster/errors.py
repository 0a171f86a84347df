"""Errors of the server process, each with the family's status kind and whether it is definite.

`definite=True`: the operation has certainly not taken effect. `definite=False`: it may have, or
may yet. Only `cluster.rpc.status` turns these into wire codes of a client's generation.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

QUERY_TIMED_OUT = (
    "Current query is time out, query less data or give it more time (query_timeout_threshold)."
)
QUERY_CANCELLED = "The query was cancelled."


class StatusCode(IntEnum):
    """Status kinds by their 0.13 numbers (0.13 `TSStatusCode`); frozen, they are on the wire."""

    SUCCESS = 200
    INCOMPATIBLE_VERSION = 203
    UNSUPPORTED_DIALECT = 205
    """Of 1.x/2.0, where no 0.13 kind exists: only clients that know it ask for a dialect."""
    ALIAS_ALREADY_EXISTS = 299
    PATH_ALREADY_EXISTS = 300
    METADATA_ERROR = 303
    TIMESERIES_NOT_EXIST = 304
    OUT_OF_TTL = 305
    STORAGE_ENGINE_ERROR = 313
    PATH_ILLEGAL = 315
    LOAD_FILE_ERROR = 316
    ILLEGAL_PARAMETER = 318
    ALIGNED_TIMESERIES_ERROR = 319
    DUPLICATED_TEMPLATE = 320
    UNDEFINED_TEMPLATE = 321
    STORAGE_GROUP_NOT_EXIST = 322
    CONTINUOUS_QUERY_ERROR = 323
    NO_TEMPLATE_ON_NODE = 324
    DIFFERENT_TEMPLATE = 325
    TEMPLATE_IS_IN_USE = 326
    TEMPLATE_INCOMPATIBLE = 327
    EXECUTE_STATEMENT_ERROR = 400
    SQL_PARSE_ERROR = 401
    SET_TIME_ZONE_ERROR = 403
    QUERY_NOT_ALLOWED = 405
    QUERY_PROCESS_ERROR = 411
    WRITE_PROCESS_ERROR = 412
    WRITE_PROCESS_REJECT = 413
    QUERY_ID_NOT_EXIST = 414
    SESSION_TIMEOUT = 415
    INTERNAL_SERVER_ERROR = 500
    CLOSE_OPERATION_ERROR = 501
    READ_ONLY_SYSTEM = 502
    MULTIPLE_ERROR = 506
    WRONG_LOGIN_PASSWORD = 600
    NOT_LOGIN = 601
    NO_PERMISSION = 602
    PARTITION_NOT_READY = 700
    TIME_OUT = 701
    NO_LEADER = 702
    UNSUPPORTED_OPERATION = 703
    CONSISTENCY_FAILURE = 705
    NO_CONNECTION = 706
    NEED_REDIRECTION = 707
    """No error: the write was carried out, another node would have done so at once."""


class ClusterError(Exception):
    """Something went wrong that a client should be told.

    Args:
        status: status kind.
        message: what, where, and what to do; shown to users as it is.
        definite: whether the operation has certainly not taken effect.
    """

    def __init__(self, status: StatusCode, message: str, *, definite: bool = True) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.definite = definite


class NotLeader(ClusterError):
    """This member does not lead its group; nothing was done. `leader` is 0 when unknown."""

    def __init__(self, group_id: int, leader: int) -> None:
        super().__init__(StatusCode.NO_LEADER, f"group {group_id}: this node is not the leader")
        self.group_id = group_id
        self.leader = leader


class OutcomeUnknown(ClusterError):
    """The deadline passed, or leadership was lost, after the write was handed to the log.

    It may take effect later: read before you write it again.
    """

    def __init__(self, message: str) -> None:
        super().__init__(
            StatusCode.TIME_OUT,
            f"{message}; the outcome of the write is unknown: it may still take effect",
            definite=False,
        )


class Unavailable(ClusterError):
    """No leader could be reached before the deadline; nothing was done."""

    def __init__(self, message: str) -> None:
        super().__init__(StatusCode.NO_LEADER, message)


class Overloaded(ClusterError):
    """A bounded queue is full; nothing was done. Slow down and try again."""

    def __init__(self, message: str) -> None:
        super().__init__(StatusCode.WRITE_PROCESS_REJECT, message)


class Status(NamedTuple):
    """Outcome of one write among several, as a value."""

    code: StatusCode
    message: str = ""

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.code == StatusCode.SUCCESS


OK = Status(StatusCode.SUCCESS)


class ListenError(OSError):
    """An address cannot be listened on.

    Attributes:
        host, port: as they were asked for.
    """

    def __init__(self, error: OSError, host: str, port: int) -> None:
        super().__init__(error.errno, error.strerror)
        self.host = host
        self.port = port

    def __str__(self) -> str:
        return f"cannot listen on {self.host}:{self.port}: {self.strerror or self.errno}"
