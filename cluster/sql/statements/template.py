"""Statements about schema templates."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.schema.series import SeriesSpec


@dataclass(frozen=True)
class CreateTemplate:
    """CREATE SCHEMA TEMPLATE, defaults filled in."""

    name: str
    aligned: bool
    columns: tuple[SeriesSpec, ...]


@dataclass(frozen=True)
class AlterTemplate:
    """ALTER SCHEMA TEMPLATE … ADD (…)."""

    name: str
    columns: tuple[SeriesSpec, ...]


@dataclass(frozen=True)
class DropTemplate:
    """DROP SCHEMA TEMPLATE."""

    name: str


@dataclass(frozen=True)
class SetTemplate:
    """SET SCHEMA TEMPLATE … TO."""

    name: str
    path: str


@dataclass(frozen=True)
class UnsetTemplate:
    """UNSET SCHEMA TEMPLATE … FROM."""

    name: str
    path: str


@dataclass(frozen=True)
class ActivateTemplate:
    """CREATE TIMESERIES OF SCHEMA TEMPLATE ON."""

    path: str


@dataclass(frozen=True)
class DeactivateTemplate:
    """DEACTIVATE SCHEMA TEMPLATE … FROM; name `*`: any."""

    name: str
    patterns: tuple[str, ...]


TemplateStatement = (
    CreateTemplate
    | AlterTemplate
    | DropTemplate
    | SetTemplate
    | UnsetTemplate
    | ActivateTemplate
    | DeactivateTemplate
)
