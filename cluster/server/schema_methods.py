"""Schema methods of the client protocol (client-protocol 3.5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cluster.auth.privileges import Privilege
from cluster.errors import ClusterError, Status, StatusCode
from cluster.rpc.convert import PHYSICAL_TYPES
from cluster.rpc.gen.client.ttypes import (
    TSCreateAlignedTimeseriesReq,
    TSCreateMultiTimeseriesReq,
    TSCreateTimeseriesReq,
    TSDeleteDataReq,
    TSStatus,
)
from cluster.rpc.status import Generation
from cluster.schema.paths import join_path, split_path
from cluster.schema.series import SeriesSpec
from cluster.server.handler_base import HandlerBase, answers_status
from cluster.server.schema_statements import first_failure
from iotdb_engine import T_MIN, DataType

_LZ4 = 7
_LZ4_OF_JAVA_0_13 = 3


class SchemaMethods(HandlerBase):
    """Storage groups, series, deletion of data."""

    @answers_status
    def setStorageGroup(self, sessionId: int, storageGroup: str) -> TSStatus:  # noqa: N802, N803
        """Create a storage group."""
        self.writing_session(Privilege.SET_STORAGE_GROUP, [storageGroup])
        return self.wire(
            self.coordinator.schema.set_storage_group(storageGroup, self.write_deadline())
        )

    @answers_status
    def deleteStorageGroups(self, sessionId: int, storageGroup: list[str]) -> TSStatus:  # noqa: N802, N803
        """Drop storage groups."""
        session = self.writing_session(Privilege.DELETE_STORAGE_GROUP, storageGroup)
        prefix = session.prefix_dialect
        return self.wire(
            self.coordinator.schema.delete_storage_groups(
                storageGroup, self.write_deadline(), prefix=prefix
            )
        )

    @answers_status
    def createTimeseries(self, req: TSCreateTimeseriesReq) -> TSStatus:  # noqa: N802
        """Create one series."""
        self.writing_session(Privilege.CREATE_TIMESERIES, [req.path])
        return self.wire(
            self._create(
                req.path,
                req.dataType,
                req.encoding,
                req.compressor,
                req.measurementAlias,
                req.props,
                req.tags,
                req.attributes,
            )
        )

    @answers_status
    def createMultiTimeseries(self, req: TSCreateMultiTimeseriesReq) -> TSStatus:  # noqa: N802
        """Create series of any devices; each on its own."""
        self.writing_session(Privilege.CREATE_TIMESERIES, req.paths)
        count = len(req.paths)
        _check_lengths(count, req.dataTypes, req.encodings, req.compressors)
        statuses = []
        for number, path in enumerate(req.paths):
            try:
                statuses.append(
                    self._create(
                        path,
                        req.dataTypes[number],
                        req.encodings[number],
                        req.compressors[number],
                        _nth(req.measurementAliasList, number, count),
                        _nth(req.propsList, number, count),
                        _nth(req.tagsList, number, count),
                        _nth(req.attributesList, number, count),
                    )
                )
            except ClusterError as error:
                statuses.append(Status(error.status, error.message))
        return self.wire_all(statuses)

    @answers_status
    def createAlignedTimeseries(self, req: TSCreateAlignedTimeseriesReq) -> TSStatus:  # noqa: N802
        """Create the columns of an aligned device."""
        self.writing_session(
            Privilege.CREATE_TIMESERIES, [f"{req.prefixPath}.{name}" for name in req.measurements]
        )
        count = len(req.measurements)
        _check_lengths(count, req.dataTypes, req.encodings, req.compressors)
        specs = [
            SeriesSpec(
                measurement=name,
                data_type=data_type_of(req.dataTypes[number]),
                encoding=req.encodings[number],
                compressor=self._compressor(req.compressors[number]),
                alias=_nth(req.measurementAlias, number, count) or None,
                tags=_pairs(_nth(getattr(req, "tagsList", None), number, count)),
                attributes=_pairs(_nth(getattr(req, "attributesList", None), number, count)),
            )
            for number, name in enumerate(req.measurements)
        ]
        statuses = self.coordinator.schema.create_series(
            req.prefixPath, specs, self.write_deadline(), aligned=True
        )
        return self.wire(first_failure(statuses))

    @answers_status
    def deleteTimeseries(self, sessionId: int, path: list[str]) -> TSStatus:  # noqa: N802, N803
        """Delete series and their points."""
        prefix = self.writing_session(Privilege.DELETE_TIMESERIES, path).prefix_dialect
        return self.wire_all(
            self.coordinator.schema.delete_series(path, self.write_deadline(), prefix=prefix)
        )

    @answers_status
    def deleteData(self, req: TSDeleteDataReq) -> TSStatus:  # noqa: N802
        """Delete points in [startTime, endTime]; without endTime: up to startTime (0.12 Python)."""
        prefix = self.writing_session(Privilege.DELETE_TIMESERIES, req.paths).prefix_dialect
        t_min, t_max = req.startTime, req.endTime
        if t_max is None:
            t_min, t_max = T_MIN, req.startTime
        return self.wire(
            self.coordinator.schema.delete_data(
                req.paths, t_min, t_max, self.write_deadline(), prefix=prefix
            )
        )

    # ---- inside ----

    def _create(
        self,
        path: str,
        data_type: int,
        encoding: int,
        compressor: int,
        alias: str | None,
        props: Mapping[str, str] | None,
        tags: Mapping[str, str] | None,
        attributes: Mapping[str, str] | None,
    ) -> Status:
        nodes = split_path(path)
        if len(nodes) < 2:
            raise ClusterError(
                StatusCode.PATH_ILLEGAL,
                f"{path} is not a legal path, because a series is below a device",
            )
        spec = SeriesSpec(
            measurement=nodes[-1],
            data_type=data_type_of(data_type),
            encoding=encoding,
            compressor=self._compressor(compressor),
            alias=alias or None,
            props=_pairs(props),
            tags=_pairs(tags),
            attributes=_pairs(attributes),
        )
        (status,) = self.coordinator.schema.create_series(
            join_path(nodes[:-1]), [spec], self.write_deadline()
        )
        return status

    def _compressor(self, number: int) -> int:
        return compressor_of(number, self.generation())


def compressor_of(number: int, generation: Generation) -> int:
    """Return a compressor as it is kept: the Java 0.13 client sends LZ4 as 3 (client-protocol 3.5).

    Not inside a serialized template, which has its number as it is kept.
    """
    if number == _LZ4_OF_JAVA_0_13 and generation is Generation.V0_13:
        return _LZ4
    return number


def data_type_of(number: int) -> DataType:
    """Return a data type by its number on the wire; raises ClusterError when there is none."""
    data_type = PHYSICAL_TYPES.get(number)
    if data_type is None:
        raise ClusterError(StatusCode.ILLEGAL_PARAMETER, f"unknown data type {number}")
    return data_type


def _check_lengths(count: int, *lists: Sequence[Any]) -> None:
    if any(len(items) != count for items in lists):
        raise ClusterError(
            StatusCode.ILLEGAL_PARAMETER,
            f"{count} series, but {[len(items) for items in lists]} types, encodings, compressors",
        )


def _nth(items: Sequence[Any] | None, number: int, count: int) -> Any:  # noqa: ANN401
    return items[number] if items is not None and len(items) == count else None


def _pairs(mapping: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(mapping.items())) if mapping else ()
