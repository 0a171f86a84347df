"""What the driver looks up, and remembers, of the series that it writes to."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from iotdb_client.blocks import decode_pages
from iotdb_client.rows import rows_of
from iotdb_client.session import Session
from iotdb_client.types import DataType

_ONE_BY_ONE = 16
_MAX_DEVICES = 10_000


class SeriesSchema:
    """Types and alignment of devices; thread-safe. A hint: the server has the last word."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._types: dict[str, dict[str, DataType]] = {}
        self._aligned: dict[str, bool] = {}

    def types(self, device: str, measurements: Sequence[str]) -> list[DataType] | None:
        """Return types of series, or None when one does not exist, or has another kind of type."""
        known = self.known(device, measurements)
        found = [known.get(name) for name in measurements]
        return None if None in found else found  # type: ignore[return-value]

    def known(self, device: str, measurements: Sequence[str]) -> dict[str, DataType]:
        """Return types of those series that exist, by name, if they are some of `DataType`'s."""
        with self._lock:
            known = dict(self._types.get(device, {}))
        missing = [name for name in measurements if name not in known]
        if missing:
            known |= self._look_up(device, missing)
            with self._lock:
                if len(self._types) >= _MAX_DEVICES:
                    self._types.clear()
                self._types[device] = known
        return {name: known[name] for name in measurements if name in known}

    def is_aligned(self, device: str, *, assumed: bool) -> bool:
        """Return whether a device is aligned."""
        known = self._aligned.get(device)
        if known is None:
            rows = self._rows(f"show devices {device}", "isAligned")
            if not rows:
                return assumed
            known = str(rows[0][0]).lower() == "true"
            with self._lock:
                self._aligned[device] = known
        return known

    def forget(self, device: str) -> None:
        """Look a device up again when it is needed."""
        with self._lock:
            self._types.pop(device, None)
            self._aligned.pop(device, None)

    def _look_up(self, device: str, names: Sequence[str]) -> dict[str, DataType]:
        paths = [f"{device}.{name}" for name in names]
        patterns = paths if len(paths) <= _ONE_BY_ONE else [f"{device}.*"]
        found: dict[str, DataType] = {}
        for pattern in patterns:
            for path, kind in self._rows(f"show timeseries {pattern}", "timeseries", "dataType"):
                if kind in DataType.__members__:
                    found[str(path)] = DataType[str(kind)]
        return {name: found[path] for name, path in zip(names, paths, strict=True) if path in found}

    def _rows(self, sql: str, *columns: str) -> list[tuple[Any, ...]]:
        """Run a listing and return some of its columns."""
        answer = self._session.execute(sql, fetch_size=10_000, repeatable=True)
        if answer.shape is None:
            return []
        names = [column.name.lower() for column in answer.shape.description]
        at = [names.index(column.lower()) for column in columns]
        page, more = answer.page, answer.more
        rows: list[tuple[Any, ...]] = []
        while page is not None:
            for part in decode_pages(page, answer.shape.types):
                rows += rows_of(part, answer.shape)
            if not more:
                break
            page, more = self._session.fetch(sql, answer.query, fetch_size=10_000)
        return [tuple(row[number] for number in at) for row in rows]
