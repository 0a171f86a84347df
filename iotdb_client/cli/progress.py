"""A progress bar on stderr: redrawn in place on a terminal, a line every ten percent elsewhere."""

from __future__ import annotations

from typing import TextIO

_WIDTH = 40


class ProgressBar:
    """Shows how much of a file has been read.

    Args:
        total_bytes: size of the file.
        out: where to draw.
    """

    def __init__(self, total_bytes: int, out: TextIO) -> None:
        self._total = max(1, total_bytes)
        self._out = out
        self._in_place = out.isatty()
        self._shown = -1

    def update(self, done_bytes: int, rows: int) -> None:
        """Show a new state, unless it looks like the one before."""
        percent = min(100, done_bytes * 100 // self._total)
        step = percent if self._in_place else percent // 10 * 10
        if step == self._shown:
            return
        self._shown = step
        if self._in_place:
            filled = percent * _WIDTH // 100
            bar = "#" * filled + " " * (_WIDTH - filled)
            self._out.write(f"\r[{bar}] {percent:3d}%  {rows:,} rows")
        else:
            self._out.write(f"{step:3d}%  {rows:,} rows\n")
        self._out.flush()

    def end(self) -> None:
        """Leave the line of the bar."""
        if self._in_place and self._shown >= 0:
            self._out.write("\n")
            self._out.flush()
