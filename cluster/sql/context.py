"""What the meaning of a SQL text depends on besides the text."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import tzinfo

from cluster.errors import ClusterError, StatusCode
from cluster.sql.timestamps import parse_zone


@dataclass(frozen=True)
class ParseContext:
    """Session and clock, as seen by the parser.

    Attributes:
        zone: time zone or its text in any Java ZoneId spelling; for dates without an offset.
        now: what `now()` is, in units of `precision`.
        precision: "ms", "us" or "ns".
        prefix_dialect: whether the session speaks the 0.12 dialect (sql.md 1.6).
        modern: whether it speaks that of 1.0 and later (sql.md 7.3, 7.4).
    """

    zone: str | tzinfo = "Z"
    now: int = 0
    precision: str = "ms"
    prefix_dialect: bool = False
    modern: bool = False

    @property
    def time_zone(self) -> tzinfo:
        """The zone, resolved; ValueError when it is none."""
        return parse_zone(self.zone) if isinstance(self.zone, str) else self.zone


def semantic_error(text: str) -> ClusterError:
    """Return the error of a text that parses but means nothing (0.13 `SQLParserException`)."""
    return ClusterError(StatusCode.METADATA_ERROR, f"Check metadata error: {text}")


def illegal_path(path: str, reason: str = "") -> ClusterError:
    """Return the error of a path that can't be."""
    because = f", because {reason}" if reason else ""
    return ClusterError(StatusCode.PATH_ILLEGAL, f"{path} is not a legal path{because}")
