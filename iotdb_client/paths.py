"""Full paths of series, as results name their columns."""

from __future__ import annotations

import re

# Results show names without the backquotes that SQL needs; what looks like an expression is none.
_NODE = r"(?:`(?:[^`]|``)+`|(?:[^.`'\"()+\-*/%<>=!,;]|(?<! )-(?! ))+)"
_SERIES = re.compile(rf"(?P<device>root(?:\.{_NODE})+)\.(?P<measurement>{_NODE})", re.IGNORECASE)


def split_series(name: str) -> tuple[str, str] | None:
    """Return device and measurement of a full path; None for whatever is none."""
    match = _SERIES.fullmatch(name)
    return None if match is None else (match["device"], match["measurement"])
