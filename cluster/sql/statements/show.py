"""SHOW, COUNT and LIST.

`modern` marks the spellings of 1.x and 2.0, which are answered with the headers of those.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.sql.statements.show_filters import DeviceFilter, SeriesFilter


@dataclass(frozen=True)
class ShowStorageGroup:
    """SHOW STORAGE GROUP, SHOW DATABASES."""

    pattern: str = "root.**"
    modern: bool = False


@dataclass(frozen=True)
class ShowTimeseries:
    """SHOW [LATEST] TIMESERIES."""

    pattern: str = "root.**"
    limit: int | None = None
    offset: int = 0
    filter: SeriesFilter | None = None
    latest: bool = False


@dataclass(frozen=True)
class ShowDevices:
    """SHOW DEVICES [WITH STORAGE GROUP]."""

    pattern: str = "root.**"
    with_storage_group: bool = False
    limit: int | None = None
    offset: int = 0
    filter: DeviceFilter | None = None


@dataclass(frozen=True)
class ShowChildPaths:
    """SHOW CHILD PATHS."""

    pattern: str = "root.**"
    limit: int | None = None
    offset: int = 0


@dataclass(frozen=True)
class ShowChildNodes:
    """SHOW CHILD NODES."""

    pattern: str = "root.**"
    limit: int | None = None
    offset: int = 0


@dataclass(frozen=True)
class ShowTtl:
    """SHOW TTL ON, SHOW ALL TTL (no patterns)."""

    patterns: tuple[str, ...] = ()


@dataclass(frozen=True)
class ShowVersion:
    """SHOW VERSION."""


@dataclass(frozen=True)
class ShowFunctions:
    """SHOW FUNCTIONS."""


@dataclass(frozen=True)
class ShowTriggers:
    """SHOW TRIGGERS; 0.12 could name a path."""

    pattern: str = "root.**"


@dataclass(frozen=True)
class ShowContinuousQueries:
    """SHOW CONTINUOUS QUERIES."""


@dataclass(frozen=True)
class ShowFlushInfo:
    """SHOW FLUSH INFO."""


@dataclass(frozen=True)
class ShowLockInfo:
    """SHOW LOCK INFO."""

    pattern: str


@dataclass(frozen=True)
class ShowQueries:
    """SHOW QUERY PROCESSLIST, SHOW QUERIES."""

    modern: bool = False
    limit: int | None = None
    offset: int = 0


@dataclass(frozen=True)
class ShowMerge:
    """SHOW MERGE, of 0.12."""


@dataclass(frozen=True)
class ShowArchiving:
    """SHOW ARCHIVING."""


@dataclass(frozen=True)
class ShowCluster:
    """SHOW CLUSTER, of 1.x."""


@dataclass(frozen=True)
class ShowClusterId:
    """SHOW CLUSTERID, of 1.x."""


@dataclass(frozen=True)
class ShowDataNodes:
    """SHOW DATANODES, of 1.x."""


@dataclass(frozen=True)
class ShowVariables:
    """SHOW VARIABLES, of 1.x."""


@dataclass(frozen=True)
class ShowCurrentTimestamp:
    """SHOW CURRENT_TIMESTAMP, of 1.x; `now` is the time of the statement."""

    now: int


@dataclass(frozen=True)
class ShowTemplates:
    """SHOW SCHEMA TEMPLATES."""


@dataclass(frozen=True)
class ShowTemplateNodes:
    """SHOW NODES IN SCHEMA TEMPLATE."""

    name: str


@dataclass(frozen=True)
class ShowTemplatePaths:
    """SHOW PATHS SET, or USING, SCHEMA TEMPLATE; name `*`: any."""

    name: str
    using: bool
    pattern: str | None = None


@dataclass(frozen=True)
class CountTimeseries:
    """COUNT TIMESERIES [GROUP BY LEVEL]; `level` counts root as 0, None: one total."""

    pattern: str = "root.**"
    level: int | None = None
    filter: SeriesFilter | None = None


@dataclass(frozen=True)
class CountDevices:
    """COUNT DEVICES."""

    pattern: str = "root.**"


@dataclass(frozen=True)
class CountNodes:
    """COUNT NODES … LEVEL; `level` counts root as 0."""

    pattern: str
    level: int


@dataclass(frozen=True)
class CountStorageGroup:
    """COUNT STORAGE GROUP, COUNT DATABASES."""

    pattern: str = "root.**"
    modern: bool = False


@dataclass(frozen=True)
class ListUsers:
    """LIST USER [OF ROLE]."""

    role: str | None = None


@dataclass(frozen=True)
class ListRoles:
    """LIST ROLE [OF USER]."""

    user: str | None = None


@dataclass(frozen=True)
class ListUserPrivileges:
    """LIST USER PRIVILEGES, LIST PRIVILEGES USER … ON; with `path`: only what holds there."""

    user: str
    path: str | None = None
    modern: bool = False


@dataclass(frozen=True)
class ListRolePrivileges:
    """LIST ROLE PRIVILEGES, LIST PRIVILEGES ROLE … ON; with `path`: only what holds there."""

    role: str
    path: str | None = None
    modern: bool = False


ListStatement = ListUsers | ListRoles | ListUserPrivileges | ListRolePrivileges
ShowStatement = (
    ShowStorageGroup
    | ShowTimeseries
    | ShowDevices
    | ShowChildPaths
    | ShowChildNodes
    | ShowTtl
    | ShowVersion
    | ShowFunctions
    | ShowTriggers
    | ShowContinuousQueries
    | ShowFlushInfo
    | ShowLockInfo
    | ShowQueries
    | ShowMerge
    | ShowArchiving
    | ShowCluster
    | ShowClusterId
    | ShowDataNodes
    | ShowVariables
    | ShowCurrentTimestamp
    | ShowTemplates
    | ShowTemplateNodes
    | ShowTemplatePaths
    | CountTimeseries
    | CountDevices
    | CountNodes
    | CountStorageGroup
    | ListStatement
)
