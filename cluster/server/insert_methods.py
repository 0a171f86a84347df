"""Insert methods of the client protocol (client-protocol 3.4 and 5)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from cluster.auth.privileges import Privilege
from cluster.coordinator.inserter import InsertItem
from cluster.errors import OK, ClusterError, Status, StatusCode
from cluster.raft.types import NodeId
from cluster.rpc.convert import record_values, tablet_to_fragment_parts, tablet_types
from cluster.rpc.gen.client.ttypes import (
    TSInsertRecordReq,
    TSInsertRecordsOfOneDeviceReq,
    TSInsertRecordsReq,
    TSInsertStringRecordReq,
    TSInsertStringRecordsOfOneDeviceReq,
    TSInsertStringRecordsReq,
    TSInsertTabletReq,
    TSInsertTabletsReq,
    TSStatus,
)
from cluster.rpc.server import current_connection
from cluster.rpc.status import to_wire
from cluster.server.handler_base import HandlerBase, answers_status
from cluster.sql.statements.literals import Literal
from cluster.sql.values import literal_of_text

_I64 = struct.Struct(">q")

_Made = InsertItem | Status | None
"""What one element of a request came to: None has nothing to write, a Status says what is wrong."""


class InsertMethods(HandlerBase):
    """Records, string records and tablets; the test… forms check the session only."""

    @answers_status
    def insertRecord(self, req: TSInsertRecordReq) -> TSStatus:  # noqa: N802
        """Write one row."""
        self.writing_session(
            Privilege.INSERT_TIMESERIES, lambda: _paths([(req.prefixPath, req.measurements)])
        )
        item = record_item(
            req.prefixPath, req.measurements, req.values, req.timestamp, aligned=bool(req.isAligned)
        )
        return self._write([item], single=True)

    @answers_status
    def insertRecords(self, req: TSInsertRecordsReq) -> TSStatus:  # noqa: N802
        """Write rows of any devices."""
        self.writing_session(
            Privilege.INSERT_TIMESERIES,
            lambda: _paths(zip(req.prefixPaths, req.measurementsList, strict=False)),
        )
        _check_lengths(req.prefixPaths, req.measurementsList, req.valuesList, req.timestamps)
        aligned = bool(req.isAligned)
        return self._write(
            _each(
                record_item,
                zip(
                    req.prefixPaths,
                    req.measurementsList,
                    req.valuesList,
                    req.timestamps,
                    strict=True,
                ),
                aligned=aligned,
            )
        )

    @answers_status
    def insertRecordsOfOneDevice(self, req: TSInsertRecordsOfOneDeviceReq) -> TSStatus:  # noqa: N802
        """Write rows of one device."""
        self.writing_session(
            Privilege.INSERT_TIMESERIES,
            lambda: _paths((req.prefixPath, names) for names in req.measurementsList),
        )
        _check_lengths(req.measurementsList, req.valuesList, req.timestamps)
        make = partial(record_item, req.prefixPath)
        rows = zip(req.measurementsList, req.valuesList, req.timestamps, strict=True)
        return self._write(_each(make, rows, aligned=bool(req.isAligned)))

    @answers_status
    def insertTablet(self, req: TSInsertTabletReq) -> TSStatus:  # noqa: N802
        """Write a tablet; its column bytes are kept as they came."""
        self.writing_session(
            Privilege.INSERT_TIMESERIES, lambda: _paths([(req.prefixPath, req.measurements)])
        )
        if req.isCompressed:
            raise ClusterError(
                StatusCode.UNSUPPORTED_OPERATION,
                "compressed tablets are not supported: switch compression of tablets off",
            )
        if req.writeToTable:
            raise ClusterError(
                StatusCode.UNSUPPORTED_OPERATION, "the table model is not served here"
            )
        item = _tablet(
            req.prefixPath,
            req.measurements,
            req.types,
            req.size,
            req.timestamps,
            req.values,
            aligned=bool(req.isAligned),
        )
        return self._write([item], single=True)

    @answers_status
    def insertTablets(self, req: TSInsertTabletsReq) -> TSStatus:  # noqa: N802
        """Write tablets of several devices."""
        self.writing_session(
            Privilege.INSERT_TIMESERIES,
            lambda: _paths(zip(req.prefixPaths, req.measurementsList, strict=False)),
        )
        _check_lengths(
            req.prefixPaths,
            req.measurementsList,
            req.typesList,
            req.sizeList,
            req.timestampsList,
            req.valuesList,
        )
        aligned = bool(req.isAligned)
        return self._write(
            _each(
                _tablet,
                zip(
                    req.prefixPaths,
                    req.measurementsList,
                    req.typesList,
                    req.sizeList,
                    req.timestampsList,
                    req.valuesList,
                    strict=True,
                ),
                aligned=aligned,
            )
        )

    @answers_status
    def insertStringRecord(self, req: TSInsertStringRecordReq) -> TSStatus:  # noqa: N802
        """Write one row of text literals; types as for an INSERT statement."""
        self.writing_session(
            Privilege.INSERT_TIMESERIES, lambda: _paths([(req.prefixPath, req.measurements)])
        )
        statuses = self._write_strings(
            req.prefixPath,
            req.measurements,
            req.values,
            req.timestamp,
            aligned=bool(req.isAligned),
        )
        return self.wire_all(statuses, single=True)

    @answers_status
    def insertStringRecords(self, req: TSInsertStringRecordsReq) -> TSStatus:  # noqa: N802
        """Write rows of text literals of any devices; empty texts are left out."""
        self.writing_session(
            Privilege.INSERT_TIMESERIES,
            lambda: _paths(zip(req.prefixPaths, req.measurementsList, strict=False)),
        )
        _check_lengths(req.prefixPaths, req.measurementsList, req.valuesList, req.timestamps)
        return self._string_rows(
            zip(req.prefixPaths, req.measurementsList, req.valuesList, req.timestamps, strict=True),
            aligned=bool(req.isAligned),
        )

    @answers_status
    def insertStringRecordsOfOneDevice(  # noqa: N802
        self, req: TSInsertStringRecordsOfOneDeviceReq
    ) -> TSStatus:
        """Write rows of text literals of one device; empty texts are left out."""
        self.writing_session(
            Privilege.INSERT_TIMESERIES,
            lambda: _paths((req.prefixPath, names) for names in req.measurementsList),
        )
        _check_lengths(req.measurementsList, req.valuesList, req.timestamps)
        return self._string_rows(
            (
                (req.prefixPath, *row)
                for row in zip(req.measurementsList, req.valuesList, req.timestamps, strict=True)
            ),
            aligned=bool(req.isAligned),
        )

    # The test… methods measure a client's own cost: the server takes the request and does nothing.

    @answers_status
    def testInsertRecord(self, req: TSInsertRecordReq) -> TSStatus:  # noqa: N802
        """Check the session only."""
        self.session()
        return self.wire(OK)

    testInsertStringRecord = testInsertRecord  # noqa: N815
    testInsertRecords = testInsertRecord  # noqa: N815
    testInsertStringRecords = testInsertRecord  # noqa: N815
    testInsertRecordsOfOneDevice = testInsertRecord  # noqa: N815
    testInsertTablet = testInsertRecord  # noqa: N815
    testInsertTablets = testInsertRecord  # noqa: N815

    def write_one(self, item: InsertItem) -> TSStatus | None:
        """Write an item by itself and return its status; None: plain success."""
        return self.wire_one(*self.coordinator.inserter.insert_one(item, self.write_deadline()))

    def wire_one(self, status: Status, better: NodeId) -> TSStatus | None:
        """Render what `insert_one` returned; None: plain success."""
        if not status.ok:
            return self.wire(status)
        hint = self.redirects.address_of(better, current_connection().peer[0]) if better else None
        if hint is None:
            return None
        return to_wire(StatusCode.SUCCESS, "", self.generation(), redirect=hint)

    # ---- inside ----

    def _write(self, items: Sequence[_Made], *, single: bool = False) -> TSStatus:
        present = [item for item in items if isinstance(item, InsertItem)]
        written = iter(self.coordinator.inserter.insert(present, self.write_deadline()))
        statuses = [
            next(written) if isinstance(item, InsertItem) else OK if item is None else item
            for item in items
        ]
        answer = self.wire_all(statuses, single=single)
        if answer.code == StatusCode.SUCCESS:
            return self._with_hints(answer, items, single=single)
        return answer

    def _with_hints(self, success: TSStatus, items: Sequence[_Made], *, single: bool) -> TSStatus:
        """Add to a success where each item would better have been sent, for who reads that."""
        session = self.session()
        if not (single or session.follows_batch_hints):
            return success
        peer = current_connection().peer[0]
        hints = [
            self.redirects.hint(item, peer) if isinstance(item, InsertItem) else None
            for item in items
        ]
        if not any(hints):
            return success
        generation = session.generation
        marked = [to_wire(StatusCode.SUCCESS, "", generation, redirect=hint) for hint in hints]
        if single:
            return marked[0]
        return to_wire(StatusCode.NEED_REDIRECTION, "", generation, sub=marked)

    def _string_rows(self, rows: Any, *, aligned: bool) -> TSStatus:  # noqa: ANN401
        statuses = []
        for device, measurements, values, timestamp in rows:
            pairs = [
                pair for pair in zip(measurements, values, strict=True) if pair[1] not in (None, "")
            ]
            if not pairs:
                statuses.append(OK)
                continue
            try:
                statuses.extend(
                    self._write_strings(
                        device,
                        [name for name, _ in pairs],
                        [value for _, value in pairs],
                        timestamp,
                        aligned=aligned,
                    )
                )
            except ClusterError as error:
                statuses.append(Status(error.status, error.message))
        return self.wire_all(statuses)

    def _write_strings(
        self,
        device: str,
        measurements: Sequence[str],
        values: Sequence[str],
        timestamp: int,
        *,
        aligned: bool,
    ) -> list[Status]:
        _check_lengths(measurements, values)
        row: list[Literal] = [literal_of_text(value) for value in values]
        return self.executor.insert(
            device, measurements, aligned, [timestamp], [row], self.write_deadline()
        )


def _paths(devices: Iterable[tuple[str, Sequence[str]]]) -> list[str]:
    return [f"{device}.{name}" for device, names in devices for name in names]


def _check_lengths(*lists: Sequence[Any] | None) -> None:
    if None in lists or len({len(item or ()) for item in lists}) > 1:
        raise ClusterError(
            StatusCode.ILLEGAL_PARAMETER,
            f"the lists of the request differ in length: {[len(item or ()) for item in lists]}",
        )


def _each(
    make: Callable[..., InsertItem | None], rows: Iterable[Sequence[Any]], *, aligned: bool
) -> list[_Made]:
    """Make an item of each row; what can't be read has its status, and the others are written."""
    made: list[_Made] = []
    for row in rows:
        try:
            made.append(make(*row, aligned=aligned))
        except ClusterError as error:
            made.append(Status(error.status, error.message))
    return made


def record_item(
    device: str, measurements: Sequence[str], values: bytes, timestamp: int, *, aligned: bool
) -> InsertItem | None:
    """Return a row as a one-row item without its null cells; None when all are null."""
    types, cells, null_positions = record_values(values)
    names = tuple(measurements)
    if null_positions:
        gone = set(null_positions)
        names = tuple(name for number, name in enumerate(names) if number not in gone)
    if len(names) != len(types):
        raise ClusterError(
            StatusCode.ILLEGAL_PARAMETER,
            f"{device}: {len(measurements)} measurements but "
            f"{len(types) + len(null_positions)} values",
        )
    if not names:
        return None
    return InsertItem(device, names, types, 1, _I64.pack(timestamp), cells, b"", aligned)


def _tablet(
    device: str,
    measurements: Sequence[str],
    types: Sequence[int],
    size: int,
    timestamps: bytes,
    values: bytes,
    *,
    aligned: bool,
) -> InsertItem | None:
    _check_lengths(measurements, types)
    if not size or not measurements:
        return None
    known = tablet_types(types)
    body, nulls = tablet_to_fragment_parts(known, size, timestamps, values)
    return InsertItem(
        device, tuple(measurements), known.physical, size, timestamps, body, nulls, aligned
    )
