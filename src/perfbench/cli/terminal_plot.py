"""Curves as text, for a terminal or a log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotext

from perfbench.results.trials import Floats

_COLOURS = ("blue+", "orange+", "green+", "magenta+", "cyan+", "red+", "white", "gray")
_MARKERS = ("braille", "hd", "dot", "x", "star")
"""Told apart without colours too, as in a file."""


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """One curve."""

    label: str
    x: Floats
    y: Floats


@dataclass(frozen=True, slots=True)
class Axes:
    """What a plot says besides its lines."""

    title: str
    x_label: str
    target: float | None = None
    """Drawn as a horizontal line."""


def plot(lines: Sequence[Line], axes: Axes, *, width: int, height: int, colours: bool) -> str:
    """Return a plot as text; points that are not finite are left out.

    Args:
        lines: At least one point in all.
        axes: What it says besides.
        width: Columns.
        height: Lines of text.
        colours: Whether the terminal shows colours.
    """
    plotext.clear_figure()
    plotext.theme("clear" if not colours else "pro")
    plotext.plotsize(width, height)
    plotext.title(axes.title)
    plotext.xlabel(axes.x_label)
    for number, line in enumerate(lines):
        finite = np.isfinite(line.y)
        marker = "braille" if colours else _MARKERS[number % len(_MARKERS)]
        if finite.any():
            colour = _COLOURS[number % len(_COLOURS)]
            x, y = line.x[finite].tolist(), line.y[finite].tolist()
            plotext.plot(x, y, label=line.label, marker=marker, color=colour)
    if axes.target is not None:
        plotext.hline(axes.target, color="gray")
    text = str(plotext.build())
    return text if colours else str(plotext.uncolorize(text))


def visible(values: Floats) -> Floats:
    """Return values with those that would squeeze all others into one line taken out (NaN): an untrained model's.

    Kept is what lies within the range of the later two thirds, widened by half of it.
    """
    finite = values[np.isfinite(values)]
    if len(finite) < 4:  # noqa: PLR2004 - too few to tell
        return values
    later = finite[len(finite) // 3 :]
    low, high = float(later.min()), float(later.max())
    margin = (high - low) / 2 or abs(high) or 1.0
    return np.where((values >= low - margin) & (values <= high + margin), values, np.nan)
