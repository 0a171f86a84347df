"""Statements for the operator."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Flush:
    """FLUSH. No paths: everything; `sequence` None: both kinds of memtables."""

    paths: tuple[str, ...] = ()
    sequence: bool | None = None


UtilityStatement = Flush
