"""Statements for the operator."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Flush:
    """FLUSH. No paths: everything; `sequence` None: both kinds of memtables."""

    paths: tuple[str, ...] = ()
    sequence: bool | None = None


@dataclass(frozen=True)
class Merge:
    """MERGE, FULL MERGE."""

    full: bool


@dataclass(frozen=True)
class ClearCache:
    """CLEAR CACHE."""


@dataclass(frozen=True)
class SetSystemMode:
    """SET SYSTEM TO READONLY or WRITABLE (1.x: RUNNING)."""

    read_only: bool


@dataclass(frozen=True)
class KillQuery:
    """KILL QUERY; None: every one."""

    query_id: int | None = None


@dataclass(frozen=True)
class LoadConfiguration:
    """LOAD CONFIGURATION."""


@dataclass(frozen=True)
class ShowQueryResource:
    """SHOW QUERY RESOURCE: writes to the log, answers with a status only."""


@dataclass(frozen=True)
class Unsupported:
    """A statement that parses and is refused: what it is, and what there is instead."""

    what: str
    instead: str


UtilityStatement = (
    Flush
    | Merge
    | ClearCache
    | SetSystemMode
    | KillQuery
    | LoadConfiguration
    | ShowQueryResource
    | Unsupported
)
