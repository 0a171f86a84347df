"""Reads the .properties form of configuration files; knows no keys."""

from __future__ import annotations


class PropertiesError(ValueError):
    """A line that is neither blank, comment nor key=value; the message names the line."""


def parse_properties(text: str) -> dict[str, str]:
    """Return the keys and values of a .properties text.

    Lines beginning with `#` or `!` are comments; white space around key and value is dropped; the
    last of several equal keys counts.

    Raises:
        PropertiesError: with the line's number.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped[0] in "#!":
            continue
        key, separator, value = stripped.partition("=")
        if not separator or not key.strip():
            raise PropertiesError(f"line {number}: {stripped!r} is not of the form key=value")
        found[key.strip()] = value.strip()
    return found
