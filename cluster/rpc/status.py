"""Status kinds ⇄ wire codes of a client's generation (client-protocol 3.8 to 3.10, 4.6).

Inside, a kind has its 0.13 number. Clients of 1.0 and later use another numbering; only 200 means
the same to all. This module is the only place that knows both.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from cluster.errors import StatusCode
from cluster.rpc.gen.client.ttypes import TEndPoint, TSStatus


class Generation(Enum):
    """What kind of client a session has (client-protocol 4.3).

    UNKNOWN: neither `version` nor `sql_dialect` was sent and no V2 call came yet. It may be of any
    release, so it gets no code that some release takes for a success or reads sub-statuses by.
    """

    UNKNOWN = "unknown"
    V0_12 = "0.12"
    V0_13 = "0.13"
    V1 = "1.0 and later"


NAMES: dict[int, str] = {
    200: "SUCCESS_STATUS",
    201: "STILL_EXECUTING_STATUS",
    202: "INVALID_HANDLE_STATUS",
    203: "INCOMPATIBLE_VERSION",
    205: "UNSUPPORTED_SQL_DIALECT",
    298: "NODE_DELETE_FAILED_ERROR",
    299: "ALIAS_ALREADY_EXIST_ERROR",
    300: "PATH_ALREADY_EXIST_ERROR",
    301: "PATH_NOT_EXIST_ERROR",
    302: "UNSUPPORTED_FETCH_METADATA_OPERATION_ERROR",
    303: "METADATA_ERROR",
    304: "TIMESERIES_NOT_EXIST",
    305: "OUT_OF_TTL_ERROR",
    306: "CONFIG_ADJUSTER",
    307: "MERGE_ERROR",
    308: "SYSTEM_CHECK_ERROR",
    309: "SYNC_DEVICE_OWNER_CONFLICT_ERROR",
    310: "SYNC_CONNECTION_EXCEPTION",
    311: "STORAGE_GROUP_PROCESSOR_ERROR",
    312: "STORAGE_GROUP_ERROR",
    313: "STORAGE_ENGINE_ERROR",
    314: "TSFILE_PROCESSOR_ERROR",
    315: "PATH_ILLEGAL",
    316: "LOAD_FILE_ERROR",
    317: "STORAGE_GROUP_NOT_READY",
    318: "ILLEGAL_PARAMETER",
    319: "ALIGNED_TIMESERIES_ERROR",
    320: "DUPLICATED_TEMPLATE",
    321: "UNDEFINED_TEMPLATE",
    322: "STORAGE_GROUP_NOT_EXIST",
    323: "CONTINUOUS_QUERY_ERROR",
    324: "NO_TEMPLATE_ON_MNODE",
    325: "DIFFERENT_TEMPLATE",
    326: "TEMPLATE_IS_IN_USE",
    327: "TEMPLATE_IMCOMPATIBLE",
    337: "SERIES_OVERFLOW",
    400: "EXECUTE_STATEMENT_ERROR",
    401: "SQL_PARSE_ERROR",
    402: "GENERATE_TIME_ZONE_ERROR",
    403: "SET_TIME_ZONE_ERROR",
    404: "NOT_STORAGE_GROUP_ERROR",
    405: "QUERY_NOT_ALLOWED",
    406: "AST_FORMAT_ERROR",
    407: "LOGICAL_OPERATOR_ERROR",
    408: "LOGICAL_OPTIMIZE_ERROR",
    409: "UNSUPPORTED_FILL_TYPE_ERROR",
    410: "PATH_ERROR",
    411: "QUERY_PROCESS_ERROR",
    412: "WRITE_PROCESS_ERROR",
    413: "WRITE_PROCESS_REJECT",
    414: "QUERY_ID_NOT_EXIST",
    415: "SESSION_TIMEOUT",
    421: "UNSUPPORTED_INDEX_FUNC_ERROR",
    422: "UNSUPPORTED_INDEX_TYPE_ERROR",
    500: "INTERNAL_SERVER_ERROR",
    501: "CLOSE_OPERATION_ERROR",
    502: "READ_ONLY_SYSTEM_ERROR",
    503: "DISK_SPACE_INSUFFICIENT_ERROR",
    504: "START_UP_ERROR",
    505: "SHUT_DOWN_ERROR",
    506: "MULTIPLE_ERROR",
    600: "WRONG_LOGIN_PASSWORD_ERROR",
    601: "NOT_LOGIN_ERROR",
    602: "NO_PERMISSION_ERROR",
    603: "UNINITIALIZED_AUTH_ERROR",
    700: "PARTITION_NOT_READY",
    701: "TIME_OUT",
    702: "NO_LEADER",
    703: "UNSUPPORTED_OPERATION",
    704: "NODE_READ_ONLY",
    705: "CONSISTENCY_FAILURE",
    706: "NO_CONNECTION",
    707: "NEED_REDIRECTION",
    708: "PARSE_LOG_ERROR",
    800: "CONFIG_ERROR",
}
"""0.13 `TSStatusCode`, and 205 of 2.0, which has no 0.13 kind."""

TO_V1: dict[int, int] = {
    200: 200,
    201: 305,
    202: 305,
    203: 201,
    205: 205,
    298: 507,
    299: 505,
    300: 506,
    301: 508,
    302: 300,
    303: 507,
    304: 508,
    305: 607,
    306: 202,
    307: 608,
    308: 305,
    309: 1105,
    310: 1103,
    311: 603,
    312: 603,
    313: 601,
    314: 604,
    315: 509,
    316: 1100,
    317: 602,
    318: 303,
    319: 609,
    320: 511,
    321: 512,
    322: 500,
    323: 1400,
    324: 513,
    325: 514,
    326: 515,
    327: 516,
    337: 502,
    400: 301,
    401: 700,
    402: 702,
    403: 703,
    404: 500,
    405: 704,
    406: 700,
    407: 705,
    408: 706,
    409: 707,
    410: 509,
    411: 708,
    412: 605,
    413: 606,
    414: 714,
    415: 802,
    421: 300,
    422: 300,
    500: 305,
    501: 710,
    502: 600,
    503: 611,
    504: 203,
    505: 204,
    506: 302,
    600: 801,
    601: 802,
    602: 803,
    603: 800,
    700: 906,
    701: 720,
    702: 905,
    703: 300,
    704: 600,
    705: 305,
    706: 306,
    707: 400,
    708: 305,
    800: 202,
}
"""0.13 kind -> code of 1.0 and later (client-protocol 3.8); 201 and 202 are unused upstream."""

_TO_OLD: dict[int, int] = {205: 703}
_TO_UNKNOWN: dict[int, int] = {**_TO_OLD, 302: 303, 400: 411}
"""An unknown client never gets 302, 400, 506 or 707 (client-protocol 3.10)."""

_INTERNAL = int(StatusCode.INTERNAL_SERVER_ERROR)
_SUCCESS = int(StatusCode.SUCCESS)
_MULTIPLE = int(StatusCode.MULTIPLE_ERROR)
_WRITE_ERROR = int(StatusCode.WRITE_PROCESS_ERROR)
_NEED_REDIRECTION = 707
_ALREADY_EXISTS = int(StatusCode.PATH_ALREADY_EXISTS)
_V1_DATABASE_EXISTS = 501
_V1_SERIES_EXISTS = 503
_UNREACHABLE_HOSTS = ("", "0.0.0.0", "::")


def to_wire(
    status: StatusCode | int,
    message: str,
    generation: Generation,
    sub: Sequence[TSStatus] | None = None,
    redirect: tuple[str, int] | None = None,
) -> TSStatus:
    """Return the status as a client of `generation` understands it.

    Every status that is not a success has a message. A multiple error is sent as such only together
    with its sub-statuses, and never to a client of unknown generation: that one gets a plain write
    error with all messages.

    Args:
        status: kind, by its 0.13 number; one that 0.13 does not have counts as an internal error.
        message: for people; the kind's name when empty and the status is not a success.
        generation: of the session's client.
        sub: one per element of a batch, made by this function for the same generation.
        redirect: (host, port) that would have served the request at once. Ignored when no client
            could connect to it (0.0.0.0). A single write that succeeded keeps code 200 with it.
    """
    kind = int(status)
    if kind not in NAMES:
        kind = _INTERNAL
    subs = list(sub) if sub else None
    if kind == _NEED_REDIRECTION and not (generation is Generation.V1 and subs):
        kind = _SUCCESS  # 707 is a failure for half of the clients, a bare 400 crashes others (4.6)
    if kind == _MULTIPLE and (subs is None or generation is Generation.UNKNOWN):
        kind = _WRITE_ERROR
        message = message or _joined(subs or [])
        subs = None
    if kind != _SUCCESS and not message:
        message = NAMES[kind]
    code = wire_code(kind, generation)
    if kind == _ALREADY_EXISTS and generation is Generation.V1:
        # one kind in 0.13, three afterwards
        if message.endswith("already been set to storage group"):
            code = _V1_DATABASE_EXISTS
        elif message.startswith("Path ["):
            code = _V1_SERIES_EXISTS
    wire = TSStatus(code=code, message=message or None, subStatus=subs)
    if redirect is not None and redirect[0] not in _UNREACHABLE_HOSTS:
        wire.redirectNode = TEndPoint(ip=redirect[0], port=redirect[1])
    return wire


def wire_code(kind: int, generation: Generation) -> int:
    """Return the number of one kind for a generation; unknown kinds are internal errors."""
    if kind not in NAMES:
        kind = _INTERNAL
    if generation is Generation.V1:
        return TO_V1[kind]
    if generation is Generation.UNKNOWN:
        return _TO_UNKNOWN.get(kind, kind)
    return _TO_OLD.get(kind, kind)


def _joined(subs: Sequence[TSStatus]) -> str:
    return "; ".join(f"{item.code}: {item.message}" for item in subs if item.code != _SUCCESS)
