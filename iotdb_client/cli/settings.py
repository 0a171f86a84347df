"""How the shell shows results, and the statements of the family's shell that set it.

`set time_zone=+08:00`, `show fetch_size` and the like are the shell's own: no server knows them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from iotdb_client.connection import Connection
from iotdb_client.errors import ProgrammingError

_SETTING = re.compile(
    r"set\s+(?P<set>time_display_type|time_zone|fetch_size|max_display_num)\s*=\s*(?P<value>\S*)"
    r"|show\s+(?P<show>time_display_type|time_zone|fetch_size|max_display_num)",
    re.IGNORECASE,
)
_NUMBERS = {"long": True, "number": True, "default": False, "iso8601": False}


@dataclass
class ShellOptions:
    """How results are shown.

    Attributes:
        form: one of `formats.FORMATS`.
        numbers: times as numbers.
        timing: say how long a statement took.
        pager: on a terminal, results longer than it through $PAGER.
        most_rows: rows of a result that are shown; None: all.
    """

    form: str = "table"
    numbers: bool = False
    timing: bool = True
    pager: bool = True
    most_rows: int | None = None


def change_setting(
    statement: str, options: ShellOptions, connection: Callable[[], Connection]
) -> str | None:
    """Carry a statement out that sets or shows a setting.

    Returns:
        What to tell the user, or None: it is none of these statements.

    Raises:
        ProgrammingError: the value can't be.
    """
    match = _SETTING.fullmatch(statement.strip().rstrip(";").rstrip())
    if match is None:
        return None
    name = (match["set"] or match["show"]).lower()
    if match["set"] is not None:
        _set(name, match["value"], options, connection)
    return f"{name} is {_shown(name, options, connection)}"


def _set(
    name: str, value: str, options: ShellOptions, connection: Callable[[], Connection]
) -> None:
    if name == "time_zone":
        connection().set_time_zone(value)
    elif name == "time_display_type":
        if value.lower() not in _NUMBERS:
            raise ProgrammingError(f"{name} is one of {', '.join(_NUMBERS)}, not {value!r}")
        options.numbers = _NUMBERS[value.lower()]
    elif not (value.isascii() and value.isdigit() and int(value)):
        raise ProgrammingError(f"{name} is a positive number, not {value!r}")
    elif name == "fetch_size":
        connection().set_fetch_size(int(value))
    else:
        options.most_rows = int(value)


def _shown(name: str, options: ShellOptions, connection: Callable[[], Connection]) -> object:
    if name == "time_zone":
        return connection().info.zone
    if name == "fetch_size":
        return connection().info.fetch_size
    if name == "time_display_type":
        return "long" if options.numbers else "iso8601"
    return options.most_rows or "without limit"
