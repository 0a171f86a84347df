"""Errors of the engine: one tree, so that a caller can tell refusal, damage and closing apart."""

from __future__ import annotations


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


class Corruption(EngineError):
    """Stored bytes are not what was written.

    Attributes:
        path: the data folder.
        key: the key of the damaged record.
        expected: what should have been there (a checksum, a version, a length), in words.
        found: what was there.
    """

    def __init__(self, path: str, key: bytes, expected: object, found: object) -> None:
        super().__init__(f"{path}: record {key.hex()}: expected {expected}, found {found}")
        self.path = path
        self.key = key
        self.expected = expected
        self.found = found
