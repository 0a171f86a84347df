"""What is known of a time series, as values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from iotdb_engine.types import DataType

SERIES_PER_STORAGE_GROUP_BITS = 32
"""series_id = sg_id << 32 | number within the storage group; neither is ever reused."""


@dataclass(frozen=True)
class SeriesSpec:
    """A series to be created.

    Attributes:
        measurement: last node of its path.
        data_type, encoding, compressor: numbers of the family's enums (client-protocol: PLAIN 0 …
            GORILLA 8; UNCOMPRESSED 0, SNAPPY 1, GZIP 2, LZ4 7).
        alias: second name inside the device, or None.
        props, tags, attributes: pairs in the order given.
    """

    measurement: str
    data_type: DataType
    encoding: int
    compressor: int
    alias: str | None = None
    props: tuple[tuple[str, str], ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    attributes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class NewSeries:
    """Series of one device that are to be created in the schema of a storage group.

    The fields are a plan's (CreateSeriesPlan), so they are in logs.

    Attributes:
        sg_id, sg_path: the storage group.
        device: full path of the device, text form.
        aligned: whether the device is (to be) aligned.
        specs: what to create.
        if_absent: an existing series of the same type is a success (auto-creation on insert);
            otherwise it is refused with PATH_ALREADY_EXISTS.
        template: name of the schema template that is being activated, "" when it is none.
    """

    sg_id: int
    sg_path: str
    device: str
    aligned: bool
    specs: tuple[SeriesSpec, ...]
    if_absent: bool
    template: str = ""


class AlterAction(IntEnum):
    """What a SeriesChange is; frozen, it is in logs."""

    RENAME = 1
    SET = 2
    DROP = 3
    ADD_TAGS = 4
    ADD_ATTRIBUTES = 5
    UPSERT = 6


@dataclass(frozen=True)
class SeriesChange:
    """A change of a series' tags, attributes or alias.

    The fields are a plan's (AlterSeriesPlan), so they are in logs.

    Attributes:
        series_id: of the series.
        action: what to do.
        pairs: RENAME: (old, new); DROP: (key, ""); else key and value; UPSERT: of tags.
        attributes: UPSERT: of attributes.
        alias: UPSERT: the new alias, None to leave it.
    """

    series_id: int
    action: AlterAction
    pairs: tuple[tuple[str, str], ...] = ()
    attributes: tuple[tuple[str, str], ...] = ()
    alias: str | None = None


@dataclass(frozen=True)
class SeriesInfo:
    """A series that exists. `device` and `path` are text forms of full paths.

    `template` names the schema template whose activation made it, "" when none did.
    """

    series_id: int
    storage_group: str
    device: str
    measurement: str
    data_type: DataType
    encoding: int
    compressor: int
    aligned: bool
    alias: str | None = None
    props: tuple[tuple[str, str], ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    attributes: tuple[tuple[str, str], ...] = ()
    template: str = ""

    def __hash__(self) -> int:
        return hash(self.series_id)

    @property
    def path(self) -> str:
        """Full path: device and measurement."""
        return f"{self.device}.{self.measurement}"

    @property
    def sg_id(self) -> int:
        """Id of the storage group that owns this series."""
        return self.series_id >> SERIES_PER_STORAGE_GROUP_BITS


@dataclass(frozen=True)
class DeviceInfo:
    """A device that has at least one series. `template`: the one in use on it, or ""."""

    path: str
    storage_group: str
    aligned: bool
    template: str = ""
