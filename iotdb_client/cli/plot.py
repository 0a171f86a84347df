"""Plots a series in the terminal, in braille dots: two by four of them in each character."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

_BLANK = 0x2800
_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
"""Bit of each dot of a braille character, by row and column."""


def plot_lines(
    times: Sequence[int],
    values: Sequence[float],
    show_time: Callable[[int], str],
    *,
    title: str = "",
    width: int = 72,
    height: int = 16,
) -> list[str]:
    """Return the lines of a plot.

    Args:
        times: of the points, ascending.
        values: of the points; those that are not finite are left out.
        show_time: renders a time for the axis.
        title: above the plot.
        width: of the plot in characters, axis included.
        height: of the plot in lines, without title and time axis.
    """
    stamps = np.asarray(times, np.int64)
    numbers = np.asarray(values, np.float64)
    kept = np.isfinite(numbers)
    stamps, numbers = stamps[kept], numbers[kept]
    if not len(stamps):
        return [*([title] if title else []), "nothing to plot: no number in the result"]
    low, high = float(numbers.min()), float(numbers.max())
    labels = [f"{value:.6g}" for value in _scale(low, high, height)]
    margin = max(map(len, labels)) + 2
    columns = max(8, width - margin)
    cells = _draw(stamps, numbers, low, high, columns, height)
    lines = [title] if title else []
    for number, label in enumerate(labels):
        marked = label if number % 4 == 0 or number == height - 1 else ""
        lines.append(f"{marked:>{margin - 2}} ┤" + "".join(map(chr, cells[number])).rstrip("⠀"))
    lines.append(" " * (margin - 2) + " └" + "─" * columns)
    first, last = show_time(int(stamps[0])), show_time(int(stamps[-1]))
    gap = max(1, columns - len(first) - len(last))
    lines.append(" " * margin + first + " " * gap + last)
    return lines


def _scale(low: float, high: float, height: int) -> list[float]:
    """Return the value at the top of each line, from above."""
    step = (high / 2 - low / 2) / (height - 1)
    return [high - 2 * (step * number) for number in range(height - 1)] + [low]


def _draw(
    times: npt.NDArray[np.int64],
    values: npt.NDArray[np.float64],
    low: float,
    high: float,
    columns: int,
    height: int,
) -> npt.NDArray[np.int64]:
    """Return character codes: neighbouring points are joined by upright strokes."""
    wide, tall = columns * 2, height * 4
    span = max(1, int(times[-1]) - int(times[0]))
    x = ((times - times[0]).astype(np.float64) / span * (wide - 1)).astype(np.int64)
    if high == low:
        y = np.full(len(values), tall // 2)
    else:  # halved, so that the span of the largest numbers is one
        share = (values / 2 - low / 2) / (high / 2 - low / 2)
        y = np.rint((1 - share) * (tall - 1)).astype(np.int64)
    dots = np.zeros((tall, wide), np.bool_)
    dots[y, x] = True
    for left, right, start, stop in zip(x[:-1], x[1:], y[:-1], y[1:], strict=True):
        if right - left <= 2:  # wider gaps are gaps
            dots[min(start, stop) : max(start, stop) + 1, right] = True
    blocks = dots.reshape(height, 4, columns, 2)
    codes: npt.NDArray[np.int64] = _BLANK + (blocks * _DOTS[np.newaxis, :, np.newaxis, :]).sum(
        axis=(1, 3)
    )
    return codes
