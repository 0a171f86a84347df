"""Fires triggers for the inserts that this node coordinates.

Each insert has one coordinator, the node that its client speaks to: there its triggers fire, once,
whatever becomes of the groups' leaders meanwhile. From the series upwards: the trigger of the
series, of its device, and so on to root.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import NamedTuple

from cluster.errors import ClusterError, StatusCode
from cluster.query.udf.process import UdfError
from cluster.query.udf.triggers import TriggerBatch, TriggerRuntime
from cluster.rpc.deadline import Deadline
from cluster.schema.paths import PathPattern, is_wildcard, split_path
from cluster.schema.registry import Registry, Trigger
from iotdb_engine import Column, Fragment
from iotdb_engine.fragment import decode_columns, decode_times

logger = logging.getLogger(__name__)

BEFORE = "before insert"
AFTER = "after insert"

_MAX_COLUMNS = 500_000
"""Of all sets of columns for which is remembered what they hit."""
_LOG_PAUSE_S = 10.0


class InsertedRows(NamedTuple):
    """What is about to be written, or was: a fragment and the names of its columns."""

    device: str
    measurements: tuple[str, ...]
    fragment: Fragment


class _Watch:
    """A trigger, and what it watches: a node with all below it, or the series of a pattern."""

    def __init__(self, trigger: Trigger) -> None:
        self.trigger = trigger
        self.nodes = split_path(trigger.path)
        self._pattern = (
            PathPattern.parse(trigger.path) if any(map(is_wildcard, self.nodes)) else None
        )

    def watches(self, nodes: tuple[str, ...]) -> bool:
        """Return whether a series is of its concern."""
        if self._pattern is not None:
            return self._pattern.matches(nodes)
        return nodes[: len(self.nodes)] == self.nodes


_Hits = list[tuple[Trigger, list[int]]]
"""Triggers in the order in which they fire, each with the columns of its concern."""


class _Watches:
    """Those of one set of triggers; what they hit is remembered."""

    def __init__(self, triggers: tuple[Trigger, ...]) -> None:
        self.triggers = triggers
        found = [_Watch(trigger) for trigger in triggers]
        self._watches = sorted(found, key=lambda watch: -len(watch.nodes))
        self._known: dict[tuple[str, tuple[str, ...]], _Hits] = {}
        self._columns = 0

    def hits(self, device: str, measurements: tuple[str, ...]) -> _Hits:
        key = device, measurements
        hits = self._known.get(key)
        if hits is None:
            hits = self._found(split_path(device), measurements)
            self._columns += len(measurements)
            if self._columns > _MAX_COLUMNS:
                self._known.clear()
                self._columns = len(measurements)
            self._known[key] = hits
        return hits

    def _found(self, device: tuple[str, ...], measurements: tuple[str, ...]) -> _Hits:
        hits: _Hits = []
        for watch in self._watches:
            columns = [
                number for number, name in enumerate(measurements) if watch.watches((*device, name))
            ]
            if columns:
                hits.append((watch.trigger, columns))
        return hits


class InsertTriggers:
    """Thread-safe.

    Args:
        registry: returns this node's replica of what is registered.
        runtime: runs them.
    """

    def __init__(self, registry: Callable[[], Registry], runtime: TriggerRuntime) -> None:
        self._registry = registry
        self._runtime = runtime
        self._watches = _Watches(())
        self._told: dict[str, float] = {}

    def any_started(self, registry: Registry | None = None) -> bool:
        """Return whether some trigger is started; ends what runs of those that are not.

        Args:
            registry: this node's replica, where it is at hand.
        """
        started = (self._registry() if registry is None else registry).started_triggers()
        if started is not self._watches.triggers:
            self._watches = _Watches(started)
            self._runtime.keep([trigger.name for trigger in started])
        return bool(started)

    def before(self, rows: InsertedRows, deadline: Deadline) -> None:
        """Fire what is to be fired before rows are written.

        Raises:
            ClusterError: a trigger failed; the rows must not be written.
        """
        for trigger, batch in self._batches(rows, BEFORE):
            try:
                self._runtime.fire(trigger, batch, deadline.remaining_s())
            except UdfError as error:
                raise ClusterError(
                    StatusCode.STORAGE_ENGINE_ERROR,
                    f"nothing was written to {rows.device}: trigger {trigger.name} failed: {error}",
                ) from error

    def after(self, rows: InsertedRows, deadline: Deadline) -> None:
        """Fire what is to be fired after rows were written; a failure is logged."""
        for trigger, batch in self._batches(rows, AFTER):
            try:
                self._runtime.fire(trigger, batch, deadline.remaining_s())
            except UdfError as error:
                self._tell(trigger, rows.device, error)

    def _batches(self, rows: InsertedRows, event: str) -> list[tuple[Trigger, TriggerBatch]]:
        hits = [
            hit
            for hit in self._watches.hits(rows.device, rows.measurements)
            if hit[0].event == event
        ]
        if not hits:
            return []
        fragment = rows.fragment
        times = decode_times([fragment])
        wanted = sorted({number for _, columns in hits for number in columns})
        decoded = {
            number: Column(fragment.layout.types[number], found.values, found.valid)
            for number, found in zip(
                wanted, decode_columns(fragment.layout, [fragment], wanted), strict=True
            )
        }
        return [
            (
                trigger,
                TriggerBatch(
                    rows.device,
                    [rows.measurements[number] for number in columns],
                    times,
                    [decoded[number] for number in columns],
                ),
            )
            for trigger, columns in hits
        ]

    def _tell(self, trigger: Trigger, device: str, error: UdfError) -> None:
        """Log a failure, not each of very many."""
        now = time.monotonic()
        if now < self._told.get(trigger.name, 0.0):
            return
        self._told[trigger.name] = now + _LOG_PAUSE_S
        logger.warning(
            "trigger %s failed after rows of %s were written (later failures within %d s are not "
            "told): %s",
            trigger.name,
            device,
            _LOG_PAUSE_S,
            error,
        )
