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
class DropContinuousQuery:
    """DROP CONTINUOUS QUERY."""

    name: str


RegistryStatement = (
    CreateFunction
    | DropFunction
    | CreateTrigger
    | DropTrigger
    | SwitchTrigger
    | DropContinuousQuery
)
