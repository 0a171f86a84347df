"""What to connect to: JDBC-style URLs, host lists, time zones. Reads nothing but the local zone."""

from __future__ import annotations

import datetime as dt
import os
import re
import zoneinfo
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from iotdb_client.errors import ProgrammingError

DEFAULT_PORT = 6667
_SCHEME = "jdbc:iotdb://"


@dataclass(frozen=True)
class ConnInfo:
    """Everything that a connection needs to know.

    Attributes:
        hosts: (host, port) in the order in which they are tried.
        fetch_size: rows of a page.
        timeout_s: of one statement, None: no limit.
        zone: Java ZoneId spelling, as sent to the server.
        rpc_compress: use Thrift's compact protocol.
    """

    hosts: tuple[tuple[str, int], ...]
    user: str
    password: str
    fetch_size: int
    timeout_s: float | None
    zone: str
    rpc_compress: bool = False


def parse_conninfo(
    text: str,
    *,
    user: str,
    password: str,
    fetch_size: int,
    timeout_s: float | None,
    zone: str | None,
) -> ConnInfo:
    """Read a URL or host list.

    Args:
        text: `jdbc:iotdb://h1:p1,h2:p2/?key=value&…`, or the `h1:p1,h2` part alone. Without a port:
            6667. IPv6 addresses stand in brackets. Keys: user, password, fetch_size, timeout_s,
            time_zone, rpc_compress.
        user: used where the URL names none; so are the others.
        password: of the user.
        fetch_size: rows of a page.
        timeout_s: of one statement; None: no limit.
        zone: Java ZoneId spelling; None: this machine's.

    Raises:
        ProgrammingError: not understood; the message says what is wrong.
    """
    rest = text.strip()
    given: dict[str, Any] = {}
    if rest.lower().startswith(_SCHEME):
        rest, _, query = rest[len(_SCHEME) :].partition("?")
        given = _parameters(query)
        rest = rest.removesuffix("/")
    elif "://" in rest or rest.lower().startswith("jdbc:"):
        raise ProgrammingError(f"{text!r} is not a URL of the form {_SCHEME}host:port/")
    if "/" in rest:
        raise ProgrammingError(f"{text!r}: a path after the host has no meaning")
    values: dict[str, Any] = {
        "user": user,
        "password": password,
        "fetch_size": fetch_size,
        "timeout_s": timeout_s,
        "zone": zone,
        **given,
    }
    if values["fetch_size"] <= 0:
        raise ProgrammingError(f"fetch_size must be positive, not {values['fetch_size']}")
    if values["timeout_s"] is not None and values["timeout_s"] <= 0:
        raise ProgrammingError(f"timeout_s must be positive or None, not {values['timeout_s']}")
    values["zone"] = values["zone"] or local_zone_name()
    parse_zone(values["zone"])
    return ConnInfo(hosts=tuple(_host(part) for part in rest.split(",")), **values)


def _host(text: str) -> tuple[str, int]:
    match = re.fullmatch(
        r"(?:\[(?P<v6>[^\]]+)\]|(?P<name>[^:\[\]]+))(?::(?P<port>\d+))?", text.strip()
    )
    if match is None:
        raise ProgrammingError(f"{text!r} is not a host: write name, name:port or [ipv6]:port")
    port = int(match["port"]) if match["port"] else DEFAULT_PORT
    if not 0 < port < 65536:
        raise ProgrammingError(f"{text!r}: a port is a number from 1 to 65535")
    return match["v6"] or match["name"], port


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("true or false")
    return text.lower() == "true"


_KEYS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "user": ("user", str),
    "password": ("password", str),
    "fetch_size": ("fetch_size", int),
    "timeout_s": ("timeout_s", float),
    "time_zone": ("zone", str),
    "rpc_compress": ("rpc_compress", _flag),
}


def _parameters(query: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, text in parse_qsl(query, keep_blank_values=True):
        if key not in _KEYS:
            raise ProgrammingError(
                f"unknown parameter {key!r} in the URL; known are {', '.join(sorted(_KEYS))}"
            )
        name, convert = _KEYS[key]
        try:
            found[name] = convert(text)
        except ValueError:
            raise ProgrammingError(f"URL parameter {key}={text!r} can't be read") from None
    return found


# ---- time zones ----

_OFFSET = re.compile(
    r"(?:UTC|GMT|UT)?(?P<sign>[+-])(?P<h>\d{1,2})(?::?(?P<m>[0-5]\d))?", re.IGNORECASE
)


def parse_zone(text: str) -> dt.tzinfo:
    """Return the zone of a Java ZoneId spelling: `Z`, `+8`, `+08:00`, `UTC+8`, IANA names.

    Raises:
        ProgrammingError: not a zone.
    """
    name = text.strip()
    if name.upper() in ("Z", "UTC", "GMT", "UT"):
        return dt.timezone.utc
    match = _OFFSET.fullmatch(name)
    if match is not None:
        minutes = int(match["h"]) * 60 + int(match["m"] or 0)
        if minutes <= 18 * 60:
            return dt.timezone(dt.timedelta(minutes=-minutes if match["sign"] == "-" else minutes))
    else:
        try:
            return zoneinfo.ZoneInfo(name)
        except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
            pass
    raise ProgrammingError(
        f"{text!r} is not a time zone: give an offset such as +08:00 or a name like Asia/Shanghai"
    )


def local_zone_name() -> str:
    """Return this machine's zone: its IANA name where it can be found, else today's offset."""
    candidates = [os.environ.get("TZ", "").lstrip(":")]
    localtime = Path("/etc/localtime")
    if localtime.is_symlink():
        candidates.append(str(localtime.resolve()).partition("/zoneinfo/")[2])
    for name in candidates:
        if name and not name.startswith("/"):
            try:
                parse_zone(name)
            except ProgrammingError:
                continue
            return name
    offset = dt.datetime.now().astimezone().strftime("%z")
    return f"{offset[:3]}:{offset[3:5]}"
