"""Errors of the engine: one tree, so that a caller can tell refusal, damage and closing apart."""

from __future__ import annotations

from iotdb_engine.key_format import describe_key


class EngineError(Exception):
    """Base of everything the engine raises on purpose; a failed background flush raises it too."""


class Closed(EngineError):
    """The engine was closed; the operation did not happen (a read stops where it was)."""


class Locked(EngineError):
    """Another process, or another engine in this one, has the folder open."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"the data folder {path} is in use: another process (or another engine in this one) "
            "has it open; one folder belongs to one engine at a time"
        )
        self.path = path


class OutOfSpace(EngineError):
    """The disk is full: what was applied stays in memory, and nothing more becomes durable."""


class WrongType(EngineError):
    """A series was asked for as one type, and is stored as another."""


class UnknownSeries(EngineError):
    """No series has the name; nothing happened."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no series {name!r}; `Engine.series` lists those that exist")
        self.name = name


class LogCorruption(EngineError):
    """The write-ahead log lacks steps that were acknowledged.

    Attributes:
        path: of the file.
        stretch: (offset, end) of the bytes that are not sound.
        indices: first and last step that may be lost; None: not known.
    """

    def __init__(
        self, path: str, stretch: tuple[int, int], indices: tuple[int, int] | None
    ) -> None:
        steps = f"steps {indices[0]} to {indices[1]}" if indices else "steps"
        super().__init__(
            f"{path}: bytes {stretch[0]} to {stretch[1] - 1} of the write-ahead log are damaged: "
            f"{steps} that were acknowledged are lost. `iotdb-nodetool repair` takes them out"
        )
        self.path = path
        self.stretch = stretch
        self.indices = indices


class Corruption(EngineError):
    """Stored bytes are not what was written. The message names series, slot and time range.

    Attributes:
        path: the data folder.
        key: the key of the damaged record, or the one that was being looked for.
        expected: what should have been there (a checksum, a version, a length), in words.
        found: what was there.
        span: inclusive times of the rows that cannot be read, where that is known.
    """

    def __init__(
        self,
        path: str,
        key: bytes,
        expected: object,
        found: object,
        span: tuple[int, int] | None = None,
    ) -> None:
        times = f", times {span[0]} to {span[1]}" if span is not None else ""
        super().__init__(
            f"{path}: {describe_key(key)}{times} (record {key.hex()}): "
            f"expected {expected}, found {found}"
        )
        self.path = path
        self.key = key
        self.expected = expected
        self.found = found
        self.span = span

    def within(self, low: int, high: int) -> Corruption:
        """Return the same with the times of the rows that cannot be read, if it has none yet."""
        if self.span is not None:
            return self
        return Corruption(self.path, self.key, self.expected, self.found, (low, high))
