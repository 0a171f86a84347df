"""The process that runs a function or trigger of a user: messages on stdin and stdout.

    python -m cluster.query.udf.worker FOLDER

    check CLASS              → ok, or the reason why the class is no function
    make CLASS types, …      → the type of the result
    run times, columns       → one column of as many rows

    make_trigger CLASS path, … → nothing, when the trigger takes its path and attributes
    fire times, columns        → nothing, when the trigger has taken the rows

What it prints goes to stderr.
"""

from __future__ import annotations

import importlib
import os
import resource
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.query.udf import wire

_MEMORY_BYTES = 2 << 30


class _Refused(Exception):
    pass


def _load(name: str, method: str = "compute") -> type:
    module_name, _, class_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise _Refused(f"module {module_name}: {_told(error)}") from error
    found = getattr(module, class_name, None)
    if not isinstance(found, type) or not callable(getattr(found, method, None)):
        raise _Refused(f"module {module_name} has no class {class_name} with a method {method}")
    return found


def _told(error: BaseException) -> str:
    """Return an error of the function's code: what, and in which line of its file."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(str(Path(__file__)))]
    where = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {error}{where}"


class Worker:
    """Holds the instance of one function or trigger."""

    def __init__(self) -> None:
        self._instance: Any = None
        self._type = ""

    def answer(self, message: wire.Message) -> bytes:
        """Return the answer to a message, an error if that is what it comes to."""
        try:
            match message.head["op"]:
                case "check":
                    _load(message.head["class"])
                    return wire.encode({})
                case "make":
                    return self._make(message.head)
                case "make_trigger":
                    head = message.head
                    made = _load(head["class"], "fire")(head["path"], dict(head["attributes"]))
                    self._instance = made
                    return wire.encode({})
                case "fire":
                    return self._fire(message)
                case _:
                    return self._run(message)
        except _Refused as error:
            return wire.encode({"error": str(error)})
        except Exception as error:  # noqa: BLE001 - whatever the function raises is its answer
            return wire.encode({"error": _told(error)})

    def _make(self, head: dict[str, Any]) -> bytes:
        made = _load(head["class"])(head["types"], dict(head["attributes"]))
        result = getattr(made, "result_type", None)
        if result not in wire.DTYPES:
            raise _Refused(
                f"result_type is {result!r}, it has to be one of {', '.join(wire.DTYPES)}"
            )
        self._instance, self._type = made, result
        return wire.encode({"type": result})

    def _fire(self, message: wire.Message) -> bytes:
        times, *columns = message.columns
        names = message.head["measurements"]
        self._instance.fire(
            message.head["device"],
            times.values,
            {name: column.values for name, column in zip(names, columns, strict=True)},
            dict(zip(names, _valid(columns, len(times.values)), strict=True)),
        )
        return wire.encode({})

    def _run(self, message: wire.Message) -> bytes:
        times, *columns = message.columns
        count = len(times.values)
        valid = _valid(columns, count)
        found = self._instance.compute(times.values, [column.values for column in columns], valid)
        return wire.encode({}, [result_column(found, self._type, count)])


def result_column(found: Any, kind: str, count: int) -> wire.WireColumn:  # noqa: ANN401
    """Return what a function gave as a column of its type.

    Args:
        found: an array, or an array and which of its values are valid; lists will do.
        kind: name of the type.
        count: rows.

    Raises:
        _Refused: there are more or fewer values than rows, or a valid one that the type has not.
    """
    given, mask = found if isinstance(found, tuple) else (found, None)
    # NumPy would make one type of a list's values, and take the zeros from the ends of bytes
    values = given if isinstance(given, np.ndarray) else np.asarray(given, dtype=object)
    if values.shape != (count,):
        raise _Refused(f"compute returned {values.shape} values for {count} rows")
    if mask is not None:
        mask = np.asarray(mask, "?")
        if mask.shape != (count,):
            raise _Refused(f"compute returned a mask of {mask.shape} for {count} rows")
    there = np.ones(count, "?") if mask is None else mask
    if kind == "TEXT":
        texts = np.empty(count, dtype=object)
        # bytes(5) would be five bytes of zero
        texts[:] = [
            _text(one) if valid else b""
            for one, valid in zip(values.tolist(), there.tolist(), strict=True)
        ]
        return wire.WireColumn(kind, texts, mask)
    if values.dtype == object:
        values = np.where(there, values, 0)  # where it has no value it may say so by None
    try:
        with np.errstate(invalid="ignore", over="ignore"):
            cast = values.astype(wire.DTYPES[kind])
    except (TypeError, ValueError, OverflowError) as error:
        raise _Refused(f"compute returned a value that is no {kind}: {error}") from error
    wrong = there & _is_another(values, cast)
    if wrong.any():
        raise _Refused(f"compute returned {values[wrong].tolist()[0]}, which is no {kind}")
    return wire.WireColumn(kind, cast, mask)


def _text(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise _Refused(f"compute returned {value!r}, which is no TEXT: return str or bytes")


def _is_another(values: npt.NDArray[Any], cast: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Tell which values are others in their new type; digits that a float has no room for may go.

    NumPy cuts off fractions and high bits without a word.
    """
    if cast.dtype.kind == "i" and values.dtype.kind in "iufO":
        return np.asarray(values != cast, "?")
    if cast.dtype.kind == "f" and values.dtype.kind in "fO":
        return np.asarray(np.isinf(cast) & np.isfinite(values.astype("f8")), "?")
    return np.zeros(len(values), "?")


def _valid(columns: Sequence[wire.WireColumn], count: int) -> list[npt.NDArray[np.bool_]]:
    return [np.ones(count, "?") if column.valid is None else column.valid for column in columns]


def _reader(descriptor: int) -> Callable[[int], bytes]:
    def read(count: int) -> bytes:
        parts = []
        while count:
            part = os.read(descriptor, min(count, 1 << 20))
            if not part:
                raise SystemExit(0)
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    return read


def main(folder: str) -> None:
    """Answer until the server closes the pipe."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    answers = os.dup(1)
    os.dup2(2, 1)  # print is no way to talk to the server
    sys.path.insert(0, folder)
    sys.dont_write_bytecode = True
    read, worker = _reader(0), Worker()
    while True:
        data = memoryview(worker.answer(wire.decode(read)))
        while data:
            data = data[os.write(answers, data) :]


if __name__ == "__main__":
    main(sys.argv[1])
