"""The file that a node in the background writes its output to, bounded by beginning new ones."""

from __future__ import annotations

import itertools
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

_STDOUT, _STDERR = 1, 2


if TYPE_CHECKING:
    _Handler = logging.StreamHandler[TextIO]
else:
    _Handler = logging.StreamHandler


class RotatedOutput(_Handler):
    """Logs to stderr; where that is the file at `path`, begins a new one when it is large.

    The older ones are `path.1` (the newest) and so on. Descriptors 1 and 2 are turned to the new
    file, so that what does not come through logging goes there, too. Output that was sent
    elsewhere (a terminal, journald, a pipe) is left alone.

    Args:
        path: where `start-node.sh -d` sends the output.
        max_bytes: size above which a new file is begun.
        older_files: how many are kept besides.
    """

    def __init__(self, path: Path, max_bytes: int, older_files: int) -> None:
        super().__init__(sys.stderr)
        self._path = path
        self._step = max_bytes
        self._limit = max_bytes
        self._older_files = older_files

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; called with the handler's lock held."""
        super().emit(record)
        try:
            now = os.fstat(_STDERR)
            if now.st_size < self._limit or not os.path.samestat(now, self._path.stat()):
                return
            self._begin_new()
        except OSError as error:
            # no reason to stop, nor to try again with every line
            self._limit += self._step
            super().emit(_note(f"{self._path} goes on above its size: {error}"))

    def _begin_new(self) -> None:
        made = self._path.with_name(f"{self._path.name}.new")
        # first of all, since it is what may fail
        descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o666)
        try:
            names = [self._path, *map(self._older, range(1, self._older_files + 1))]
            for newer, older in reversed(list(itertools.pairwise(names))):
                if newer.exists():
                    newer.replace(older)
            made.replace(self._path)
            os.dup2(descriptor, _STDOUT)
            os.dup2(descriptor, _STDERR)
        finally:
            os.close(descriptor)
        self._limit = self._step

    def _older(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


def _note(text: str) -> logging.LogRecord:
    return logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, None, None)
