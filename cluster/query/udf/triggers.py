"""Runs triggers of users: one process for each trigger that has fired on this node.

Unlike a function's, a trigger's object lives on from one batch to the next, until the trigger is
stopped, dropped or made anew, its file changes, or its process ends. Batches of a trigger come one
at a time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from cluster.query.udf import wire
from cluster.query.udf.process import START_S, Code, UdfError, WorkerProcess, code_of
from cluster.schema.registry import Trigger
from iotdb_engine.types import Column

MAX_TRIGGERS = 32
"""Started triggers, each of which may need a process on each node."""


class TriggerBatch(NamedTuple):
    """Rows of one device: times int64[n], and a column[n] for each measurement."""

    device: str
    measurements: Sequence[str]
    times: wire.Times
    columns: Sequence[Column]


class _Limits(NamedTuple):
    """When a batch, and when its insert, has to be done; of the monotonic clock."""

    batch: float
    insert: float


class _Running:
    """A trigger's place: its process, when it has one, is the lock holder's."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.made: tuple[Trigger, Code] | None = None
        self.process: WorkerProcess | None = None
        self.is_given_up = False
        """Its trigger was stopped or dropped: who waits for the lock finds nothing to fire, and who
        waits for an answer goes on without one."""

    def end(self) -> None:
        if self.process is not None:
            self.process.close()
        self.made = self.process = None

    def give_up(self) -> None:
        """End it at once, the batch under way included."""
        self.is_given_up = True
        if self.lock.acquire(blocking=False):
            try:
                self.end()
            finally:
                self.lock.release()
            return
        process = self.process
        if process is not None:
            process.kill()  # who holds the lock closes it


class TriggerRuntime:
    """The triggers of one node's folder; thread-safe.

    Args:
        folder: of modules; None: triggers are switched off.
        timeout_s: of each batch, waiting for the batches before it included, but not the start of
            a process: how long that takes is no doing of the batch.
    """

    def __init__(self, folder: Path | None, timeout_s: float) -> None:
        self._folder = folder
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._running: dict[str, _Running] = {}
        self._closed = False

    @property
    def enabled(self) -> bool:
        """Whether there is a folder."""
        return self._folder is not None

    def check(self, trigger: Trigger) -> None:
        """Make a trigger's object once, in a process that ends again.

        Raises:
            UdfError: with the reason why it can't be.
        """
        process = WorkerProcess(self._known_folder())
        try:
            process.ask(_make(trigger), START_S)
        finally:
            process.close()

    def fire(self, trigger: Trigger, batch: TriggerBatch, timeout_s: float) -> None:
        """Hand a batch to a trigger and wait until it has taken it, or the trigger is stopped.

        Args:
            trigger: as it is registered now.
            batch: rows of its concern.
            timeout_s: what is left of the insert's time; bounds all of this.

        Raises:
            UdfError: it failed, took too long, or can't be run here.
        """
        folder = self._known_folder()
        began = time.monotonic()
        limits = _Limits(batch=began + self._timeout_s, insert=began + timeout_s)
        running = self._place(trigger.name)
        if not running.lock.acquire(timeout=max(0.0, min(limits) - began)):
            raise UdfError("it is busy with other inserts (udf_timeout_ms)")
        try:
            if self._is_wanted(running):
                self._ask(running, trigger, folder, batch, limits)
        finally:
            running.lock.release()

    def _ask(
        self,
        running: _Running,
        trigger: Trigger,
        folder: Path,
        batch: TriggerBatch,
        limits: _Limits,
    ) -> None:
        try:
            before = time.monotonic()
            process = self._process(running, trigger, folder, limits.insert)
            now = time.monotonic()
            if self._is_wanted(running):
                end = min(limits.batch + now - before, limits.insert)
                process.ask(_fire(batch), max(0.0, end - now))
        except UdfError:
            if self._closed or not running.is_given_up:
                raise
        finally:
            process_ended = running.process is None or not running.process.alive
            if running.is_given_up or running.made is None or process_ended:
                running.end()

    def _is_wanted(self, running: _Running) -> bool:
        """Whether the trigger is still to be fired.

        Raises:
            UdfError: nothing is any more, and rows that it could have refused must not be written.
        """
        if self._closed:
            raise UdfError("the server is being stopped")
        return not running.is_given_up

    def keep(self, names: Collection[str]) -> None:
        """End the processes of all triggers but these."""
        with self._lock:
            gone = [self._running.pop(name) for name in set(self._running) - set(names)]
        for running in gone:
            running.give_up()

    def close(self) -> None:
        """End the processes."""
        self._closed = True
        self.keep(())

    def _known_folder(self) -> Path:
        if self._folder is None:
            raise UdfError("triggers are switched off on this node (udf_dir)")
        return self._folder

    def _place(self, name: str) -> _Running:
        with self._lock:
            return self._running.setdefault(name, _Running())

    @staticmethod
    def _process(running: _Running, trigger: Trigger, folder: Path, last: float) -> WorkerProcess:
        """Return the process that has the trigger's object; a new one where need be, by `last`."""
        wanted = trigger, code_of(folder, trigger.class_name)
        if running.made == wanted and running.process is not None and running.process.alive:
            return running.process
        running.end()
        # known before it is asked: whoever stops the trigger meanwhile can end it
        process = running.process = WorkerProcess(folder)
        if not running.is_given_up:
            process.ask(_make(trigger), min(START_S, max(0.0, last - time.monotonic())))
            running.made = wanted
        return process


def _make(trigger: Trigger) -> bytes:
    return wire.encode(
        {
            "op": "make_trigger",
            "class": trigger.class_name,
            "path": trigger.path,
            "attributes": trigger.attributes,
        }
    )


def _fire(batch: TriggerBatch) -> bytes:
    sent = [wire.WireColumn("INT64", batch.times)]
    sent += [
        wire.WireColumn(column.type.name, column.values, column.valid) for column in batch.columns
    ]
    head = {"op": "fire", "device": batch.device, "measurements": list(batch.measurements)}
    return wire.encode(head, sent)
