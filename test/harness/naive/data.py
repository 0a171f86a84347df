"""Series and their points."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from typing import Any

NUMERIC = ("INT32", "INT64", "FLOAT", "DOUBLE")

Path = tuple[str, ...]
"""Node names without quotes; wildcards among them in patterns."""

Cells = list[Any]
Answer = tuple[list[str], list[Cells]]


class RefusedError(Exception):
    """The statement is to be refused."""


class UndefinedError(Exception):
    """The rules do not say."""


@dataclass
class Series:
    """One series and its points."""

    device: Path
    name: str
    type: str
    points: dict[int, Any] = field(default_factory=dict)
    alias: str | None = None
    aligned: bool = False

    @property
    def path(self) -> Path:
        return (*self.device, self.name)


@dataclass
class Data:
    """All series, in the order of their creation."""

    series: list[Series]

    def match(self, pattern: Path) -> list[Series]:
        """Series by path or by alias, devices by path, then in the order of creation."""
        found = [
            one
            for one in self.series
            if fits(pattern, one.path)
            or (one.alias is not None and fits(pattern, (*one.device, one.alias)))
        ]
        return sorted(found, key=lambda one: one.device)

    def devices(self, pattern: Path) -> list[Path]:
        return sorted({one.device for one in self.series if fits(pattern, one.device)})


def fits(pattern: Path, path: Path) -> bool:
    """Whether a path matches: `*` is a node or a part of its name, `**` one or more nodes."""
    if not pattern:
        return not path
    if not path:
        return False
    head, rest = pattern[0], pattern[1:]
    if head == "**":
        return any(fits(rest, path[count:]) for count in range(1, len(path) + 1))
    parts = ".*".join(map(re.escape, head.split("*")))
    return re.fullmatch(parts, path[0]) is not None and fits(rest, path[1:])


def as_float32(value: float) -> float:
    """Round to 32 bits."""
    result: float = struct.unpack(">f", struct.pack(">f", value))[0]
    return result
