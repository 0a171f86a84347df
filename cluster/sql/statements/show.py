"""SHOW and COUNT."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ShowStorageGroup:
    """SHOW STORAGE GROUP, SHOW DATABASES."""

    pattern: str = "root.**"


@dataclass(frozen=True)
class ShowTimeseries:
    """SHOW TIMESERIES."""

    pattern: str = "root.**"
    limit: int | None = None
    offset: int = 0


@dataclass(frozen=True)
class ShowDevices:
    """SHOW DEVICES [WITH STORAGE GROUP]."""

    pattern: str = "root.**"
    with_storage_group: bool = False
    limit: int | None = None
    offset: int = 0


@dataclass(frozen=True)
class ShowVersion:
    """SHOW VERSION."""


@dataclass(frozen=True)
class CountTimeseries:
    """COUNT TIMESERIES [GROUP BY LEVEL]; `level` counts root as 0, None: one total."""

    pattern: str = "root.**"
    level: int | None = None


@dataclass(frozen=True)
class CountDevices:
    """COUNT DEVICES."""

    pattern: str = "root.**"


@dataclass(frozen=True)
class CountStorageGroup:
    """COUNT STORAGE GROUP, COUNT DATABASES."""

    pattern: str = "root.**"


ShowStatement = (
    ShowStorageGroup
    | ShowTimeseries
    | ShowDevices
    | ShowVersion
    | CountTimeseries
    | CountDevices
    | CountStorageGroup
)
