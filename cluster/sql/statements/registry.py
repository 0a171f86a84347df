"""Statements about functions, triggers and continuous queries."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CreateFunction:
    """CREATE FUNCTION … AS."""

    name: str
    class_name: str


@dataclass(frozen=True)
class DropFunction:
    """DROP FUNCTION."""

    name: str


@dataclass(frozen=True)
class CreateTrigger:
    """CREATE TRIGGER; `event` is `before insert` or `after insert`."""

    name: str
    event: str
    path: str
    class_name: str
    attributes: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class DropTrigger:
    """DROP TRIGGER."""

    name: str


@dataclass(frozen=True)
class SwitchTrigger:
    """START TRIGGER, STOP TRIGGER."""

    name: str
    start: bool


@dataclass(frozen=True)
class CreateContinuousQuery:
    """CREATE CONTINUOUS QUERY (sql.md 3.17). Times and lengths in units of the precision.

    Attributes:
        name: as typed.
        every: between two runs.
        span: length of what a run looks at, FOR.
        boundary: a time at which a window begins; the time of the statement when nothing is said.
        query: the SELECT that a run makes, with `now()` for the time of the run.
        pattern: of its FROM.
        target: path of the results, whole, with placeholders `${n}`.
    """

    name: str
    every: int
    span: int
    boundary: int
    query: str
    pattern: str
    target: str


@dataclass(frozen=True)
class DropContinuousQuery:
    """DROP CONTINUOUS QUERY."""

    name: str


RegistryStatement = (
    CreateFunction
    | DropFunction
    | CreateTrigger
    | DropTrigger
    | SwitchTrigger
    | CreateContinuousQuery
    | DropContinuousQuery
)
