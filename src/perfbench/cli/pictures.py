"""Draws what workloads say of their batches. Beside ``scoring/plot.py`` the only module that knows matplotlib."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from perfbench.api.picture import GraphPanel, HeatPanel, ImagePanel, Panel, Picture, TablePanel, TextPanel, Verdict

_COLOURS = {Verdict.NONE: "black", Verdict.RIGHT: "#009E73", Verdict.WRONG: "#D55E00"}
_SIZES_INCH = {ImagePanel: (1.15, 1.3), HeatPanel: (4.5, 1.9), GraphPanel: (2.1, 1.9)}
_TABLE_WIDTH_INCH = 11.0
_CHARACTERS_PER_INCH = 13.5
_LINE_INCH = 0.15
_LINE_CHARACTERS = 150
"""Of running text."""
_DEEPEST_SHADE = 0.75
_CAPTION_INCH = 0.5
_SMALL = 7
_LARGE_BYTES = 95_000
_FEW_COLOURS = 48
_LABELLED_NODES = 60
"""A graph with more is drawn without its labels."""


def drawn(picture: Picture, *, heading: str) -> Figure:
    """Draw a picture.

    Args:
        picture: Its panels fill a grid row by row.
        heading: Stands above the picture's own caption.
    """
    num_columns = min(picture.num_columns, len(picture.panels))
    sizes = [_size_inch(panel) for panel in picture.panels]
    width = max(size[0] for size in sizes)
    heights = [
        max(size[1] for size in sizes[first : first + num_columns]) for first in range(0, len(sizes), num_columns)
    ]
    figure = Figure(figsize=(max(num_columns * width, 5.0), sum(heights) + _CAPTION_INCH), layout="constrained")
    figure.suptitle(f"{heading}\n{picture.caption}", fontsize=_SMALL + 1)
    grid = figure.add_gridspec(len(heights), num_columns, height_ratios=heights)
    for number, panel in enumerate(picture.panels):
        axes = figure.add_subplot(grid[divmod(number, num_columns)])
        _draw(panel, axes)
    return figure


def as_png(figure: Figure, *, dots_per_inch: int = 110) -> bytes:
    """Return the figure as a picture; one too large for a repository is reduced to few colours."""
    from PIL import Image

    plain, small = io.BytesIO(), io.BytesIO()
    figure.savefig(plain, format="png", dpi=dots_per_inch, pil_kwargs={"optimize": True})
    if len(plain.getvalue()) <= _LARGE_BYTES:
        return plain.getvalue()
    Image.open(plain).convert("RGB").quantize(_FEW_COLOURS, dither=Image.Dither.NONE).save(
        small, format="png", optimize=True
    )
    return small.getvalue()


def _size_inch(panel: Panel) -> tuple[float, float]:
    if isinstance(panel, TablePanel):
        lines = sum(max(len(cell) for cell in row) + 1 for row in _wrapped(panel))
        return _TABLE_WIDTH_INCH, _LINE_INCH * (lines + 2)
    if isinstance(panel, TextPanel):
        return _TABLE_WIDTH_INCH, _LINE_INCH * (_places(panel.pieces)[-1][1] + 4)
    return _SIZES_INCH[type(panel)]


def _draw(panel: Panel, axes: Axes) -> None:
    match panel:
        case ImagePanel():
            low, high = panel.limits or (float(np.min(panel.pixels)), float(np.max(panel.pixels)))
            axes.imshow(panel.pixels, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
            axes.set_axis_off()
            axes.set_title(panel.title, fontsize=_SMALL, color=_COLOURS[panel.verdict])
        case HeatPanel():
            extent = (0.0, panel.width, 0.0, float(len(panel.values)))
            axes.imshow(panel.values, origin="lower", aspect="auto", cmap="magma", extent=extent)
            axes.set_xlabel(panel.x_label, fontsize=_SMALL)
            axes.set_ylabel(panel.y_label, fontsize=_SMALL)
            axes.tick_params(labelsize=_SMALL - 1)
            axes.set_title(panel.title, fontsize=_SMALL, loc="left", family="monospace")
        case GraphPanel():
            _draw_graph(panel, axes)
        case TablePanel():
            _draw_table(panel, axes)
        case TextPanel():
            _draw_text(panel, axes)


def _draw_graph(panel: GraphPanel, axes: Axes) -> None:
    for (first, second), width in zip(panel.edges, panel.widths, strict=True):
        ends = panel.places[[first, second]]
        axes.plot(ends[:, 0], ends[:, 1], color="#777777", linewidth=float(width), zorder=1)
    if len(panel.places) <= _LABELLED_NODES:
        for (x, y), label in zip(panel.places, panel.labels, strict=True):
            axes.text(x, y, label, fontsize=_SMALL - 1, ha="center", va="center", zorder=3, clip_on=True)
    axes.scatter(panel.places[:, 0], panel.places[:, 1], s=34, color="#DCE9F5", zorder=2, linewidths=0)
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.12)
    axes.set_axis_off()
    axes.set_title(panel.title, fontsize=_SMALL)


def _draw_table(panel: TablePanel, axes: Axes) -> None:
    rows = [tuple([column] for column in panel.columns), *_wrapped(panel)]
    heights = [max(len(cell) for cell in row) + 1 for row in rows]
    starts = np.concatenate(([0.0], np.cumsum(panel.shares)[:-1])).tolist()
    axes.set(xlim=(0.0, 1.0), ylim=(sum(heights), 0))
    axes.set_axis_off()
    axes.set_title(panel.title, fontsize=_SMALL, loc="left")
    top = 0
    for number, (row, height) in enumerate(zip(rows, heights, strict=True)):
        if number % 2 == 0 and number > 0:
            axes.axhspan(top, top + height, color="#F2F2F2", linewidth=0)
        weight = "bold" if number == 0 else "normal"
        for start, cell in zip(starts, row, strict=True):
            text = "\n".join(cell).replace("$", r"\$")
            axes.text(start, top + 0.4, text, fontsize=_SMALL, va="top", family="monospace", weight=weight)
        top += height


def _draw_text(panel: TextPanel, axes: Axes) -> None:
    places = _places(panel.pieces)
    low, high = panel.limits
    boxes = [
        Rectangle((column, line), len(piece), 1) for piece, (column, line) in zip(panel.pieces, places, strict=True)
    ]
    shares = np.clip((panel.values - low) / (high - low), 0, 1)
    axes.add_collection(
        PatchCollection(boxes, cmap="Oranges", array=shares * _DEEPEST_SHADE, clim=(0, 1), linewidths=0, zorder=1)
    )
    style: dict[str, Any] = {"fontsize": _SMALL, "va": "center", "family": "monospace", "zorder": 2, "clip_on": True}
    for piece, (column, line) in zip(panel.pieces, places, strict=True):
        axes.text(column, line + 0.5, piece.replace("$", r"\$"), in_layout=False, **style)
    axes.set(xlim=(0, _LINE_CHARACTERS), ylim=(places[-1][1] + 1, 0))
    axes.set_axis_off()
    axes.set_title(panel.title, fontsize=_SMALL, loc="left")


def _places(pieces: Sequence[str]) -> list[tuple[int, int]]:
    """Return column and line of each piece: one that does not fit begins a line."""
    column, line = 0, 0
    places = []
    for piece in pieces:
        if column and column + len(piece) > _LINE_CHARACTERS:
            column, line = 0, line + 1
        places.append((column, line))
        column += len(piece)
    return places


def _wrapped(panel: TablePanel) -> list[tuple[list[str], ...]]:
    """Return each row's cells as lines."""
    widths = [max(1, int(share * _TABLE_WIDTH_INCH * _CHARACTERS_PER_INCH) - 2) for share in panel.shares]
    return [
        tuple(textwrap.wrap(cell, width) or [""] for cell, width in zip(row, widths, strict=True)) for row in panel.rows
    ]
