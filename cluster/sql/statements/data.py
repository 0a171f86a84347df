"""Statements that write and delete points."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.sql.statements.literals import Literal
from iotdb_engine.types import T_MAX, T_MIN


@dataclass(frozen=True)
class DeleteData:
    """DELETE FROM; the range is inclusive."""

    patterns: tuple[str, ...]
    t_min: int = T_MIN
    t_max: int = T_MAX


@dataclass(frozen=True)
class Insert:
    """INSERT INTO.

    Attributes:
        times: one for each row; None means the server's time.
        rows: literals parallel to `measurements`.
    """

    device: str
    measurements: tuple[str, ...]
    aligned: bool
    times: tuple[int | None, ...]
    rows: tuple[tuple[Literal, ...], ...]


DataStatement = Insert | DeleteData
