"""Runs functions of users in processes of their own, with a time limit.

    udf_dir           folder of their modules; empty: there are none
    udf_timeout_ms    of each batch

A process is made when a query begins to use a function, and goes when the query has ended. A few
wait for the next query.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from pathlib import Path

from cluster.errors import ClusterError, StatusCode
from cluster.query.functions.function import (
    Attributes,
    Bind,
    BoundFunction,
    FunctionError,
    ImmediateFunction,
    RowStep,
    Times,
)
from cluster.query.udf import wire
from cluster.query.udf.process import START_S, Code, UdfError, WorkerProcess, code_of
from iotdb_engine.types import BATCH_DTYPES, Column, DataType

_MAX_IDLE = 2
_MAX_PROCESSES = 16


class UdfRuntime:
    """The functions of one node's folder; thread-safe.

    Args:
        folder: of modules; None: functions of users are switched off.
        timeout_s: of each batch.
    """

    def __init__(self, folder: Path | None, timeout_s: float) -> None:
        self._folder = folder
        self._timeout_s = timeout_s
        # a run may be given back by the collector while this thread holds the lock
        self._lock = threading.RLock()
        self._idle: list[tuple[Code, WorkerProcess]] = []
        self._count = 0
        self._closed = False

    @property
    def enabled(self) -> bool:
        """Whether there is a folder."""
        return self._folder is not None

    def check(self, class_name: str) -> None:
        """Refuse a class that can't be loaded here.

        Raises:
            UdfError: with the reason.
        """
        assert self._folder is not None
        code = code_of(self._folder, class_name)
        process = self._taken(code)
        try:
            process.ask(wire.encode({"op": "check", "class": class_name}), START_S)
        finally:
            self._give_back(code, process)

    def bind(self, name: str, class_name: str) -> Bind:
        """Return what binds a registered function."""

        def bind(types: Sequence[DataType], attributes: Attributes) -> BoundFunction:
            if not self.enabled:
                raise FunctionError("functions of users are switched off on this node (udf_dir)")
            request = wire.encode(
                {
                    "op": "make",
                    "class": class_name,
                    "types": [data_type.name for data_type in types],
                    "attributes": list(attributes.items()),
                }
            )
            assert self._folder is not None
            code = code_of(self._folder, class_name)
            process = self._taken(code)
            try:
                result = DataType[str(process.ask(request, START_S).head["type"])]
            except UdfError as error:
                raise FunctionError(str(error)) from error
            finally:
                self._give_back(code, process)
            kinds = [data_type.name for data_type in types]
            return ImmediateFunction(
                result, lambda: self._start(name, code, request, kinds, result)
            )

        return bind

    def close(self) -> None:
        """End the processes: the idle ones now, the others when their queries end."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for _, process in idle:
            process.close()
            with self._lock:
                self._count -= 1

    def _start(
        self, name: str, code: Code, request: bytes, kinds: Sequence[str], result: DataType
    ) -> RowStep:
        """Return a run of a function: a process of its own, until nobody holds the run any more."""
        process = self._taken(code)
        timeout_s = self._timeout_s

        class Run:
            def __call__(self, times: Times, columns: Sequence[Column]) -> Column:
                sent = [wire.WireColumn("INT64", times)]
                sent += [
                    wire.WireColumn(kind, column.values, column.valid)
                    for kind, column in zip(kinds, columns, strict=True)
                ]
                try:
                    answer = process.ask(wire.encode({"op": "run"}, sent), timeout_s)
                    found = _column_of(answer, result, len(times))
                except UdfError as error:
                    raise _failed(name, error) from error
                values = found.values.astype(BATCH_DTYPES[result], copy=False)
                return Column(result, values, found.valid)

        run = Run()
        weakref.finalize(run, self._give_back, code, process)
        try:
            process.ask(request, START_S)
        except UdfError as error:
            raise _failed(name, error) from error
        return run

    def _taken(self, code: Code) -> WorkerProcess:
        assert self._folder is not None
        with self._lock:
            for number, (known, process) in enumerate(self._idle):
                if known == code:
                    del self._idle[number]
                    return process
            if self._count >= _MAX_PROCESSES:
                raise ClusterError(
                    StatusCode.QUERY_PROCESS_ERROR,
                    f"{_MAX_PROCESSES} functions of users run at the moment; try again",
                )
            self._count += 1
        try:
            return WorkerProcess(self._folder)
        except UdfError as error:
            with self._lock:
                self._count -= 1
            raise ClusterError(
                StatusCode.QUERY_PROCESS_ERROR, f"a function of a user can't run: {error}"
            ) from error

    def _give_back(self, code: Code, process: WorkerProcess) -> None:
        """Keep a process for the next query, in the place of the one that waits longest."""
        with self._lock:
            if process.alive and not self._closed:
                self._idle.append((code, process))
                if len(self._idle) <= _MAX_IDLE:
                    return
                _, process = self._idle.pop(0)
            self._count -= 1
        process.close()


def _column_of(answer: wire.Message, result: DataType, rows: int) -> wire.WireColumn:
    """Return the column of an answer, which code of a user may have had a hand in."""
    found = answer.columns[0] if len(answer.columns) == 1 else None
    if found is None or (found.type, len(found.values)) != (result.name, rows):
        raise UdfError("its process answered something else than was asked")
    return found


def _failed(name: str, error: UdfError) -> ClusterError:
    return ClusterError(
        StatusCode.QUERY_PROCESS_ERROR,
        f"Error occurred in query process: function {name} failed: {error}",
    )
