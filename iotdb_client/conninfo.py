"""What to connect to: JDBC-style URLs, host lists, time zones. Reads nothing but the local zone."""

from __future__ import annotations

import datetime as dt
import numbers
import os
import re
import zoneinfo
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

from iotdb_client.errors import ProgrammingError

DEFAULT_PORT = 6667
MEMORY_PATH = ":memory:"
_SCHEMES = ("jdbc:iotdb://", "iotdb://")


@dataclass(frozen=True)
class Tls:
    """How a connection is encrypted.

    Attributes:
        ca_file: certificates that are trusted; None: the system's.
        cert_file: of this client, where the server asks for one.
        key_file: to it; None: in `cert_file`.
        verify: False: any server is believed (for tests).
    """

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    verify: bool = True


@dataclass(frozen=True)
class ConnInfo:
    """Everything that a connection needs to know.

    Attributes:
        hosts: (host, port) in the order in which they are tried; empty for a folder.
        fetch_size: rows of a page.
        timeout_s: of one statement, None: no limit.
        zone: Java ZoneId spelling, as sent to the server.
        rpc_compress: use Thrift's compact protocol.
        retry_s: with several hosts, how long others are tried when one is lost.
        tls: None: not encrypted.
        folder: of a database in this process, ":memory:" or a path; None: a server.
    """

    hosts: tuple[tuple[str, int], ...]
    user: str
    password: str
    fetch_size: int
    timeout_s: float | None
    zone: str
    rpc_compress: bool = False
    retry_s: float = 20.0
    tls: Tls | None = None
    folder: str | None = None


_MOST_TIMEOUT_S = 1_000_000_000
"""More than a socket can wait, or the protocol tell in milliseconds, is a mistake."""


def parse_conninfo(
    text: str | os.PathLike[str],
    *,
    user: str,
    password: str,
    fetch_size: int,
    timeout_s: float | None,
    zone: str | None,
    retry_s: float = 20.0,
) -> ConnInfo:
    """Read a URL, host list or folder.

    Args:
        text: `jdbc:iotdb://h1:p1,h2:p2/?key=value&…` (`iotdb://…` is the same, and so is what
            follows it). Without a port: 6667. IPv6 addresses stand in brackets. In a URL
            `user:password@` may stand before the hosts, percent-encoded. Keys: user, password,
            fetch_size, timeout_s, time_zone, rpc_compress, retry_s, use_ssl, ssl_ca, ssl_cert,
            ssl_key, ssl_verify. Or a folder: a Path, ":memory:", or a text with a `/` (write
            `./name` for a folder that has none).
        user: used where the URL names none; so are the others.
        password: of the user.
        fetch_size: rows of a page.
        timeout_s: of one statement; None: no limit.
        zone: Java ZoneId spelling; None: this machine's.
        retry_s: see ConnInfo.

    Raises:
        ProgrammingError: not understood; the message says what is wrong.
    """
    folder = _folder(text)
    rest = os.fspath(text).strip()
    given: dict[str, Any] = {}
    scheme = next((s for s in _SCHEMES if rest.lower().startswith(s)), None)
    if folder is not None:
        rest = ""
    elif scheme is None and ("://" in rest or rest.lower().startswith("jdbc:")):
        shown = re.sub("//.*@", "//", rest.partition("?")[0])  # without a password
        raise ProgrammingError(f"{shown!r} is not a URL of the form {_SCHEMES[0]}host:port/")
    else:
        rest, _, query = rest[len(scheme or "") :].partition("?")
        login, rest = _login(rest) if scheme is not None else ({}, rest)
        given = {**login, **_parameters(query)}
        rest = rest.removesuffix("/")
    if "/" in rest:
        raise ProgrammingError(f"{rest!r}: a path after the host has no meaning")
    values: dict[str, Any] = {
        "user": user,
        "password": password,
        "fetch_size": fetch_size,
        "timeout_s": timeout_s,
        "zone": zone,
        "retry_s": retry_s,
        **given,
    }
    if values["fetch_size"] <= 0:
        raise ProgrammingError(f"fetch_size must be positive, not {values['fetch_size']}")
    timeout, retry = values["timeout_s"], values["retry_s"]
    if timeout is not None and not (_is_number(timeout) and 0 < timeout <= _MOST_TIMEOUT_S):
        raise ProgrammingError(
            f"timeout_s must be a number of seconds above 0, {_MOST_TIMEOUT_S:,} at most, or None "
            f"for no limit, not {timeout}"
        )
    if not (_is_number(retry) and retry >= 0):
        raise ProgrammingError(f"retry_s must be a number of seconds from 0 on, not {retry}")
    values["zone"] = values["zone"] or local_zone_name()
    parse_zone(values["zone"])
    hosts = () if folder is not None else tuple(_host(part) for part in rest.split(","))
    return ConnInfo(hosts=hosts, tls=_tls(values), folder=folder, **values)


_HOST_LIST = re.compile(r"[^/]*:\d+(?:,[^/]*)?/.*|\[.*", re.DOTALL)
"""A host list with something behind it, which is a mistake and no folder."""


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _folder(text: str | os.PathLike[str]) -> str | None:
    """Return the folder that a text names, or None when it names servers."""
    if not isinstance(text, str):
        return os.fspath(text)
    if text == MEMORY_PATH:
        return text
    if "://" in text or text.lower().startswith("jdbc:") or _HOST_LIST.fullmatch(text):
        return None
    return text if "/" in text or os.sep in text or text in (".", "..") else None


def _tls(values: dict[str, Any]) -> Tls | None:
    """Take what is said of TLS out of the parameters."""
    parts = {key: values.pop(key) for key in _TLS_KEYS if key in values}
    wanted = values.pop("use_ssl", bool(parts))
    if parts and not wanted:
        raise ProgrammingError(f"{', '.join(parts)}: given, but use_ssl=false")
    return Tls(**parts) if wanted else None


def _login(hosts: str) -> tuple[dict[str, str], str]:
    """Take `user:password@` from before the hosts of a URL; both are percent-encoded there."""
    text, at, rest = hosts.rpartition("@")
    if not at:
        return {}, hosts
    if "," in text:
        raise ProgrammingError("user:password@ stands once in a URL, before the first host")
    user, colon, password = text.partition(":")
    return {"user": unquote(user), **({"password": unquote(password)} if colon else {})}, rest


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
    "retry_s": ("retry_s", float),
    "use_ssl": ("use_ssl", _flag),
    "ssl_ca": ("ca_file", str),
    "ssl_cert": ("cert_file", str),
    "ssl_key": ("key_file", str),
    "ssl_verify": ("verify", _flag),
}
_TLS_KEYS = ("ca_file", "cert_file", "key_file", "verify")


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
